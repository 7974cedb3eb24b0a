"""Every write but pruning: sign-ins, renewals, ends, force logouts.

Each function works in the session it is given and neither commits nor rolls back, so that its
caller decides what else belongs to the transaction. Who may do what is not known here.

``stamps`` makes the order. Locks are always taken in the order ``*``, host's user row,
``xgen_user_logins``, ``xgen_sessions``, and before the commit the head of the ``feed``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..clock import SECOND_US
from ..errors import SessionRevoked
from . import feed_table
from .feed_table import Change
from .stamps import (
    bound,
    by_index,
    connection_of,
    dialect_of,
    invalidate,
    invalidate_everyone,
    lock_everyone,
    new_login,
    next_stamp,
    of_session,
    upsert,
    write_first,
)
from .statements import (
    END_ALL,
    END_ALL_OF_USER,
    INSERT_REVOCATION,
    INSERT_SESSION,
    end_and_record_at_once,
    sign_in_at_once,
)
from .tables import (
    ENDED,
    FORCE_LOGOUT,
    RENEWED,
    SIGNED_OUT,
    RevocationRecord,
    SessionRecord,
    UserLogin,
)

RENEWAL_GRACE_US = 60 * SECOND_US
"""How long a renewed token still works, for calls under way."""


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
    unless_forced_out_since: int | None = None,
) -> Issue:
    """Record a sign-in.

    :param user_id: Who signs in.
    :param lifetime_us: How long the token is good for, in microseconds.
    :param ip: The source address, already cleaned.
    :param user_agent: The ``User-Agent``, already cleaned.
    :param require_active: Called under the locks; raises if the user may not sign in.
    :param unless_forced_out_since: For a sign-in that was decided on earlier: the invalidation
        timestamp of then.
    :raises SessionRevoked: There was a force logout since.
    """
    everyone_us = lock_everyone(session)
    require_active()
    now = clock.now_us()
    first = max(now, everyone_us + 1)
    jti = _new_id()
    expires_us = _expiry(now, lifetime_us)
    row = {
        "jti": jti,
        "session_id": jti,
        "user_id": user_id,
        "expires_us": expires_us,
        "ip": ip,
        "user_agent": user_agent,
    }
    login = new_login(
        user_id,
        last_issued_us=first,
        active_until_us=expires_us,
        last_login_us=first,
        last_ip=ip,
    )
    connection = connection_of(session)
    stamp = _record_sign_in(connection, login, row)
    if unless_forced_out_since is not None:
        cut_off = sa.select(UserLogin.invalid_before_us).where(UserLogin.user_id == user_id)
        if max(connection.execute(cut_off).scalar_one(), everyone_us) > unless_forced_out_since:
            raise SessionRevoked(forced=True)
    return Issue(user_id=user_id, jti=jti, session_id=jti, issued_us=stamp, expires_us=expires_us)


def _record_sign_in(
    connection: sa.Connection, login: Mapping[str, Any], row: Mapping[str, Any]
) -> int:
    """Lock the user's row, take its next stamp, insert the session with it, and return it.

    :param login: The user's row, if it is the first.
    :param row: The session's, without its stamp.
    """
    if connection.dialect.name == "postgresql":
        values = bound(login) | {f"new_{name}": value for name, value in row.items()}
        return cast("int", connection.execute(sign_in_at_once(), values).scalar_one())
    statement = upsert(connection.dialect.name, "sign in")
    stamp = connection.execute(statement, bound(login)).one().last_issued_us
    connection.execute(INSERT_SESSION, {**row, "issued_us": stamp, "signed_in_us": stamp})
    return cast("int", stamp)


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
    session: Session,
    jti: str,
    *,
    usual_us: int,
    require_active: Callable[[str], None] = lambda _: None,
) -> Issue:
    """Record a new token for the session of *jti*; the old token keeps a minute.

    The new token lives as long as the old one did from its issue.

    :param jti: The token to renew.
    :param usual_us: How long it lives, in microseconds, where that cannot be told: the old one's
        stamp is still to come, after a sign-in on a machine whose clock was ahead.
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
    lifetime_us = old.expires_us - old.issued_us if old.issued_us <= now else usual_us
    expires_us = _expiry(now, max(-(-lifetime_us // SECOND_US), 1) * SECOND_US)
    stamp, invalid_before_us = next_stamp(
        session, old.user_id, now, everyone_us=everyone_us, expires_us=expires_us
    )
    # Read again, now that nobody else can end it.
    old = session.execute(record.with_for_update()).one_or_none()
    if old is None:
        raise SessionRevoked
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
    ends_us = now + RENEWAL_GRACE_US
    session.execute(
        by_index(sa.update(_sessions), _sessions, "ix_xgen_sessions_session")
        .where(
            of_session(old.session_id, dialect_of(session)),
            SessionRecord.jti != issued.jti,
            SessionRecord.ended_us.is_(None),
        )
        .values(ended_us=ends_us, end_reason=RENEWED)
    )
    feed_table.add(session, Change("renewed", old.user_id, old.session_id, stamp, ends_us))
    return issued


def force_logout(session: Session, user_id: str, cause: Cause) -> Revocation:
    """End every session of one user, and with them every token issued until now."""
    now = clock.now_us()
    invalid_before_us = invalidate(session, user_id, now)
    feed_table.add(session, Change("user", user_id, None, invalid_before_us))
    values = _revocation_values("user", now, user_id=user_id, invalid_before_us=invalid_before_us)
    # Not together with the statement before: what it has waited for would not be seen.
    connection = connection_of(session)
    if connection.dialect.name == "postgresql":
        parameters = {f"new_{name}": value for name, value in (values | _who(cause)).items()}
        result = connection.execute(end_and_record_at_once(), parameters)
        return Revocation(**values, sessions_ended=result.scalar_one())
    result = connection.execute(END_ALL_OF_USER, {"new_user_id": user_id, "new_revoked_us": now})
    return _audit(session, cause, values, _rowcount(result))


def force_logout_everyone(
    session: Session, cause: Cause, *, require_allowed: Callable[[], None] = lambda: None
) -> Revocation:
    """End every session of every user.

    :param require_allowed: Called under the lock; raises if whoever asks may not.
    """
    lock_everyone(session, exclusively=True)
    require_allowed()
    now = clock.now_us()
    invalid_before_us = invalidate_everyone(session, now)
    feed_table.add(session, Change("everyone", None, None, invalid_before_us))
    session.execute(
        sa.update(_logins).where(UserLogin.active_until_us > 0).values(active_until_us=0)
    )
    ended = _rowcount(connection_of(session).execute(END_ALL, {"new_revoked_us": now}))
    values = _revocation_values("everyone", now, invalid_before_us=invalid_before_us)
    return _audit(session, cause, values, ended)


def end_session(session: Session, session_id: str, cause: Cause) -> Revocation | None:
    """End one session, with every token of it.

    :returns: ``None`` if there is no such session or it has ended before.
    """
    write_first(session)
    own = of_session(session_id, dialect_of(session))
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
    cut_short = _rowcount(session.execute(end.where(SessionRecord.end_reason == RENEWED)))
    if ended or cut_short:
        feed_table.add(session, Change("session", user_id, session_id, now))
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
    values = _revocation_values("session", now, user_id=user_id, session_id=session_id)
    return _audit(session, cause, values, ended)


def forget(session: Session, user_id: str) -> None:
    """Delete every row of a user, the audit records included, and with them every token."""
    write_first(session)
    for key in (_logins.c.user_id, _sessions.c.jti, _revocations.c.id):
        own = sa.select(key).where(key.table.c.user_id == user_id)
        keys = session.scalars(own).all()  # deleted by key: no neighbour is locked
        session.execute(sa.delete(key.table).where(key.in_(keys)))
    feed_table.add(session, Change("user", user_id, None, clock.now_us()))


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
    extra = {"signed_in_us": signed_in_us, "ip": ip, "user_agent": user_agent}
    connection_of(session).execute(INSERT_SESSION, asdict(issued) | extra)


def _revocation_values(
    kind: Kind,
    now: int,
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    invalid_before_us: int | None = None,
) -> dict[str, Any]:
    """Return the fields of a :class:`Revocation`, but for how many sessions it ended."""
    return {
        "id": _new_id(),
        "kind": kind,
        "user_id": user_id,
        "session_id": session_id,
        "invalid_before_us": invalid_before_us,
        "revoked_us": now,
    }


def _who(cause: Cause) -> dict[str, str | None]:
    return {"actor": cause.actor, "actor_ip": cause.ip, "reason": cause.reason}


def _audit(session: Session, cause: Cause, values: dict[str, Any], ended: int) -> Revocation:
    revocation = Revocation(**values, sessions_ended=ended)
    connection_of(session).execute(INSERT_REVOCATION, asdict(revocation) | _who(cause))
    return revocation
