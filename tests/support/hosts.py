"""Small, complete host applications."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask, Response, jsonify, request
from flask.testing import FlaskClient
from flask_login import LoginManager, current_user, login_required
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.patience import until
from xgen_flask_sessions import (
    IssuedToken,
    Revocation,
    UserFields,
    VerifiedToken,
    XgenSessions,
    current_token,
    token_required,
)

SECRET = "a secret for tests that is long enough"
PATIENT = {"XGEN_SESSIONS_DEADLINE": 20, "XGEN_SESSIONS_WRITE_DEADLINE": 40}
"""Long deadlines: on a busy machine, a thread may stall for seconds. Tests of deadlines set their
own."""
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0.0.0 Safari/537.36"
)

_EXACT = sa.String(255).with_variant(
    mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql", "mariadb"
)


class Account:
    """The attributes that Flask-Login requires, and the columns of every user model here."""

    id: Mapped[Any]
    username: Mapped[str] = mapped_column(_EXACT, unique=True)
    password: Mapped[str] = mapped_column(sa.String(80), default="")
    display_name: Mapped[str | None] = mapped_column(sa.String(80))
    department: Mapped[str | None] = mapped_column(sa.String(80))
    is_superuser: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)

    is_authenticated = True
    is_anonymous = False

    def get_id(self) -> str:
        return str(self.id)


class Base(DeclarativeBase):
    pass


class User(Account, Base):
    __tablename__ = "users"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)


class UuidBase(DeclarativeBase):
    pass


class UuidUser(Account, UuidBase):
    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)


class NamedBase(DeclarativeBase):
    pass


class NamedUser(Account, NamedBase):
    """A user whose id is text that the database compares byte by byte."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(_EXACT, primary_key=True)


class LooseBase(DeclarativeBase):
    pass


class LooseUser(Account, LooseBase):
    """A user whose id is text with the database's default collation."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(sa.String(120), primary_key=True)


class TenantBase(DeclarativeBase):
    pass


class TenantUser(Account, TenantBase):
    """A user whose name others may have, too; in the database's default collation."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80))


DATABASES: dict[type[Account], SQLAlchemy] = {
    model: SQLAlchemy(metadata=model.metadata)
    for model in (User, UuidUser, NamedUser, LooseUser, TenantUser)
}


_apps: Final[weakref.WeakSet[Flask]] = weakref.WeakSet()
"""The applications of this process."""


def stop_relay(app: Flask) -> None:
    """Stop publishing to Redis, and wait for the end of it."""
    relay = app.extensions["xgen_sessions"].relay
    if relay is not None:
        relay.stop()
        until(lambda: not relay.follower.is_running)


def stop_relays(issuer: str) -> None:
    """Stop every application of this process that publishes the feed of an issuer."""
    for app in list(_apps):
        if app.config.get("XGEN_SESSIONS_ISSUER") == issuer:
            stop_relay(app)


def bearer(token: str | IssuedToken) -> dict[str, str]:
    """Return the request header that carries *token*."""
    text = token if isinstance(token, str) else token.token
    return {"Authorization": f"Bearer {text}"}


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host application with the plugin, and shortcuts that need no request context."""

    app: Flask
    db: SQLAlchemy
    sessions: XgenSessions
    login_manager: LoginManager
    model: type[Any]

    def client(self) -> FlaskClient:
        """Return a client that asks for JSON, unless its request has another ``Accept`` header."""
        client = self.app.test_client()
        client.environ_base["HTTP_ACCEPT"] = "application/json"
        return client

    def add_user(self, username: str = "alice", **columns: Any) -> str:
        """Add a user and return ``get_id()``."""
        with self.app.app_context():
            user = self.model(username=username, **columns)
            self.db.session.add(user)
            self.db.session.commit()
            return str(user.get_id())

    def change_user(self, user_id: str, **columns: Any) -> None:
        """Change a user in a separate ORM session, as another process would."""
        with self.app.app_context():
            user = self.find_user(user_id)
            for name, value in columns.items():
                setattr(user, name, value)
            self.db.session.commit()

    def delete_user(self, user_id: str) -> None:
        """Delete a user by SQL text, as another program would: no session ends."""
        with self.app.app_context():
            column = self.model.__table__.c.id
            key = sa.bindparam("key", self.find_user(user_id).id, type_=column.type)
            self.db.session.execute(sa.text("DELETE FROM users WHERE id = :key").bindparams(key))
            self.db.session.commit()

    def find_user(self, user_id: str) -> Any:
        """Return the user object; needs an application context."""
        return self.app.extensions["xgen_sessions"].users.get(user_id)

    def issue(self, user_id: str, **options: Any) -> IssuedToken:
        with self.app.app_context():
            return self.sessions.issue(user_id, **options)

    def verify(self, token: str | IssuedToken) -> VerifiedToken:
        with self.app.app_context():
            return self.sessions.verify(token if isinstance(token, str) else token.token)

    def renew(self, token: IssuedToken) -> IssuedToken:
        with self.app.app_context():
            return self.sessions.renew(self.sessions.verify(token.token))

    def force_logout(self, user_id: str, **options: Any) -> Revocation:
        with self.app.app_context():
            return self.sessions.force_logout(user_id, **options)

    def end_session(self, session_id: str, **options: Any) -> Revocation | None:
        with self.app.app_context():
            return self.sessions.end_session(session_id, **options)

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        """Return every row of one of the plugin's tables, as committed."""
        with self.app.app_context(), self.db.engine.connect() as connection:
            return [
                dict(row)
                for row in connection.execute(sa.select(self.db.metadata.tables[table])).mappings()
            ]

    @property
    def dialect(self) -> str:
        """The name of the database's dialect."""
        with self.app.app_context():
            return self.db.engine.dialect.name

    @contextmanager
    def calling_before_statements(self, look: Callable[..., object]) -> Iterator[None]:
        """Call *look* as SQLAlchemy's ``before_cursor_execute``, before each statement is sent."""
        with self.app.app_context():
            engine = self.db.engine
        sa.event.listen(engine, "before_cursor_execute", look)
        try:
            yield
        finally:
            sa.event.remove(engine, "before_cursor_execute", look)

    def execute(self, *statements: str) -> None:
        """Execute raw SQL statements and commit."""
        with self.app.app_context(), self.db.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def login_row(self, user_id: str) -> Mapping[str, Any]:
        """Return a user's row of ``xgen_user_logins``."""
        (row,) = [row for row in self.rows("xgen_user_logins") if row["user_id"] == user_id]
        return row

    def status(self, token: str | IssuedToken, path: str = "/api/token") -> int:
        """Return the status of a call with *token* in the header."""
        return self.client().get(path, headers=bearer(token)).status_code

    def cookie_client(self, token: str | IssuedToken) -> FlaskClient:
        """Return a browser that holds *token* in its cookie."""
        client = self.client()
        client.set_cookie("xgen_token", token if isinstance(token, str) else token.token)
        return client

    def create_tables(self) -> None:
        with self.app.app_context():
            self.db.create_all()

    def dispose(self) -> None:
        """Stop the background threads and close every connection."""
        state = self.app.extensions["xgen_sessions"]
        if state.watch is not None:
            state.watch.stop()
        stop_relay(self.app)
        with self.app.app_context():
            self.db.session.remove()
            for engine in self.db.engines.values():
                engine.dispose()


def make_app(
    database_url: str,
    *,
    model: type[Account] = User,
    create_all: bool = True,
    login_manager: LoginManager | None = None,
    extras: Callable[[Flask], Mapping[str, Any]] = lambda app: {},
    **config: Any,
) -> Host:
    """Build a host application.

    :param database_url: The database.
    :param model: The user model.
    :param create_all: Whether to create the tables.
    :param login_manager: A login manager shared with other applications; by default a new one.
    :param extras: Extends the application, and returns arguments that ``init_app`` gets as well,
        or instead of the usual ones.
    :param config: More keys of ``app.config``.
    """
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database_url, TESTING=True)
    app.config.update(PATIENT | config)
    db = DATABASES[model]
    db.init_app(app)
    login_manager = login_manager or LoginManager()
    login_manager.init_app(app)
    login_manager.login_view = "sign_in"
    sessions = XgenSessions()
    arguments: dict[str, Any] = {
        "login_manager": login_manager,
        "user_fields": UserFields(name="display_name"),
    }
    sessions.init_app(app, db=db, user_model=model, **arguments | dict(extras(app)))
    add_views(app, sessions)
    _apps.add(app)
    host = Host(app=app, db=db, sessions=sessions, login_manager=login_manager, model=model)
    if create_all:
        host.create_tables()
    return host


def add_views(app: Flask, sessions: XgenSessions) -> None:
    """Add a sign-in page, two protected API calls, and a protected page."""

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> Response:
        if request.method == "GET":
            return Response("<form method=post></form>", content_type="text/html")
        issued = sessions.issue(request.form["user_id"])
        response = jsonify(token=issued.token, session_id=issued.session_id)
        sessions.set_cookie(response, issued)
        return response

    @app.route("/api/token", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
    @token_required
    def by_token() -> Response:
        return jsonify(user_id=current_token.user_id, session_id=current_token.session_id)

    @app.route("/api/user", methods=["GET", "POST"])
    @login_required  # type: ignore[untyped-decorator]
    def by_user() -> Response:
        return jsonify(user_id=current_user.get_id(), username=current_user.username)

    @app.route("/page")
    @login_required  # type: ignore[untyped-decorator]
    def page() -> str:
        return f"<h1>{current_user.username}</h1>"

    @app.route("/open")
    def open_to_all() -> Response:
        return jsonify(user_id=current_user.get_id())
