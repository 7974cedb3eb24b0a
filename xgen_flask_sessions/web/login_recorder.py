"""Records the effects of ``login_user()`` and ``logout_user()`` at the end of their request.

The sign-in page and its transaction belong to the host. The record is made in a separate
transaction on a separate connection, and locks none of the host's tables.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, Final

from flask import Flask, Response, current_app, request, session
from flask_login import COOKIE_DURATION, user_logged_in, user_logged_out
from sqlalchemy.orm import Session

from .. import clock
from ..errors import LedgerUnavailable, TokenError, UserInactive, XgenSessionsError
from ..lifecycle import (
    announce,
    cause,
    lifetime_us,
    origin,
    sample_token,
    sign,
)
from ..request_acts import get_acts
from ..settings import LONGEST_LIFETIME, SHORTEST_LIFETIME
from ..signals import session_ended, session_issued, user_forced_out
from ..state import State, get_app, get_state
from ..store import revocations, sign_ins
from ..store.revocations import Cause
from ..store.sign_ins import Identity
from ..store.transactions import HeldByHost
from ..text import cause_of
from ..tokens.claims import IssuedToken
from . import login_browser
from .cookie import unset_cookie
from .failures import note_failure
from .problems import refuse
from .request_scope import (
    PendingLogin,
    RequestState,
    find_request_state,
    is_recorded_at_end,
    note_user_loaded,
    request_scope,
    request_state,
)

_ONLY_HERE: Final = "You are signed out in this browser, but that could not be recorded."


def watch(app: Flask) -> None:
    """Record the sign-ins and sign-outs of Flask-Login in *app*."""
    user_logged_in.connect(_note_login, app)
    user_logged_out.connect(_note_logout, app)


def is_signing_in(login_id: str) -> bool:
    """Return whether the current request signed that user in by ``login_user()``."""
    current = find_request_state()
    if current is None or current.pending is None or current.pending.user_id is None:
        return False
    # Without a dispatch, it is never recorded: a copy of the context must not rely on it.
    if not (is_recorded_at_end() or request_scope().has_pending):
        return False
    pending = current.pending
    return (pending.identity.login_id or pending.user_id) == login_id


def _note_login(_: Flask, user: Any) -> None:
    note_user_loaded()
    pending = _get_pending()
    state = pending.state
    pending.ended += _tokens_in_browser(state)  # no later sign-out can end them
    login_browser.drop_token()
    pending.user_id = state.users.id_of(user)
    get_acts().signed_in.add(pending.user_id)
    pending.identity = state.users.identity_of(user)
    pending.is_new = state.users.was_inserted(user)
    if not state.users.is_active(user):
        pending.error = UserInactive()
        return
    try:
        pending.invalid_before_us = state.denylist.invalid_before_us(pending.user_id)
    except XgenSessionsError as error:
        pending.error = error
    pending.remember = session.get("_remember") == "set"
    pending.lifetime = _remember_duration() if pending.remember else None


def _remember_duration() -> timedelta:
    seconds = session.get("_remember_seconds")
    duration = current_app.config.get("REMEMBER_COOKIE_DURATION", COOKIE_DURATION)
    if seconds is not None or not isinstance(duration, timedelta):
        duration = timedelta(seconds=duration if seconds is None else seconds)
    return max(SHORTEST_LIFETIME, min(duration, LONGEST_LIFETIME))


def _note_logout(_: Flask, user: Any) -> None:  # noqa: ARG001
    pending = _get_pending()
    pending.ended += _tokens_in_browser(pending.state)
    login_browser.drop_token()
    pending.user_id = None


def _tokens_in_browser(state: State) -> list[str]:
    cookies = request.cookies.getlist(state.settings.cookie_name)
    return [*login_browser.tokens_held(), *filter(None, cookies)]


def _get_pending() -> PendingLogin:
    current = request_state()
    if current.pending is None:
        current.pending = PendingLogin(get_state())
    request_scope().has_pending = True
    return current.pending


def record(current: RequestState, response: Response) -> Response:
    """Record the request's sign-in and sign-outs; undo a sign-in that cannot be recorded.

    :param current: The state of the current request.
    :returns: The response to send.
    """
    if current.pending is not None:
        pending, current.pending = current.pending, None
        return _settle(pending, response)
    if current.forgotten:
        login_browser.clean_up(response)
    return response


def _settle(pending: PendingLogin, response: Response) -> Response:
    state = pending.state
    if pending.user_id is not None:
        login_browser.require_room(sample_token(state, pending.user_id, {}))
    try:
        issued = _record_login(state, pending)
    except XgenSessionsError as error:
        login_browser.forget()
        response = refuse(error)
        login_browser.clean_up(response)
        return response
    reason = None if issued is None else "signed in again"
    try:
        for token in pending.ended:
            _end(state, token, reason, response)
    except LedgerUnavailable as error:
        note_failure(error)
        if issued is None:
            response = refuse(LedgerUnavailable(_ONLY_HERE).caused_by(error))
    if pending.ended and _still_has_cookie(state, response):
        unset_cookie(response)
    if issued is None:
        login_browser.clean_up(response)
    else:
        login_browser.begin(response, issued, remembered=pending.remember)
    return response


def _still_has_cookie(state: State, response: Response) -> bool:
    name = state.settings.cookie_name
    is_set = any(each.startswith(f"{name}=") for each in response.headers.getlist("Set-Cookie"))
    return name in request.cookies and not is_set


def _record_login(state: State, pending: PendingLogin) -> IssuedToken | None:
    user_id = pending.user_id
    if user_id is None:
        return None
    if isinstance(pending.error, UserInactive):
        raise pending.error
    if pending.error is not None:
        raise LedgerUnavailable from pending.error
    ip, agent = origin()
    acts = get_acts()
    if acts.awaits_commit(state.db.session(), user_id):  # it holds the lock on the user's row
        transaction = state.transactions.write(commit=False)
    else:
        transaction = state.transactions.write_separately(join=True)
    with transaction as own:
        user_us, everyone_us = pending.invalid_before_us
        recorded = sign_ins.issue(
            own,
            user_id,
            lifetime_us=lifetime_us(pending.lifetime or state.settings.lifetime),
            ip=ip,
            user_agent=agent,
            identify=lambda: _identity(pending, own),
            confirm_mark=lambda: state.users.read_mark(own, user_id),
            unless_forced_out_since=(acts.since(own, user_id, user_us), everyone_us),
        )
        issued = sign(state, own, recorded, {})
        state.pruning.schedule(own)
        if recorded.ended is not None:
            announce(own, user_forced_out.send, revocation=recorded.ended)
        announce(own, session_issued.send, issued=issued, user_id=user_id)
    return issued


def _identity(pending: PendingLogin, own: Session) -> Identity:
    """Return the identity of the user that signed in.

    The attributes of a user object that was just inserted may differ from the database's row, and
    an object of the host's own does not tell the mark.
    """
    identity = pending.identity
    if pending.is_new or identity.mark is None:
        mark = pending.state.users.read_mark(own, str(pending.user_id))
        identity = identity._replace(mark=mark)
    return identity


def _end(state: State, token: str, reason: str | None, response: Response) -> None:
    try:
        claims = state.codec.decode(token, now_us=clock.now_us())
    except TokenError:
        return  # expired, or issued by another deployment: it has no session
    why = cause(state, claims.user_id, reason)
    try:
        _end_session(claims.session_id, why)
    except HeldByHost:  # released once the response has been sent
        response.call_on_close(partial(_end_afterwards, get_app(), claims.session_id, why))


def _end_session(session_id: str, why: Cause) -> None:
    with get_state().transactions.write_separately(join=False) as own:
        revocation = revocations.end_session(own, session_id, why)
        if revocation is not None:
            announce(own, session_ended.send, revocation=revocation)


def _end_afterwards(app: Flask, session_id: str, why: Cause) -> None:
    with app.app_context():
        try:
            _end_session(session_id, why)
        except LedgerUnavailable as error:
            app.logger.error("The end of a session could not be recorded: %s", cause_of(error))
