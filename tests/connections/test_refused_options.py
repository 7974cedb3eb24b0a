"""Connections that the URL or the engine options prevent: no traceback, no 500, no password."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.commands import run
from tests.support.databases import SERVERS, reason_against_server, require_service
from tests.support.hosts import Host, make_app
from xgen_flask_sessions.text import cause_of

PASSWORD = "s3cretPW"
COMMANDS = (
    ("list",),
    ("show", "1"),
    ("force-logout", "1"),
    ("force-logout", "--everyone"),
    ("end", "0190f2a4-7c1d-7aaa-8bbb-0123456789ab"),
    ("prune",),
    ("upgrade",),
)
FAILURES = (
    "Error: The database cannot be used. (",
    "Error: Sessions cannot be changed right now. Nothing was done. (",
)


def fails() -> Any:
    raise KeyError("no credentials")


@contextmanager
def host_on(url: str | sa.URL, **options: Any) -> Iterator[Host]:
    """Yield a host whose database cannot be connected to; its tables are not created."""
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    host = make_app(
        text,
        create_all=False,
        SQLALCHEMY_ENGINE_OPTIONS=options,
        XGEN_SESSIONS_DEADLINE=1,
    )
    try:
        yield host
    finally:
        host.dispose()


def require_refused(host: Host, caplog: pytest.LogCaptureFixture, cause: str) -> None:
    """Check a sign-in, the commands and the log."""
    caplog.clear()
    answer = host.client().post("/sign-in", data={"user_id": "1"})
    assert answer.status_code == 503
    (report,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert cause in report.getMessage()
    shown = answer.text + caplog.text
    for command in COMMANDS:
        result = run(host, *command)
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.stderr.startswith(FAILURES)
        assert result.stderr.count("\n") == 1
        assert cause in result.stderr
        shown += result.output
    examined = run(host, "doctor").output
    assert cause in " ".join(examined.split())
    assert PASSWORD not in shown + examined


@pytest.mark.parametrize(
    ("url", "query", "cause"),
    [
        ("postgresql+psycopg", {"no_such_option": "1"}, "no_such_option"),
        ("postgresql+psycopg", {"connect_timeout": "soon"}, "connect_timeout"),
        ("postgresql+psycopg2", {"no_such_option": "1"}, "no_such_option"),
        ("postgresql+pg8000", {"no_such_option": "1"}, "no_such_option"),
        ("mysql+pymysql", {"no_such_option": "1"}, "no_such_option"),
        ("mysql+pymysql", {"charset": "no_such_charset"}, "SQLALCHEMY_DATABASE_URI"),
        ("mysql+pymysql", {"ssl_ca": "/no/such/file"}, "SQLALCHEMY_DATABASE_URI"),
        ("mysql+mysqlconnector", {"no_such_option": "1"}, "no_such_option"),
    ],
)
def test_an_option_that_the_driver_refuses_is_named(
    caplog: pytest.LogCaptureFixture, url: str, query: dict[str, str], cause: str
) -> None:
    pytest.importorskip(sa.make_url(f"{url}://").get_dialect().import_dbapi().__name__)
    with host_on(f"{url}://someone:{PASSWORD}@127.0.0.1:1/none?{_joined(query)}") as host:
        require_refused(host, caplog, cause)


def test_an_error_of_a_host_s_own_creator_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with host_on(f"postgresql+psycopg://a:{PASSWORD}@127.0.0.1/none", creator=fails) as host:
        require_refused(host, caplog, "KeyError: 'no credentials'")


def test_a_password_that_the_driver_cannot_encode_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with host_on("mysql+pymysql://someone:비밀@127.0.0.1:1/none") as host:
        require_refused(host, caplog, "UnicodeEncodeError")
        assert "비" not in caplog.text


def test_commands_wait_no_longer_than_the_deadline_for_a_silent_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1]
        with host_on(f"postgresql+psycopg://a:{PASSWORD}@127.0.0.1:{port}/none") as host:
            require_refused(host, caplog, "in time")


def test_a_url_without_a_database_is_refused_by_upgrade() -> None:
    require_service(reason_against_server("mariadb"))
    with host_on(sa.make_url(SERVERS["mariadb"])._replace(database=None)) as host:
        result = run(host, "upgrade")

    assert result.exit_code == 1
    assert "name a database" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_fields_of_pg8000_s_errors_are_not_shown() -> None:
    require_service(reason_against_server("postgresql"))
    pytest.importorskip("pg8000")
    url = sa.make_url(SERVERS["postgresql"]).set(drivername="postgresql+pg8000")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        connection.exec_driver_sql("SELECT no_such_column")

    assert cause_of(caught.value) == 'column "no_such_column" does not exist'


def _joined(query: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in query.items())
