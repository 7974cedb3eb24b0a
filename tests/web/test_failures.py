"""Answers with 5xx are logged with their causes, once a minute, and without values."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response, url_for
from flask_login import login_user, logout_user
from freezegun import freeze_time
from sqlalchemy.orm import mapped_column

from tests.support.databases import MakeHost
from tests.support.hosts import BROWSER, Host, bearer
from tests.support.models import make_member_host, make_model
from tests.support.ports import free_port
from xgen_flask_sessions import (
    DenylistUnavailable,
    LedgerUnavailable,
    XgenSessionsError,
    token_required,
)

AWAY = "ALTER TABLE xgen_sessions RENAME TO away"
CLOSED = threading.Event()
"""Ends the source of the stream."""
BACK = "ALTER TABLE away RENAME TO xgen_sessions"


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return add_doors(make_host(database_url))


def add_doors(host: Host) -> Host:
    @host.app.get("/login/<user_id>")
    def login(user_id: str) -> str:
        login_user(host.find_user(user_id))
        return "signed in"

    @host.app.get("/logout")
    def logout() -> str:
        logout_user()
        return "signed out"

    @host.app.get("/stream")
    @token_required
    def stream() -> Response:
        def source() -> Iterator[str]:
            yield "first"
            host.execute(AWAY)
            CLOSED.wait(20)

        return Response(host.sessions.while_valid(source(), every=0.05))

    return host


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


def no_table(host: Host) -> str:
    return {
        "sqlite": "OperationalError: no such table: xgen_sessions",
        "postgresql": 'UndefinedTable: relation "xgen_sessions" does not exist',
        "mysql": "xgen_sessions' doesn't exist",
        "mariadb": "xgen_sessions' doesn't exist",
    }[host.dialect]


def test_a_missing_table_is_logged_at_every_door(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    user = host.add_user(is_superuser=True)
    token = host.issue(user)
    browser, signed_in = host.cookie_client(token), host.client()
    signed_in.get(f"/login/{user}")
    host.execute(AWAY)
    doors: list[tuple[str, Any]] = [
        ("GET /api/token", lambda: host.client().get("/api/token", headers=bearer(token))),
        ("GET /api/user", lambda: host.client().get("/api/user", headers=bearer(token))),
        ("GET /page", lambda: browser.get("/page")),
        ("GET /api/user", lambda: signed_in.get("/api/user")),
        ("POST /sign-in", lambda: host.client().post("/sign-in", data={"user_id": user})),
        ("GET /login/<user_id>", lambda: host.client().get(f"/login/{user}")),
        ("GET /sessions/users", lambda: browser.get("/sessions/users")),
        ("DELETE /sessions/<session_id>", lambda: browser.delete("/sessions/x")),
    ]

    for place, call in doors:
        host.app.extensions.pop("xgen_sessions_failures", None)
        caplog.clear()
        assert call().status_code == 503, place
        (report,) = reports(caplog)
        assert report.startswith(f"{place}: 503 "), report
        assert no_table(host) in report
    host.execute(BACK)


def test_a_cause_is_logged_once_a_minute(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = sqlite_host
    token = host.issue(host.add_user())
    host.execute(AWAY)

    with freeze_time() as frozen:
        for _ in range(5):
            assert host.status(token) == 503
        assert len(reports(caplog)) == 1
        frozen.tick(61)
        host.status(token)
        host.status(token)
        assert host.client().post("/sign-in", data={"user_id": "1"}).status_code == 503

    assert [("more since" in each) for each in reports(caplog)] == [False, True, False]
    assert "(4 more since the last report)" in reports(caplog)[1]


def test_many_causes_do_not_flood_the_log(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    count = 0

    @sqlite_host.app.get("/broken")
    def broken() -> str:
        nonlocal count
        count += 1
        raise LedgerUnavailable from OSError(f"cause {count}")

    with freeze_time() as frozen:
        for _ in range(100):
            assert sqlite_host.client().get("/broken").status_code == 503
        assert len(reports(caplog)) == 51
        frozen.tick(61)
        sqlite_host.client().get("/broken")

    assert "OSError: cause 101" in reports(caplog)[-1]


def test_a_handler_of_the_host_does_not_keep_the_cause_from_the_log(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = sqlite_host
    host.app.register_error_handler(DenylistUnavailable, lambda error: ("sorry", 503))
    token = host.issue(host.add_user())
    host.execute(AWAY)

    assert host.client().get("/api/token", headers=bearer(token)).text == "sorry"
    assert "no such table: xgen_sessions" in reports(caplog)[0]


def test_a_stream_that_cannot_be_checked_logs_the_cause(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = add_doors(sqlite_host)
    token = host.issue(host.add_user())

    CLOSED.clear()
    assert host.client().get("/stream", headers=bearer(token)).text == "first"
    CLOSED.set()

    (report,) = reports(caplog)
    assert "503 denylist_unavailable. OperationalError: no such table" in report


def test_a_sign_out_that_cannot_be_recorded_logs_the_cause(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = add_doors(sqlite_host)
    client = host.client()
    client.get(f"/login/{host.add_user()}")
    host.execute("ALTER TABLE xgen_revocations RENAME TO gone")

    assert client.get("/logout").status_code == 503

    assert "GET /logout: 503 ledger_unavailable. OperationalError: no such" in reports(caplog)[0]


def test_a_database_that_is_down_is_logged_without_its_password(
    make_host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"someone:s3cret@127.0.0.1:{free_port()}/none"
    host = make_host(f"postgresql+psycopg://{address}", create_all=False)

    assert host.client().post("/sign-in", data={"user_id": "1"}).status_code == 503

    (report,) = reports(caplog)
    assert "POST /sign-in: 503 ledger_unavailable. OperationalError: " in report
    assert "s3cret" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_column_that_is_too_short_is_a_refusal_that_is_logged(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    model = make_model(id=mapped_column(sa.String(40), primary_key=True))
    url = request.getfixturevalue(f"{name}_url")
    with make_member_host(url, model, screen=False) as host:
        change = "MODIFY user_agent" if name == "mariadb" else "ALTER COLUMN user_agent TYPE"
        host.execute(
            "INSERT INTO own_users (id, username) VALUES ('alice', 'alice')",
            f"ALTER TABLE xgen_sessions {change} VARCHAR(5)",
        )

        @host.app.post("/in")
        def sign_in() -> str:
            return host.sessions.issue("alice").token

        assert host.client().post("/in", headers={"User-Agent": BROWSER}).status_code == 503

    (report,) = reports(caplog)
    assert "POST /in: 503 ledger_unavailable. ConfigurationError: xgen_sessions" in report
    assert "Mozilla" not in report


def test_other_refusals_are_not_logged(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    token = host.issue(host.add_user())
    host.force_logout("1")

    assert host.status(token) == 401
    assert host.status("nonsense") == 401
    assert reports(caplog) == []


def test_an_error_without_a_cause_is_logged_by_its_detail(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    @sqlite_host.app.get("/broken/<secret>")
    def broken(secret: str) -> str:
        raise XgenSessionsError("It is broken.")

    assert sqlite_host.client().get("/broken/s3cret").status_code == 500

    assert "GET /broken/<secret>: 500 error. It is broken." in reports(caplog)[0]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "endpoint", ["violate", "xgen_sessions.users", "admin-active-sessions.index"]
)
def test_a_row_that_the_host_violates_is_no_outage(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    with make_member_host(sqlite_url, make_model(), can_view=lambda user: False) as host:
        host.app.config["PROPAGATE_EXCEPTIONS"] = False
        host.sessions.answer_errors(host.app)

        @host.app.get("/violates", endpoint="violate")
        def violate(*_: Any, **__: Any) -> str:
            host.execute(*["INSERT INTO own_users (id, username) VALUES (1, NULL)"] * 2)
            return "done"

        host.app.view_functions[endpoint] = violate
        with host.app.test_request_context():
            url = url_for(endpoint)

        assert host.client().get(url).status_code == 500
    assert "database_unavailable" not in caplog.text
    assert "UNIQUE constraint failed" in caplog.text
