"""A change that the database refuses is told as that, and not as a timeout or a conflict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bs4 import BeautifulSoup

from tests.support.standalone import PAGE, Center, MakeCenter, sign_in
from xgen_flask_sessions.standalone.models import db

URL = "/admin/admin-users/"
REFUSED = "The database refused the change."
POSTGRESQL = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION USING MESSAGE = 'closed today'; END $$
"""
TRIGGERS = {
    "sqlite": [
        (
            "CREATE TRIGGER refusing BEFORE {event} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'closed today'); END"
        )
    ],
    "postgresql": [
        POSTGRESQL,
        "CREATE TRIGGER refusing BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
    "mysql": [
        (
            "CREATE TRIGGER refusing BEFORE {event} ON {table} FOR EACH ROW "
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'closed today'"
        )
    ],
}
DROP_TRIGGER = {
    "sqlite": "DROP TRIGGER refusing",
    "postgresql": "DROP FUNCTION refuse CASCADE",
    "mysql": "DROP TRIGGER refusing",
}
CHECK = "ALTER TABLE users ADD CONSTRAINT refusing CHECK (department <> 'Monday')"
DROP_CHECK = "ALTER TABLE users DROP CONSTRAINT refusing"


@pytest.fixture
def center(make: MakeCenter) -> Center:
    center = make()
    center.add_user("bora", name="Bora")
    return center


def execute(center: Center, *statements: str) -> str:
    with center.app.app_context(), db.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        return connection.dialect.name


@contextmanager
def trigger(center: Center, event: str, table: str) -> Iterator[None]:
    """Let a trigger refuse a kind of statement."""
    kind = execute(center)
    execute(center, *(each.format(event=event, table=table) for each in TRIGGERS[kind]))
    try:
        yield
    finally:
        execute(center, DROP_TRIGGER[kind])


def change(center: Center, caplog: pytest.LogCaptureFixture, cause: str) -> None:
    """Change a profile; require that it is refused, and that the log has the cause."""
    browser, before = center.browser("admin"), center.user("bora")
    page = f"{URL}{before['id']}"
    shown = BeautifulSoup(browser.get(page, headers=PAGE).text, "html.parser")
    hidden = shown.select(".xa-forms form input[type=hidden]")
    data = {str(each["name"]): str(each["value"]) for each in hidden}
    data |= {"name": "Other", "department": "Monday", "roles": ""}

    answer = browser.post(f"{page}/profile", data=data, headers=PAGE)

    assert answer.status_code == 503
    assert REFUSED in answer.text
    assert cause in caplog.text
    assert center.user("bora") == before


def test_by_a_trigger(center: Center, caplog: pytest.LogCaptureFixture) -> None:
    with trigger(center, "UPDATE", "users"):
        change(center, caplog, "closed today")


def test_by_a_check(center: Center, caplog: pytest.LogCaptureFixture) -> None:
    if execute(center) == "sqlite":
        pytest.skip("SQLite adds no constraint to a table")
    execute(center, CHECK)
    try:
        change(center, caplog, "refusing")
    finally:
        execute(center, DROP_CHECK)


def test_a_sign_in(center: Center, caplog: pytest.LogCaptureFixture) -> None:
    with trigger(center, "INSERT", "xgen_sessions"):
        page = sign_in(center.browser(), "bora")
        call = center.browser().post("/api/login", json={"username": "bora", "password": "x"})

    assert page.status_code == 503
    assert "The database refused the sign-in." in page.text
    assert call.status_code == 401
    assert caplog.text.count("closed today") == 1
    assert center.rows("xgen_sessions") == []
    assert sign_in(center.browser(), "bora").status_code == 303


def test_at_the_commit(center: Center, caplog: pytest.LogCaptureFixture) -> None:
    if execute(center) != "postgresql":
        pytest.skip("only PostgreSQL has deferred triggers")
    deferred = (
        "CREATE CONSTRAINT TRIGGER refusing AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    execute(center, POSTGRESQL, deferred)
    try:
        change(center, caplog, "closed today")
    finally:
        execute(center, DROP_TRIGGER["postgresql"])
