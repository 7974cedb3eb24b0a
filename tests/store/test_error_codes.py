"""Errors of the database are told apart by its own codes, whatever class the driver gives them."""

from __future__ import annotations

from typing import Final

import pytest
import sqlalchemy as sa

from tests.support.databases import SERVERS, reason_against_server, require_service
from xgen_flask_sessions import is_conflict
from xgen_flask_sessions.store import dialects
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
DELAYS: Final = {
    "postgresql": ("SET statement_timeout = 20", "SELECT pg_sleep(60)"),
    "mysql": (
        "SET SESSION max_statement_time = 0.02",
        "SELECT SLEEP(60) FROM information_schema.tables",
    ),
}


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
    return caught.value


@pytest.mark.parametrize("statement", CONFLICTS)
def test_another_row_is_a_conflict(engine: sa.Engine, statement: str) -> None:
    assert is_conflict(error_of(engine, statement))


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
    if engine.dialect.name != "postgresql":
        pytest.skip("the code is the first argument with every other driver")
    statement = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"

    assert dialects.of(engine.dialect).is_deadlock(error_of(engine, statement).orig)
