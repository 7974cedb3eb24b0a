"""The token of the current request, and ``token_required`` for APIs that need no user row.

The token is checked once in a request, at the first use. In a context that may outlive its request,
such as a copy, it is checked at every use; see :mod:`.request_scope`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from flask import Request, current_app, has_request_context
from werkzeug.local import LocalProxy

from ..errors import (
    AuthenticationError,
    CrossSiteRequest,
    DatabaseUnavailable,
    SessionRevoked,
    TokenAmbiguous,
    TokenInvalid,
    TokenMissing,
    XgenSessionsError,
)
from ..signals import token_rejected
from ..state import State, get_app, get_state
from ..tokens.claims import VerifiedToken
from . import login_browser
from .failures import note_failure
from .marks import PREFLIGHT, admits_preflights, checks_caller
from .request_scope import (
    BEARER,
    Outcome,
    RequestScope,
    TokenLocation,
    has_bearer,
    request_scope,
)
from .same_site import is_same_site

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MOST_COOKIES: Final = 8
"""Cookies of one name that are checked, with a query each."""
_SEVERAL_USERS: Final = "The cookies of the request hold the sessions of several users."


class SignInNotRecorded(TokenInvalid):
    """A session of Flask-Login has no token, such as one from before the plugin was added."""


def outcome() -> Outcome:
    """Return the outcome for the current request's token, checking it at the first call."""
    return _outcome_in(request_scope())


def _outcome_in(scope: RequestScope) -> Outcome:
    kept = scope.outcome
    if kept is not None and (scope.keeps_outcome or not _may_change(kept)):
        return kept
    state, source = scope.state, None
    try:
        tokens, source, login_id = _find_tokens(scope.request, state)
        verify = state.checker.verify
        verified = verify(tokens[0]) if len(tokens) == 1 else _verify_one_of(verify, tokens)
        if login_id is not None:
            _require_login(verified, login_id)
        elif source == "cookie" and len(scope.request.cookies) > 1 and state.records_logins:
            _require_no_other_user(state, verified)
        result = Outcome(verified, None, source)
    except XgenSessionsError as error:
        return reject(error, source)
    scope.outcome = result
    return result


def _may_change(outcome: Outcome) -> bool:
    """Return whether another check may end otherwise. Once refused, a token stays refused."""
    return outcome.error is None or isinstance(outcome.error, DatabaseUnavailable)


def reject(error: XgenSessionsError, source: TokenLocation | None = None) -> Outcome:
    """Make *error* the current request's outcome, and send ``token_rejected``.

    :param source: The place of the token, if there was one.
    """
    note_failure(error)
    scope = request_scope()
    already_sent = scope.outcome is not None and scope.outcome.error is not None
    result = scope.outcome = Outcome(None, error, source)
    if not already_sent and not isinstance(error, TokenMissing):
        token_rejected.send(get_app(), error=error)
    return result


def recheck_token() -> None:
    """Check the current request's token again, in the database.

    Call it inside a privileged transaction, so that a caller revoked mid-request cannot complete
    it.

    :raises AuthenticationError: It has been revoked.
    :raises DenylistUnavailable: The database cannot be asked.
    """
    result = outcome() if has_request_context() else None
    if result is None:
        return
    if isinstance(result.error, SessionRevoked):  # checked anew in a context that may outlive it
        raise result.error
    token = result.token
    if token is None:
        return
    try:
        get_state().strict_checker.recheck(token)
    except AuthenticationError as error:
        reject(error, outcome().source)
        raise


def verify_login() -> VerifiedToken:
    """Return the verified token of the current request's Flask-Login session.

    :raises TokenError: There is none, or it is refused.
    :raises DenylistUnavailable: The database cannot be asked.
    """
    result = outcome()
    if result.source == "login" and result.token is not None:
        return result.token
    if result.source == "login" or isinstance(result.error, DatabaseUnavailable):
        raise result.error or TokenMissing()
    found = login_browser.find_token()
    if found is None:
        raise SignInNotRecorded("The sign-in is not on record.")
    token, login_id = found
    verified = get_state().checker.verify(token)
    _require_login(verified, login_id)
    return verified


def _require_no_other_user(state: State, verified: VerifiedToken) -> None:
    """Check that the browser has no valid Flask-Login session of another user.

    ``current_user`` would be one user and ``current_token`` the other's.

    :raises TokenAmbiguous: It has one.
    :raises DenylistUnavailable: The database cannot be asked.
    """
    found = login_browser.find_token()
    if found is None or found[1] == verified.login_id:
        return
    try:
        _require_login(state.checker.verify(found[0]), found[1])
    except AuthenticationError:
        return
    raise TokenAmbiguous(_SEVERAL_USERS)


def _require_login(verified: VerifiedToken, login_id: str) -> None:
    if verified.login_id != login_id:
        raise TokenInvalid("The sign-in is another user's.")


def _verify_one_of(verify: Callable[[str], VerifiedToken], tokens: list[str]) -> VerifiedToken:
    """Return the valid one of the tokens in cookies of one name.

    Another site on the same domain can set a cookie of the same name, for a path or for the whole
    domain. It must neither put an invalid token in the way nor sign the browser in as another user.

    :raises TokenAmbiguous: There are tokens of several users.
    :raises XgenSessionsError: No token is valid.
    """
    if len(tokens) > _MOST_COOKIES:
        raise TokenAmbiguous(_SEVERAL_USERS)
    valid, refusals = [], []
    for token in tokens:
        try:
            valid.append(verify(token))
        except AuthenticationError as error:
            refusals.append(error)
    if len({token.user_id for token in valid}) > 1:
        raise TokenAmbiguous(_SEVERAL_USERS)
    if not valid:
        # The end of a session explains more than an invalid token.
        raise min(refusals, key=lambda error: isinstance(error, TokenInvalid))
    return max(valid, key=lambda token: token.issued_us)


def _find_tokens(request: Request, state: State) -> tuple[list[str], TokenLocation, str | None]:
    """Return the current request's tokens, their place, and the login id that they must have."""
    settings = state.settings
    locations = settings.token_locations
    header = request.environ.get("HTTP_AUTHORIZATION", "")
    in_header = "headers" in locations and (header[:7] == "Bearer " or has_bearer(header))
    cookies: list[str] = []
    if "cookies" in locations and "HTTP_COOKIE" in request.environ:
        cookies = request.cookies.getlist(settings.cookie_name)
        if len(cookies) > 1 or cookies == [""]:
            cookies = list(dict.fromkeys(filter(None, cookies)))
    if in_header and cookies:
        raise TokenAmbiguous
    if in_header:
        token = header[len(BEARER) :].strip(" ")
        if not token:
            raise TokenInvalid("The Authorization header has no token.")
        return [token], "header", None
    found = login_browser.find_token() if not cookies and state.records_logins else None
    if not cookies and found is None:
        raise TokenMissing
    if not is_same_site(request, settings.trusted_origins):
        raise CrossSiteRequest
    if found is not None:
        return [found[0]], "login", found[1]
    return cookies, "cookie", None


@overload
def token_required(
    view: Callable[_P, Coroutine[Any, Any, _R]],
) -> Callable[_P, _R]: ...
@overload
def token_required(view: Callable[_P, _R]) -> Callable[_P, _R]: ...
def token_required(view: Callable[_P, Any]) -> Callable[_P, Any]:
    """Admit only requests with a valid token to *view*; no user row is read.

    For other requests it raises the error, which the application answers: with 401 and problem
    details, page navigations with a redirect to the sign-in page. ``OPTIONS`` needs no token, as
    with Flask-Login's ``login_required``: browsers send none with a CORS preflight. In the view,
    :data:`current_token` is the token. An asynchronous view is run as Flask runs it.
    """
    is_async = iscoroutinefunction(view)

    @admits_preflights
    @checks_caller
    @wraps(view)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        scope = request_scope()
        if scope.request.method != PREFLIGHT:
            error = _outcome_in(scope).error
            if error is not None:
                raise error
        if is_async:
            return current_app.ensure_sync(view)(*args, **kwargs)
        return view(*args, **kwargs)

    return checked


def _current_token() -> VerifiedToken | None:
    return outcome().token if has_request_context() else None


if TYPE_CHECKING:

    class CurrentToken(VerifiedToken):
        """The type of :data:`current_token`, for type checkers only: it may be false."""

        def __bool__(self) -> bool: ...


current_token: CurrentToken = LocalProxy(_current_token)  # type: ignore[assignment]
"""The current request's :class:`~xgen_flask_sessions.VerifiedToken`; false without one."""
