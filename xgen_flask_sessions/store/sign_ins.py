"""Sign-ins and renewals.

Each function works in the session that it is given; the caller commits. Locks are always taken in
this order: the row ``*``, the host's user row, ``xgen_user_logins``, ``xgen_sessions``, and before
the commit the head of the feed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..changes import Change
from ..clock import SECOND_US
from ..errors import SessionRevoked
from . import dialects, feed_table
from .dialects.base import INSERT_SESSION, by_index, new_login
from .stamps import lock_everyone, next_stamp
from .tables import ACCOUNT_CHANGED, FORCE_LOGOUT, RENEWED, SessionRecord, UserLogin

RENEWAL_GRACE_US: Final = 60 * SECOND_US
"""How long a renewed token is still accepted, for calls under way."""

_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A record whose token is still to be signed. Times are microseconds."""

    user_id: str
    jti: str
    session_id: str
    issued_us: int
    expires_us: int


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


def issue(
    session: Session,
    user_id: str,
    *,
    lifetime_us: int,
    ip: str | None = None,
    user_agent: str | None = None,
    require_active: Callable[[], None] = lambda: None,
    unless_forced_out_since: tuple[int, int] | None = None,
) -> Issue:
    """Record a sign-in.

    :param user_id: The user's id.
    :param lifetime_us: How long the token is valid, in microseconds.
    :param ip: The source address, already cleaned.
    :param user_agent: The ``User-Agent``, already cleaned.
    :param require_active: Called under the locks; raises if the user may not sign in.
    :param unless_forced_out_since: The user's and everyone's invalidation timestamps at the time of
        the sign-in, if it is recorded later.
    :raises SessionRevoked: There was a force logout in between.
    """
    everyone_us = lock_everyone(session)
    require_active()
    now = clock.now_us()
    first = max(now, everyone_us + 1)
    jti = new_id()
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
    connection = dialects.connection_of(session)
    stamp = dialects.of(connection).insert_sign_in(connection, login, row)
    if unless_forced_out_since is not None:
        cut_off = sa.select(UserLogin.invalid_before_us).where(UserLogin.user_id == user_id)
        now_us = (connection.execute(cut_off).scalar_one(), everyone_us)
        if any(now > then for now, then in zip(now_us, unless_forced_out_since, strict=True)):
            raise SessionRevoked(forced=True)
    return Issue(user_id=user_id, jti=jti, session_id=jti, issued_us=stamp, expires_us=expires_us)


def record_past(session: Session, sign_ins: Iterable[PastSignIn]) -> None:
    """Record past sign-ins of users without any record.

    A sign-in before everyone's invalidation timestamp is recorded as ended by it.

    :param sign_ins: In any order; of one user, no two at the same microsecond.
    """
    everyone_us = lock_everyone(session)
    rows: list[dict[str, Any]] = []
    logins: dict[str, dict[str, Any]] = {}
    for past in sorted(sign_ins, key=lambda past: past.signed_in_us):
        jti = new_id()
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
    :param usual_us: Its lifetime in microseconds if the old token's lifetime is unknown: the old
        stamp is in the future, after a sign-in on a machine whose clock was ahead.
    :param require_active: Called under the locks with the user's id; raises if the user may not.
    :raises SessionRevoked: The session has ended, possibly during this call.
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
    # Read again under the lock: no other transaction can end it any more.
    old = session.execute(record.with_for_update()).one_or_none()
    if old is None:
        raise SessionRevoked
    changed = old.end_reason == ACCOUNT_CHANGED
    if old.issued_us <= max(invalid_before_us, everyone_us):
        raise SessionRevoked(forced=not changed, account_changed=changed)
    if old.ended_us is not None and (old.end_reason != RENEWED or old.ended_us <= now):
        raise SessionRevoked(forced=old.end_reason == FORCE_LOGOUT, account_changed=changed)
    issued = Issue(
        user_id=old.user_id,
        jti=new_id(),
        session_id=old.session_id,
        issued_us=stamp,
        expires_us=expires_us,
    )
    # The new row first: MariaDB locks the gap beside the rows that are updated, and renewals of
    # two neighbours would wait for each other to insert into it.
    kept = {"signed_in_us": old.signed_in_us, "ip": old.ip, "user_agent": old.user_agent}
    dialects.connection_of(session).execute(INSERT_SESSION, asdict(issued) | kept)
    ends_us = now + RENEWAL_GRACE_US
    session.execute(
        by_index(sa.update(_sessions), _sessions, "ix_xgen_sessions_session")
        .where(
            dialects.of(session).of_session(old.session_id),
            SessionRecord.jti != issued.jti,
            SessionRecord.ended_us.is_(None),
        )
        .values(ended_us=ends_us, end_reason=RENEWED)
    )
    feed_table.add(session, Change("renewed", old.user_id, old.session_id, stamp, ends_us))
    return issued


def new_id() -> str:
    """Return a new random identifier."""
    return uuid.uuid4().hex


def _expiry(now_us: int, lifetime_us: int) -> int:
    # A whole second, so that the token's exp says exactly the same.
    return (now_us + lifetime_us) // SECOND_US * SECOND_US
