"""A complete Admin Center: to run as it is, or to read as the example of a host.

``config``, ``models``, ``language``
    Where it lives, who its users are, what it speaks.
``sign_in``, ``workspace``, ``admin_center``, ``user_admin``, ``error_pages``
    What can be seen of it.
``accounts``, ``passwords``, ``seeding``, ``preparation``
    What they do.
``commands``
    ``python -m xgen_flask_sessions``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager
from werkzeug.middleware.proxy_fix import ProxyFix

from . import error_pages, language, sign_in, workspace
from .admin_center import create_admin
from .config import find_instance, from_environment, secret_key
from .extensions import sessions
from .models import User, db
from .preparation import prepare

__all__ = ["create_app", "prepare"]


def create_app(
    instance_path: str | os.PathLike[str] | None = None, config: Mapping[str, Any] | None = None
) -> Flask:
    """Return the Admin Center as a WSGI application; :func:`prepare` makes its tables.

    :param instance_path: Where its database and its secret are; else ``XGEN_INSTANCE_PATH``,
        else ``./instance``. Made if missing.
    :param config: Configuration that overrides what the environment says; see
        :func:`~xgen_flask_sessions.standalone.config.from_environment`.
    :raises ConfigurationError: Something is set up wrongly; the message names the mend.
    """
    instance = find_instance(instance_path)
    app = Flask(__name__, instance_path=str(instance))
    app.config.from_mapping(from_environment(instance, os.environ))
    app.config.from_mapping(config or {})
    app.config["SECRET_KEY"] = (
        app.config.get("XGEN_SESSIONS_SECRET_KEY")
        or app.config.get("SECRET_KEY")
        or secret_key(instance)
    )
    proxies = app.config["TRUSTED_PROXIES"]
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies
        )
    db.init_app(app)
    _tune_sqlite(app)
    language.set_up(app)
    login_manager = LoginManager(app)
    login_manager.login_view = "sign_in.page"
    admin = create_admin()
    admin.init_app(app)
    sessions.init_app(app, db=db, user_model=User, login_manager=login_manager, admin=admin)
    app.register_blueprint(sign_in.blueprint)
    app.register_blueprint(workspace.blueprint)
    error_pages.set_up(app)
    return app


def _tune_sqlite(app: Flask) -> None:
    """Let readers and the writer of SQLite work side by side, and wait for each other."""
    with app.app_context():
        engine = db.engine
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def tune(connection: Any, _: object) -> None:
        for pragma in ("busy_timeout = 5000", "journal_mode = WAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()
