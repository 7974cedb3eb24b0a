"""All revocations that can still matter, read from the database as changes for a new reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import sqlalchemy as sa

from ..changes import Change, Event
from ..clock import MAX_RELEVANCE_US
from ..store import feed_table
from ..store.dialects.base import by_index
from ..store.tables import (
    EVERYONE,
    FORCE_LOGOUT,
    RENEWED,
    SessionRecord,
    UserLogin,
)

ORIGIN: Final = Event(0, "", Change("everyone", None, None, 0))
"""The position before the first event."""


class Snapshot(NamedTuple):
    """What was revoked and can still matter, as changes that come to the same."""

    position: int
    """Of the newest event when the reading began; 0 without any. Later ones may be in it."""
    id: str
    changes: Sequence[Change]


_sessions = cast("sa.Table", SessionRecord.__table__)
_logins = cast("sa.Table", UserLogin.__table__)


def read_snapshot(connection: sa.Connection, now_us: int) -> Snapshot:
    """Read what was revoked and can still matter.

    It can be called in any isolation level: what is read was committed before the call, and what
    is committed meanwhile may be in it. To read the same as an event again does no harm.

    :param connection: Begins no transaction before the call that would show an older state.
    :param now_us: This machine's time, in microseconds.
    """
    row = connection.execute(feed_table.NEWEST).one_or_none()
    newest = ORIGIN if row is None else feed_table.event_of(row)
    changes = [
        change
        for read in (_everyone, _users, _sessions_ended)
        for change in read(connection, now_us - MAX_RELEVANCE_US)
    ]
    return Snapshot(newest.position, newest.id, changes)


def _everyone(connection: sa.Connection, _: int) -> Iterator[Change]:
    query = sa.select(_logins.c.invalid_before_us).where(_logins.c.user_id == EVERYONE)
    yield Change("everyone", None, None, connection.scalar(query) or 0)


def _users(connection: sa.Connection, past_us: int) -> Iterator[Change]:
    """Give the invalidation timestamps of those who have a token that it ends."""
    ended = (
        by_index(sa.select(sa.literal_column("1")), _sessions, "ix_xgen_sessions_user")
        .where(
            _sessions.c.user_id == _logins.c.user_id,
            _sessions.c.expires_us > past_us,
            _sessions.c.issued_us <= _logins.c.invalid_before_us,
        )
        .limit(1)  # a scalar, for MariaDB would rather read all sessions than look up a few
        .scalar_subquery()
    )
    query = sa.select(_logins.c.user_id, _logins.c.invalid_before_us).where(
        _logins.c.invalid_before_us > 0, _logins.c.user_id != EVERYONE, ended.is_not(None)
    )
    for user_id, cut_us in connection.execute(query):
        yield Change("user", user_id, None, cut_us)


def _sessions_ended(connection: sa.Connection, past_us: int) -> Iterator[Change]:
    """Give the ends of single sessions, and of tokens that were renewed.

    Of a session that was renewed again and again, the tokens whose grace is long over are given
    as one: with the last of them, all before it have ended.
    """
    row = _sessions.c
    query = by_index(
        sa.select(row.user_id, row.session_id, row.issued_us, row.ended_us, row.end_reason).where(
            row.ended_us.is_not(None),
            row.expires_us > past_us,
            row.end_reason != FORCE_LOGOUT,
        ),
        _sessions,
        "ix_xgen_sessions_open",
    )
    ended: dict[str, Change] = {}
    long_over: dict[str, Change] = {}
    for user_id, session_id, issued_us, ended_us, reason in connection.execute(query):
        if reason != RENEWED:
            ended[session_id] = Change("session", user_id, session_id, ended_us)
        elif ended_us > past_us:
            yield Change("renewed", user_id, session_id, issued_us + 1, ended_us)
        elif session_id not in long_over or long_over[session_id].cut_us <= issued_us:
            long_over[session_id] = Change("renewed", user_id, session_id, issued_us + 1, 0)
    yield from ended.values()
    yield from long_over.values()
