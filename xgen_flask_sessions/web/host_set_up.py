"""The check that the host's extensions are set up, and are those that ``init_app`` was given."""

from __future__ import annotations

from flask import Flask
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy

from ..errors import ConfigurationError
from .host_engines import chooses_engines


def require_set_up(
    app: Flask, db: SQLAlchemy, login_manager: LoginManager | None, *, complete: bool
) -> None:
    """Check Flask-SQLAlchemy and Flask-Login of an application.

    :param db: The object that ``init_app`` was given.
    :param login_manager: Likewise.
    :param complete: Whether they must be set up by now; they may be after the plugin.
    :raises ConfigurationError: One of them is another object, or is not set up.
    """
    if not isinstance(app, Flask):
        raise ConfigurationError("init_app takes the Flask application first.")
    if not isinstance(db, SQLAlchemy):
        raise ConfigurationError("db= must be the application's Flask-SQLAlchemy object.")
    if login_manager is not None and not isinstance(login_manager, LoginManager):
        raise ConfigurationError("login_manager= must be the application's LoginManager object.")
    found = app.extensions.get("sqlalchemy")
    if found is None and complete and not chooses_engines(db):
        raise ConfigurationError("Flask-SQLAlchemy is not set up; call db.init_app(app).")
    if found is not None and found is not db:
        raise ConfigurationError(
            "db= is another Flask-SQLAlchemy object than the application's; pass the one whose "
            "init_app(app) was called."
        )
    if login_manager is None:
        return
    own = getattr(app, "login_manager", None)
    if own is None and complete:
        raise ConfigurationError("Flask-Login is not set up; call login_manager.init_app(app).")
    if own is not None and own is not login_manager:
        raise ConfigurationError(
            "login_manager= is another LoginManager than the application's, whose sessions a force "
            "logout would not end; pass the one whose init_app(app) was called."
        )
