"""The databases of this test run, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest
import sqlalchemy as sa

from tests.support.hosts import Account, Host, User, make_app
from xgen_flask_sessions.store.tables import VERSION_TABLE

SERVERS = {
    "postgresql": os.environ.get(
        "XGEN_TEST_POSTGRESQL_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/test"
    ),
    "mariadb": os.environ.get("XGEN_TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1/test"),
}
"""The servers on which a test run creates its databases."""

for _url in SERVERS.values():  # psycopg cannot be imported while freezegun replaces the date
    with suppress(ImportError):
        sa.make_url(_url).get_dialect().import_dbapi()

REDIS = os.environ.get("XGEN_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
"""The Redis in which a test run keeps its keys."""


_OWN_DATABASE = f"xgen_test_{os.getpid()}"


class Database:
    """One database on a server, used by this test run alone.

    :param url: Its URL.
    """

    def __init__(self, url: sa.URL) -> None:
        self.url = url.render_as_string(hide_password=False)
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._postgresql = self._engine.dialect.name == "postgresql"

    def drop_tables(self) -> None:
        """Drop all tables."""
        with self._engine.connect() as connection:
            self._claim(connection)
            if self._postgresql:
                connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            elif tables := self._tables(connection):
                connection.exec_driver_sql(f"DROP TABLE {', '.join(tables)}")

    def delete_rows(self) -> None:
        """Delete all rows and restart the id counters at 1; insert the migrations' rows again."""
        with self._engine.connect() as connection:
            self._claim(connection)
            tables = [name for name in self._tables(connection) if name != VERSION_TABLE]
            if self._postgresql:
                connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
            else:
                for table in tables:
                    connection.exec_driver_sql(f"DELETE FROM {table}")
                for table in connection.scalars(sa.text(_COUNTING)).all():
                    connection.exec_driver_sql(f"ALTER TABLE {table} AUTO_INCREMENT = 1")
            connection.exec_driver_sql(_MIGRATED)

    def shape(self) -> list[Any]:
        """Return the structure of the tables and the migration version, for a comparison."""
        with self._engine.connect() as connection:
            query = _POSTGRESQL_SHAPE if self._postgresql else _MARIADB_SHAPE
            shape: list[Any] = [tuple(row) for row in connection.execute(sa.text(query))]
            if VERSION_TABLE in self._tables(connection):
                version = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")
                shape += connection.scalars(version)
            return shape

    def dispose(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _claim(self, connection: sa.Connection) -> None:
        """Get other connections' locks out of the way: end the connections, or wait longer."""
        if self._postgresql:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        else:
            connection.exec_driver_sql("SET SESSION lock_wait_timeout = 60")
            connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 60")
            connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")

    def _tables(self, connection: sa.Connection) -> list[str]:
        names = sa.inspect(connection).get_table_names()
        return [connection.dialect.identifier_preparer.quote(name) for name in names]


_POSTGRESQL_SHAPE = """
SELECT relname, attname, atttypid, atttypmod, attnotnull,
       (SELECT count(*) FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = 'public'::regnamespace AND attnum > 0 ORDER BY relname, attnum
"""


_MARIADB_SHAPE = """
SELECT table_name, column_name, column_type, is_nullable, column_key
FROM information_schema.columns WHERE table_schema = DATABASE()
UNION ALL SELECT table_name, index_name, column_name, seq_in_index, ''
FROM information_schema.statistics WHERE table_schema = DATABASE()
UNION ALL SELECT event_object_table, trigger_name, '', '', ''
FROM information_schema.triggers WHERE trigger_schema = DATABASE()
ORDER BY 1, 2, 3, 4
"""


_MIGRATED = f"""
INSERT INTO xgen_user_logins (user_id, last_issued_us, invalid_before_us, active_until_us)
SELECT '*', 0, 0, 0 FROM {VERSION_TABLE}
"""


_COUNTING = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = DATABASE() AND auto_increment > 1
"""


class Server:
    """A database server, and this test run's databases on it.

    One database is for tests that start without tables. The others keep their tables from test to
    test and only lose their rows, which takes a fraction of the time.
    """

    def __init__(self, name: str) -> None:
        self._admin = sa.create_engine(
            SERVERS[name], isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self._databases: dict[str, Database] = {}
        self._shapes: dict[str, list[Any]] = {}
        self._ready: set[str] = set()
        self.url = self._database("").url

    def empty(self) -> None:
        """Drop the tables of the database without tables; delete the others' rows on demand."""
        self._database("").drop_tables()
        self._ready.clear()

    def kept(self, kind: str) -> str:
        """Return the URL of the database that keeps the tables of *kind*."""
        return self._database(kind).url

    def provide(self, kind: str, create: Callable[[], object]) -> None:
        """Ensure that the database of *kind* has its tables, without rows at a test's first call.

        :param create: Creates the tables; called if they are missing or have changed.
        """
        if kind in self._ready:
            return
        database = self._database(kind)
        if self._shapes.get(kind) == database.shape():
            database.delete_rows()
        else:
            database.drop_tables()
            create()
            self._shapes[kind] = database.shape()
        self._ready.add(kind)

    def drop(self) -> None:
        """Drop this test run's databases."""
        for database in self._databases.values():
            database.dispose()
            force = " WITH (FORCE)" if self._admin.dialect.name == "postgresql" else ""
            name = sa.make_url(database.url).database
            self._execute(f"DROP DATABASE {name}{force}")

    def _database(self, kind: str) -> Database:
        if kind not in self._databases:
            name = f"{_OWN_DATABASE}_{kind}".rstrip("_")
            self._execute(f"CREATE DATABASE {name}")
            self._databases[kind] = Database(self._admin.url.set(database=name))
        return self._databases[kind]

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


def require_service(reason_against: str | None) -> None:
    """Skip the test if a service is missing; fail it if ``XGEN_TEST_REQUIRE_SERVICES=1`` is set.

    :param reason_against: The reason why the service cannot be used; ``None`` if it can.
    """
    if reason_against is None:
        return
    if os.environ.get("XGEN_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(reason_against)
    pytest.skip(reason_against)


RUNNING: dict[str, Server] = {}
"""The servers in use, by the URL of their database for tests that start without tables."""


@cache
def reason_against_server(name: str) -> str | None:
    """Return the reason why a server cannot be used, or ``None`` if it can."""
    engine = sa.create_engine(SERVERS[name], poolclass=sa.NullPool)
    try:
        engine.connect().close()
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        return f"{name} is not available: {str(error).splitlines()[0]}"
    return None


def reason_against_redis() -> str | None:
    """Return the reason why Redis cannot be used, or ``None`` if it can."""
    import redis

    with redis.Redis.from_url(REDIS) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            return f"Redis is not available: {error}"
    return None


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""A mark for tests that do not depend on the kind of database: they run on SQLite only."""


class MakeHost(Protocol):
    """The type of the fixture ``make_host``."""

    def __call__(
        self, database_url: str, *, model: type[Account] = User, **config: Any
    ) -> Host: ...


_LAID_OUT: dict[type[Account], bytes] = {}
"""For each user model, the bytes of an SQLite database file with empty tables."""


def _tables_of(model: type[Account]) -> bytes:
    """Return the model's entry of :data:`_LAID_OUT`; the first call creates it."""
    if model not in _LAID_OUT:
        with tempfile.TemporaryDirectory() as home:
            file = Path(home) / "test.db"
            make_app(f"sqlite:///{file}", model=model).dispose()
            _LAID_OUT[model] = file.read_bytes()
    return _LAID_OUT[model]


def lay_out(database_url: str, model: type[Account]) -> None:
    """Write an SQLite file with empty tables, if there is no file yet: faster than creating them.

    Any other kind of database is left alone.
    """
    url = sa.make_url(database_url)
    if url.drivername != "sqlite" or not url.database or url.database == ":memory:":
        return
    file = Path(url.database)
    if not url.query and file.is_absolute() and file.parent.is_dir() and not file.exists():
        file.write_bytes(_tables_of(model))
