"""Flask-Login: ``current_user`` and ``login_required`` work with our tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Request
from flask_login import LoginManager
from sqlalchemy.exc import SQLAlchemyError

from .access import Outcome, keep, outcome
from .errors import (
    AuthenticationError,
    ConfigurationError,
    DenylistUnavailable,
    SessionRevoked,
    TokenMissing,
    UserInactive,
)
from .problems import refuse
from .state import get_state

if TYPE_CHECKING:
    from flask import Flask


def attach(app: Flask, login_manager: LoginManager) -> None:
    """Make Flask-Login find the user of a token, and answer as we do where there is none.

    A request loader of the host's is asked after ours. Its ``unauthorized_handler`` stays in
    force for its own pages.

    :raises ConfigurationError: Session protection is "strong".
    """
    protection = app.config.get("SESSION_PROTECTION", login_manager.session_protection)
    if protection == "strong":
        raise ConfigurationError(
            'SESSION_PROTECTION = "strong" makes Flask-Login turn away every token as soon as '
            'anything is in the Flask session; set it to "basic" or None.'
        )
    host_loader = login_manager.request_callback
    host_unauthorized = login_manager.unauthorized_callback

    def load_user(request: Request) -> Any | None:
        user = _user_of_token(login_manager)
        if user is None and host_loader is not None:
            return host_loader(request)
        return user

    def unauthorized() -> Any:
        error = outcome().error
        if host_unauthorized is not None and (
            error is None or isinstance(error, AuthenticationError)
        ):
            return host_unauthorized()
        return refuse(error or TokenMissing())

    login_manager.request_loader(load_user)
    login_manager.unauthorized_handler(unauthorized)


def _user_of_token(login_manager: LoginManager) -> Any | None:
    """Return the active user that the current request's token is for, or ``None``."""
    try:
        return _find_user(login_manager, outcome())
    except SQLAlchemyError:
        keep(Outcome(None, DenylistUnavailable()))
        return None


def _find_user(login_manager: LoginManager, result: Outcome) -> Any | None:
    if isinstance(result.error, SessionRevoked) and result.error.user_id:
        # Who was made inactive should read that, and not try to sign in again.
        if not _load_active(login_manager, result.error.user_id):
            keep(Outcome(None, UserInactive()))
        return None
    if result.token is None:
        return None
    user = _load_active(login_manager, result.token.user_id)
    if user is None:
        keep(Outcome(None, UserInactive()))
    return user


def _load_active(login_manager: LoginManager, user_id: str) -> Any | None:
    users = get_state().users
    load = login_manager.user_callback or users.get
    user = load(user_id)
    return user if user is not None and users.is_active(user) else None
