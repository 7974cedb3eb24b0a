"""The two sites of the pictures: an Admin Center, and a host in Flask-Admin's default layout."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask_admin import Admin
from flask_babel import Babel
from playwright.sync_api import APIRequestContext

from tests.screenshots.people import people
from tests.support.admin_center import PASSWORD
from tests.support.cast import Person, enter, past_sign_ins
from tests.support.hosts import SECRET, Host, make_app, stop_relay
from tests.support.ports import free_port
from tests.support.serving import serving
from tests.support.standalone import Center, center_maker

HASTY_LIMIT = 40
CONFIG: Mapping[str, Any] = {
    "SECRET_KEY": SECRET,
    "XGEN_SESSIONS_TIMEZONE": "Asia/Seoul",
    "XGEN_SESSIONS_COOKIE_SECURE": False,
    "XGEN_SESSIONS_FORCE_LOGOUT_LIMIT": f"{HASTY_LIMIT}/minute",
    "XGEN_SESSIONS_SIGN_IN_LIMIT": "1000/minute",
    "XGEN_SESSIONS_SIGN_IN_ADDRESS_LIMIT": "1000/minute",
    "XGEN_SESSIONS_WRITE_DEADLINE": 2,
}
OPERATORS = {"admin": True, "hasty": True, "clerk": False, "guest": False}
"""Users that sign in by a browser; whether they are SuperUsers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A running application with Login Management."""

    layout: str
    url: str
    database: Path
    ids: Mapping[str, str]
    """User ids by username."""
    app: Flask

    @property
    def is_center(self) -> bool:
        """Whether it is an Admin Center, which has pages of its own."""
        return self.layout == "center"

    def sign_in(self, browser: APIRequestContext, username: str) -> None:
        """Sign in with one HTTP request."""
        if self.is_center:
            form: dict[str, str | float | bool] = {"username": username, "password": PASSWORD}
            assert browser.post("/login", form=form, max_redirects=0).status == 303
        else:
            assert browser.post("/sign-in", form={"user_id": self.ids[username]}).ok

    def execute(self, *statements: str) -> None:
        """Execute raw SQL statements, as another program would."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Take the denylist away."""
        self.execute("ALTER TABLE xgen_sessions RENAME TO taken_away")
        try:
            yield
        finally:
            self.execute("ALTER TABLE taken_away RENAME TO xgen_sessions")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the database's write lock."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.rollback()


@contextmanager
def admin_center(home: Path, colleagues: int) -> Iterator[Site]:
    """Serve an Admin Center, whose layout is the plugin's own.

    :param home: An empty directory.
    :param colleagues: The number of users with one session each, besides the others.
    """
    instance = home / "instance"
    with center_maker(instance) as make:
        center: Center = make(ADMIN_PASSWORD=PASSWORD, **CONFIG)
        for username, superuser in OPERATORS.items():
            if username != "admin":
                center.add_user(username, PASSWORD, superuser=superuser)
        enter(center, people(colleagues))
        ids = {str(row["username"]): str(row["id"]) for row in center.rows("users")}
        port = free_port()
        with serving(center.app, port):
            yield Site(
                layout="center",
                url=f"http://127.0.0.1:{port}",
                database=instance / "xgen.db",
                ids=ids,
                app=center.app,
            )


@contextmanager
def default_theme(home: Path, colleagues: int) -> Iterator[Site]:
    """Serve a host application in the layout that Flask-Admin brings."""
    database = home / "host.db"
    host = make_app(f"sqlite:///{database}", extras=_back_office, **CONFIG)
    ids = {name: host.add_user(name, is_superuser=rank) for name, rank in OPERATORS.items()}
    everyone = people(colleagues)
    for username, person in everyone.items():
        ids[username] = host.add_user(
            username,
            display_name=person.name or None,
            department=person.department or None,
            is_superuser=person.superuser,
        )
    _record(host, ids, everyone)
    port = free_port()
    try:
        with serving(host.app, port):
            yield Site(
                layout="default",
                url=f"http://127.0.0.1:{port}",
                database=database,
                ids=ids,
                app=host.app,
            )
    finally:
        stop_relay(host.app)
        host.dispose()


def _record(host: Host, ids: Mapping[str, str], everyone: Mapping[str, Person]) -> None:
    with host.app.app_context():
        host.sessions.record_past_sign_ins(
            past
            for username, person in everyone.items()
            for past in past_sign_ins(ids[username], person)
        )


def _back_office(app: Flask) -> Mapping[str, Any]:
    Babel(app, locale_selector=lambda: request.accept_languages.best_match(["en", "ko"]))
    return {"admin": Admin(app, name="Back office")}


SITES = {"center": admin_center, "default": default_theme}
