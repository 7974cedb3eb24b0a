"""The Admin Center as a WSGI application."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager
from werkzeug.middleware.proxy_fix import ProxyFix

from xgen_flask_sessions.standalone import (
    accounts,
    error_pages,
    language,
    leavers,
    results,
    sign_in,
    workspace,
)
from xgen_flask_sessions.standalone.admin_center import create_admin
from xgen_flask_sessions.standalone.config import (
    engine_options,
    from_environment,
)
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.instance import find_instance, protect_database, secret_key
from xgen_flask_sessions.standalone.logs import AdminCenter, log_to_stderr
from xgen_flask_sessions.standalone.models import User, db
from xgen_flask_sessions.standalone.preparation import prepare_or_retry


def create_app(
    instance_path: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    prepared: bool = True,
) -> Flask:
    """Return the Admin Center as a WSGI application, for any WSGI server.

    Its tables and its first SuperUser are created if they are missing; see
    :func:`~xgen_flask_sessions.standalone.prepare`. Several processes may start at the same time.

    :param instance_path: The directory of its database and its secret; otherwise
        ``XGEN_INSTANCE_PATH``, otherwise ``./instance``. It is created if missing.
    :param config: Configuration that overrides the environment; see
        :func:`~xgen_flask_sessions.standalone.config.from_environment`.
    :param prepared: Without it, the caller calls :func:`~xgen_flask_sessions.standalone.prepare`.
    :raises ConfigurationError: The set-up is wrong; the message names the fix.
    """
    instance = find_instance(instance_path)
    app = AdminCenter(__package__, instance_path=str(instance))
    app.config.from_mapping(from_environment(instance, os.environ))
    app.config.from_mapping(config or {})
    # Flask's own cookies are sent as the token's is.
    secure = app.config["XGEN_SESSIONS_COOKIE_SECURE"]
    app.config.update(
        SESSION_COOKIE_SECURE=secure, SESSION_COOKIE_SAMESITE="Lax", REMEMBER_COOKIE_SECURE=secure
    )
    app.config["SECRET_KEY"] = (
        app.config.get("XGEN_SESSIONS_SECRET_KEY")
        or app.config.get("SECRET_KEY")
        or secret_key(instance)
    )
    app.config.setdefault(
        "SQLALCHEMY_ENGINE_OPTIONS", engine_options(app.config["SQLALCHEMY_DATABASE_URI"])
    )
    proxies = app.config["TRUSTED_PROXIES"]
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies
        )
    db.init_app(app)
    with app.app_context():
        protect_database(db.engine.url)  # a relative path is one in the instance directory
    _tune_sqlite(app)
    language.set_up(app)
    login_manager = LoginManager(app)
    login_manager.login_view = "sign_in.page"
    admin = create_admin()
    admin.init_app(app)
    sessions.init_app(
        app,
        db=db,
        user_model=User,
        login_manager=login_manager,
        admin=admin,
        deactivate=accounts.deactivate,
        roles_of=leavers.roles_of,
        revoke_roles=leavers.revoke_roles,
        user_url=leavers.user_url,
    )
    _limit_lock_waits(app)
    app.register_blueprint(sign_in.blueprint)
    app.register_blueprint(workspace.blueprint)
    app.jinja_env.globals["told"] = results.told
    error_pages.set_up(app)
    if prepared:
        log_to_stderr()
        prepare_or_retry(app)
    return app


_CACHE_KIB: Final = 64 * 1024
"""The cache of each SQLite connection."""


def _tune_sqlite(app: Flask) -> None:
    """Enforce foreign keys on SQLite, and enlarge its cache; the plugin sets the write-ahead log.

    The cache holds an index of a million sessions, which the screen reads at every view; the
    default of 2 MiB does not. Memory is used only for pages that are read.
    """
    with app.app_context():
        engine = db.engine
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def tune(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON").close()
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}").close()


_ON_MARIADB: Final = "SET SESSION lock_wait_timeout = {0}, innodb_lock_wait_timeout = {0}"
_LOCK_WAITS: Final = {
    "postgresql": "SET lock_timeout = '{0}s'",
    "mariadb": _ON_MARIADB,
    "mysql": _ON_MARIADB,  # a URL may name it so
}
_LOCK_WAIT: Final = timedelta(seconds=10)


def _limit_lock_waits(app: Flask) -> None:
    """Limit the wait of each statement for a lock, reads and the command ``seed`` included.

    Otherwise a locked table holds all threads of a server. ``XGEN_SESSIONS_WRITE_DEADLINE`` is the
    limit, in whole seconds. SQLite's driver waits five seconds.
    """
    with app.app_context():
        engine = db.engine
    statement = _LOCK_WAITS.get(engine.dialect.name)
    if statement is None:
        return
    wait = app.config.get("XGEN_SESSIONS_WRITE_DEADLINE", _LOCK_WAIT)
    seconds = math.ceil(wait.total_seconds() if isinstance(wait, timedelta) else wait)

    @sa.event.listens_for(engine, "connect")
    def limit(connection: Any, _: object) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement.format(seconds))
        connection.commit()
