"""A session's life: issue, renew, verify, end, force logout, prune.

These functions are the calls of :class:`~xgen_flask_sessions.XgenSessions`; each works on the
current application. They choose the transaction, authorize, call the store and send the signals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import has_request_context, request
from sqlalchemy.orm import Session

from . import clock
from .request_acts import find_acts
from .roster import records, user_sign_ins
from .roster.devices import clean_address, clean_user_agent
from .roster.roster import ActiveSession
from .roster.user_sign_ins import SignIns
from .settings import LONGEST_LIFETIME, SHORTEST_LIFETIME
from .signals import session_ended, session_issued, user_forced_out
from .state import State, get_app, get_state
from .store import address_keys, commit_hooks, pruning, revocations, sign_ins
from .store.deployments import deployment_of
from .store.revocations import Cause, Revocation
from .store.sign_ins import Issue, PastSignIn
from .store.stamps import begin_write
from .store.tables import MAX_REASON, new_id
from .text import clean_text
from .tokens.claims import (
    MAX_COOKIE_BYTES,
    Claims,
    IssuedToken,
    VerifiedToken,
    check_extra_claims,
    check_user_id,
    is_session_id,
)
from .users.attributes import describe_value


def issue(
    user: Any,
    *,
    claims: Mapping[str, Any] | None = None,
    lifetime: timedelta | int | None = None,
    commit: bool = True,
) -> IssuedToken:
    """Record a sign-in and return its token.

    Within a request, the address and the browser are recorded with it.

    :param user: The user object, or its id.
    :param claims: Further claims for the token.
    :param lifetime: How long the token is valid, as a timedelta or in seconds.
    :param commit: Commit the host's session; otherwise join its transaction.
    :raises UserInactive: The user is inactive or does not exist.
    :raises LedgerUnavailable: The database cannot be written; the change was not made.
    :raises TypeError: *user* is neither, or *claims* is no mapping.
    :raises ValueError: *claims* or *lifetime* are out of bounds, the id is invalid, or the token is
        too long for the cookie: browsers drop one of over 4096 bytes.
    """
    state = get_state()
    user_id = state.users.id_of(user)
    if not isinstance(claims, Mapping | None):
        raise TypeError(f"claims= takes a mapping, not {describe_value(claims)}.")
    extra = dict(claims or {})
    check_extra_claims(extra)
    if extra:
        _check_cookie_size(state, user_id, extra)
    span_us = lifetime_us(state.settings.lifetime if lifetime is None else lifetime)
    ip, agent = origin()
    with state.transactions.write(commit=commit) as session:
        recorded = sign_ins.issue(
            session,
            user_id,
            lifetime_us=span_us,
            ip=ip,
            user_agent=agent,
            identify=lambda: state.users.identify(user_id),
        )
        issued = sign(state, session, recorded, extra)
        state.pruning.schedule(session)
    acts = find_acts()
    if acts is not None:
        acts.issued.setdefault(user_id, {})[issued.session_id] = issued.issued_us
    if recorded.ended is not None:
        _announce(session, commit, user_forced_out.send, revocation=recorded.ended)
    _announce(session, commit, session_issued.send, issued=issued, user_id=user_id)
    return issued


def renew(verified: VerifiedToken, *, commit: bool = True) -> IssuedToken:
    """Return a new token for the same session; the old one keeps 60 s for calls under way.

    The new token lives as long as the old one did from its issue.

    :param verified: The result of :func:`verify` for the old token.
    :param commit: Commit the host's session; otherwise join its transaction.
    :raises TypeError: *verified* is something else, such as the token's text.
    :raises SessionRevoked: The session has ended since.
    :raises UserInactive: The user is inactive or does not exist.
    :raises LedgerUnavailable: The database cannot be written; the change was not made.
    """
    state = get_state()
    if not isinstance(verified, VerifiedToken):
        raise TypeError(f"renew() takes the result of verify(), not {describe_value(verified)}.")
    with state.transactions.write(commit=commit) as session:
        recorded = sign_ins.renew(
            session,
            verified.jti,
            lifetime_us=_lifetime_of(verified) or lifetime_us(state.settings.lifetime),
            identify=state.users.identify,
        )
        issued = sign(state, session, recorded, verified.claims)
        state.pruning.schedule(session)
    _announce(session, commit, session_issued.send, issued=issued, user_id=verified.user_id)
    return issued


def verify(token: str) -> VerifiedToken:
    """Check a token: its signature, its claims, and whether it is revoked.

    :param token: The compact JWS.
    :raises TokenError: The token is malformed, forged, expired or revoked.
    :raises DenylistUnavailable: The database cannot be asked; the token must not pass.
    """
    return get_state().checker.verify(token)


def force_logout(
    user: Any, *, actor: Any = None, reason: str | None = None, commit: bool = True
) -> Revocation:
    """End every session of a user, now. The account does not change.

    :param user: The user object, or its id.
    :param actor: The user object of the administrator, or the name of another actor.
    :param reason: The reason for the audit record; up to 500 characters.
    :param commit: Commit the host's session; otherwise join its transaction.
    :raises Forbidden: *actor* is a user object without SuperUser rights, and *user* is a SuperUser.
    :raises LedgerUnavailable: The database cannot be written; the change was not made.
    :raises TypeError: *user* or *actor* is neither a user object nor an id, or *reason* no string.
    :raises ValueError: *reason* is over 500 characters, or an id is invalid.
    """
    state = get_state()
    user_id = state.users.id_of(user)
    return force_logout_authorized(
        user_id,
        cause(state, actor, reason),
        authorize=lambda session: state.authority.check_rank(session, actor, user_id),
        commit=commit,
    )


def force_logout_authorized(
    user_id: str, why: Cause, *, authorize: Callable[[Session], object], commit: bool = True
) -> Revocation:
    """End every session of a user, if *authorize* permits it in the same transaction.

    :param user_id: The user's id.
    :param why: The cause, for the audit record.
    :param authorize: Called in the transaction before it changes a row; raises to prevent it.
    :param commit: Commit the host's session; otherwise join its transaction.
    :raises LedgerUnavailable: The database cannot be written; the change was not made.
    """
    with get_state().transactions.write(commit=commit) as session:
        authorize(session)
        revocation = revocations.force_logout(session, user_id, why)
        acts = find_acts()
        if acts is not None:
            acts.note_revocation(session, revocation)
    _announce(session, commit, user_forced_out.send, revocation=revocation)
    return revocation


def force_logout_everyone(
    *, actor: Any = None, reason: str | None = None, commit: bool = True
) -> Revocation:
    """End every session of every user, now. Parameters and errors as :func:`force_logout`."""
    state = get_state()
    return force_logout_everyone_authorized(
        cause(state, actor, reason),
        authorize=lambda session: state.authority.check_rank(session, actor, None),
        commit=commit,
    )


def force_logout_everyone_authorized(
    why: Cause, *, authorize: Callable[[Session], object], commit: bool = True
) -> Revocation:
    """End every session of every user; parameters as :func:`force_logout_authorized`."""
    transactions = get_state().transactions

    def end_all() -> Revocation:
        with transactions.write(commit=commit, bounded=False, read_committed=True) as session:
            return revocations.force_logout_everyone(
                session, why, require_allowed=lambda: authorize(session)
            )

    revocation = transactions.retry_after_deadlock(commit, end_all)
    _announce(get_state().db.session(), commit, user_forced_out.send, revocation=revocation)
    return revocation


def end_session(
    session_id: str,
    *,
    actor: Any = None,
    reason: str | None = None,
    commit: bool = True,
) -> Revocation | None:
    """End one session, now, as a sign-out does.

    :param session_id: The session's id, a token's ``sid``.
    :returns: ``None`` if there is no such session or it had already ended.
    :raises Forbidden: *actor* is a user object without SuperUser rights, and the session is a
        SuperUser's.
    :raises LedgerUnavailable: The database cannot be written; the change was not made.
    :raises TypeError: *session_id* is no string, *actor* neither a user object nor an id, or
        *reason* no string.
    :raises ValueError: *reason* is over 500 characters, or the id of *actor* is invalid.
    """
    state = get_state()
    why = cause(state, actor, reason)
    if not isinstance(session_id, str):
        raise TypeError(f"A session's id is needed, not {describe_value(session_id)}.")
    if not is_session_id(session_id):
        return None

    def authorize(session: Session) -> None:
        owner = records.owner_of(session, session_id)
        if owner is not None:
            state.authority.check_rank(session, actor, owner)

    return end_session_authorized(session_id, why, authorize=authorize, commit=commit)


def end_session_authorized(
    session_id: str, why: Cause, *, authorize: Callable[[Session], object], commit: bool = True
) -> Revocation | None:
    """End one session, if *authorize* permits it; parameters as :func:`force_logout_authorized`.

    :returns: ``None`` if there is no such session or it had already ended.
    """
    with get_state().transactions.write(commit=commit) as session:
        authorize(session)
        revocation = revocations.end_session(session, session_id, why)
    if revocation is not None:
        _announce(session, commit, session_ended.send, revocation=revocation)
    return revocation


def prune(*, progress: Callable[[int], None] = lambda _: None) -> int:
    """Delete the rows of sessions that ended or expired longer ago than the retention.

    Each sign-in and renewal deletes a few of them; this deletes the rest. Rows that others have
    locked are skipped. It rests after each batch, so that sign-ins do not wait for it. At the end,
    addresses that an earlier release has recorded get their keys, as by :func:`upgrade`.

    :param progress: Called after each committed batch with the number of rows in it.
    :returns: The number of deleted rows.
    :raises LedgerUnavailable: The database cannot be written; earlier batches stay deleted.
    """
    state = get_state()
    write = partial(state.transactions.write, commit=True, bounded=False)
    total = 0
    skipped: set[str] = set()
    while True:
        with write() as session:
            before_us = pruning.kept_from(state.settings.retention, state.settings.leeway)
            batches = pruning.find(session, before_us=before_us, skipped=skipped)
        if not batches:
            break
        for batch in batches:
            begun = time.monotonic()
            with write() as session:
                deleted = pruning.prune(session, batch, skipped=skipped)
            total += deleted
            progress(deleted)
            time.sleep(pruning.REST * (time.monotonic() - begun))
    fill_address_keys()
    return total


def fill_address_keys() -> None:
    """Give addresses that earlier releases have recorded the keys by which lists find them.

    It rests after each batch, so that sign-ins do not wait for it.

    :raises LedgerUnavailable: The database cannot be written; earlier batches keep their keys.
    """
    write = partial(get_state().transactions.write, commit=True, bounded=False)
    skipped: set[str] = set()
    found = 1
    last: str | None = ""
    while found:
        begun = time.monotonic()
        with write() as session:
            found = address_keys.fill_sessions(session, skipped)
        if found:
            time.sleep(time.monotonic() - begun)
    while last is not None:
        begun = time.monotonic()
        with write() as session:
            changed, last = address_keys.fill_logins(session, last)
        if changed:
            time.sleep(time.monotonic() - begun)


def record_past_sign_ins(past: Iterable[PastSignIn], *, commit: bool = True) -> None:
    """Record sign-ins that were made before the plugin was added, as active sessions.

    :param past: Sign-ins of users without any record; no two of a user at the same microsecond.
    :param commit: Commit the host's session; otherwise join its transaction.
    :raises LedgerUnavailable: The database cannot be written; the change was not made.
    :raises TypeError: One of them is something else.
    :raises ValueError: The id of a user is invalid.
    """
    # All are read before the transaction, which holds the lock that sign-ins wait for.
    checked = list(map(_check_past, past))
    with get_state().transactions.write(commit=commit, bounded=False) as session:
        sign_ins.record_past(session, checked)


def _check_past(past: Any) -> PastSignIn:
    if not isinstance(past, PastSignIn):
        raise TypeError(f"Each past sign-in is a PastSignIn, not {describe_value(past)}.")
    check_user_id(past.user_id)
    return past


def active_sessions(user: Any, *, limit: int | None = None, offset: int = 0) -> list[ActiveSession]:
    """Return a user's active sessions, newest sign-in first.

    :param user: The user object, or its id.
    :param limit: The number of sessions at most; ``None`` for all of them.
    :param offset: The number of newer sessions to skip.
    :raises TypeError: *user* is neither a user object nor an id.
    :raises ValueError: The id is invalid.
    """
    state = get_state()
    user_id = state.users.id_of(user)
    return state.roster.sessions_of(state.db.session(), user_id, limit, offset)


def sign_ins_of(users: Iterable[Any]) -> dict[str, SignIns]:
    """Return the sign-ins of each of these users, by user id: active sessions, last login, address.

    A user that never signed in has 0 sessions and no last login.

    :param users: User objects, or their ids.
    :raises TypeError: One of them is neither a user object nor an id.
    :raises ValueError: An id is invalid.
    """
    state = get_state()
    ids = list(map(state.users.id_of, users))
    return user_sign_ins.sign_ins_of(state.db.session(), ids)


def sign_ins_by_user() -> sa.Subquery:
    """Return the sign-ins of all users as a subquery, to order or to filter the host's own list.

    Join it from the outside (``outerjoin``): a user that never signed in has no row.

    :returns: The columns ``user_id`` (the primary key as text), ``active_sessions`` and
        ``last_login_us``. A query that does not use ``active_sessions`` does not count them.
    """
    return user_sign_ins.sign_ins_by_user(get_state().db.session())


@contextmanager
def transaction() -> Iterator[Session]:
    """Lend the host's session for one change, and commit it at the end of the block.

    The block has ``XGEN_SESSIONS_WRITE_DEADLINE``, waits for locks included. Calls with
    ``commit=False`` join its transaction. After an error the change is rolled back. A row of the
    host's own that violates a constraint raises SQLAlchemy's error.

    :raises LedgerUnavailable: The database cannot be written in time. Unless ``undone`` is false,
        nothing was changed.
    """
    with get_state().transactions.write(commit=True) as session:
        begin_write(session)
        yield session


def may_view(user: Any) -> bool:
    """Return whether a user may see Login Management.

    :param user: The user object.
    """
    return get_state().authority.may_view(user)


def upgrade() -> list[str]:
    """Create the plugin's tables, or bring them to this release.

    If ``get_id()`` returns another attribute than the primary key, the upgrade from 0.3 signs
    everyone out once. Afterwards, addresses that earlier releases have recorded get the keys by
    which lists find and order them, a few in each transaction.

    :returns: The revisions recorded now, oldest first; empty if the tables were up to date.
    :raises ConfigurationError: The tables equal the result of no migration; they are unchanged.
    """
    from .store import migrate

    state = get_state()
    revisions = migrate.upgrade(state.db.engine, ids_change=state.users.has_login_ids)
    fill_address_keys()
    return revisions


def start_relay() -> None:
    """Start publishing the feed to Redis now, instead of at the first request.

    A no-op without ``XGEN_SESSIONS_REDIS_URL``. Call it in each process, after a fork.
    """
    relay = get_state().relay
    if relay is not None:
        relay.ensure_running()


def sign(state: State, session: Session, recorded: Issue, extra: Mapping[str, Any]) -> IssuedToken:
    """Return the token of a recorded sign-in or renewal.

    :param session: The session that recorded it.
    :param extra: The host's own claims.
    :raises ValueError: They make the token too long.
    """
    token = state.codec.encode(
        Claims(
            user_id=recorded.user_id,
            jti=recorded.jti,
            session_id=recorded.session_id,
            issued_us=recorded.issued_us,
            expires_us=recorded.expires_us,
            extra=extra,
            deployment=deployment_of(session),
            login_id=recorded.login_id,
            made_us=recorded.made_us,
        )
    )
    return IssuedToken(
        token, recorded.jti, recorded.session_id, recorded.issued_us, recorded.expires_us
    )


def sample_token(state: State, user_id: str, extra: Mapping[str, Any]) -> str:
    """Return a token as long as the next one of a user, which no sign-in recorded.

    :param extra: The host's own claims.
    """
    now_us, sample = clock.now_us(), "x" * len(new_id())
    claims = Claims(user_id, sample, sample, now_us, now_us, extra, sample, None, now_us)
    return state.codec.encode(claims)


def _check_cookie_size(state: State, user_id: str, extra: Mapping[str, Any]) -> None:
    if "cookies" not in state.settings.token_locations:
        return
    size = len(state.settings.cookie_name) + len(sample_token(state, user_id, extra))
    if size > MAX_COOKIE_BYTES:
        raise ValueError(
            f"The claims make a cookie of {size} bytes; browsers keep {MAX_COOKIE_BYTES}. Use "
            "shorter claims, or take 'cookies' out of XGEN_SESSIONS_TOKEN_LOCATIONS."
        )


def lifetime_us(value: timedelta | int) -> int:
    """Return a lifetime in microseconds.

    :param value: A timedelta, or whole seconds.
    :raises ValueError: It is shorter than a second or longer than ten years.
    """
    if type(value) is int:
        value = timedelta(seconds=max(0, min(value, 10**11)))
    if not isinstance(value, timedelta) or not SHORTEST_LIFETIME <= value <= LONGEST_LIFETIME:
        raise ValueError("A lifetime is a timedelta or whole seconds: one second to ten years.")
    return value // timedelta(microseconds=1)


def _lifetime_of(token: VerifiedToken) -> int | None:
    """Return the lifetime of a token in microseconds, or ``None`` if its times do not tell.

    Earlier releases wrote the stamp for the time of issue, which may be after the expiry: it lies
    ahead after a sign-in on a machine whose clock was ahead.
    """
    span_us = token.expires_us - token.made_us
    return span_us if 0 < span_us <= LONGEST_LIFETIME // timedelta(microseconds=1) else None


def origin() -> tuple[str | None, str | None]:
    """Return the current request's address and ``User-Agent``, cleaned for the tables."""
    if not has_request_context():
        return None, None
    return (
        clean_address(request.remote_addr),
        clean_user_agent(request.headers.get("User-Agent")),
    )


def cause(state: State, actor: Any, reason: str | None) -> Cause:
    """Return the cause of a revocation: the actor, the address and the reason.

    :param actor: A user object, or the name of another actor.
    :raises TypeError: The reason is no string.
    :raises ValueError: It is over 500 characters.
    """
    name = None if actor is None else state.users.id_of(actor)
    if not isinstance(reason, str | None):
        raise TypeError(f"A reason is a string, not {describe_value(reason)}.")
    if reason is not None and len(reason) > MAX_REASON:
        raise ValueError(f"A reason has at most {MAX_REASON} characters.")
    return Cause(actor=name, actor_ip=origin()[0], reason=clean_text(_one_line(reason), MAX_REASON))


def _one_line(reason: str | None) -> str:
    """Return a reason with spaces for its line breaks: records have one line."""
    return " ".join((reason or "").splitlines())


def announce(session: Session, send: Callable[..., object], **values: Any) -> None:
    """Send a signal after the commit of the session's transaction.

    :param send: The ``send`` method of the signal.
    :param values: The signal's arguments.
    """
    commit_hooks.on_commit(session, partial(send, get_app(), **values))


def _announce(session: Session, commit: bool, send: Callable[..., object], **values: Any) -> None:
    """Send a signal: now if the change was committed, otherwise after the host's commit.

    The error of a receiver is logged.
    """
    if commit:
        commit_hooks.send_now(partial(send, get_app(), **values))
    else:
        announce(session, send, **values)
