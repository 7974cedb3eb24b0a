"""Connections that the host's code hands out are left as they came: no setting stays on them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg2.extensions
import psycopg2.pool
import pymysql
import pytest
import sqlalchemy as sa
from dbutils.pooled_db import PooledDB
from flask import request
from flask_login import login_user
from psycopg_pool import ConnectionPool

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.patience import until, within
from tests.support.wire import wire_to
from xgen_flask_sessions import LedgerUnavailable
from xgen_flask_sessions.connections.wrappers import unwrap
from xgen_flask_sessions.store.migrate import upgrade

STATE = {
    "postgresql": "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), "
    "current_setting('default_transaction_isolation'), "
    "(SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'xgen%')",
    "mysql": "SELECT @@autocommit, @@max_statement_time, @@tx_isolation, "
    "@@innodb_lock_wait_timeout",
}
"""Settings of a connection."""


class Pooled:
    """A pool of two connections that belongs to the host.

    :param take: Takes a connection; closing it gives it back.
    """

    def __init__(self, take: Callable[[], Any]) -> None:
        self.take = take


@contextmanager
def psycopg_pool(url: sa.URL) -> Iterator[Pooled]:
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with ConnectionPool(
        text, min_size=1, max_size=2, open=True, timeout=30, kwargs={}, close_returns=True
    ) as pool:
        yield Pooled(pool.getconn)


class Returning(psycopg2.extensions.connection):  # type: ignore[misc]
    """A connection of psycopg2 whose ``close()`` gives it back to its pool."""

    pool: Any = None

    def close(self) -> None:
        if self.pool is None:
            super().close()
        else:
            self.pool.putconn(self)


@contextmanager
def psycopg2_pool(url: sa.URL) -> Iterator[Pooled]:
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    pool = psycopg2.pool.ThreadedConnectionPool(2, 2, text, connection_factory=Returning)
    free = threading.BoundedSemaphore(2)

    class Waiting:
        @staticmethod
        def putconn(connection: Returning) -> None:
            pool.putconn(connection)
            free.release()

    def take() -> Returning:
        assert free.acquire(timeout=30)
        connection: Returning = pool.getconn()
        connection.pool = Waiting
        return connection

    yield Pooled(take)
    for connection in pool._pool:
        connection.pool = None
    pool.closeall()


class Transparent:
    """A wrapper of DBUtils with the driver's attributes, which SQLAlchemy needs."""

    def __init__(self, wrapper: Any) -> None:
        self._con = wrapper

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._con, name)
        except AttributeError:
            return getattr(unwrap(self._con), name)


@contextmanager
def dbutils_pool(url: sa.URL) -> Iterator[Pooled]:
    pool = PooledDB(
        pymysql,
        mincached=2,
        maxconnections=2,
        blocking=True,
        host=url.host,
        port=url.port or 3306,
        user=url.username,
        database=url.database,
        connect_timeout=30,
    )
    yield Pooled(lambda: Transparent(pool.connection()))
    pool.close()


POOLS = {
    "psycopg_pool": ("postgresql", "postgresql+psycopg", psycopg_pool),
    "psycopg2": ("postgresql", "postgresql+psycopg2", psycopg2_pool),
    "dbutils": ("mariadb", "mysql+pymysql", dbutils_pool),
}


@pytest.fixture(params=POOLS)
def pooled(request: pytest.FixtureRequest, make_host: MakeHost) -> Iterator[tuple[Host, Pooled]]:
    """Yield a host whose engine takes its connections from a pool of two, and the pool."""
    kind, driver, make = POOLS[request.param]
    plain = make_host(request.getfixturevalue(f"{kind}_url"))
    with make(sa.make_url(plain.app.config["SQLALCHEMY_DATABASE_URI"])) as pool:
        options = {"creator": pool.take, "poolclass": sa.NullPool}
        yield make_host(f"{driver}://", create_all=False, SQLALCHEMY_ENGINE_OPTIONS=options), pool


def states(pool: Pooled, dialect: str) -> list[Any]:
    """Return the settings of both connections of a pool."""
    taken = [pool.take(), pool.take()]
    found: list[Any] = []
    for connection in taken:
        with closing(connection.cursor()) as cursor:
            cursor.execute(STATE[dialect])
            found.append(tuple(cursor.fetchone()))
        connection.rollback()
        found.append(getattr(connection, "autocommit", None) is True)
    for connection in taken:
        connection.close()
    return found


def use_everything(host: Host) -> None:
    """Sign in, check, renew, force out and fail, each on connections of the pool."""
    user_id = host.add_user()
    token = host.issue(user_id)
    assert [host.status(token) for _ in range(4)] == [200] * 4
    with host.app.app_context():
        host.sessions.issue(user_id, commit=False)
        host.db.session.rollback()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(host.status, [token] * 8)) == [200] * 8
    host.renew(token)
    host.force_logout(user_id)
    assert host.status(token) == 401
    browser = host.client()
    browser.post("/flask-login", data={"user_id": user_id})
    assert browser.get("/page").status_code == 200
    with host.app.app_context():
        host.sessions.force_logout_everyone()
    assert browser.get("/page").status_code != 200


def add_flask_login(host: Host) -> None:
    """Add a sign-in by ``login_user()``, which is recorded on a separate connection."""

    @host.app.post("/flask-login")
    def flask_login() -> str:
        login_user(host.find_user(request.form["user_id"]))
        return ""


def test_nothing_stays_on_connections_of_a_pool(pooled: tuple[Host, Pooled]) -> None:
    host, pool = pooled
    add_flask_login(host)
    before = states(pool, host.dialect)

    use_everything(host)

    assert states(pool, host.dialect) == before


def test_the_hosts_rollback_undoes_after_a_check(pooled: tuple[Host, Pooled]) -> None:
    host, _ = pooled
    token = host.issue(host.add_user())
    for _ in range(4):
        assert host.status(token) == 200
        with host.app.app_context():
            host.db.engine.dispose()  # the connections of checks go back, too
            host.db.session.add(host.model(username="undone"))
            host.db.session.flush()
            assert host.sessions.verify(token.token)
            host.db.session.rollback()

    assert [row["username"] for row in host.rows("users")] == ["alice"]


def test_a_connection_is_given_back_at_once(pooled: tuple[Host, Pooled]) -> None:
    host, pool = pooled
    token = host.issue(host.add_user())
    assert host.status(token) == 200

    taken = [within(5, pool.take) for _ in range(2)]

    for connection in taken:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLS)
def test_a_connection_that_was_cut_off_serves_no_one(
    request: pytest.FixtureRequest, make_host: MakeHost, name: str
) -> None:
    kind, driver, make = POOLS[name]
    plain = make_host(request.getfixturevalue(f"{kind}_url"))
    with (
        wire_to(plain.app.config["SQLALCHEMY_DATABASE_URI"]) as (wire, through),
        make(sa.make_url(through)) as pool,
    ):
        options = {"creator": pool.take, "poolclass": sa.NullPool}
        host = make_host(
            f"{driver}://",
            create_all=False,
            SQLALCHEMY_ENGINE_OPTIONS=options,
            XGEN_SESSIONS_DEADLINE=1,
            XGEN_SESSIONS_WRITE_DEADLINE=1,
        )
        user_id = host.add_user()
        token = host.issue(user_id)
        assert host.status(token) == 200
        before = states(pool, host.dialect)

        with host.app.app_context():
            host.db.session.execute(sa.select(sa.literal(1)))
            wire.hold_up()
            try:
                assert within(1, lambda: host.status(token)) == 503
                if name != "dbutils":  # which connects anew, and no deadline interrupts that
                    with pytest.raises(LedgerUnavailable):
                        host.sessions.issue(user_id, commit=False)
            finally:
                wire.let_go()

        until(lambda: host.status(token) == 200)
        assert states(pool, host.dialect) == before


@pytest.mark.parametrize("pool_class", [sa.NullPool, sa.QueuePool])
def test_nothing_stays_on_connections_to_a_file(
    make_host: MakeHost, sqlite_url: str, pool_class: type[sa.Pool]
) -> None:
    make_host(sqlite_url)
    path = str(sa.make_url(sqlite_url).database)
    free: list[Lent] = []

    class Lent(sqlite3.Connection):
        def close(self) -> None:
            free.append(self)

    def take() -> Lent:
        if free:
            return free.pop()
        made = sqlite3.connect(path, factory=Lent, isolation_level=None, timeout=1.5)
        assert isinstance(made, Lent)
        everything.append(made)
        return made

    everything: list[Lent] = []
    options = {"creator": take, "poolclass": pool_class}
    host = make_host(sqlite_url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=options)
    add_flask_login(host)
    user_id = host.add_user()
    token = host.issue(user_id)
    assert [host.status(token) for _ in range(3)] == [200] * 3
    browser = host.client()
    browser.post("/flask-login", data={"user_id": user_id})
    host.force_logout(user_id)
    assert host.status(token) == 401
    with host.app.app_context():
        host.db.session.remove()

    for each in everything:
        assert not each.in_transaction
        assert each.isolation_level is None
        assert each.execute("PRAGMA busy_timeout").fetchone() == (1500,)
        sqlite3.Connection.close(each)


def test_one_shared_connection_to_a_file_serves_host_and_plugin(
    make_host: MakeHost, sqlite_url: str
) -> None:
    make_host(sqlite_url)
    shared = sqlite3.connect(str(sa.make_url(sqlite_url).database), check_same_thread=False)
    options = {"creator": lambda: shared}
    host = make_host(sqlite_url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=options)
    token = host.issue(host.add_user())
    assert host.status(token) == 200

    with host.app.app_context():
        host.db.session.add(host.model(username="undone"))
        host.db.session.flush()
        host.sessions.verify(token.token)
        assert shared.in_transaction
        host.db.session.rollback()

    assert [row["username"] for row in host.rows("users")] == ["alice"]
    assert shared.execute("PRAGMA busy_timeout").fetchone() == (5000,)


def test_a_listener_of_the_hosts_may_hand_out_connections(
    make_host: MakeHost, postgresql_url: str
) -> None:
    host = make_host(postgresql_url)
    url = sa.make_url(host.app.config["SQLALCHEMY_DATABASE_URI"])
    with psycopg_pool(url) as pool, host.app.app_context():
        engine = host.db.engine
        before = states(pool, host.dialect)
        sa.event.listen(engine, "do_connect", lambda *_: pool.take())
        engine.dispose()
        token = host.issue(host.add_user())

        assert host.status(token) == 200

        engine.dispose()
        host.app.extensions["xgen_sessions"].denylist.source().pool._close_idle()
        assert states(pool, host.dialect) == before


def test_options_that_a_listener_sets_reach_the_plugins_connections(
    make_host: MakeHost, postgresql_url: str
) -> None:
    host = make_host(postgresql_url)
    token = host.issue(host.add_user())
    assert host.status(token) == 200  # the plugin listens, too
    seen: list[str] = []

    def rename(_: object, __: object, ___: object, options: dict[str, Any]) -> None:
        options["application_name"] = "rotated"
        seen.append("rotated")

    with host.app.app_context():
        sa.event.listen(host.db.engine, "do_connect", rename)
        host.db.engine.dispose()

    assert host.status(token) == 200
    assert seen


def test_a_listener_that_the_host_adds_later_serves_its_own_connections(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)
    host.issue(host.add_user())  # the plugin listens, too
    seen: list[str] = []

    with host.app.app_context():
        engine = host.db.engine
        engine.dispose()
        sa.event.listen(engine, "do_connect", lambda *_: seen.append("rotated"))
        with engine.connect() as connection:
            connection.scalar(sa.select(1))

    assert seen


def test_the_hosts_own_limits_are_in_force_after_a_change_in_its_transaction(
    make_host: MakeHost, postgresql_url: str
) -> None:
    host = make_host(postgresql_url)
    user_id = host.add_user()
    with host.app.app_context():
        session = host.db.session
        session.execute(sa.text("SET LOCAL lock_timeout = 1234"))

        host.sessions.issue(user_id, commit=False)
        assert session.scalar(sa.text("SHOW lock_timeout")) == "1234ms"
        host.sessions.force_logout(user_id, commit=False)
        assert session.scalar(sa.text("SHOW lock_timeout")) == "1234ms"

        session.rollback()
        host.sessions.issue(user_id)
        assert session.scalar(sa.text("SHOW lock_timeout")) == "0"


def test_the_hosts_own_wait_is_in_force_after_a_change(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url)
    user_id = host.add_user()
    wait = sa.text("PRAGMA busy_timeout")
    with host.app.app_context():
        own = host.db.session.scalar(wait)
        host.sessions.issue(user_id)
        assert host.db.session.scalar(wait) == own
        host.sessions.issue(user_id, commit=False)
        assert host.db.session.scalar(wait) == own
        host.db.session.rollback()


def test_an_upgrade_leaves_no_lock_on_a_connection_of_a_pool(mariadb_url: str) -> None:
    with dbutils_pool(sa.make_url(mariadb_url)) as pool:
        engine = sa.create_engine("mysql+pymysql://", creator=pool.take, poolclass=sa.NullPool)

        upgrade(engine)

        with engine.connect() as connection:
            held = sa.text("SELECT is_used_lock('xgen_sessions_upgrade')")
            assert connection.scalar(held) is None
