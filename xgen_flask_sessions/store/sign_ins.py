"""Sign-ins and renewals.

Each function works in the session that it is given; the caller commits. Locks are always taken in
this order: the row ``*``, the host's user row, ``xgen_user_logins``, ``xgen_sessions``, and before
the commit the head of the feed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..changes import Change
from ..clock import MAX_RELEVANCE_US, SECOND_US
from ..errors import SessionRevoked
from . import dialects, feed_table, revocations
from .address_keys import key_of
from .dialects.base import INSERT_SESSION, LoginState, by_index, new_login
from .revocations import Cause, Revocation
from .stamps import lock_everyone, next_stamp
from .tables import ACCOUNT_CHANGED, FORCE_LOGOUT, RENEWED, SessionRecord, UserLogin, new_id

RENEWAL_GRACE_US: Final = 60 * SECOND_US
"""How long a renewed token is still accepted, for calls under way."""

ID_REUSED: Final = "the user id belongs to another account now"
"""The reason for ending the sessions of an earlier account."""

_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)


class Identity(NamedTuple):
    """What the host's row says about an account, beyond its id."""

    login_id: str | None = None
    """The result of ``get_id()``; ``None`` if it equals the account's id."""
    mark: str | None = None
    """Distinguishes the account from a later one with the same id; ``None`` if unknown."""


UNKNOWN: Final = Identity()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A record whose token is still to be signed. Times are microseconds."""

    user_id: str
    jti: str
    session_id: str
    issued_us: int
    expires_us: int
    made_us: int
    """The time by this machine's clock; the stamp may be ahead of it."""
    login_id: str | None = None
    mark: str | None = None
    ended: Revocation | None = None
    """The end of the sessions of an earlier account with the same id."""


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
    identify: Callable[[], Identity] = lambda: UNKNOWN,
    confirm_mark: Callable[[], str | None] | None = None,
    unless_forced_out_since: tuple[int, int] | None = None,
) -> Issue:
    """Record a sign-in.

    If the id was given to another account since the last sign-in, the sessions of the earlier
    account end in the same transaction.

    :param user_id: The user's account.
    :param lifetime_us: How long the token is valid, in microseconds.
    :param ip: The source address, already cleaned.
    :param user_agent: The ``User-Agent``, already cleaned.
    :param identify: Called under the locks; returns the account's identity, or raises if the user
        may not sign in.
    :param confirm_mark: Reads the account's mark from the database, if *identify* did not.
    :param unless_forced_out_since: The user's and everyone's invalidation timestamps at the time of
        the sign-in, if it is recorded later.
    :raises SessionRevoked: The user's sessions were ended in between.
    """
    everyone_us = lock_everyone(session)
    identity = identify()
    now = clock.now_us()
    jti = new_id()
    row: dict[str, Any] = {
        "jti": jti,
        "session_id": jti,
        "user_id": user_id,
        "signed_in_us": now,
        "expires_us": _expiry(now, lifetime_us),
        "ip": ip,
        "ip_key": key_of(ip),
        "user_agent": user_agent,
        "login_id": identity.login_id,
    }
    state = _insert(session, row, identity.mark, everyone_us)
    if unless_forced_out_since is not None:
        now_us = (state.invalid_before_us, everyone_us)
        if any(now > then for now, then in zip(now_us, unless_forced_out_since, strict=True)):
            raise SessionRevoked  # by a force logout, or by a change of the account
    ended = None
    if identity.mark is not None and state.account_mark != identity.mark:
        mark = identity.mark if confirm_mark is None else confirm_mark()
        if mark is not None and state.account_mark != mark:
            ended, state = _replace_account(session, row, mark, everyone_us)
    return Issue(
        user_id=user_id,
        jti=jti,
        session_id=jti,
        issued_us=state.last_issued_us,
        expires_us=row["expires_us"],
        made_us=now,
        login_id=identity.login_id,
        mark=state.account_mark,
        ended=ended,
    )


def _insert(
    session: Session, row: dict[str, Any], mark: str | None, everyone_us: int
) -> LoginState:
    now = row["signed_in_us"]
    login = new_login(
        row["user_id"],
        last_issued_us=max(now, everyone_us + 1),
        active_until_us=row["expires_us"],
        last_login_us=now,
        last_ip=row["ip"],
        last_ip_key=row["ip_key"] or None,
        account_mark=mark,
    )
    connection = dialects.connection_of(session)
    return dialects.of(connection).insert_sign_in(connection, login, row)


def _replace_account(
    session: Session, row: dict[str, Any], mark: str, everyone_us: int
) -> tuple[Revocation, LoginState]:
    """End the sessions of the earlier account, and record the sign-in of the new one."""
    session.execute(sa.delete(_sessions).where(SessionRecord.jti == row["jti"]))
    ended = revocations.force_logout(
        session, row["user_id"], Cause(reason=ID_REUSED), end_reason=ACCOUNT_CHANGED
    )
    session.execute(
        sa.update(_logins).where(UserLogin.user_id == row["user_id"]).values(account_mark=mark)
    )
    return ended, _insert(session, row, mark, everyone_us)


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
                "ip_key": key_of(past.ip),
                "user_agent": past.user_agent,
            }
        )
        login = logins.setdefault(
            past.user_id,
            new_login(past.user_id, last_login_us=None, last_ip=None, last_ip_key=None),
        )
        login["last_issued_us"] = past.signed_in_us
        if not ended:
            login["active_until_us"] = max(login["active_until_us"], past.expires_us)
        if past.login:
            login |= {"last_login_us": past.signed_in_us, "last_ip": past.ip or login["last_ip"]}
            login["last_ip_key"] = key_of(login["last_ip"]) or None
    if rows:
        session.execute(sa.insert(_logins), list(logins.values()))
        session.execute(sa.insert(_sessions), rows)


def renew(
    session: Session,
    jti: str,
    *,
    lifetime_us: int,
    identify: Callable[[str], Identity] = lambda _: UNKNOWN,
) -> Issue:
    """Record a new token for the session of *jti*; the old token keeps a minute.

    :param jti: The token to renew.
    :param lifetime_us: How long the new token is valid, in microseconds.
    :param identify: Called under the locks with the user's id; returns the account's identity, or
        raises if the user may not.
    :raises SessionRevoked: The session has ended, possibly during this call.
    """
    everyone_us = lock_everyone(session)
    record = sa.select(_sessions).where(SessionRecord.jti == jti)
    old = session.execute(record).one_or_none()
    if old is None:
        raise SessionRevoked
    identity = identify(old.user_id)
    now = clock.now_us()
    expires_us = _expiry(now, lifetime_us)
    state = next_stamp(session, old.user_id, now, everyone_us=everyone_us, expires_us=expires_us)
    # Read again under the lock: no other transaction can end it any more.
    old = session.execute(record.with_for_update()).one_or_none()
    if old is None:
        raise SessionRevoked
    changed = old.end_reason == ACCOUNT_CHANGED
    if old.issued_us <= max(state.invalid_before_us, everyone_us):
        raise SessionRevoked(forced=not changed, account_changed=changed)
    is_over = old.ended_us is not None and not 0 < old.ended_us - now <= MAX_RELEVANCE_US
    if is_over or (old.ended_us is not None and old.end_reason != RENEWED):
        raise SessionRevoked(forced=old.end_reason == FORCE_LOGOUT, account_changed=changed)
    if identity is not UNKNOWN and not _is_holder(identity, old.login_id, state.account_mark):
        raise SessionRevoked
    row = {
        "jti": new_id(),
        "session_id": old.session_id,
        "user_id": old.user_id,
        "issued_us": state.last_issued_us,
        "signed_in_us": old.signed_in_us,
        "expires_us": expires_us,
        "ip": old.ip,
        "ip_key": key_of(old.ip),
        "user_agent": old.user_agent,
        "login_id": old.login_id,
    }
    # The new row first: MariaDB locks the gap beside the rows that are updated, and renewals of
    # two neighbours would wait for each other to insert into it.
    dialects.connection_of(session).execute(INSERT_SESSION, row)
    ends_us = now + RENEWAL_GRACE_US
    session.execute(
        by_index(sa.update(_sessions), _sessions, "ix_xgen_sessions_session")
        .where(
            dialects.of(session).of_session(old.session_id),
            SessionRecord.jti != row["jti"],
            SessionRecord.ended_us.is_(None),
        )
        .values(ended_us=ends_us, end_reason=RENEWED)
    )
    stamp = state.last_issued_us
    feed_table.add(session, Change("renewed", old.user_id, old.session_id, stamp, ends_us))
    return Issue(
        user_id=old.user_id,
        jti=row["jti"],
        session_id=old.session_id,
        issued_us=stamp,
        expires_us=expires_us,
        made_us=now,
        login_id=old.login_id,
        mark=state.account_mark,
    )


def _is_holder(identity: Identity, login_id: str | None, mark: str | None) -> bool:
    """Return whether the account still is the one that signed in, with the same login id."""
    same_account = None in (mark, identity.mark) or mark == identity.mark
    return same_account and login_id == identity.login_id


def _expiry(now_us: int, lifetime_us: int) -> int:
    # A whole second, so that the token's exp says exactly the same.
    return (now_us + lifetime_us) // SECOND_US * SECOND_US
