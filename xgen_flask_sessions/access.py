"""Who is calling? The token of the current request, and the door for APIs that need no user row.

The token is checked once in a request, at first use. The result hangs on the request itself, not
on ``g``, which outlives a request where an application context is held open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from flask import Request, current_app, has_request_context, request
from werkzeug.local import LocalProxy

from .errors import (
    CrossSiteRequest,
    TokenAmbiguous,
    TokenInvalid,
    TokenMissing,
    XgenSessionsError,
)
from .problems import refuse
from .same_site import is_same_site
from .settings import Settings
from .signals import token_rejected
from .state import State, get_state
from .verifier import VerifiedToken

_P = ParamSpec("_P")
_ENVIRON_KEY = "xgen_flask_sessions.outcome"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the current request's token: one of *token* and *error* is set."""

    token: VerifiedToken | None
    error: XgenSessionsError | None
    by_cookie: bool = False
    """Whether the token came in the cookie."""


def outcome() -> Outcome:
    """Return what became of the current request's token, checking it at the first call."""
    state = get_state()
    kept: tuple[State, Outcome] | None = request.environ.get(_ENVIRON_KEY)
    if kept is not None and kept[0] is state:
        return kept[1]
    try:
        token, by_cookie = _find_token(request, state.settings)
        result = Outcome(state.verifier.verify(token), None, by_cookie)
    except XgenSessionsError as error:
        return reject(error)
    request.environ[_ENVIRON_KEY] = (state, result)
    return result


def reject(error: XgenSessionsError) -> Outcome:
    """Make *error* the current request's outcome, and tell whoever listens of a refusal."""
    state = get_state()
    kept = request.environ.get(_ENVIRON_KEY)
    result = Outcome(None, error)
    request.environ[_ENVIRON_KEY] = (state, result)
    told_before = kept is not None and kept[0] is state and kept[1].error is not None
    if not told_before and not isinstance(error, TokenMissing):
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        token_rejected.send(app, error=error)
    return result


def _find_token(request: Request, settings: Settings) -> tuple[str, bool]:
    """Return the current request's token, and whether it is in the cookie."""
    in_header = "headers" in settings.token_locations and _has_bearer(request)
    cookie = None
    if "cookies" in settings.token_locations:
        cookie = request.cookies.get(settings.cookie_name) or None
    if in_header and cookie:
        raise TokenAmbiguous
    if in_header:
        token = request.headers["Authorization"].partition(" ")[2].strip(" ")
        if not token:
            raise TokenInvalid("The Authorization header has no token.")
        return token, False
    if cookie:
        if not is_same_site(request, settings.trusted_origins):
            raise CrossSiteRequest
        return cookie, True
    raise TokenMissing


def _has_bearer(request: Request) -> bool:
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    return scheme.lower() == "bearer"  # RFC 9110, section 11.1: case does not matter


def token_required(view: Callable[_P, Any]) -> Callable[_P, Any]:
    """Let only requests with a valid token into *view*; no user row is read.

    The others are answered with 401 and problem details, a page navigation with a redirect to
    the sign-in page. In the view, :data:`current_token` is the token.
    """

    @wraps(view)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        error = outcome().error
        if error is not None:
            return refuse(error)
        return current_app.ensure_sync(view)(*args, **kwargs)

    return checked


def _current_token() -> VerifiedToken | None:
    return outcome().token if has_request_context() else None


current_token: VerifiedToken = LocalProxy(_current_token)  # type: ignore[assignment]
"""The current request's :class:`~xgen_flask_sessions.VerifiedToken`; false where it has none."""
