"""Flask-Login: ``current_user`` and ``login_required`` work with our tokens."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, current_app, g, request
from flask_login import LoginManager, current_user
from sqlalchemy.exc import SQLAlchemyError

from .access import Outcome, outcome, reject
from .errors import (
    AuthenticationError,
    ConfigurationError,
    DenylistUnavailable,
    SessionRevoked,
    TokenInvalid,
    TokenMissing,
    UserInactive,
)
from .problems import refuse
from .state import get_state
from .users import unwrap

_ASKING = "xgen_flask_sessions.asking_host"
_BRIDGE = "_xgen_sessions_bridge"


class LoginBridge:
    """Makes Flask-Login find the user of a token, and answer as we do where there is none.

    A request loader of the host's is asked where no token was sent. The host's
    ``unauthorized_handler`` stays in force for its own pages. There is one bridge for each
    ``LoginManager``, which may serve several applications; see :meth:`of`.
    """

    def __init__(self, login_manager: LoginManager) -> None:
        self._manager = login_manager
        self._host_loader: Any = None
        self._host_unauthorized: Any = None

    @classmethod
    def of(cls, app: Flask, login_manager: LoginManager) -> LoginBridge:
        """Return the bridge of *login_manager*, built at the first call, for use by *app*.

        :raises ConfigurationError: Session protection is "strong".
        """
        protection = app.config.get("SESSION_PROTECTION", login_manager.session_protection)
        if protection == "strong":
            raise ConfigurationError(
                'SESSION_PROTECTION = "strong" makes Flask-Login turn away every token as soon as '
                'anything is in the Flask session; set it to "basic" or None.'
            )
        app.before_request(_forget_last_user)
        if not hasattr(login_manager, _BRIDGE):
            setattr(login_manager, _BRIDGE, cls(login_manager))
        bridge: LoginBridge = getattr(login_manager, _BRIDGE)
        return bridge

    def attach(self) -> None:
        """Take the two callbacks over; again, if the host has set its own since."""
        if self._manager.request_callback != self._load_user:
            self._host_loader = self._manager.request_callback
            self._manager.request_loader(self._load_user)
        if self._manager.unauthorized_callback != self._unauthorized:
            self._host_unauthorized = self._manager.unauthorized_callback
            self._manager.unauthorized_handler(self._unauthorized)

    def _load_user(self, request: Request) -> Any | None:
        user = _user_of_token(self._manager)
        # A token that was refused is not to pass by another way of reading it.
        if user is None and isinstance(outcome().error, TokenMissing):
            return _ask_host(self._host_loader, request)
        return user

    def _unauthorized(self) -> Any:
        error = outcome().error or TokenMissing()
        answered = None
        if isinstance(error, AuthenticationError):
            answered = _ask_host(self._host_unauthorized)
        return refuse(error) if answered is None else answered


def _ask_host(callback: Any, *arguments: Any) -> Any | None:
    """Call the host's own callback, unless that is what is calling us."""
    if callback is None or request.environ.get(_ASKING):
        return None
    request.environ[_ASKING] = True
    try:
        return callback(*arguments)
    finally:
        del request.environ[_ASKING]


def require_user() -> Any:
    """Return the user who sends the current request.

    Whoever is signed in by a session of Flask-Login's is known by it, unless a token that was
    sent as well says otherwise.

    :raises XgenSessionsError: It is nobody, or a token was sent and is refused.
    """
    manager = getattr(current_app, "login_manager", None)
    if manager is None:
        user = _user_of_token(None) if outcome().token else None
    else:
        user = unwrap(current_user)
    result = outcome()
    if result.error is not None and not isinstance(result.error, TokenMissing):
        raise result.error
    if user is None or not user.is_authenticated:
        raise result.error or TokenMissing()
    if result.token is not None and user.get_id() != result.token.user_id:
        raise TokenInvalid("The token is another user's than the session.")
    return user


def _forget_last_user() -> None:
    # Flask-Login keeps the user in g, which outlives a request where a context is held open.
    g.pop("_login_user", None)


def _user_of_token(login_manager: LoginManager | None) -> Any | None:
    """Return the active user that the current request's token is for, or ``None``."""
    try:
        return _find_user(login_manager, outcome())
    except SQLAlchemyError:
        reject(DenylistUnavailable())
        return None


def _find_user(login_manager: LoginManager | None, result: Outcome) -> Any | None:
    if isinstance(result.error, SessionRevoked) and result.error.user_id:
        # Who was made inactive should read that, and not try to sign in again.
        if not _load_active(login_manager, result.error.user_id):
            reject(UserInactive())
        return None
    if result.token is None:
        return None
    user = _load_active(login_manager, result.token.user_id)
    if user is None:
        reject(UserInactive())
    return user


def _load_active(login_manager: LoginManager | None, user_id: str) -> Any | None:
    users = get_state().users
    load = (login_manager and login_manager.user_callback) or users.get
    user = load(user_id)
    return user if user is not None and users.is_active(user) else None
