"""Databases and host applications for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import sqlalchemy as sa

from tests.hosts import Account, Host, User, make_app

if TYPE_CHECKING:
    from tests.standalone import Center, MakeCenter

SERVERS = {
    "postgresql": os.environ.get(
        "XGEN_TEST_POSTGRESQL_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/test"
    ),
    "mariadb": os.environ.get("XGEN_TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1/test"),
}
"""Where a test run may create a database of its own."""

_OWN_DATABASE = f"xgen_test_{os.getpid()}"


class Server:
    """A database server, with one database of this test run's own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._admin = sa.create_engine(
            SERVERS[name], isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self._execute(f"CREATE DATABASE {_OWN_DATABASE}")
        self.url = self._admin.url.set(database=_OWN_DATABASE).render_as_string(hide_password=False)
        self._own = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)

    def empty(self) -> None:
        """Drop whatever the last test left behind."""
        with self._own.connect() as connection:
            if self._name == "postgresql":
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                return
            tables = ", ".join(f"`{name}`" for name in sa.inspect(connection).get_table_names())
            if tables:
                connection.exec_driver_sql("SET SESSION lock_wait_timeout = 5")
                connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
                connection.exec_driver_sql(f"DROP TABLE {tables}")

    def drop(self) -> None:
        """Remove this test run's database."""
        self._own.dispose()
        force = " WITH (FORCE)" if self._name == "postgresql" else ""
        self._execute(f"DROP DATABASE {_OWN_DATABASE}{force}")

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


@cache
def _reason_against(name: str) -> str | None:
    """Say why a server cannot be used, or ``None`` if it can."""
    engine = sa.create_engine(SERVERS[name], poolclass=sa.NullPool)
    try:
        engine.connect().close()
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        return f"{name} is not there: {str(error).splitlines()[0]}"
    return None


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], Server]]:
    """Give the database server of a name; a test is skipped if it is not there.

    With ``XGEN_TEST_REQUIRE_SERVICES=1`` it fails instead.
    """
    running: dict[str, Server] = {}

    def get(name: str) -> Server:
        reason = _reason_against(name)
        if reason is not None:
            if os.environ.get("XGEN_TEST_REQUIRE_SERVICES") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        if name not in running:
            running[name] = Server(name)
        return running[name]

    yield get
    for each in running.values():
        each.drop()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of an empty SQLite database, for tests that need just any database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def postgresql_url(server: Callable[[str], Server]) -> str:
    """Give the URL of an empty PostgreSQL database."""
    own = server("postgresql")
    own.empty()
    return own.url


@pytest.fixture
def mariadb_url(server: Callable[[str], Server]) -> str:
    """Give the URL of an empty MariaDB database."""
    own = server("mariadb")
    own.empty()
    return own.url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database, on each supported kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


class MakeHost(Protocol):
    """Builds a host application whose connections are closed after the test."""

    def __call__(
        self, database_url: str, *, model: type[Account] = User, **config: Any
    ) -> Host: ...


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Give :func:`tests.hosts.make_app`, with everything closed after the test."""
    hosts: list[Host] = []

    def make(database_url: str, *, model: type[Account] = User, **config: Any) -> Host:
        host = make_app(database_url, model=model, **config)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.dispose()


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    """Give a host application, on each supported kind of database in turn."""
    return make_host(database_url)


@pytest.fixture
def sqlite_host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Give a host application, for tests that need just any database."""
    return make_host(sqlite_url)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeCenter]:
    """Give what makes an Admin Center in ``tmp_path`` that is closed after the test."""
    from tests.standalone import center_maker  # it takes Flask-Babel, which not every test may

    with center_maker(tmp_path / "instance") as make:
        yield make


@pytest.fixture
def center(make: MakeCenter) -> Center:
    """Give an Admin Center on a fresh SQLite database."""
    return make()
