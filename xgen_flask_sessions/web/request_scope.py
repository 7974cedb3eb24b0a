"""The state that the plugin keeps for one request in one context.

``request.environ`` outlives a request: Flask-SocketIO makes a context from it for each event, and a
copied context shares it. ``g`` outlives a request if an application context stays open. So the
state is kept in ``g`` with the request object: an event has a new request, and a copied context a
``g`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from flask import Flask, Request, g, has_request_context, request

from ..errors import XgenSessionsError
from ..state import State, get_state
from ..store.sign_ins import UNKNOWN, Identity
from ..tokens.claims import VerifiedToken

get_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
"""Return the current request itself instead of its proxy."""
_get_g: Callable[[], Any] = g._get_current_object

_SCOPE: Final = "_xgen_sessions_scope"
_STATE: Final = "_xgen_sessions_state"
_DISPATCHED: Final = "_xgen_sessions_dispatched"
_LOADED_FOR: Final = "_xgen_sessions_user_loaded_for"
_LOGIN_USER: Final = "_login_user"
"""Flask-Login's key in ``g`` for ``current_user``."""

BEARER: Final = "bearer"
"""The authentication scheme of tokens (RFC 6750), in lower case."""

TokenLocation = Literal["header", "cookie", "login"]
"""The place of a token; ``login`` is a session of Flask-Login."""


@dataclass(slots=True)
class Outcome:
    """The outcome of checking the current request's token: either *token* or *error* is set."""

    token: VerifiedToken | None
    error: XgenSessionsError | None
    source: TokenLocation | None = None
    """The place of the token."""


@dataclass(slots=True)
class PendingLogin:
    """The sign-in and sign-outs of the current request, to be recorded at its end."""

    state: State
    user_id: str | None = None
    """The account that signed in."""
    identity: Identity = UNKNOWN
    is_new: bool = False
    """Whether the user was inserted by this process."""
    invalid_before_us: tuple[int, int] = (0, 0)
    """The user's and everyone's invalidation timestamps at the sign-in. Later ones revoke it,
    except for those of this request's own changes of the account."""
    error: XgenSessionsError | None = None
    """The reason why the sign-in cannot be recorded, if it is known already."""
    remember: bool = False
    lifetime: timedelta | None = None
    """The lifetime of the remember cookie."""
    ended: list[str] = field(default_factory=list)
    """The tokens of sessions that the request ended."""


class RequestState:
    """The state of one request, which copies of its context share."""

    __slots__ = ("forgotten", "pending")

    def __init__(self) -> None:
        self.pending: PendingLogin | None = None
        """The sign-in and sign-outs to record at the end of the request."""
        self.forgotten = False
        """Whether the request removed a sign-in of Flask-Login from the browser."""


class RequestScope:
    """The state of one request in one context."""

    __slots__ = (
        "has_pending",
        "is_asking_host",
        "keeps_outcome",
        "outcome",
        "request",
        "state",
    )

    def __init__(self, current: Request, state: State, is_dispatched: bool) -> None:
        self.request = current
        self.state = state
        """The plugin's objects for the application."""
        self.keeps_outcome = is_dispatched and "HTTP_UPGRADE" not in current.environ
        """Whether the context serves one request only: until the response, if Flask dispatches it.

        A web socket, for which a client asks by ``Upgrade``, serves many events. A stream, a
        background task with a copied context, and a context that the host pushed itself may last
        for any time.
        """
        self.outcome: Outcome | None = None
        """The outcome of the last check of the token."""
        self.has_pending = False
        """Whether ``login_user()`` or ``logout_user()`` was called in this context."""
        self.is_asking_host = False
        """Whether a callback of the host is running."""


def has_bearer(header: str) -> bool:
    """Return whether an ``Authorization`` header has the scheme ``Bearer``, well-formed or not.

    Case does not matter (RFC 9110, section 11.1). With a tab in place of a space, the credentials
    are malformed, and still this scheme's: a request loader of the host may read them.
    """
    end = len(BEARER)
    return header[:end].lower() == BEARER and not header[end : end + 1].strip()


def find_request_state() -> RequestState | None:
    """Return the state of the current request, or ``None`` if nothing was noted in it."""
    return get_request().__dict__.get(_STATE)


def request_state() -> RequestState:
    """Return the state of the current request."""
    attributes = get_request().__dict__
    state: RequestState | None = attributes.get(_STATE)
    if state is None:
        state = attributes[_STATE] = RequestState()
    return state


def is_recorded_at_end() -> bool:
    """Return whether Flask dispatches the current request, so that its sign-in is recorded."""
    return _DISPATCHED in get_request().__dict__


def request_scope() -> RequestScope:
    """Return the state of the current request in the current context."""
    current, held = get_request(), _get_g().__dict__
    scope: RequestScope | None = held.get(_SCOPE)
    if scope is None or scope.request is not current:
        scope = held[_SCOPE] = RequestScope(current, get_state(), False)
    return scope


def begin(current: Request, state: State) -> None:
    """Begin the state of a request that Flask dispatches, in its own context.

    Flask-Login shall look its user up anew: ``g`` outlives a request if a context stays open.
    """
    current.__dict__[_DISPATCHED] = True
    held = _get_g().__dict__
    held[_SCOPE] = RequestScope(current, state, True)
    if held.pop(_LOGIN_USER, None) is not None:
        held.pop(_LOADED_FOR, None)


def end() -> RequestState | None:
    """Keep no outcome from now on: the response is made, or making it failed.

    :returns: The state of the current request, if anything was noted in it.
    """
    scope = request_scope()
    scope.keeps_outcome = False
    attributes = scope.request.__dict__
    attributes.pop(_DISPATCHED, None)
    return attributes.get(_STATE)


def note_user_loaded() -> None:
    """Note that Flask-Login's cached user was loaded for the current request."""
    _get_g().__dict__[_LOADED_FOR] = get_request()


def note_user_set() -> None:
    """Note that Flask-Login's cached user is set now, whoever it was loaded for before."""
    _get_g().__dict__.pop(_LOADED_FOR, None)


def refresh_current_user(app: Flask) -> None:
    """Make Flask-Login look its user up again where a cached user is another request's.

    Flask-Login caches the user in ``g`` and asks first whether it is there.
    """
    base = app.app_ctx_globals_class
    if isinstance(base, type) and not issubclass(base, _CheckedGlobals):
        checked: Any = type(base.__name__, (_CheckedGlobals, base), {})
        app.app_ctx_globals_class = checked


class _CheckedGlobals:
    """``g`` without the users that Flask-Login cached for another request."""

    def __contains__(self, name: str) -> bool:
        contained: bool = super().__contains__(name)  # type: ignore[misc]
        return contained and (name != _LOGIN_USER or _is_current(self))


def _is_current(held: Any) -> bool:
    if not has_request_context():
        return True
    loaded_for = held.__dict__.get(_LOADED_FOR)
    if loaded_for is None:  # set by the host
        return True
    scope = request_scope()
    return loaded_for is scope.request and scope.keeps_outcome
