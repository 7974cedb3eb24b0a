"""Databases and host applications for every test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import sqlalchemy as sa

from tests.hosts import Account, Host, User, make_app
from tests.private_server import PrivateServer
from tests.private_servers import KINDS
from tests.templates import keep_compiled
from tests.tracing import install_in_turn
from xgen_flask_sessions.connections import redis_client
from xgen_flask_sessions.store.tables import VERSION_TABLE

if TYPE_CHECKING:
    from tests.redis_place import RedisPlace
    from tests.standalone import Center, MakeCenter

SERVERS = {
    "postgresql": os.environ.get(
        "XGEN_TEST_POSTGRESQL_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/test"
    ),
    "mariadb": os.environ.get("XGEN_TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1/test"),
}
"""Where a test run may create a database of its own."""

REDIS = os.environ.get("XGEN_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
"""Where a test run may keep keys of its own."""

_OWN_DATABASE = f"xgen_test_{os.getpid()}"

_LONG = (
    "test_histories.py",
    "test_browser.py",
    "test_crash.py",
    "test_outages.py",
    "test_write_costs.py",
    "test_migrations.py",
    "test_properties.py",
    "test_packaging.py",
    "test_deadlines.py",
    "test_benchmarks.py",
)
"""Files that take long, though they have few tests: begun last, they would go on alone."""

keep_compiled()
install_in_turn()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers to start: they wait for servers and processes half of the time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long."""
    ranks = {name: rank for rank, name in enumerate(_LONG)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(_LONG)))


@pytest.fixture(scope="session", autouse=True)
def patience_with_redis() -> Iterator[None]:
    """Have Redis be waited for longer: on a busy machine it may stand still for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_client, "TIMEOUT_S", 20.0)
        yield


class Database:
    """One database of this test run's own, on a server.

    :param url: Where it is.
    """

    def __init__(self, url: sa.URL) -> None:
        self.url = url.render_as_string(hide_password=False)
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._postgresql = self._engine.dialect.name == "postgresql"

    def drop_tables(self) -> None:
        """Drop whatever the last test left behind."""
        with self._engine.connect() as connection:
            self._claim(connection)
            if self._postgresql:
                connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            elif tables := self._tables(connection):
                connection.exec_driver_sql(f"DROP TABLE {', '.join(tables)}")

    def delete_rows(self) -> None:
        """Delete every row, and count from 1 again; what migrations have put there stays."""
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
        """Return what its tables are like, and which version of migrations, to be compared."""
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
        """Make sure that nobody else holds anything."""
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
    """A database server, with databases of this test run's own.

    One is for tests that begin without any table. The others keep their tables from test to test
    and lose the rows only, which takes a fraction of the time.
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
        """Begin a test: with no tables, and with no rows in the tables that are kept."""
        self._database("").drop_tables()
        self._ready.clear()

    def kept(self, kind: str) -> str:
        """Return the URL of the database that keeps the tables of a kind."""
        return self._database(kind).url

    def provide(self, kind: str, create: Callable[[], object]) -> None:
        """Have the database of a kind hold its tables, without rows at the test's first call.

        :param create: Makes the tables; called if they are not there as it made them.
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
        """Remove this test run's databases."""
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
    """Skip the test if a server it needs is not there; see :func:`server`.

    :param reason_against: Why the server cannot be used; ``None`` if it can.
    """
    if reason_against is None:
        return
    if os.environ.get("XGEN_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(reason_against)
    pytest.skip(reason_against)


_RUNNING: dict[str, Server] = {}
"""The servers in use, by the URL of their database without tables."""


@cache
def _reason_against(name: str) -> str | None:
    """Say why a server cannot be used, or ``None`` if it can."""
    engine = sa.create_engine(SERVERS[name], poolclass=sa.NullPool)
    try:
        engine.connect().close()
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        return f"{name} is not there: {str(error).splitlines()[0]}"
    return None


def reason_against_redis() -> str | None:
    """Say why Redis cannot be used, or ``None`` if it can."""
    import redis

    with redis.Redis.from_url(REDIS) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            return f"Redis is not there: {error}"
    return None


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], Server]]:
    """Give the database server of a name; a test is skipped if it is not there.

    With ``XGEN_TEST_REQUIRE_SERVICES=1`` it fails instead.
    """
    running: dict[str, Server] = {}

    def get(name: str) -> Server:
        require_service(_reason_against(name))
        if name not in running:
            running[name] = Server(name)
            _RUNNING[running[name].url] = running[name]
        return running[name]

    yield get
    for each in running.values():
        each.drop()


@pytest.fixture(scope="session")
def private_servers() -> Iterator[Callable[[str], PrivateServer]]:
    """Give a server of this test run's own, made at the first call, by the kind of database.

    A test is skipped where it cannot be made; see :func:`require_service`.
    """
    running: dict[str, PrivateServer] = {}

    def get(name: str) -> PrivateServer:
        if name not in running:
            require_service(KINDS[name].reason_against())
            running[name] = KINDS[name]()
            running[name].set_up()
        return running[name]

    yield get
    for each in running.values():
        each.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def private_server(
    request: pytest.FixtureRequest, private_servers: Callable[[str], PrivateServer]
) -> Iterator[PrivateServer]:
    """Give a server that the test may stop, pause, fill or make read-only, of each kind in turn."""
    server = private_servers(request.param)
    yield server
    server.restore()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of an empty SQLite database."""
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


@pytest.fixture
def own_redis() -> Iterator[RedisPlace]:
    """Give a deployment of this test's own in Redis, which keeps nothing of it afterwards."""
    from tests.redis_place import redis_place

    require_service(reason_against_redis())
    with redis_place(REDIS) as place:
        yield place


@pytest.fixture
def redis_issuer(own_redis: RedisPlace) -> str:
    """Give that deployment's issuer."""
    return own_redis.issuer


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database, on each supported kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Marks a test of what comes to no database: :func:`database_url` is SQLite's alone."""


class MakeHost(Protocol):
    """Builds a host application whose connections are closed after the test."""

    def __call__(
        self, database_url: str, *, model: type[Account] = User, **config: Any
    ) -> Host: ...


_LAID_OUT: dict[type[Account], bytes] = {}
"""SQLite databases with the empty tables of models."""


def _tables_of(model: type[Account]) -> bytes:
    """Return what is kept of a model in :data:`_LAID_OUT`, made at the first call."""
    if model not in _LAID_OUT:
        with tempfile.TemporaryDirectory() as home:
            file = Path(home) / "test.db"
            make_app(f"sqlite:///{file}", model=model).dispose()
            _LAID_OUT[model] = file.read_bytes()
    return _LAID_OUT[model]


def _lay_out(database_url: str, model: type[Account]) -> None:
    """Copy the tables into an SQLite database that is not there yet; creating them takes longer."""
    url = sa.make_url(database_url)
    if url.drivername != "sqlite" or not url.database or url.database == ":memory:":
        return
    file = Path(url.database)
    if not url.query and file.is_absolute() and file.parent.is_dir() and not file.exists():
        file.write_bytes(_tables_of(model))


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Give :func:`tests.hosts.make_app`, with everything closed after the test.

    In place of an empty database on a server it takes the one there that keeps the model's
    tables, unless ``create_all=False`` says that there are to be none.
    """
    hosts: list[Host] = []

    def make(
        database_url: str, *, model: type[Account] = User, create_all: bool = True, **config: Any
    ) -> Host:
        server = _RUNNING.get(database_url)
        if server is None and create_all:
            _lay_out(database_url, model)
        if server is None or not create_all:
            host = make_app(database_url, model=model, create_all=create_all, **config)
        else:
            kind = model.__name__.lower()
            host = make_app(server.kept(kind), model=model, create_all=False, **config)
            server.provide(kind, host.create_tables)
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
def make(database_url: str, tmp_path: Path) -> Iterator[MakeCenter]:
    """Give what makes an Admin Center that is closed after the test.

    It is on each supported kind of database in turn: as it comes on SQLite in ``tmp_path``,
    elsewhere in the database that keeps its tables.
    """
    from tests.standalone import center_maker  # it takes Flask-Babel, which not every test may

    server = _RUNNING.get(database_url)
    with center_maker(tmp_path / "instance", server) as make:
        yield make


@pytest.fixture
def center(make: MakeCenter) -> Center:
    """Give an Admin Center without anybody but its first SuperUser."""
    return make()
