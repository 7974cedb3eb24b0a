"""Errors of the database are told apart by its own codes, whatever class the driver gives them."""

from __future__ import annotations

from typing import Final

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from tests.support.databases import SERVERS, reason_against_server, require_service
from xgen_flask_sessions import is_conflict
from xgen_flask_sessions.store import dialects
from xgen_flask_sessions.store.dialects.base import code_of
from xgen_flask_sessions.store.transactions import UNREACHABLE

DRIVERS: Final = [
    "sqlite",
    "postgresql+psycopg",
    "postgresql+psycopg2",
    "postgresql+pg8000",
    "mysql+pymysql",
    "mysql+mysqlconnector",
]
TABLE: Final = (
    "CREATE TEMPORARY TABLE sample (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, CHECK (a < 5))"
)
CONFLICTS: Final = ["INSERT INTO sample VALUES (1, 1)"]
REFUSALS: Final = [
    "INSERT INTO sample VALUES (2, 9)",
    "INSERT INTO sample VALUES (2, NULL)",
    "INSERT INTO nothing VALUES (1)",
]
SIGNALS: Final = {
    "postgresql": "DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = 'no'; END $$",
    "mysql": "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
}
SIGNALLED: Final = {
    "postgresql": "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{}'; END $$",
    "mysql": "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {}",
}
DEADLOCKS: Final[dict[str, str | int]] = {"postgresql": "40P01", "mysql": 1213}
BUSY: Final[dict[str, list[str | int]]] = {
    "postgresql": ["53300"],
    "mysql": [1040, 1047, 1203, 1226],
}
"""Codes of a server that takes a connection later."""
ENDS: Final = {
    "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
    "mysql": "KILL CONNECTION_ID()",
}
DELAYS: Final = {
    "postgresql": ("SET statement_timeout = 20", "SELECT pg_sleep(60)"),
    "mysql": (
        "SET SESSION max_statement_time = 0.02",
        "SELECT SLEEP(60) FROM information_schema.tables",
    ),
}
MARIADB: Final = mysql.dialect()


@pytest.fixture(params=DRIVERS)
def engine(request: pytest.FixtureRequest) -> sa.Engine:
    """Return an engine with this driver, on a database that the test leaves as it is."""
    if request.param == "sqlite":
        return sa.create_engine("sqlite://", poolclass=sa.NullPool)
    name = "postgresql" if request.param.startswith("postgresql") else "mariadb"
    require_service(reason_against_server(name))
    url = sa.make_url(SERVERS[name]).set(drivername=request.param)
    pytest.importorskip(url.get_dialect().import_dbapi().__name__)
    return sa.create_engine(url, poolclass=sa.NullPool)


def error_of(engine: sa.Engine, *statements: str) -> sa.exc.DBAPIError:
    """Return the error of the last of the statements."""
    *first, last = (TABLE, *CONFLICTS, *statements)
    with engine.connect() as connection:
        for statement in first:
            connection.exec_driver_sql(statement)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            connection.exec_driver_sql(last).all()
        connection.invalidate()  # it may be lost, and then a rollback fails, too
    return caught.value


@pytest.mark.parametrize("statement", CONFLICTS)
def test_another_row_is_a_conflict(engine: sa.Engine, statement: str) -> None:
    error = error_of(engine, statement)

    assert is_conflict(error)
    assert not dialects.of(engine.dialect).is_refusal(error.orig)


@pytest.mark.parametrize("statement", REFUSALS)
def test_a_constraint_or_a_missing_table_is_a_refusal(engine: sa.Engine, statement: str) -> None:
    error = error_of(engine, statement)

    assert dialects.of(engine.dialect).is_refusal(error.orig)
    assert not is_conflict(error)


def test_a_signal_is_a_refusal_that_makes_the_database_unavailable(engine: sa.Engine) -> None:
    if engine.dialect.name not in SIGNALS:
        pytest.skip("SQLite raises in triggers only")
    error = error_of(engine, SIGNALS[engine.dialect.name])

    assert isinstance(error, UNREACHABLE)
    assert dialects.of(engine.dialect).is_refusal(error.orig)


def test_a_wait_that_is_cut_off_is_a_delay(engine: sa.Engine) -> None:
    if engine.dialect.name not in DELAYS:
        pytest.skip("SQLite limits no statement")
    error = error_of(engine, *DELAYS[engine.dialect.name])

    assert isinstance(error, UNREACHABLE)
    assert not dialects.of(engine.dialect).is_refusal(error.orig)
    assert not is_conflict(error)


def test_a_deadlock_is_known_by_its_code(engine: sa.Engine) -> None:
    error = signalled(engine, DEADLOCKS.get(engine.dialect.name))

    assert dialects.of(engine.dialect).is_deadlock(error.orig)
    assert not dialects.of(engine.dialect).is_refusal(error.orig)


def test_a_server_that_is_busy_is_a_delay(engine: sa.Engine) -> None:
    for code in BUSY.get(engine.dialect.name, ()) or (None,):
        error = signalled(engine, code)

        assert not dialects.of(engine.dialect).is_refusal(error.orig), code


def test_a_row_that_changed_since_the_snapshot_is_a_conflict(engine: sa.Engine) -> None:
    error = signalled(engine, 1020 if engine.dialect.name == "mysql" else None)

    assert is_conflict(error)
    assert not dialects.of(engine.dialect).is_refusal(error.orig)


def test_a_lost_connection_is_no_refusal(engine: sa.Engine) -> None:
    if engine.dialect.name not in ENDS:
        pytest.skip("SQLite has no connection to lose")
    error = error_of(engine, ENDS[engine.dialect.name])

    assert isinstance(error, UNREACHABLE)
    assert not dialects.of(engine.dialect).is_refusal(error.orig)


def test_an_error_of_the_driver_itself_is_no_refusal() -> None:
    errors = pytest.importorskip("mysql.connector.errors")

    for error in (errors.PoolError("exhausted"), errors.OperationalError("not available")):
        assert code_of(error) is None
        assert not dialects.of(MARIADB).is_refusal(error)


@pytest.mark.parametrize(
    ("number", "sqlstate", "code", "refusal", "conflict"),
    [
        (1142, "42000", 1142, True, False),
        (1062, "23000", 1062, False, True),
        (1205, "HY000", 1205, False, False),
        (2013, "HY000", 2013, False, False),
        (0, "HY000", None, False, False),
    ],
)
def test_mariadb_s_own_connector_has_the_number_beside_the_message(
    number: int, sqlstate: str, code: int | None, refusal: bool, conflict: bool
) -> None:
    error = OwnConnectorError("what happened")
    error.errno, error.sqlstate = number, sqlstate

    assert code_of(error) == code
    assert dialects.of(MARIADB).is_refusal(error) == refusal
    assert dialects.of(MARIADB).is_conflict(error) == conflict


class OwnConnectorError(Exception):
    """An error as MariaDB's own connector raises it."""

    errno: int
    sqlstate: str


def signalled(engine: sa.Engine, code: str | int | None) -> sa.exc.DBAPIError:
    """Return the error with a code, raised by the server."""
    if code is None or engine.dialect.name not in SIGNALLED:
        pytest.skip("this database has no such code")
    return error_of(engine, SIGNALLED[engine.dialect.name].format(code))
