"""Every write: sign-ins, renewals, ends, force logouts, pruning.

Each function works in the session it is given and neither commits nor rolls back, so that its
caller decides what else belongs to the transaction. Who may do what is not known here.

``stamps`` makes the order. Locks are always taken in the order ``*``, host's user row,
``xgen_user_logins``, ``xgen_sessions``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from . import clock
from .clock import SECOND_US
from .errors import SessionRevoked
from .models import (
    ENDED,
    FORCE_LOGOUT,
    RENEWED,
    SIGNED_OUT,
    RevocationRecord,
    SessionRecord,
    UserLogin,
)
from .stamps import (
    by_index,
    invalidate,
    invalidate_everyone,
    lock_everyone,
    new_login,
    next_stamp,
    write_first,
)

RENEWAL_GRACE_US = 60 * SECOND_US
"""How long a renewed token still works, for calls under way."""

PRUNE_BATCH = 1000
"""Rows deleted in one transaction."""


Kind = Literal["user", "session", "everyone"]
"""What a revocation ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A token to be signed: what was recorded for it. Times are microseconds."""

    user_id: str
    jti: str
    session_id: str
    issued_us: int
    expires_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What was revoked, as in the audit record."""

    id: str
    kind: Kind
    user_id: str | None
    session_id: str | None
    invalid_before_us: int | None
    """Tokens issued at or before it are refused; ``None`` for a single session."""
    revoked_us: int
    sessions_ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who asked for a revocation, from where, and why."""

    actor: str | None = None
    """A user id, or what else acted, such as a command."""
    ip: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSignIn:
    """A sign-in made elsewhere, without a token of ours. Times are microseconds."""

    user_id: str
    signed_in_us: int
    expires_us: int
    ip: str | None = None
    user_agent: str | None = None
    login: bool = True
    """Whether it counts as the user's last login."""


_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)
_revocations = cast("sa.Table", RevocationRecord.__table__)


def issue(
    session: Session,
    user_id: str,
    *,
    lifetime_us: int,
    ip: str | None = None,
    user_agent: str | None = None,
    require_active: Callable[[], None] = lambda: None,
) -> Issue:
    """Record a sign-in.

    :param user_id: Who signs in.
    :param lifetime_us: How long the token is good for, in microseconds.
    :param ip: The source address, already cleaned.
    :param user_agent: The ``User-Agent``, already cleaned.
    :param require_active: Called under the locks; raises if the user may not sign in.
    """
    everyone_us = lock_everyone(session)
    require_active()
    now = clock.now_us()
    expires_us = _expiry(now, lifetime_us)
    stamp, _ = next_stamp(
        session, user_id, now, everyone_us=everyone_us, expires_us=expires_us, login=True, ip=ip
    )
    jti = _new_id()
    record = Issue(user_id=user_id, jti=jti, session_id=jti, issued_us=stamp, expires_us=expires_us)
    _insert(session, record, signed_in_us=stamp, ip=ip, user_agent=user_agent)
    return record


def record_many(session: Session, sign_ins: Iterable[PastSignIn]) -> None:
    """Record sign-ins of the past, of users that the ledger does not know yet.

    What everyone's invalidation timestamp came after is recorded as ended by it.

    :param sign_ins: In any order; of one user, no two at the same microsecond.
    """
    everyone_us = lock_everyone(session)
    rows: list[dict[str, Any]] = []
    logins: dict[str, dict[str, Any]] = {}
    for past in sorted(sign_ins, key=lambda past: past.signed_in_us):
        jti = _new_id()
        ended = past.signed_in_us <= everyone_us
        rows.append(
            {
                "jti": jti,
                "session_id": jti,
                "user_id": past.user_id,
                "issued_us": past.signed_in_us,
                "signed_in_us": past.signed_in_us,
                "expires_us": past.expires_us,
                "ended_us": everyone_us if ended else None,
                "end_reason": FORCE_LOGOUT if ended else None,
                "ip": past.ip,
                "user_agent": past.user_agent,
            }
        )
        login = logins.setdefault(
            past.user_id, new_login(past.user_id) | {"last_login_us": None, "last_ip": None}
        )
        login["last_issued_us"] = past.signed_in_us
        if not ended:
            login["active_until_us"] = max(login["active_until_us"], past.expires_us)
        if past.login:
            login |= {"last_login_us": past.signed_in_us, "last_ip": past.ip or login["last_ip"]}
    if rows:
        session.execute(sa.insert(_logins), list(logins.values()))
        session.execute(sa.insert(_sessions), rows)


def renew(
    session: Session, jti: str, *, require_active: Callable[[str], None] = lambda _: None
) -> Issue:
    """Record a new token for the session of *jti*; the old token keeps a minute.

    The new token lives as long as the old one did from its issue.

    :param jti: The token to renew.
    :param require_active: Called under the locks with the user's id; raises if the user may not.
    :raises SessionRevoked: The session has ended, possibly just now.
    """
    everyone_us = lock_everyone(session)
    record = sa.select(_sessions).where(SessionRecord.jti == jti)
    old = session.execute(record).one_or_none()
    if old is None:
        raise SessionRevoked
    require_active(old.user_id)
    now = clock.now_us()
    lifetime_us = -(-(old.expires_us - old.issued_us) // SECOND_US) * SECOND_US
    expires_us = _expiry(now, max(lifetime_us, SECOND_US))
    stamp, invalid_before_us = next_stamp(
        session, old.user_id, now, everyone_us=everyone_us, expires_us=expires_us
    )
    # Read again, now that nobody else can end it.
    old = session.execute(record.with_for_update()).one()
    if old.issued_us <= max(invalid_before_us, everyone_us):
        raise SessionRevoked(forced=True)
    if old.ended_us is not None and (old.end_reason != RENEWED or old.ended_us <= now):
        raise SessionRevoked(forced=old.end_reason == FORCE_LOGOUT)
    issued = Issue(
        user_id=old.user_id,
        jti=_new_id(),
        session_id=old.session_id,
        issued_us=stamp,
        expires_us=expires_us,
    )
    # The new row first: MariaDB locks the gap beside the rows that are updated, and renewals of
    # two neighbours would wait for each other to insert into it.
    _insert(session, issued, signed_in_us=old.signed_in_us, ip=old.ip, user_agent=old.user_agent)
    session.execute(
        by_index(sa.update(_sessions), _sessions, "ix_xgen_sessions_session")
        .where(
            SessionRecord.session_id == old.session_id,
            SessionRecord.jti != issued.jti,
            SessionRecord.ended_us.is_(None),
        )
        .values(ended_us=now + RENEWAL_GRACE_US, end_reason=RENEWED)
    )
    return issued


def force_logout(session: Session, user_id: str, cause: Cause) -> Revocation:
    """End every session of one user, and with them every token issued until now."""
    now = clock.now_us()
    invalid_before_us = invalidate(session, user_id, now)
    ended = _end_rows(session, now, user_id)
    return _audit(
        session, cause, "user", now, ended, user_id=user_id, invalid_before_us=invalid_before_us
    )


def force_logout_everyone(session: Session, cause: Cause) -> Revocation:
    """End every session of every user."""
    lock_everyone(session, exclusively=True)
    now = clock.now_us()
    invalid_before_us = invalidate_everyone(session, now)
    session.execute(
        sa.update(_logins).where(UserLogin.active_until_us > 0).values(active_until_us=0)
    )
    ended = _end_rows(session, now)
    return _audit(session, cause, "everyone", now, ended, invalid_before_us=invalid_before_us)


def end_session(session: Session, session_id: str, cause: Cause) -> Revocation | None:
    """End one session, with every token of it.

    :returns: ``None`` if there is no such session or it has ended before.
    """
    write_first(session)
    own = SessionRecord.session_id == session_id
    user_id = session.scalar(sa.select(SessionRecord.user_id).where(own).limit(1))
    if user_id is None:
        return None
    session.execute(
        sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id).with_for_update()
    )
    now = clock.now_us()
    reason = SIGNED_OUT if cause.actor in (None, user_id) else ENDED
    end = by_index(
        sa.update(_sessions).where(own).values(ended_us=now, end_reason=reason),
        _sessions,
        "ix_xgen_sessions_session",
    )
    ended = _rowcount(session.execute(end.where(SessionRecord.ended_us.is_(None))))
    session.execute(end.where(SessionRecord.end_reason == RENEWED))
    if not ended:
        return None
    latest = by_index(
        sa.select(sa.func.coalesce(sa.func.max(_sessions.c.expires_us + 0), 0)).where(
            _sessions.c.user_id == user_id, _sessions.c.ended_us.is_(None)
        ),
        _sessions,
        "ix_xgen_sessions_user",
    ).scalar_subquery()
    session.execute(
        sa.update(_logins).where(UserLogin.user_id == user_id).values(active_until_us=latest)
    )
    return _audit(session, cause, "session", now, ended, user_id=user_id, session_id=session_id)


def prune(session: Session, *, before_us: int) -> int:
    """Delete one batch of rows that ended or expired before *before_us* (microseconds).

    Records of single sessions' ends go as well; those of force logouts stay. The verifier takes
    a missing row for a refusal, so that a deleted one can revive nothing.

    :returns: How many rows were deleted; 0 when none are left.
    """
    write_first(session)
    for key, past in _prunable(before_us):
        keys = session.scalars(sa.select(key).where(past).limit(PRUNE_BATCH)).all()
        if keys:
            session.execute(sa.delete(key.table).where(key.in_(keys)))
            return len(keys)
    return 0


def count_prunable(session: Session, *, before_us: int) -> int:
    """Count the rows that :func:`prune` would delete in all its batches."""
    return sum(
        session.scalar(sa.select(sa.func.count(key)).where(past)) or 0
        for key, past in _prunable(before_us)
    )


def _prunable(before_us: int) -> list[tuple[sa.Column[str], sa.ColumnElement[bool]]]:
    sessions, revocations = _sessions.c, _revocations.c
    return [
        (sessions.jti, sessions.ended_us < before_us),
        (sessions.jti, sessions.ended_us.is_(None) & (sessions.expires_us < before_us)),
        (revocations.id, (revocations.kind == "session") & (revocations.revoked_us < before_us)),
    ]


def _new_id() -> str:
    return uuid.uuid4().hex


def _expiry(now_us: int, lifetime_us: int) -> int:
    # A whole second, so that the token's exp says exactly the same.
    return (now_us + lifetime_us) // SECOND_US * SECOND_US


def _rowcount(result: sa.Result[Any]) -> int:
    return cast("sa.CursorResult[Any]", result).rowcount


def _insert(
    session: Session,
    issued: Issue,
    *,
    signed_in_us: int,
    ip: str | None,
    user_agent: str | None,
) -> None:
    session.execute(
        sa.insert(_sessions).values(
            **asdict(issued), signed_in_us=signed_in_us, ip=ip, user_agent=user_agent
        )
    )


def _end_rows(session: Session, now: int, user_id: str | None = None) -> int:
    """Mark active sessions as ended by force logout, and return how many that were.

    A renewed token's row stays as it is: the timestamp ends it, and it counts for nothing.

    :param user_id: Whose; everyone's if left out.
    """
    # Expiry is kept out of the index: MariaDB would lock the row next to the range as well,
    # which may be another user's, and two such users would wait for each other.
    active = SessionRecord.ended_us.is_(None) & (SessionRecord.expires_us + 0 > now)
    end = sa.update(_sessions).where(active).values(ended_us=now, end_reason=FORCE_LOGOUT)
    if user_id is not None:
        end = by_index(
            end.where(SessionRecord.user_id == user_id), _sessions, "ix_xgen_sessions_user"
        )
    return _rowcount(session.execute(end))


def _audit(
    session: Session,
    cause: Cause,
    kind: Kind,
    now: int,
    ended: int,
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    invalid_before_us: int | None = None,
) -> Revocation:
    revocation = Revocation(
        id=_new_id(),
        kind=kind,
        user_id=user_id,
        session_id=session_id,
        invalid_before_us=invalid_before_us,
        revoked_us=now,
        sessions_ended=ended,
    )
    session.execute(
        sa.insert(_revocations).values(
            **asdict(revocation), actor=cause.actor, actor_ip=cause.ip, reason=cause.reason
        )
    )
    return revocation
