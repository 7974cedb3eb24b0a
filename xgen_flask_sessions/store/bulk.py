"""Revocations of several users, or of several sessions of one user, by set-based statements.

Each user or session has its own entry in the feed and its own audit record, as if it was revoked
alone. The functions work in the session that they are given; the caller commits and authorizes.
Locks are taken in the order that :mod:`.sign_ins` states, those of several users by their ids.
"""

from __future__ import annotations

from collections.abc import Collection
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


def end_sessions(
    session: Session,
    user_id: str,
    cause: Cause,
    *,
    older_than_us: int | None,
    leeway_us: int = 0,
) -> list[Revocation]:
    """End a user's sessions that began long ago, or all but the newest.

    A renewed session began at its sign-in. Renewed tokens that are still accepted end with their
    sessions.

    :param older_than_us: The age, in microseconds, of the sessions to end at least; ``None`` for
        all but the newest.
    :param leeway_us: How long tokens are accepted after their expiry, in microseconds.
    :returns: One revocation for each active session that ended, newest sign-in first.
    """
    begin_write(session)
    session.execute(
        sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id).with_for_update()
    )
    now = clock.now_us()
    row = _sessions.c
    is_renewed = sa.and_(row.end_reason == RENEWED, row.ended_us + 0 > now)
    accepted = (
        row.user_id == user_id,
        row.expires_us + 0 > now - leeway_us,
        sa.or_(row.ended_us.is_(None), is_renewed),
    )
    columns = (row.session_id, row.signed_in_us, row.ended_us, row.expires_us)
    query = sa.select(*columns).where(*accepted).order_by(row.signed_in_us.desc(), row.session_id)
    # A locking read: a plain one may see an older snapshot on MariaDB.
    found = session.execute(_by_user(query.with_for_update())).all()
    active = [each for each in found if each.ended_us is None and each.expires_us > now]
    if older_than_us is not None:
        chosen = row.signed_in_us < now - older_than_us
        due = {each.session_id for each in found if each.signed_in_us < now - older_than_us}
    else:
        newest = active[0].session_id if active else ""
        chosen = row.session_id != newest
        due = {each.session_id for each in found} - {newest}
    if not due:
        return []
    end = sa.update(_sessions).where(*accepted, chosen)
    session.execute(_by_user(end.values(ended_us=now, end_reason=end_reason_of(cause, user_id))))
    for session_id in sorted(due):
        feed_table.add(session, Change("session", user_id, session_id, now))
    update_login(session, user_id)
    made = []
    for session_id in dict.fromkeys(each.session_id for each in active if each.session_id in due):
        values = revocation_values("session", now, user_id=user_id, session_id=session_id)
        made.append(Revocation(**values, **asdict(cause), sessions_ended=1))
    if made:
        rows = list(map(asdict, made))
        dialects.connection_of(session).execute(INSERT_REVOCATION, rows)
    return made


def _by_user(statement: Any) -> Any:
    return by_index(statement, _sessions, "ix_xgen_sessions_user")
