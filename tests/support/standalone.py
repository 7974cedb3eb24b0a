"""The standalone Admin Center within the test's own process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.hosts import PATIENT, bearer
from xgen_flask_sessions.standalone import accounts, create_app, prepare
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.instance import DATABASE
from xgen_flask_sessions.standalone.models import User, db
from xgen_flask_sessions.standalone.rules import Profile
from xgen_flask_sessions.store import migrate

ADMIN_PASSWORD = "correct horse battery"
QUICK_HASH = "pbkdf2:sha256:1"
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
"""The headers of a browser's page navigation."""


@dataclass(frozen=True, kw_only=True)
class Center:
    """An Admin Center with the SuperUser ``admin``, and shortcuts to use it."""

    app: Flask

    def browser(self, username: str | None = None, password: str = ADMIN_PASSWORD) -> FlaskClient:
        """Return a browser, signed in if *username* is given."""
        client = self.app.test_client()
        if username is not None:
            answer = sign_in(client, username, password)
            assert answer.status_code == 303, answer.text
        return client

    def add_user(self, username: str, password: str = ADMIN_PASSWORD, **options: Any) -> int:
        """Add a user and return the id."""
        roles = options.pop("roles", "")
        name, department = options.pop("name", ""), options.pop("department", "")
        with self.app.app_context():
            profile = Profile.parse(name, department, roles)
            return accounts.create(username, password, profile, **options).id

    def user(self, username: str) -> dict[str, Any]:
        """Return a user's row, as committed, with the names of the roles."""
        with self.app.app_context():
            user = db.session.scalars(sa.select(User).where(User.username == username)).one()
            row = {column.name: getattr(user, column.name) for column in User.__table__.columns}
            return row | {"roles": [role.name for role in user.roles]}

    def change_user(self, username: str, /, **columns: Any) -> None:
        """Change a user's row directly, without the rules for accounts."""
        with self.app.app_context():
            db.session.execute(sa.update(User).where(User.username == username).values(columns))
            db.session.commit()

    def force_logout(self, username: str, *, actor: str | None = None) -> None:
        """End the sessions of a user.

        :param actor: The name of the administrator.
        """
        by = None if actor is None else str(self.user(actor)["id"])
        with self.app.app_context():
            sessions.force_logout(str(self.user(username)["id"]), actor=by)

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        """Return every row of a table, as committed."""
        with self.app.app_context(), db.engine.connect() as connection:
            query = sa.select(db.metadata.tables[table])
            return [dict(row) for row in connection.execute(query).mappings()]

    def token(self, username: str, password: str = ADMIN_PASSWORD) -> str:
        """Return a token from the API."""
        body = {"username": username, "password": password}
        answer = self.browser().post("/api/login", json=body)
        assert answer.status_code == 200, answer.text
        return str(body_of(answer)["access_token"])

    def status(self, token: str) -> int:
        """Return the status of an API call with *token*."""
        return self.browser().get("/api/me", headers=bearer(token)).status_code

    def create_tables(self) -> None:
        with self.app.app_context():
            migrate.upgrade(db.engine)
            db.create_all()

    def dispose(self) -> None:
        """Close every connection."""
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()


MakeCenter = Callable[..., Center]


class KeptTables(Protocol):
    """A database server that keeps the tables from test to test: ``databases.Server``."""

    def kept(self, kind: str) -> str: ...

    def provide(self, kind: str, create: Callable[[], object]) -> None: ...


def _new_file(center: Center) -> Path | None:
    """Return the SQLite file of an Admin Center that has no tables yet."""
    url = center.app.config["SQLALCHEMY_DATABASE_URI"]
    file = Path(str(isinstance(url, sa.URL) and url.database))
    return file if file.name == DATABASE and file.is_file() and not file.stat().st_size else None


@cache
def _tables() -> bytes:
    """Return the bytes of an SQLite file with empty tables: faster than migrating each time."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / DATABASE
        config = {"SQLALCHEMY_DATABASE_URI": sa.URL.create("sqlite", database=str(file))}
        center = Center(app=create_app(home, config, prepared=False))
        center.create_tables()
        center.dispose()
        return file.read_bytes()


@contextmanager
def center_maker(instance: Path, server: KeptTables | None = None) -> Iterator[MakeCenter]:
    """Yield a function that makes Admin Centers; all are closed at the end.

    :param instance: The instance directory of all of them.
    :param server: The server of the database; without it, SQLite in the instance directory.
    """
    centers: list[Center] = []
    if server is None:
        _tables()  # before the test changes the environment

    def make(**config: Any) -> Center:
        on_server = server is not None and "SQLALCHEMY_DATABASE_URI" not in config
        if server is not None and on_server:
            config["SQLALCHEMY_DATABASE_URI"] = server.kept("standalone")
        options = {
            "ADMIN_PASSWORD": ADMIN_PASSWORD,
            "PASSWORD_HASH_METHOD": QUICK_HASH,
            "TESTING": True,
            **PATIENT,
            **config,
        }
        center = Center(app=create_app(instance, options, prepared=False))
        centers.append(center)
        if server is not None and on_server:
            server.provide("standalone", center.create_tables)
        elif file := _new_file(center):
            file.write_bytes(_tables())
        prepare(center.app)
        return center

    try:
        yield make
    finally:
        for center in centers:
            center.dispose()


def sign_in(
    client: FlaskClient, username: str, password: str = ADMIN_PASSWORD, **form: str
) -> TestResponse:
    """Send the form of the sign-in page."""
    data = {"username": username, "password": password, **form}
    return client.post("/login", data=data, headers=PAGE)


def body_of(answer: TestResponse) -> Any:
    """Return the JSON document of an answer."""
    return answer.get_json()
