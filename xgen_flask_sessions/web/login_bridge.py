"""Flask-Login: ``current_user`` and ``login_required`` work with the plugin's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, abort, current_app, g, request
from flask_login import LoginManager, current_user
from sqlalchemy.exc import SQLAlchemyError

from ..errors import (
    AuthenticationError,
    ConfigurationError,
    DatabaseUnavailable,
    DenylistUnavailable,
    SessionRevoked,
    TokenAmbiguous,
    TokenInvalid,
    TokenMissing,
    UserInactive,
    XgenSessionsError,
)
from ..state import find_state, get_state
from ..users.directory import unwrap
from . import login_browser, login_recorder
from .problems import refuse
from .request_token import Outcome, outcome, reject, verify_login

_ASKING = "xgen_flask_sessions.asking_host"
_BRIDGE = "_xgen_sessions_bridge"


class LoginBridge:
    """Makes Flask-Login find the user of a token, and refuse requests without a valid one.

    A session that ``login_user()`` began is valid only with the token that was recorded for it. The
    host's request loader is called if no token was sent. The host's ``unauthorized_handler`` stays
    in force for its own pages. There is one bridge for each ``LoginManager``, which may serve
    several applications; see :meth:`of`.
    """

    def __init__(self, login_manager: LoginManager) -> None:
        self._manager = login_manager
        self._host_user_loader: Any = None
        self._host_loader: Any = None
        self._host_unauthorized: Any = None

    @classmethod
    def of(cls, app: Flask, login_manager: LoginManager) -> LoginBridge:
        """Return the bridge of *login_manager*, built at the first call, for *app*.

        :raises ConfigurationError: Session protection is "strong".
        """
        _refuse_strong_protection(app, login_manager)
        login_recorder.watch(app)
        if not hasattr(login_manager, _BRIDGE):
            setattr(login_manager, _BRIDGE, cls(login_manager))
        bridge: LoginBridge = getattr(login_manager, _BRIDGE)
        return bridge

    @staticmethod
    def knows(login_manager: LoginManager) -> bool:
        """Return whether *login_manager* was passed to ``init_app``."""
        return hasattr(login_manager, _BRIDGE)

    def attach(self, app: Flask) -> None:
        """Replace the callbacks; call it again after the host has set its own.

        :raises ConfigurationError: Session protection is "strong".
        """
        _refuse_strong_protection(app, self._manager)
        loader = self._manager.user_callback
        if loader is not None and loader != self._load_session_user:
            self._host_user_loader = loader
            self._manager.user_loader(self._load_session_user)
        if self._manager.request_callback != self._load_user:
            self._host_loader = self._manager.request_callback
            self._manager.request_loader(self._load_user)
        if self._manager.unauthorized_callback != self._unauthorized:
            self._host_unauthorized = self._manager.unauthorized_callback
            self._manager.unauthorized_handler(self._unauthorized)

    def find_user(self, user_id: str) -> Any | None:
        """Return a user by the host's own loader."""
        return (self._host_user_loader or get_state().users.get)(user_id)

    def _load_session_user(self, user_id: str) -> Any | None:
        """Return the user of a Flask-Login session or remember cookie, if it is valid."""
        if find_state() is None:
            return self._host_user_loader(user_id)
        if login_recorder.is_signing_in(user_id):
            return self.find_user(user_id)
        if _is_held_against(user_id):
            return None
        try:
            if verify_login().user_id != user_id:
                raise TokenInvalid("The sign-in is another user's.")
            user = _find_active(self.find_user, user_id)
            if user is None:
                raise UserInactive
        except SQLAlchemyError:
            reject(DenylistUnavailable())
            return None
        except DatabaseUnavailable as error:
            reject(error)
            return None
        except XgenSessionsError as error:
            login_browser.forget()
            if outcome().source == "login" or isinstance(outcome().error, TokenMissing):
                reject(error)
            # With a remember cookie, Flask-Login does not call the request loader.
            return self._load_user(request)
        login_browser.restore_token()
        return user

    def _load_user(self, request: Request) -> Any | None:
        if find_state() is None:
            return self._host_loader(request) if self._host_loader else None
        user = _user_of_token(self.find_user)
        # A refused token must not pass by the host's own reading of it.
        if user is None and isinstance(outcome().error, TokenMissing):
            return _ask_host(self._host_loader, request)
        return user

    def _unauthorized(self) -> Any:
        if find_state() is None:
            return self._host_unauthorized() if self._host_unauthorized else abort(401)
        error = outcome().error or TokenMissing()
        answered = None
        if isinstance(error, AuthenticationError):
            answered = _ask_host(self._host_unauthorized)
        return refuse(error) if answered is None else answered


def _ask_host(callback: Any, *arguments: Any) -> Any | None:
    """Call the host's own callback, unless the host's callback is the caller."""
    if callback is None or request.environ.get(_ASKING):
        return None
    request.environ[_ASKING] = True
    try:
        return callback(*arguments)
    finally:
        del request.environ[_ASKING]


def require_user() -> Any:
    """Return the user of the current request.

    It may be the user of a Flask-Login session, unless the request also carries a token of another
    user.

    :raises XgenSessionsError: There is no user, or the token is refused.
    """
    if hasattr(current_app, "login_manager"):
        user = unwrap(current_user)
    else:
        user = _user_of_token(get_state().users.get) if outcome().token else None
    result = outcome()
    if result.error is not None and not isinstance(result.error, TokenMissing):
        raise result.error
    if user is None or not user.is_authenticated:
        raise result.error or TokenMissing()
    if result.token is not None and user.get_id() != result.token.user_id:
        raise TokenInvalid("The token is another user's than the session.")
    return user


def begin_request() -> None:
    """Make Flask-Login look for the current request's user, in all ways.

    It caches the user in ``g``, which outlives a request if a context stays open. With a remember
    cookie, even an unreadable one, it does not call the request loader.
    """
    g._get_current_object().pop("_login_user", None)
    if "HTTP_COOKIE" in request.environ:
        login_browser.drop_unreadable_remember_cookie()


def _user_of_token(find: Callable[[str], Any]) -> Any | None:
    """Return the active user of the current request's token, or ``None``."""
    try:
        return _find_user(find, outcome())
    except (SQLAlchemyError, DenylistUnavailable):
        reject(DenylistUnavailable())
        return None


def _find_user(find: Callable[[str], Any], result: Outcome) -> Any | None:
    if isinstance(result.error, SessionRevoked) and result.error.user_id:
        # An inactive user must learn that, instead of trying to sign in again.
        if not _find_active(find, result.error.user_id):
            reject(UserInactive())
        return None
    if result.token is None:
        return None
    user = _find_active(find, result.token.user_id)
    if user is None:
        reject(UserInactive())
    return user


def _find_active(find: Callable[[str], Any], user_id: str) -> Any | None:
    """Return the user, if there is one that is active.

    :raises DenylistUnavailable: The database does not answer.
    """
    state = get_state()
    if state.watch is not None:  # otherwise the database just checked the token
        state.transactions.reachability.require()
    user = find(user_id)
    return user if user is not None and state.users.is_active(user) else None


def _is_held_against(user_id: str) -> bool:
    """Return whether a token in the header overrides a Flask-Login session.

    It does if it is refused, or if it is another user's.
    """
    result = outcome()
    if result.source == "header":
        token = result.token
        if token is not None and token.user_id != user_id:
            reject(TokenAmbiguous(), "header")
            return True
        return token is None and isinstance(result.error, AuthenticationError)
    return isinstance(result.error, TokenAmbiguous | TokenInvalid) and result.source is None


def _refuse_strong_protection(app: Flask, login_manager: LoginManager) -> None:
    protection = app.config.get("SESSION_PROTECTION", login_manager.session_protection)
    if protection == "strong":
        raise ConfigurationError(
            'SESSION_PROTECTION = "strong" makes Flask-Login refuse every token once the Flask '
            'session is not empty; set it to "basic" or None.'
        )
