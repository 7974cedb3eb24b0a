"""Deadlines: a silent database delays a call no longer than the configured deadline."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.patience import MARGIN_S, expect_in_time, until, within
from tests.support.wire import Wire, wire_to
from xgen_flask_sessions import DenylistUnavailable, IssuedToken, LedgerUnavailable
from xgen_flask_sessions.connections.deadlines import can_break, watchdog
from xgen_flask_sessions.connections.pool import Connection, DeadlinePool

pytestmark = pytest.mark.slow

DEADLINE_S, WRITE_DEADLINE_S = 0.8, 1.6
PATIENCE_S = 30


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, on each database server."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["postgresql", "mariadb"])
def wired(request: pytest.FixtureRequest, make_host: MakeHost) -> Iterator[tuple[Host, Wire]]:
    """Yield a host on a database server, and the wire between the two."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    with wire_to(url) as (wire, through):
        host = make_host(
            through,
            XGEN_SESSIONS_DEADLINE=timedelta(seconds=DEADLINE_S),
            XGEN_SESSIONS_WRITE_DEADLINE=timedelta(seconds=WRITE_DEADLINE_S),
        )
        yield host, wire
        wire.let_go()
        host.dispose()


def issued_to(host: Host, user: str) -> IssuedToken:
    """Sign a user in; retry, because a busy machine may miss the short deadline."""
    issued: list[IssuedToken] = []

    def is_signed_in() -> bool:
        with suppress(LedgerUnavailable):
            issued.append(host.issue(user))
        return bool(issued)

    until(is_signed_in)
    return issued[0]


def test_a_token_is_refused_in_time_on_silent_connections(
    wired: tuple[Host, Wire],
) -> None:
    host, wire = wired
    token = issued_to(host, host.add_user())
    until(lambda: host.status(token) == 200)

    wire.hold_up()
    took = []
    for path in ("/api/token", "/api/user", "/sessions/"):
        start = time.monotonic()
        answer = host.client().get(path, headers=bearer(token))
        took.append(time.monotonic() - start)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
    expect_in_time(took, DEADLINE_S)

    wire.let_go()
    until(lambda: host.status(token) == 200)
    assert host.status(token, "/api/user") == 200


def test_the_watchdog_breaks_no_connection_after_an_answer_in_time(
    wired: tuple[Host, Wire],
) -> None:
    host, _ = wired
    opened: list[object] = []
    with host.app.app_context():
        sa.event.listen(host.db.engine, "connect", lambda connection, _: opened.append(connection))
    token = issued_to(host, host.add_user())
    until(lambda: host.status(token) == 200)
    assert opened

    def is_undisturbed() -> bool:
        before = len(opened)
        begun = time.monotonic()
        while time.monotonic() < begun + 2 * DEADLINE_S:
            host.status(token)
        return len(opened) == before  # no connection was broken after its call

    # A busy machine may delay one call past the deadline; breaking its connection is right then.
    assert any(is_undisturbed() for _ in range(3))


def test_a_token_is_refused_in_time_if_the_server_takes_no_connection(
    wired: tuple[Host, Wire],
) -> None:
    host, wire = wired
    token = issued_to(host, host.add_user())
    host.dispose()

    wire.hold_up()
    took = []
    for _ in range(3):
        start = time.monotonic()
        with pytest.raises(DenylistUnavailable):
            host.verify(token)
        took.append(time.monotonic() - start)
    expect_in_time(took, DEADLINE_S)

    wire.let_go()
    until(lambda: host.status(token) == 200)


def test_many_threads_on_a_silent_server_are_refused_in_time(
    wired: tuple[Host, Wire],
) -> None:
    host, wire = wired
    token = issued_to(host, host.add_user())
    host.dispose()

    wire.hold_up()
    with ThreadPoolExecutor(24) as threads:
        start = time.monotonic()
        statuses = list(threads.map(host.status, [token] * 24))
        took = time.monotonic() - start
    assert statuses == [503] * 24
    assert took < DEADLINE_S + 2 * MARGIN_S

    wire.let_go()
    with ThreadPoolExecutor(24) as threads:
        until(lambda: list(threads.map(host.status, [token] * 24)) == [200] * 24)


def test_a_change_fails_in_time_and_does_nothing(wired: tuple[Host, Wire]) -> None:
    host, wire = wired
    user = host.add_user()
    token = issued_to(host, user)

    wire.hold_up()
    took = []
    for call in (
        lambda: host.sessions.issue(user),
        lambda: host.sessions.force_logout(user),
        lambda: host.sessions.end_session(token.session_id),
    ):
        with host.app.app_context():
            start = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="Nothing was done"):
                call()
            took.append(time.monotonic() - start)
    expect_in_time(took, WRITE_DEADLINE_S)

    wire.let_go()
    until(lambda: host.status(token.token) == 200)
    assert len(host.rows("xgen_sessions")) == 1
    assert host.rows("xgen_revocations") == []


def test_a_sign_in_waits_for_a_lock_no_longer_than_its_deadline(wired: tuple[Host, Wire]) -> None:
    host, _ = wired
    user = host.add_user()
    issued_to(host, user)
    login = host.db.metadata.tables["xgen_user_logins"]

    with host.app.app_context(), host.db.engine.begin() as foreign:
        foreign.execute(sa.select(login).where(login.c.user_id == user).with_for_update()).all()
        took = []
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="Nothing was done"):
                host.sessions.issue(user)
            took.append(time.monotonic() - start)
    expect_in_time(took, WRITE_DEADLINE_S)

    assert len(host.rows("xgen_sessions")) == 1
    token = issued_to(host, user)
    until(lambda: host.status(token) == 200)


def test_a_change_in_the_hosts_transaction_has_a_deadline(
    wired: tuple[Host, Wire],
) -> None:
    host, wire = wired
    user = host.add_user()
    token = issued_to(host, user)

    with host.app.app_context():
        host.find_user(user).display_name = "half a change"
        host.db.session.flush()
        wire.hold_up()
        with pytest.raises(LedgerUnavailable, match="whole transaction"):
            host.sessions.force_logout(user, commit=False)
        wire.let_go()
        assert host.find_user(user).display_name is None

    until(lambda: host.status(token) == 200)


def test_a_foreign_writer_blocks_sign_ins_but_no_verification(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(
        sqlite_url,
        XGEN_SESSIONS_WRITE_DEADLINE=timedelta(seconds=WRITE_DEADLINE_S),
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"timeout": 0.2}},
    )
    user = host.add_user()
    token = issued_to(host, user)

    foreign = sa.create_engine(sqlite_url, isolation_level="AUTOCOMMIT")
    with foreign.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        assert host.status(token) == 200
        with host.app.app_context(), pytest.raises(LedgerUnavailable, match="Nothing was done"):
            host.sessions.issue(user)
        connection.exec_driver_sql("ROLLBACK")
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    foreign.dispose()

    assert host.verify(issued_to(host, user))


def test_a_reader_that_prevents_wal_mode_blocks_no_verification(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url)
    token = host.issue(host.add_user())
    host.dispose()
    file = sa.make_url(sqlite_url).database or ""
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM xgen_sessions").fetchall()

        assert host.status(token) == 200


def test_a_forked_process_opens_new_connections(host: Host) -> None:
    token = host.issue(host.add_user())
    assert host.status(token) == 200
    child = os.fork()
    if child == 0:  # pragma: no cover: coverage does not follow
        status = 1
        try:
            with host.app.app_context():
                host.db.engine.dispose(close=False)
            status = 0 if [host.status(token) for _ in range(3)] == [200] * 3 else 2
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(waited) == 0
    assert host.status(token) == 200
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(host.status, [token] * 8)) == [200] * 8


def test_only_one_watchdog_thread_remains(wired: tuple[Host, Wire]) -> None:
    host, wire = wired
    token = issued_to(host, host.add_user())
    wire.hold_up()
    for _ in range(5):
        assert host.status(token) == 503
    wire.let_go()
    until(lambda: host.status(token) == 200)

    names = [thread.name for thread in threading.enumerate()]
    assert names.count("xgen-sessions-watchdog") == 1


def test_a_call_does_not_end_while_the_watchdog_breaks_its_connection() -> None:
    breaking, may_go_on = threading.Event(), threading.Event()

    def interrupt() -> None:
        breaking.set()
        may_go_on.wait(PATIENCE_S)

    holder = SimpleNamespace(dbapi_connection=SimpleNamespace(interrupt=interrupt))
    call = watchdog.begin(holder, time.monotonic())
    assert breaking.wait(PATIENCE_S)
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(watchdog.end, call)
        with pytest.raises(TimeoutError):
            ended.result(0.2)
        may_go_on.set()
        ended.result(PATIENCE_S)


def test_a_connection_that_opens_after_dispose_is_closed(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sa.create_engine(server_url)
    pool = DeadlinePool(engine, DEADLINE_S)
    may_go = threading.Event()
    opened: list[Connection] = []

    def connect(self: DeadlinePool) -> Connection:
        may_go.wait(PATIENCE_S)
        opened.append(connect_at_once(self))
        return opened[0]

    connect_at_once = DeadlinePool._connect
    monkeypatch.setattr(DeadlinePool, "_connect", connect)
    with pytest.raises(TimeoutError):
        pool.fetch_one("SELECT 1")

    engine.dispose()
    may_go.set()

    until(lambda: bool(opened) and not is_open(opened[0]))


def is_open(connection: Connection) -> bool:
    driver = connection.dbapi_connection
    return bool(driver.open if hasattr(driver, "open") else not driver.closed)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"])
def test_an_abandoned_attempt_to_connect_ends_by_itself(driver: str) -> None:
    with socket.socket() as deaf, ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):  # afterwards, the system drops attempts to connect
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(deaf.getsockname())
        engine = sa.create_engine(f"{driver}://nobody@127.0.0.1:{deaf.getsockname()[1]}/none")
        pool = DeadlinePool(engine, 0.2)

        with pytest.raises(TimeoutError):
            pool.fetch_one("SELECT 1")

        names = [thread.name for thread in threading.enumerate()]
        assert names.count("xgen-sessions-connect") == 1
        until(
            lambda: all(each.name != "xgen-sessions-connect" for each in threading.enumerate()),
            within_s=2 + MARGIN_S,
        )


@pytest.mark.parametrize(("own", "expected"), [(None, 3), (60, 3), (1, 1), ("1", "1")])
def test_connect_timeout_is_limited_for_the_pool_and_not_for_the_host(
    monkeypatch: pytest.MonkeyPatch, own: Any, expected: Any
) -> None:
    options = {} if own is None else {"connect_timeout": own}
    engine = sa.create_engine("postgresql+psycopg://127.0.0.1:1/none", connect_args=options)
    refusal = engine.dialect.loaded_dbapi.OperationalError("refused")
    tried: list[Any] = []

    def connect(*_: Any, **parameters: Any) -> None:
        tried.append(parameters.get("connect_timeout"))
        raise refusal

    monkeypatch.setattr(engine.dialect, "connect", connect)
    pool = DeadlinePool(engine, 2.5)
    with pytest.raises(type(refusal)):
        pool.fetch_one("SELECT 1")
    with pytest.raises(sa.exc.OperationalError):
        engine.connect()

    assert tried == [expected, own]


@pytest.mark.parametrize(("threshold", "limit"), [(5, "800ms"), (None, "0")])
def test_no_statement_timeout_is_set_on_connections_of_a_pooler(
    postgresql_url: str, threshold: int | None, limit: str
) -> None:
    engine = sa.create_engine(postgresql_url, connect_args={"prepare_threshold": threshold})
    pool = DeadlinePool(engine, 0.8)

    assert list(pool.fetch_one("SHOW statement_timeout") or ()) == [limit]

    engine.dispose()


DRIVERS = {
    "postgresql+psycopg": "psycopg",
    "postgresql+psycopg2": "psycopg2",
    "postgresql+pg8000": "pg8000",
    "mysql+pymysql": "pymysql",
    "mysql+mysqldb": "MySQLdb",
    "mysql+mysqlconnector": "mysql.connector",
}
"""Drivers for which the deadlines hold, and their modules."""


@pytest.fixture(params=DRIVERS)
def silent(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[sa.Engine, DeadlinePool, Wire]]:
    """Yield an engine with each driver, its pool of checks, and the wire to the server."""
    driver: str = request.param
    pytest.importorskip(DRIVERS[driver])
    kind = "postgresql" if driver.startswith("postgresql") else "mariadb"
    # The C extension of MySQL's connector tells no socket.
    pure = {"use_pure": True} if driver == "mysql+mysqlconnector" else {}
    with wire_to(request.getfixturevalue(f"{kind}_url")) as (wire, through):
        engine = sa.create_engine(sa.make_url(through).set(drivername=driver), connect_args=pure)
        yield engine, DeadlinePool(engine, DEADLINE_S), wire
        wire.let_go()
        engine.dispose()


def test_deadlines_hold_for_each_driver(
    silent: tuple[sa.Engine, DeadlinePool, Wire], caplog: pytest.LogCaptureFixture
) -> None:
    engine, pool, wire = silent
    connection = engine.connect()
    assert can_break(connection.connection.dbapi_connection)
    for _ in range(2):
        assert list(pool.fetch_one("SELECT 1") or ()) == [1]

    def select(due: float) -> None:
        with watchdog.limit(connection.connection, due):
            connection.execute(sa.text("SELECT 1"))

    wire.hold_up()
    with pytest.raises(pool.errors):
        within(DEADLINE_S, partial(pool.fetch_one, "SELECT 1"))
    with pytest.raises(sa.exc.DBAPIError):
        within(DEADLINE_S, partial(select, time.monotonic() + DEADLINE_S))
    wire.let_go()

    connection.invalidate()
    connection.close()
    assert list(pool.fetch_one("SELECT 1") or ()) == [1]
    assert not [each for each in caplog.messages if "interrupted" in each]


def test_a_driver_that_cannot_be_interrupted_is_named_once_in_the_log(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = sa.create_engine(postgresql_url)
    pool = DeadlinePool(engine, DEADLINE_S)
    monkeypatch.setattr(psycopg.Connection, "fileno", None)

    first, second = pool.open(), pool.open()

    assert [each for each in caplog.messages if "driver psycopg cannot" in each] != []
    assert len(caplog.messages) == 1
    first.close()
    second.close()
    engine.dispose()
