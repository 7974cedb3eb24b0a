"""Changes of users, and sign-ins, wait no longer than the write deadline for a locked row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from click.testing import CliRunner
from flask.cli import ScriptInfo
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.private_server import PrivateServer
from tests.support.standalone import (
    ADMIN_PASSWORD,
    PAGE,
    Center,
    MakeCenter,
    center_maker,
    sign_in,
)
from xgen_flask_sessions import LedgerUnavailable
from xgen_flask_sessions.standalone.commands import cli
from xgen_flask_sessions.standalone.models import User, db

URL = "/admin/admin-users/"
NOT_IN_TIME = "The database did not answer in time."


@pytest.fixture
def center(make: MakeCenter) -> Center:
    """Return an Admin Center with a short write deadline, and the user bora."""
    center = make(XGEN_SESSIONS_WRITE_DEADLINE=1)
    center.add_user("bora", name="Bora", roles="editor")
    return center


@contextmanager
def locked_users(center: Center) -> Iterator[None]:
    """Lock the rows of all users, on SQLite the database, as another process might."""
    with center.app.app_context():
        engine = sa.create_engine(db.engine.url, hide_parameters=True)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(User.id).with_for_update()).all()
        try:
            yield
        finally:
            connection.rollback()
    engine.dispose()


def fill_in(browser: FlaskClient, page: str, path: str, **form: str) -> tuple[str, dict[str, str]]:
    """Open a page, and return the address of its form and the data to send."""
    shown = BeautifulSoup(browser.get(URL + page, headers=PAGE).text, "html.parser")
    hidden = shown.select(".xa-forms form input[type=hidden]")
    assert hidden
    return URL + path, {str(field["name"]): str(field["value"]) for field in hidden} | form


def send_while_locked(
    center: Center, browser: FlaskClient, page: str, path: str, **form: str
) -> TestResponse:
    address, data = fill_in(browser, page, path, **form)
    with locked_users(center):
        return browser.post(address, data=data, headers=PAGE)


def require_not_in_time(answer: TestResponse) -> BeautifulSoup:
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert NOT_IN_TIME in answer.text
    return BeautifulSoup(answer.text, "html.parser")


def value_of(page: BeautifulSoup, name: str) -> object:
    field = page.select_one(f'input[name="{name}"]')
    assert field is not None
    return field["value"]


def test_a_new_user_is_not_created_and_the_form_keeps_its_values(
    center: Center, caplog: pytest.LogCaptureFixture
) -> None:
    form = {"username": "dain", "password": "longenough", "name": "Dain", "roles": "viewer"}

    answer = send_while_locked(center, center.browser("admin"), "new", "new", **form)

    page = require_not_in_time(answer)
    assert [value_of(page, name) for name in ("username", "name", "roles")] == [
        "dain",
        "Dain",
        "viewer",
    ]
    assert "longenough" not in answer.text + caplog.text
    assert "A change of a user failed" in caplog.text
    assert [row["username"] for row in center.rows("users")] == ["admin", "bora"]
    assert [row["name"] for row in center.rows("roles")] == ["editor"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("profile", {"name": "Other", "department": "Other", "roles": "other"}),
        ("password", {"password": "another good one", "end_sessions": "on"}),
        ("access", {"status": "inactive", "superuser": "on"}),
    ],
)
def test_a_change_is_not_made_and_the_form_keeps_its_values(
    center: Center, path: str, form: dict[str, str]
) -> None:
    user_id = center.user("bora")["id"]
    token = center.token("bora")
    before = center.user("bora")

    answer = send_while_locked(
        center, center.browser("admin"), str(user_id), f"{user_id}/{path}", **form
    )

    page = require_not_in_time(answer)
    if path == "profile":
        assert [value_of(page, name) for name in form] == list(form.values())
    if path == "access":
        assert page.select_one("input[value=inactive][checked]") is not None
        assert page.select_one("input[name=superuser][checked]") is not None
    assert center.user("bora") == before
    assert center.status(token) == 200
    assert center.rows("xgen_revocations") == []


@contextmanager
def rollback_that_fails(center: Center) -> Iterator[None]:
    """Have the server end the next connection that rolls back, just before it does."""
    with center.app.app_context():
        engine = db.engine
    ends = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
    ids = {"postgresql": "pg_backend_pid()", "mysql": "connection_id()"}
    name = engine.dialect.name
    apart = sa.create_engine(engine.url, hide_parameters=True)

    def end(connection: sa.Connection) -> None:
        number = connection.scalar(sa.text(f"SELECT {ids[name]}"))
        with apart.connect() as other:
            other.exec_driver_sql(ends[name].format(number))

    sa.event.listen(engine, "rollback", end, once=True)
    try:
        yield
    finally:
        sa.event.remove(engine, "rollback", end)
        apart.dispose()


def test_a_rollback_that_fails_is_answered_as_a_change_that_is_not_made(center: Center) -> None:
    with center.app.app_context():
        if db.engine.dialect.name == "sqlite":
            pytest.skip("SQLite has no connection that a server could end.")
    user_id = center.user("bora")["id"]
    before = center.user("bora")
    browser = center.browser("admin")
    form = {"name": "Other", "department": "Other", "roles": "other"}
    address, data = fill_in(browser, str(user_id), f"{user_id}/profile", **form)

    with locked_users(center), rollback_that_fails(center):
        answer = browser.post(address, data=data, headers=PAGE)

    require_not_in_time(answer)
    assert center.user("bora") == before


@contextmanager
def locked_table(center: Center) -> Iterator[None]:
    """Lock the table of users against reads, on SQLite the database against writes."""
    with center.app.app_context():
        engine = sa.create_engine(db.engine.url, hide_parameters=True)
    locks = {
        "sqlite": "BEGIN IMMEDIATE",
        "postgresql": "LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
        "mysql": "LOCK TABLES users WRITE",
    }
    with engine.connect() as connection:
        connection.exec_driver_sql(locks[engine.dialect.name])
        try:
            yield
        finally:
            connection.rollback()
            if engine.dialect.name == "mysql":
                connection.exec_driver_sql("UNLOCK TABLES")
    engine.dispose()


def test_reads_of_a_locked_table_wait_no_longer_than_a_change(center: Center) -> None:
    browser = center.browser("admin")

    with locked_table(center):
        answers = [browser.get(URL, headers=PAGE), sign_in(center.browser(), "bora")]

    with center.app.app_context():
        reads_pass = db.engine.dialect.name == "sqlite"
    assert [answer.status_code for answer in answers] == [200 if reads_pass else 503, 503]
    assert browser.get(URL, headers=PAGE).status_code == 200


def test_the_command_seed_waits_no_longer_for_a_lock(center: Center) -> None:
    before = center.rows("users")

    with locked_table(center):
        info = ScriptInfo(create_app=lambda: center.app)
        result = CliRunner().invoke(cli, ["seed", "--users", "2", "--sessions", "2"], obj=info)

    assert result.exit_code == 1
    assert "Error: The database" in result.stderr
    assert center.rows("users") == before


def test_a_sign_in_is_not_made_and_the_page_keeps_the_username(center: Center) -> None:
    with locked_users(center):
        page = sign_in(center.browser(), "bora")
        call = center.browser().post(
            "/api/login", json={"username": "bora", "password": ADMIN_PASSWORD}
        )

    assert value_of(require_not_in_time(page), "username") == "bora"
    assert (call.status_code, call.headers["Retry-After"]) == (503, "1")
    assert center.rows("xgen_sessions") == []
    assert sign_in(center.browser(), "bora").status_code == 303


def test_a_command_reports_it(center: Center) -> None:
    arguments = ["users", "set-password", "bora", "--password", "another good one"]
    with locked_users(center):
        result = CliRunner().invoke(cli, arguments, obj=ScriptInfo(create_app=lambda: center.app))

    assert result.exit_code == 1
    # On SQLite, the tables cannot be looked at either.
    assert result.stderr.startswith("Error: The database ")
    assert len(result.stderr.splitlines()) == 1


def test_a_host_s_own_change_joins_the_deadline(host: Host) -> None:
    alice = host.add_user("alice")
    token = host.issue(alice)

    with host.app.app_context():
        with host.sessions.transaction() as session:
            host.find_user(alice).department = "Research"
            host.sessions.force_logout(alice, commit=False)
            assert session is host.db.session()
        with suppress(RuntimeError), host.sessions.transaction():
            host.find_user(alice).department = "Sales"
            raise RuntimeError

    with host.app.app_context():
        assert host.find_user(alice).department == "Research"
    assert host.status(token) == 401


@pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
def test_a_host_handles_what_its_own_rows_violate(
    make_host: MakeHost, postgresql_url: str, driver: str
) -> None:
    pytest.importorskip(driver)
    url = sa.make_url(postgresql_url).set(drivername=f"postgresql+{driver}")
    host = make_host(url.render_as_string(hide_password=False))
    alice = host.add_user("alice")
    table = host.model.__tablename__

    def change(statement: str) -> None:
        with host.app.app_context(), host.sessions.transaction() as session:
            host.sessions.force_logout(alice, commit=False)
            session.execute(sa.text(statement))

    for statement in (
        f"INSERT INTO {table} SELECT * FROM {table}",
        f"UPDATE {table} SET username = NULL",
        f"UPDATE {table} SET username = repeat('x', 100000)",
    ):
        with pytest.raises(sa.exc.DatabaseError):
            change(statement)
    assert host.rows("xgen_revocations") == []

    with pytest.raises(LedgerUnavailable):
        change("SELECT 1 FROM nowhere")


def test_an_unanswered_commit_is_not_called_undone() -> None:
    assert LedgerUnavailable().undone
    assert not LedgerUnavailable(undone=False).undone


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["UPDATE users", "xgen_revocations"])
def test_a_server_that_falls_silent_during_a_change_is_answered_with_503(
    private_server: PrivateServer, tmp_path: Path, moment: str
) -> None:
    url = private_server.empty_database()
    with center_maker(tmp_path / "instance") as make:
        center = make(
            SQLALCHEMY_DATABASE_URI=url, XGEN_SESSIONS_WRITE_DEADLINE=1, XGEN_SESSIONS_DEADLINE=1
        )
        user_id = center.add_user("bora")
        before = center.user("bora")
        browser = center.browser("admin")
        form = {"password": "another good one", "end_sessions": "on"}
        address, data = fill_in(browser, str(user_id), f"{user_id}/password", **form)

        def pause(_: object, __: object, statement: str, *___: object) -> None:
            if moment in statement:
                private_server.pause()

        with center.app.app_context():
            engine = db.engine
        sa.event.listen(engine, "before_cursor_execute", pause)
        answer = browser.post(address, data=data, headers=PAGE)
        sa.event.remove(engine, "before_cursor_execute", pause)
        private_server.restore()

        assert answer.status_code == 503
        assert center.user("bora") == before
        assert browser.get("/", headers=PAGE).status_code == 200
