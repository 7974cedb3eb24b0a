"""Every write: sign-ins, renewals, ends, force logouts, pruning.

Each function works in the session it is given and neither commits nor rolls back, so that its
caller decides what else belongs to the transaction. Who may do what is not known here.

How the order is made
    One row per user in ``xgen_user_logins`` is locked by every sign-in and every force logout of
    that user, and hands out a stamp that only rises; the row ``*`` is locked shared by every
    sign-in and exclusively by a force logout of everyone. So each sign-in is before or after
    each force logout, whatever the clocks of the machines say. Locks are always taken in the
    order ``*``, host's user row, ``xgen_user_logins``, ``xgen_sessions``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from . import clock
from .clock import SECOND_US
from .errors import SessionRevoked
from .models import (
    ENDED,
    EVERYONE,
    FORCE_LOGOUT,
    RENEWED,
    SIGNED_OUT,
    RevocationRecord,
    SessionRecord,
    UserLogin,
)

RENEWAL_GRACE_US = 60 * SECOND_US
"""How long a renewed token still works, for calls under way."""

PRUNE_BATCH = 1000
"""Rows deleted in one transaction."""


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
    kind: Literal["user", "session", "everyone"]
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
    everyone_us = _lock_everyone(session)
    require_active()
    now = clock.now_us()
    expires_us = _expiry(now, lifetime_us)
    stamp, _ = _next_stamp(
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
    everyone_us = _lock_everyone(session)
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
            past.user_id, _new_login(past.user_id) | {"last_login_us": None, "last_ip": None}
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
    everyone_us = _lock_everyone(session)
    record = sa.select(_sessions).where(SessionRecord.jti == jti)
    old = session.execute(record).one_or_none()
    if old is None:
        raise SessionRevoked
    require_active(old.user_id)
    now = clock.now_us()
    lifetime_us = (old.expires_us - old.issued_us) // SECOND_US * SECOND_US
    expires_us = _expiry(now, max(lifetime_us, SECOND_US))
    stamp, invalid_before_us = _next_stamp(
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
        _by_index(sa.update(_sessions), "ix_xgen_sessions_session")
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
    invalid_before_us = _invalidate(session, user_id, now)
    ended = _end_rows(session, now, user_id)
    return _audit(
        session,
        cause,
        Revocation(
            id=_new_id(),
            kind="user",
            user_id=user_id,
            session_id=None,
            invalid_before_us=invalid_before_us,
            revoked_us=now,
            sessions_ended=ended,
        ),
    )


def force_logout_everyone(session: Session, cause: Cause) -> Revocation:
    """End every session of every user."""
    _lock_everyone(session, exclusively=True)
    now = clock.now_us()
    newest = sa.select(sa.func.max(UserLogin.last_issued_us))
    if _dialect(session) in _MYSQL:  # a plain read there may see an older snapshot
        newest = newest.with_for_update()
    invalid_before_us = _invalidate(session, EVERYONE, max(now, session.scalar(newest) or 0))
    session.execute(
        sa.update(_logins).where(UserLogin.active_until_us > 0).values(active_until_us=0)
    )
    ended = _end_rows(session, now)
    return _audit(
        session,
        cause,
        Revocation(
            id=_new_id(),
            kind="everyone",
            user_id=None,
            session_id=None,
            invalid_before_us=invalid_before_us,
            revoked_us=now,
            sessions_ended=ended,
        ),
    )


def end_session(session: Session, session_id: str, cause: Cause) -> Revocation | None:
    """End one session, with every token of it.

    :returns: ``None`` if there is no such session or it has ended before.
    """
    _write_first(session)
    own = SessionRecord.session_id == session_id
    user_id = session.scalar(sa.select(SessionRecord.user_id).where(own).limit(1))
    if user_id is None:
        return None
    session.execute(
        sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id).with_for_update()
    )
    now = clock.now_us()
    reason = SIGNED_OUT if cause.actor in (None, user_id) else ENDED
    end = _by_index(
        sa.update(_sessions).where(own).values(ended_us=now, end_reason=reason),
        "ix_xgen_sessions_session",
    )
    ended = _rowcount(session.execute(end.where(SessionRecord.ended_us.is_(None))))
    session.execute(end.where(SessionRecord.end_reason == RENEWED))
    if not ended:
        return None
    latest = _by_index(
        sa.select(sa.func.coalesce(sa.func.max(_sessions.c.expires_us + 0), 0)).where(
            _sessions.c.user_id == user_id, _sessions.c.ended_us.is_(None)
        ),
        "ix_xgen_sessions_user",
    ).scalar_subquery()
    session.execute(
        sa.update(_logins).where(UserLogin.user_id == user_id).values(active_until_us=latest)
    )
    return _audit(
        session,
        cause,
        Revocation(
            id=_new_id(),
            kind="session",
            user_id=user_id,
            session_id=session_id,
            invalid_before_us=None,
            revoked_us=now,
            sessions_ended=ended,
        ),
    )


def prune(session: Session, *, before_us: int) -> int:
    """Delete one batch of rows that ended or expired before *before_us* (microseconds).

    Records of single sessions' ends go as well; those of force logouts stay. The verifier takes
    a missing row for a refusal, so that a deleted one can revive nothing.

    :returns: How many rows were deleted; 0 when none are left.
    """
    _write_first(session)
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


_MYSQL = ("mysql", "mariadb")


def _dialect(session: Session) -> str:
    return session.get_bind(clause=_logins).dialect.name


def _new_id() -> str:
    return uuid.uuid4().hex


def _expiry(now_us: int, lifetime_us: int) -> int:
    # Up to a whole second, so that the token's exp says exactly the same.
    return -(-(now_us + lifetime_us) // SECOND_US) * SECOND_US


def _rowcount(result: sa.Result[Any]) -> int:
    return cast("sa.CursorResult[Any]", result).rowcount


def _write_first(session: Session) -> None:
    """Take SQLite's write lock before anything is read, so that what is read is the latest.

    The other databases lock the rows that are read.
    """
    if _dialect(session) == "sqlite":
        session.execute(
            sa.update(_logins)
            .where(UserLogin.user_id == EVERYONE)
            .values(invalid_before_us=UserLogin.invalid_before_us)
        )


def _lock_everyone(session: Session, *, exclusively: bool = False) -> int:
    """Lock the row ``*`` and return everyone's invalidation timestamp."""
    _write_first(session)
    query = sa.select(UserLogin.invalid_before_us).where(UserLogin.user_id == EVERYONE)
    if session.scalar(query) is None:  # locking a row that is not there locks its neighbours
        _upsert(session, _new_login(EVERYONE), [("last_issued_us", UserLogin.last_issued_us)])
    return session.execute(query.with_for_update(read=not exclusively)).scalar_one()


def _next_stamp(
    session: Session,
    user_id: str,
    now: int,
    *,
    everyone_us: int,
    expires_us: int,
    login: bool = False,
    ip: str | None = None,
) -> tuple[int, int]:
    """Lock the user's row and take its next stamp; also return the invalidation timestamp."""
    first = max(now, everyone_us + 1)
    stamp = _greatest(session, UserLogin.last_issued_us + 1, UserLogin.invalid_before_us + 1, first)
    new = _new_login(user_id, last_issued_us=first, active_until_us=expires_us)
    updates: list[tuple[str, Any]] = [
        ("active_until_us", _greatest(session, UserLogin.active_until_us, expires_us)),
    ]
    if login:
        new |= {"last_login_us": first, "last_ip": ip}
        updates.append(("last_login_us", stamp))
        if ip is not None:
            updates.append(("last_ip", ip))
    # MariaDB assigns from left to right, and reads what it assigned: the stamp comes last.
    updates.append(("last_issued_us", stamp))
    return _upsert(session, new, updates)


def _invalidate(session: Session, user_id: str, now: int) -> int:
    """Raise a row's invalidation timestamp over everything issued, and return it."""
    raised = _greatest(session, UserLogin.invalid_before_us, UserLogin.last_issued_us, now)
    _, invalid_before_us = _upsert(
        session,
        _new_login(user_id, invalid_before_us=now),
        [("active_until_us", 0), ("invalid_before_us", raised)],
    )
    return invalid_before_us


def _new_login(user_id: str, **values: int) -> dict[str, Any]:
    zeros = {"last_issued_us": 0, "invalid_before_us": 0, "active_until_us": 0}
    return {"user_id": user_id, **zeros, **values}


def _upsert(
    session: Session, new: dict[str, Any], updates: list[tuple[str, Any]]
) -> tuple[int, int]:
    """Insert a row of ``xgen_user_logins`` or update it, in one statement that locks it.

    :returns: Its ``last_issued_us`` and ``invalid_before_us`` afterwards.
    """
    returning = (_logins.c.last_issued_us, _logins.c.invalid_before_us)
    dialect = _dialect(session)
    if dialect in _MYSQL:
        statement: sa.sql.dml.ReturningInsert[int, int] = (
            mysql.insert(_logins).values(new).on_duplicate_key_update(updates).returning(*returning)
        )
    else:
        insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        statement = (
            insert(_logins)
            .values(new)
            .on_conflict_do_update(index_elements=["user_id"], set_=dict(updates))
            .returning(*returning)
        )
    last_issued_us, invalid_before_us = session.execute(statement).one()
    return last_issued_us, invalid_before_us


def _greatest(session: Session, *values: Any) -> sa.ColumnElement[int]:
    greatest = sa.func.max if _dialect(session) == "sqlite" else sa.func.greatest
    return greatest(*values, type_=sa.BigInteger())


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
        end = _by_index(end.where(SessionRecord.user_id == user_id), "ix_xgen_sessions_user")
    return _rowcount(session.execute(end))


def _by_index(statement: Any, name: str) -> Any:
    """Keep MariaDB from reading a whole small table, and so from locking other users' rows."""
    for dialect in _MYSQL:
        statement = statement.with_hint(
            text=f"FORCE INDEX ({name})", selectable=_sessions, dialect_name=dialect
        )
    return statement


def _audit(session: Session, cause: Cause, revocation: Revocation) -> Revocation:
    session.execute(
        sa.insert(_revocations).values(
            **asdict(revocation), actor=cause.actor, actor_ip=cause.ip, reason=cause.reason
        )
    )
    return revocation
