"""Flask-Login: ``current_user`` and ``login_required`` work with the plugin's tokens."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, current_app, request, session
from flask.sessions import NullSession
from flask_login import AUTH_HEADER_NAME, LoginManager, current_user, user_unauthorized
from sqlalchemy.exc import SQLAlchemyError

from ..errors import (
    AuthenticationError,
    DatabaseUnavailable,
    DenylistUnavailable,
    SessionRevoked,
    TokenAmbiguous,
    TokenInvalid,
    TokenMissing,
    XgenSessionsError,
)
from ..state import find_state, get_app, get_state
from ..users.directory import unwrap
from . import holders, login_browser, login_recorder
from .login_views import expand
from .problems import wants_data, with_security_headers
from .refusals import Answer
from .request_scope import (
    note_user_loaded,
    note_user_set,
    refresh_current_user,
    request_scope,
)
from .request_token import SignInNotRecorded, outcome, reject, verify_login

_BRIDGE = "_xgen_sessions_bridge"


class LoginBridge:
    """Makes Flask-Login find the user of a token, and refuse requests without a valid one.

    A session that ``login_user()`` began is valid only with the token that was recorded for it. The
    host's request loader is called if no token was sent. The host's ``unauthorized_handler`` stays
    in force for its own pages, and so does Flask-Login's redirect if no token was sent. There is
    one bridge for each ``LoginManager``, which may serve several applications; see :meth:`of`.
    """

    def __init__(self, login_manager: LoginManager) -> None:
        self._manager = login_manager
        self._host_user_loader: Any = None
        self._host_loader: Any = None
        self._answer_unauthorized = login_manager.unauthorized
        self._session_protection_failed = login_manager._session_protection_failed
        self._load_into_g = login_manager._load_user
        self._set_in_g = login_manager._update_request_context_with_user
        login_manager.unauthorized = self._unauthorized
        login_manager._load_user = self._load_current_user
        login_manager._update_request_context_with_user = self._set_current_user
        login_manager._session_protection_failed = self._is_session_unprotected

    @classmethod
    def of(cls, app: Flask, login_manager: LoginManager) -> LoginBridge:
        """Return the bridge of *login_manager*, built at the first call, for *app*."""
        login_recorder.watch(app)
        refresh_current_user(app)
        if not hasattr(login_manager, _BRIDGE):
            setattr(login_manager, _BRIDGE, cls(login_manager))
        bridge: LoginBridge = getattr(login_manager, _BRIDGE)
        return bridge

    @staticmethod
    def knows(login_manager: LoginManager) -> bool:
        """Return whether *login_manager* was passed to ``init_app``."""
        return hasattr(login_manager, _BRIDGE)

    @staticmethod
    def find(login_manager: LoginManager | None) -> LoginBridge | None:
        """Return the bridge of a login manager, or ``None`` if there is none."""
        return getattr(login_manager, _BRIDGE, None)

    def attach(self, *, complete: bool = False) -> None:
        """Replace the callbacks; call it again after the host has set its own.

        :param complete: Whether the host has set its own; if it has no user loader, the plugin's
            user model takes its place.
        """
        loader = self._manager.user_callback
        if loader != self._load_session_user and (loader is not None or complete):
            self._host_user_loader = loader
            self._manager.user_loader(self._load_session_user)
        if self._manager.request_callback != self._load_user:
            self._host_loader = self._manager.request_callback
            self._manager.request_loader(self._load_user)

    def loader_of_requests(self) -> Any | None:
        """Return the host's own request loader, or header loader, if it has one."""
        return self._host_loader or self._manager._header_callback

    def find_user(self, login_id: str) -> Any | None:
        """Return a user by the host's own loader."""
        return (self._host_user_loader or get_state().users.find_by_login)(login_id)

    def _load_current_user(self) -> None:
        """Load ``current_user``, in place of ``LoginManager._load_user()``."""
        self._load_into_g()
        note_user_loaded()

    def _set_current_user(self, user: Any = None) -> None:
        """Set ``current_user``, as ``login_user()`` and a host's own check of the caller do."""
        note_user_set()
        self._set_in_g(user)

    def _load_session_user(self, login_id: str) -> Any | None:
        """Return the user of a Flask-Login session or remember cookie, if it is valid."""
        if find_state() is None:
            return self._host_user_loader(login_id) if self._host_user_loader else None
        if login_recorder.is_signing_in(str(login_id)):
            return self.find_user(login_id)
        if _is_held_against(str(login_id)):
            return None
        try:
            token = verify_login()
            if token.login_id != str(login_id):
                raise TokenInvalid("The sign-in is another user's.")
            user = holders.find(token, self.find_user)
        except SQLAlchemyError as error:
            reject(DenylistUnavailable().caused_by(error))
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
        user = _user_of_token(self._host_user_loader)
        if user is not None:
            login_browser.make_fresh()
        # A refused token must not pass by the host's own reading of it.
        elif isinstance(outcome().error, TokenMissing):
            return _ask_host(self._host_loader or self._load_by_header, request)
        return user

    def _load_by_header(self, request: Request) -> Any | None:
        """Call the host's header loader, as Flask-Login does without a request loader."""
        name = current_app.config.get("AUTH_HEADER_NAME", AUTH_HEADER_NAME)
        header = request.headers.get(name)
        return None if header is None else self._manager._load_user_from_header(header)

    def _unauthorized(self) -> Any:
        """Answer a request of no user, in place of ``LoginManager.unauthorized()``."""
        if find_state() is None:
            return self._answer_unauthorized()
        error = outcome().error or TokenMissing()
        if isinstance(error, AuthenticationError) and self._is_left_to_flask_login(error):
            response = current_app.make_response(self._answer_unauthorized())
            if not self._has_own_answer():
                response = with_security_headers(response)
            raise Answer(response)
        user_unauthorized.send(get_app())
        raise error

    def _is_left_to_flask_login(self, error: AuthenticationError) -> bool:
        if self._has_own_answer():
            return True
        if isinstance(session._get_current_object(), NullSession):  # type: ignore[attr-defined]
            return False  # its message needs a session
        views = self._manager.blueprint_login_views
        view = views.get(request.blueprint, self._manager.login_view)
        has_page = bool(view) and expand(view) is not None
        has_no_token = isinstance(error, TokenMissing | SignInNotRecorded)
        return has_page and has_no_token and not wants_data()

    def _has_own_answer(self) -> bool:
        """Return whether the host replaced Flask-Login's answer by a handler or in a subclass."""
        own = getattr(self._answer_unauthorized, "__func__", None)
        return own is not LoginManager.unauthorized or (
            self._manager.unauthorized_callback is not None
        )

    def _is_session_unprotected(self) -> bool:
        """Return whether Flask-Login's session protection refuses the request.

        It protects a session or a remember cookie of Flask-Login. With "strong", it would also
        refuse a token because of other data in Flask's session.
        """
        if find_state() is not None and not login_browser.has_login():
            return False
        failed: bool = self._session_protection_failed()
        return failed


def _ask_host(callback: Any, *arguments: Any) -> Any | None:
    """Call the host's own callback, unless the host's callback is the caller."""
    scope = request_scope()
    if callback is None or scope.is_asking_host:
        return None
    scope.is_asking_host = True
    try:
        return callback(*arguments)
    finally:
        scope.is_asking_host = False


def require_user() -> Any:
    """Return the user of the current request.

    It may be the user of a Flask-Login session, unless the request also carries a token of another
    user.

    :raises XgenSessionsError: There is no user, or the token is refused.
    """
    if hasattr(current_app, "login_manager"):
        user = unwrap(current_user)
    else:
        user = _user_of_token(None) if outcome().token else None
    result = outcome()
    if result.error is not None and not isinstance(result.error, TokenMissing):
        raise result.error
    if user is None or not get_state().users.is_authenticated(user):
        raise result.error or TokenMissing()
    if result.token is not None and not holders.is_account(user, result.token):
        raise TokenInvalid("The token is another user's than the session.")
    return user


def _user_of_token(load: holders.Loader | None) -> Any | None:
    """Return the active user of the current request's token, or ``None``."""
    result = outcome()
    try:
        if isinstance(result.error, SessionRevoked) and result.error.user_id:
            # An inactive user must learn that, instead of trying to sign in again.
            holders.require_active(result.error.user_id, load)
        return None if result.token is None else holders.find(result.token, load)
    except (SQLAlchemyError, DenylistUnavailable) as error:
        reject(DenylistUnavailable().caused_by(error))
    except AuthenticationError as error:
        reject(error)
    return None


def _is_held_against(login_id: str) -> bool:
    """Return whether a token overrides a Flask-Login session.

    It does if it is another user's, and a token in the header also if it is refused.
    """
    result = outcome()
    if result.source == "header":
        token = result.token
        if token is not None and token.login_id != login_id:
            reject(TokenAmbiguous(), "header")
            return True
        return token is None and isinstance(result.error, AuthenticationError)
    if isinstance(result.error, TokenAmbiguous):
        return True
    return isinstance(result.error, TokenInvalid) and result.source is None
