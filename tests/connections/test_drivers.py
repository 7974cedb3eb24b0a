"""Look-ups return the same rows with every driver, and raise the driver's own errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.databases import MakeHost
from tests.support.hosts import Host, NamedUser
from xgen_flask_sessions import DenylistUnavailable
from xgen_flask_sessions.connections import drivers
from xgen_flask_sessions.connections.drivers import Lookup, compile_lookup, fast_lookup
from xgen_flask_sessions.connections.pool import Connection, DeadlinePool
from xgen_flask_sessions.denylist.strict import STATEMENTS

ODD_IDS = [
    "plain",
    "it's",
    'say "x"',
    "back\\slash",
    "100%",
    "%(about)s",
    "우리",
    "🦊",
    "\u2028",
    "?",
]


@contextmanager
def connection_of(host: Host) -> Iterator[tuple[Any, sa.Engine]]:
    """Yield a driver's connection in autocommit mode, and its engine."""
    with host.app.app_context():
        engine = host.db.engine
    borrowed = engine.raw_connection()
    connection: Any = borrowed.dbapi_connection
    borrowed.detach()
    engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")
    try:
        yield connection, engine
    finally:
        connection.close()


@pytest.mark.parametrize("user_id", ODD_IDS)
def test_recorded_values_are_returned_unchanged(
    make_host: MakeHost, database_url: str, user_id: str
) -> None:
    host = make_host(database_url, model=NamedUser)
    host.add_user(user_id, id=user_id)
    open_token, ended = host.issue(user_id), host.issue(user_id)
    host.end_session(ended.session_id, reason="x")
    rows = {row["jti"]: row for row in host.rows("xgen_sessions")}

    with connection_of(host) as (connection, engine):
        ask = fast_lookup(connection, engine.dialect)
        sql, parameters = compile_lookup(STATEMENTS["status"], engine)
        for token in (open_token, ended, open_token):
            row = rows[token.jti]
            assert list(ask(sql, parameters(token.jti)) or ()) == [
                user_id,
                row["session_id"],
                row["issued_us"],
                row["expires_us"],
                row["ended_us"],
                row["end_reason"],
                host.login_row(user_id)["invalid_before_us"],
                0,
                host.login_row(user_id)["account_mark"],
            ]
        host.force_logout(user_id)
        invalid_before, of_user = compile_lookup(STATEMENTS["invalid before"], engine)
        answer = list(ask(invalid_before, of_user(user_id)) or ())
        assert answer == [host.login_row(user_id)["invalid_before_us"], 0]


def test_an_unrecorded_token_has_no_row(host: Host) -> None:
    with connection_of(host) as (connection, engine):
        ask = fast_lookup(connection, engine.dialect)
        sql, parameters = compile_lookup(STATEMENTS["status"], engine)
        for jti in ("f" * 32, "' OR '1'='1", "", "%s"):
            assert ask(sql, parameters(jti)) is None
        assert list(ask("SELECT 1", ()) or ()) == [1]


def test_a_driver_raises_its_own_errors(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, create_all=False)
    with connection_of(host) as (connection, engine):
        ask = fast_lookup(connection, engine.dialect)
        sql, parameters = compile_lookup(STATEMENTS["status"], engine)
        for _ in range(2):
            with pytest.raises(engine.dialect.loaded_dbapi.Error, match="xgen_sessions"):
                ask(sql, parameters("f" * 32))
        assert list(ask("SELECT 1", ()) or ()) == [1]


def test_an_altered_table_is_read_correctly(host: Host) -> None:
    token = host.issue(host.add_user())
    assert host.status(token) == 200

    host.execute("ALTER TABLE xgen_sessions ADD COLUMN of_the_host INTEGER")
    assert host.status(token) == 200
    host.execute("ALTER TABLE xgen_sessions RENAME TO elsewhere")
    with pytest.raises(DenylistUnavailable):
        host.verify(token)
    host.execute("ALTER TABLE elsewhere RENAME TO xgen_sessions")
    assert host.status(token) == 200


def prepared(host: Host) -> int:
    """Return the number of look-ups that a psycopg connection has prepared after one look-up."""
    with connection_of(host) as (connection, engine):
        ask = fast_lookup(connection, engine.dialect)
        sql, parameters = compile_lookup(STATEMENTS["status"], engine)
        assert ask(sql, parameters("f" * 32)) is None
        query = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%xgen_sessions%'"
        return int(connection.execute(query).fetchone()[0])


def test_no_statement_is_prepared_if_the_host_forbids_it(
    make_host: MakeHost, postgresql_url: str
) -> None:
    assert prepared(make_host(postgresql_url)) == 1

    options = {"connect_args": {"prepare_threshold": None}}
    host = make_host(postgresql_url, SQLALCHEMY_ENGINE_OPTIONS=options)
    assert prepared(host) == 0
    token = host.issue(host.add_user())
    assert [host.status(token) for _ in range(10)] == [200] * 10


def test_libpq_is_not_used_directly_if_gevent_has_to_see_each_wait(
    make_host: MakeHost, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(postgresql_url)
    monkey = SimpleNamespace(is_module_patched=lambda name: name == "socket")
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)

    assert prepared(host) == 0


@contextmanager
def traced(host: Host) -> Iterator[tuple[Lookup, str, Callable[[str], Any], list[str]]]:
    """Yield a look-up on a SQLite connection, its SQL and parameters, and the statements it ran."""
    ran: list[str] = []
    with connection_of(host) as (connection, engine):
        own = Connection(connection, engine.dialect)
        connection.set_trace_callback(ran.append)
        ask = partial(own.fetch_one, due=inf)
        yield ask, *compile_lookup(STATEMENTS["status"], engine), ran


def test_sqlite_rereads_a_row_after_another_process_has_committed(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host(f"sqlite:///{tmp_path}/own.db")
    token, other = (host.issue(host.add_user(name)) for name in ("alice", "bob"))

    with traced(host) as (ask, sql, parameters, ran):
        first = ask(sql, parameters(token.jti))
        assert len(ran) == 2  # data_version, and the row
        assert ask(sql, parameters(token.jti)) == first
        assert ran[2:] == ["PRAGMA data_version"]

        for ended_us in (5, 6):
            statement = f"UPDATE xgen_sessions SET ended_us = {ended_us} WHERE jti = '{token.jti}'"
            in_another_process(tmp_path / "own.db", statement)
            for _ in range(2):
                assert list(ask(sql, parameters(token.jti)) or ())[4] == ended_us
        assert list(ask(sql, parameters(other.jti)) or ())[4] is None
        in_another_process(tmp_path / "own.db", "PRAGMA wal_checkpoint(TRUNCATE)")
        assert (tmp_path / "own.db-wal").stat().st_size == 0, "no query was left open"


def in_another_process(path: Path, statement: str) -> None:
    """Run a statement on a SQLite file in another process, and commit."""
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
    program += "print(c.execute(sys.argv[2]).fetchall()); c.close()"
    subprocess.run([sys.executable, "-c", program, str(path), statement], check=True)


def test_rows_of_attached_sqlite_files_are_not_cached(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host(f"sqlite:///{tmp_path}/own.db")
    token = host.issue(host.add_user())

    with closing(sqlite3.connect(tmp_path / "main.db", isolation_level=None)) as connection:
        connection.execute(f"ATTACH '{tmp_path}/own.db' AS attached").close()
        with connection_of(host) as (_, engine):
            sql, parameters = compile_lookup(STATEMENTS["status"], engine)
            ask = partial(Connection(connection, engine.dialect).fetch_one, due=inf)
        assert list(ask(sql, parameters(token.jti)) or ())[4] is None
        in_another_process(tmp_path / "own.db", "UPDATE xgen_sessions SET ended_us = 5")
        assert list(ask(sql, parameters(token.jti)) or ())[4] == 5


def test_the_cache_of_sqlite_rows_is_bounded(
    make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(f"sqlite:///{tmp_path}/own.db")
    user = host.add_user()
    tokens = [host.issue(user) for _ in range(5)]
    monkeypatch.setattr(drivers, "_MAX_ROWS", 4)

    with traced(host) as (ask, sql, parameters, ran):
        for token in tokens[:4] * 2:
            assert ask(sql, parameters(token.jti)) is not None
        assert len(ran) == 4 * 2 + 4
        ran.clear()
        for token in tokens * 3:
            assert ask(sql, parameters(token.jti)) is not None
        assert len(ran) > len(tokens) * 3 + 5, "some rows were not cached"


def test_a_connection_that_cannot_be_configured_is_closed(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"no database" * 1000)
    engine = sa.create_engine(sqlite_url)
    opened: list[Any] = []
    sa.event.listen(engine, "connect", lambda connection, _: opened.append(connection))
    pool = DeadlinePool(engine, 10)

    with pytest.raises(pool.errors, match="not a database"):
        pool.fetch_one("SELECT 1")

    assert opened
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    engine.dispose()


def test_no_request_adds_a_listener_for_connects(host: Host) -> None:
    # SQLAlchemy fails in a thread that connects while another one adds a listener.
    with host.app.app_context():
        engine = host.db.engine
    before = list(engine.dialect.dispatch.do_connect)

    client = host.client()
    client.post("/sign-in", data={"user_id": "1"})

    assert list(engine.dialect.dispatch.do_connect) == before
    assert before
