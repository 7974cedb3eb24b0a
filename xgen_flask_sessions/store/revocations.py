"""Revocations: force logouts, ends of single sessions, and their audit records.

Each function works in the session that it is given; the caller commits and authorizes. Locks are
taken in the order that :mod:`.sign_ins` states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..changes import Change
from . import dialects, feed_table
from .dialects.base import END_ALL, INSERT_REVOCATION, by_index
from .stamps import begin_write, invalidate, invalidate_everyone, lock_everyone
from .tables import (
    ACCOUNT_CHANGED,
    ENDED,
    FORCE_LOGOUT,
    RENEWED,
    SIGNED_OUT,
    RevocationRecord,
    SessionRecord,
    UserLogin,
    new_id,
)

Kind = Literal["user", "session", "everyone"]
"""The extent of a revocation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A revocation, as its audit record has it."""

    id: str
    kind: Kind
    user_id: str | None
    session_id: str | None
    invalid_before_us: int | None
    """Tokens issued at or before it are refused; ``None`` for a single session."""
    revoked_us: int
    sessions_ended: int
    actor: str | None = None
    """A user id, or the name of another actor; ``None`` if it was the system."""
    actor_ip: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The cause of a revocation: its actor, the actor's address and a reason."""

    actor: str | None = None
    """A user id, or the name of another actor, such as a command."""
    actor_ip: str | None = None
    reason: str | None = None


_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)
_revocations = cast("sa.Table", RevocationRecord.__table__)


def force_logout(
    session: Session,
    user_id: str,
    cause: Cause,
    *,
    end_reason: str = FORCE_LOGOUT,
    details: str | None = None,
) -> Revocation:
    """End every session of one user, and with them every token issued until now.

    :param end_reason: The ``end_reason`` of the sessions.
    :param details: Further changes of the transaction, for the audit record. Without it, the
        statement does not name the column, which an earlier release's table does not have.
    """
    now = clock.now_us()
    invalid_before_us = invalidate(session, user_id, now)
    feed_table.add(session, Change("user", user_id, None, invalid_before_us))
    values = revocation_values("user", now, user_id=user_id, invalid_before_us=invalid_before_us)
    # A statement of its own: it must see the rows that the one before has waited for.
    connection = dialects.connection_of(session)
    record = values | asdict(cause) | ({} if details is None else {"details": details})
    ended = dialects.of(connection).end_sessions(connection, user_id, record, end_reason)
    if end_reason != FORCE_LOGOUT:
        _end_renewed(session, user_id, now, end_reason)
    return Revocation(**values, **asdict(cause), sessions_ended=ended)


def invalid_before_us(session: Session, user_id: str) -> int:
    """Lock the user's row, and return the user's invalidation timestamp; 0 without a row."""
    begin_write(session)
    query = sa.select(UserLogin.invalid_before_us).where(UserLogin.user_id == user_id)
    return session.scalar(query.with_for_update()) or 0


def force_logout_except(
    session: Session, user_id: str, kept: Mapping[str, int], cause: Cause
) -> Revocation:
    """End a user's sessions after a change of the account, except some that just began.

    The invalidation timestamp ends all sessions that are older than these. Newer ones, of
    concurrent sign-ins, end one by one.

    :param kept: The stamps of the sessions to keep, by session id.
    """
    cut_us = max(invalid_before_us(session, user_id), min(kept.values()) - 1)
    others = (_sessions.c.user_id == user_id, _sessions.c.session_id.not_in(kept))
    newer = session.scalars(
        sa.select(_sessions.c.session_id)
        .where(*others, _sessions.c.issued_us > cut_us)
        .with_for_update()  # a plain read may see an older snapshot on MariaDB
    ).all()
    for session_id in sorted({*newer}):
        end_session(session, session_id, cause)
    now = clock.now_us()
    feed_table.add(session, Change("user", user_id, None, cut_us))
    older = sa.update(_sessions).where(
        *others, _sessions.c.ended_us.is_(None), _sessions.c.expires_us + 0 > now
    )
    end = by_index(older, _sessions, "ix_xgen_sessions_user")
    ended = _rowcount(session.execute(end.values(ended_us=now, end_reason=ACCOUNT_CHANGED)))
    _end_renewed(session, user_id, now, ACCOUNT_CHANGED, kept)
    update_login(session, user_id, invalid_before_us=cut_us)
    values = revocation_values("user", now, user_id=user_id, invalid_before_us=cut_us)
    return _audit(session, cause, values, ended)


def _end_renewed(
    session: Session, user_id: str, now: int, end_reason: str, kept: Collection[str] = ()
) -> None:
    """End a user's renewed tokens that are still accepted, so that they tell the reason, too.

    :param kept: The sessions to leave.
    """
    renewed = sa.update(_sessions).where(
        _sessions.c.user_id == user_id,
        _sessions.c.end_reason == RENEWED,
        _sessions.c.ended_us + 0 > now,
        _sessions.c.session_id.not_in(kept),
    )
    end = by_index(renewed, _sessions, "ix_xgen_sessions_user")
    session.execute(end.values(ended_us=now, end_reason=end_reason))


def force_logout_everyone(
    session: Session, cause: Cause, *, require_allowed: Callable[[], object] = lambda: None
) -> Revocation:
    """End every session of every user.

    :param require_allowed: Called under the lock; raises if the actor may not do it.
    """
    lock_everyone(session, exclusively=True)
    require_allowed()
    now = clock.now_us()
    invalid_before_us = invalidate_everyone(session, now)
    feed_table.add(session, Change("everyone", None, None, invalid_before_us))
    session.execute(
        sa.update(_logins).where(UserLogin.active_until_us > 0).values(active_until_us=0)
    )
    ended = _rowcount(dialects.connection_of(session).execute(END_ALL, {"new_revoked_us": now}))
    values = revocation_values("everyone", now, invalid_before_us=invalid_before_us)
    return _audit(session, cause, values, ended)


def end_session(session: Session, session_id: str, cause: Cause) -> Revocation | None:
    """End one session, with every token of it.

    :returns: ``None`` if there is no such session or it had already ended.
    """
    begin_write(session)
    own = dialects.of(session).of_session(session_id)
    user_id = session.scalar(sa.select(SessionRecord.user_id).where(own).limit(1))
    if user_id is None:
        return None
    session.execute(
        sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id).with_for_update()
    )
    now = clock.now_us()
    reason = end_reason_of(cause, user_id)
    end = by_index(
        sa.update(_sessions).where(own).values(ended_us=now, end_reason=reason),
        _sessions,
        "ix_xgen_sessions_session",
    )
    ended = _rowcount(session.execute(end.where(SessionRecord.ended_us.is_(None))))
    cut_short = _rowcount(session.execute(end.where(SessionRecord.end_reason == RENEWED)))
    if ended or cut_short:
        feed_table.add(session, Change("session", user_id, session_id, now))
    if not ended:
        return None
    update_login(session, user_id)
    values = revocation_values("session", now, user_id=user_id, session_id=session_id)
    return _audit(session, cause, values, ended)


def end_reason_of(cause: Cause, user_id: str) -> str:
    """Return the ``end_reason`` of single sessions: the user signs out, others end them."""
    return SIGNED_OUT if cause.actor in (None, user_id) else ENDED


def forget(session: Session, user_id: str) -> None:
    """Delete every row of a user, the audit records included, and with them every token."""
    begin_write(session)
    for key in (_logins.c.user_id, _sessions.c.jti, _revocations.c.id):
        own = sa.select(key).where(key.table.c.user_id == user_id)
        keys = session.scalars(own).all()  # deleted by key: no neighbour is locked
        session.execute(sa.delete(key.table).where(key.in_(keys)))
    feed_table.add(session, Change("user", user_id, None, clock.now_us()))


def update_login(session: Session, user_id: str, **values: int) -> None:
    """Set the user's latest expiry from the open sessions, and other columns of the row."""
    latest = by_index(
        sa.select(sa.func.coalesce(sa.func.max(_sessions.c.expires_us + 0), 0)).where(
            _sessions.c.user_id == user_id, _sessions.c.ended_us.is_(None)
        ),
        _sessions,
        "ix_xgen_sessions_user",
    ).scalar_subquery()
    own = sa.update(_logins).where(UserLogin.user_id == user_id)
    session.execute(own.values(active_until_us=latest, **values))


def _rowcount(result: sa.Result[Any]) -> int:
    return cast("sa.CursorResult[Any]", result).rowcount


def revocation_values(
    kind: Kind,
    now: int,
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    invalid_before_us: int | None = None,
) -> dict[str, Any]:
    """Return the fields of a new :class:`Revocation`, but for its cause and the sessions ended."""
    return {
        "id": new_id(),
        "kind": kind,
        "user_id": user_id,
        "session_id": session_id,
        "invalid_before_us": invalid_before_us,
        "revoked_us": now,
    }


def _audit(session: Session, cause: Cause, values: dict[str, Any], ended: int) -> Revocation:
    revocation = Revocation(**values, **asdict(cause), sessions_ended=ended)
    dialects.connection_of(session).execute(INSERT_REVOCATION, asdict(revocation))
    return revocation
