"""Revocations of several users, or of several sessions of one user, by set-based statements.

Each user or session has its own entry in the feed and its own audit record, as if it was revoked
alone. The functions work in the session that they are given; the caller commits and authorizes.
Locks are taken in the order that :mod:`.sign_ins` states, those of several users by their ids.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..changes import Change
from ..errors import XgenSessionsError
from . import dialects, feed_table
from .dialects.base import INSERT_REVOCATION, by_index
from .revocations import Cause, Revocation, end_reason_of, revocation_values, update_login
from .stamps import begin_write, invalidate_many
from .tables import FORCE_LOGOUT, RENEWED, SessionRecord, UserLogin

_sessions = cast("sa.Table", SessionRecord.__table__)


@dataclass(slots=True, kw_only=True)
class EndedSessions:
    """The result of the end of several sessions of a user."""

    done: list[Revocation] = field(default_factory=list)
    """One revocation for each session that ended, newest sign-in first."""
    error: XgenSessionsError | None = None
    """The error that stopped the act after some sessions had ended."""


@dataclass(slots=True, kw_only=True)
class BulkResult:
    """The result of a force logout of several users: each of them is in one of the lists."""

    done: list[Revocation] = field(default_factory=list)
    refused: list[tuple[str, XgenSessionsError]] = field(default_factory=list)
    """The users that do not exist or may not be forced out."""
    failed: list[str] = field(default_factory=list)
    """The users whose sessions go on, because the database could not make the change."""
    failed_unknown: list[str] = field(default_factory=list)
    """The users of a transaction whose commit the database did not answer."""
    not_reached: list[str] = field(default_factory=list)
    """The users whose turn did not come; their sessions go on."""
    error: XgenSessionsError | None = None
    """The error that stopped the act, or the first one of a transaction that was refused."""

    @property
    def sessions_ended(self) -> int:
        """The number of all sessions that ended."""
        return sum(each.sessions_ended for each in self.done)


def force_logout_many(
    session: Session, user_ids: Collection[str], cause: Cause
) -> list[Revocation]:
    """End every session of several users, and with them every token issued until now.

    The number of statements does not depend on the number of users or sessions.

    :param user_ids: Their ids; a hundred or so, since their rows stay locked until the commit.
    :returns: One revocation for each user, in the order of the ids.
    """
    ids = sorted({*user_ids})
    if not ids:
        return []
    now = clock.now_us()
    invalid_before_us = invalidate_many(session, ids, now)
    connection = dialects.connection_of(session)
    ended = dialects.of(connection).end_sessions_of_users(connection, ids, now, FORCE_LOGOUT)
    made = []
    for user_id in ids:
        cut_us = invalid_before_us[user_id]
        feed_table.add(session, Change("user", user_id, None, cut_us))
        values = revocation_values("user", now, user_id=user_id, invalid_before_us=cut_us)
        count = ended.get(user_id, 0)
        made.append(Revocation(**values, **asdict(cause), sessions_ended=count))
    connection.execute(INSERT_REVOCATION, list(map(asdict, made)))
    return made


def find_due(
    session: Session, user_id: str, at_us: int, *, older_than_us: int | None, leeway_us: int = 0
) -> list[str]:
    """Return the ids of a user's sessions that began long ago, or of all but the newest.

    A renewed session began at its sign-in. It takes no locks: a session that begins meanwhile came
    after the act.

    :param at_us: The time of the act.
    :param older_than_us: The least age of the sessions, in microseconds; ``None`` for all but the
        newest.
    :param leeway_us: How long tokens are accepted after their expiry, in microseconds.
    :returns: Oldest sign-in first.
    """
    row = _sessions.c
    query = sa.select(row.session_id, row.ended_us, row.expires_us)
    query = query.where(row.user_id == user_id, *_accepted(at_us, leeway_us))
    if older_than_us is not None:
        query = query.where(row.signed_in_us < at_us - older_than_us)
    order = row.signed_in_us, row.session_id.desc()
    found = session.execute(_by_user(query.order_by(*order))).all()
    due = dict.fromkeys(each.session_id for each in found)
    if older_than_us is None:
        active = (
            each.session_id
            for each in reversed(found)
            if each.ended_us is None and each.expires_us > at_us
        )
        due.pop(next(active, None), None)
    return list(due)


def end_sessions(
    session: Session,
    user_id: str,
    session_ids: Sequence[str],
    cause: Cause,
    *,
    at_us: int,
    leeway_us: int = 0,
) -> list[Revocation]:
    """End some sessions of a user, with the renewed tokens that are still accepted.

    :param session_ids: Their ids, all of this user; a few hundred, since their rows stay locked
        until the commit.
    :param at_us: The time of the act, for its records: those of one time are one act.
    :param leeway_us: How long tokens are accepted after their expiry, in microseconds.
    :returns: One revocation for each active session that ended, newest sign-in first.
    """
    begin_write(session)
    session.execute(
        sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id).with_for_update()
    )
    now = clock.now_us()
    row = _sessions.c
    # Without the user's id, whose index would be read as far as the user has sessions.
    chosen = dialects.of(session).of_sessions(session_ids), *_accepted(now, leeway_us)
    query = sa.select(row.session_id, row.ended_us, row.expires_us).where(*chosen)
    order = row.signed_in_us.desc(), row.session_id
    # A locking read: a plain one may see an older snapshot on MariaDB.
    found = session.execute(_by_session(query.order_by(*order).with_for_update())).all()
    if not found:
        return []
    end = sa.update(_sessions).where(*chosen)
    values = {"ended_us": at_us, "end_reason": end_reason_of(cause, user_id)}
    session.execute(_by_session(end.values(values)))
    for session_id in sorted({each.session_id for each in found}):
        feed_table.add(session, Change("session", user_id, session_id, at_us))
    update_login(session, user_id)
    active = [each for each in found if each.ended_us is None and each.expires_us > now]
    made = []
    for session_id in dict.fromkeys(each.session_id for each in active):
        fields = revocation_values("session", at_us, user_id=user_id, session_id=session_id)
        made.append(Revocation(**fields, **asdict(cause), sessions_ended=1))
    if made:
        rows = list(map(asdict, made))
        dialects.connection_of(session).execute(INSERT_REVOCATION, rows)
    return made


def _accepted(now: int, leeway_us: int) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the rows of tokens that are accepted."""
    row = _sessions.c
    is_renewed = sa.and_(row.end_reason == RENEWED, row.ended_us + 0 > now)
    return [
        row.expires_us + 0 > now - leeway_us,
        sa.or_(row.ended_us.is_(None), is_renewed),
    ]


def _by_user(statement: Any) -> Any:
    return by_index(statement, _sessions, "ix_xgen_sessions_user")


def _by_session(statement: Any) -> Any:
    return by_index(statement, _sessions, "ix_xgen_sessions_session")
