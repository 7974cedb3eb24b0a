"""A snapshot of the revocations that can still matter, read from the database for new readers."""

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
    """The revocations that can still matter, as equivalent changes."""

    position: int
    """The position of the newest event when reading began, 0 without any."""
    id: str
    changes: Sequence[Change]


_sessions = cast("sa.Table", SessionRecord.__table__)
_logins = cast("sa.Table", UserLogin.__table__)


def read_snapshot(connection: sa.Connection, now_us: int) -> Snapshot:
    """Read a snapshot, in any isolation level.

    It holds every revocation committed before the call, and possibly later ones. A reader may
    apply the event of such a revocation again.

    :param connection: It must not have begun a transaction that reads an older state.
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
    """Yield the invalidation timestamps of users with a token that they end."""
    ended = (
        by_index(sa.select(sa.literal_column("1")), _sessions, "ix_xgen_sessions_user")
        .where(
            _sessions.c.user_id == _logins.c.user_id,
            _sessions.c.expires_us > past_us,
            _sessions.c.issued_us <= _logins.c.invalid_before_us,
        )
        .limit(1)  # a scalar: for EXISTS, MariaDB would read all sessions
        .scalar_subquery()
    )
    query = sa.select(_logins.c.user_id, _logins.c.invalid_before_us).where(
        _logins.c.invalid_before_us > 0, _logins.c.user_id != EVERYONE, ended.is_not(None)
    )
    for user_id, cut_us in connection.execute(query):
        yield Change("user", user_id, None, cut_us)


def _sessions_ended(connection: sa.Connection, past_us: int) -> Iterator[Change]:
    """Yield the ends of single sessions and of renewed tokens.

    Renewed tokens of one session whose grace period is long over are yielded as one change: the
    end of the last one implies the ends of all before it.
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
