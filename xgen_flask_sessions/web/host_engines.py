"""The engine of the host's database, looked up at every verification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from ..connections.closing import close_files_at_forks_and_exit
from ..connections.opening import prepare
from ..errors import ConfigurationError
from ..store import dialects
from ..store.commit_hooks import is_changing
from ..store.tables import Base


def chooses_engines(db: SQLAlchemy) -> bool:
    """Return whether the host's subclass chooses engines itself, possibly one for each call."""
    return any(
        getattr(type(db), name) is not getattr(SQLAlchemy, name) for name in ("engine", "engines")
    )


def require_supported(app: Flask, db: SQLAlchemy) -> None:
    """Refuse a database, a driver or an isolation level, as far as an engine tells it.

    The first connection tells the server's version. An engine that does not exist yet, or that the
    host's subclass chooses, is checked then, too.

    :raises ConfigurationError: It cannot be used.
    """
    if db.session.session_factory.kw.get("autobegin") is False:
        raise ConfigurationError(
            "The session option autobegin=False leaves no way to begin a transaction for a change; "
            "leave it out of SQLAlchemy(session_options=…)."
        )
    if "sqlalchemy" in app.extensions and not chooses_engines(db):
        with app.app_context():
            engine = db.engines.get(None)
        if engine is not None:
            dialects.require_supported(engine.dialect)
            _require_transactions(engine)


def _require_transactions(engine: sa.Engine) -> None:
    level = engine.get_execution_options().get(
        "isolation_level", getattr(engine.dialect, "_on_connect_isolation_level", None)
    )
    if level == "AUTOCOMMIT":
        raise ConfigurationError(
            "The isolation level AUTOCOMMIT leaves half of a sign-in or force logout behind if it "
            "fails; set another isolation_level in SQLALCHEMY_ENGINE_OPTIONS, and use AUTOCOMMIT "
            "where you need it: db.engine.execution_options(isolation_level='AUTOCOMMIT')."
        )


def guard_engines(app: Flask, db: SQLAlchemy) -> None:
    """Guard the pools of an application's engines: at forks, at the exit, and against old files.

    A no-op for an application that the host's Flask-SQLAlchemy does not know yet: its engine is
    guarded at its first use.
    """
    close_files_at_forks_and_exit()
    if app.extensions.get("sqlalchemy") is db:
        with app.app_context():
            for engine in db.engines.values():
                prepare(engine)


def routes_statements(db: SQLAlchemy) -> bool:
    """Return whether the host's sessions choose an engine for each statement, such as a replica."""
    session_class: Any = db.session.session_factory.class_
    return session_class.get_bind is not FlaskSession.get_bind


def use_primary(db: SQLAlchemy) -> None:
    """Let changes, and reads of the plugin's tables, go to one database in spite of replicas.

    A replica is behind, and locks no rows: a list would still show a session that was just ended.

    :param db: The host's Flask-SQLAlchemy.
    """
    session_class: Any = db.session.session_factory.class_  # a subclass that only *db* uses
    if not routes_statements(db) or hasattr(session_class, "xgen_sessions_routed"):
        return
    choose = session_class.get_bind

    def get_bind(
        self: Session, mapper: Any = None, clause: Any = None, **options: Any
    ) -> sa.Engine | sa.Connection:
        locks = getattr(clause, "_for_update_arg", None) is not None
        if locks or is_changing(self) or _reads_sessions(clause):
            clause = dialects.PRIMARY
        found: sa.Engine | sa.Connection = choose(self, mapper=mapper, clause=clause, **options)
        return found

    session_class.get_bind = get_bind
    session_class.xgen_sessions_routed = True


def _reads_sessions(clause: Any) -> bool:
    """Return whether a statement reads the plugin's tables."""
    own = Base.metadata
    return isinstance(clause, sa.ClauseElement) and any(
        getattr(each, "metadata", None) is own for each in visitors.iterate(clause)
    )


class HostEngine:
    """A faster ``db.engine`` for one application.

    Flask-SQLAlchemy keeps an application's engines in one mapping as long as the application lives,
    so the mapping is looked up once. A subclass that chooses engines itself is asked each time, and
    so is a session class: for the engine of changes.

    :param db: The host's Flask-SQLAlchemy.
    """

    def __init__(self, db: SQLAlchemy) -> None:
        self._db = db
        self._routes = routes_statements(db)
        self._is_fixed = not self._routes and not chooses_engines(db)
        self._engines: Mapping[str | None, sa.Engine] | None = None

    def get(self) -> sa.Engine:
        """Return the engine, within an application context."""
        engines = self._engines
        if engines is not None:
            return engines[None]
        if self._routes:
            return self._db.session().get_bind(clause=dialects.PRIMARY).engine
        if self._is_fixed:
            self._engines = self._db.engines
        return self._db.engine
