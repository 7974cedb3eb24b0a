"""Databases, versions and drivers that do not work are refused by name, before any change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.databases import MakeHost, require_service
from tests.support.hosts import Host
from tests.support.server_kinds import PrivateMariaDB
from xgen_flask_sessions import ConfigurationError
from xgen_flask_sessions.store import dialects


def dialect_of(url: str, version: tuple[int, ...] | None = None) -> sa.Dialect:
    """Return the dialect of a URL, without its driver."""
    dialect: sa.Dialect = sa.make_url(url).get_dialect()()
    dialect.server_version_info = version
    return dialect


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("oracle+oracledb://host/name", "Oracle is not supported"),
        ("mssql+pyodbc://host/name", "Microsoft SQL Server is not supported"),
        ("sqlite+aiosqlite:///app.db", "asynchronous driver, aiosqlite.*use pysqlite"),
        ("postgresql+asyncpg://host/name", "asynchronous driver, asyncpg.*use psycopg"),
        ("postgresql+psycopg_async://host/name", "asynchronous driver, psycopg"),
        ("mysql+aiomysql://host/name", "asynchronous driver, aiomysql.*use pymysql"),
        ("mariadb+asyncmy://host/name", "asynchronous driver, asyncmy"),
    ],
)
def test_others_are_refused_by_name(url: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        dialects.require_supported(dialect_of(url))


@pytest.mark.parametrize("name", ["cockroachdb", "redshift", "ydb"])
def test_dialects_of_other_packages_are_refused_by_name(name: str) -> None:
    dialect = dialect_of("postgresql+psycopg://host/name")
    dialect.name = name
    names = {"cockroachdb": "CockroachDB", "redshift": "Amazon Redshift"}

    with pytest.raises(ConfigurationError) as refused:
        dialects.require_supported(dialect)

    assert str(refused.value) == (
        f"{names.get(name, name)} is not supported: the sessions' tables need SQLite 3.35, "
        "PostgreSQL 12 or MariaDB 10.6, or a newer version; change SQLALCHEMY_DATABASE_URI."
    )


@pytest.mark.parametrize(
    ("version", "is_mariadb", "name"),
    [
        ((5, 7, 44), False, "MySQL 5.7.44"),
        ((8, 4, 2), False, "MySQL 8.4.2"),
        ((10, 5, 29), True, "MariaDB 10.5.29"),
        ((10, 6, 0), True, None),
        ((11, 8, 3), True, None),
    ],
)
def test_mysql_and_old_versions_of_mariadb_are_refused(
    version: tuple[int, ...], is_mariadb: bool, name: str | None
) -> None:
    dialect: Any = dialect_of("mysql+pymysql://host/name", version)
    dialect.is_mariadb = is_mariadb

    if name is None:
        dialects.require_supported(dialect)
    else:
        with pytest.raises(ConfigurationError, match=f"{name} is not supported"):
            dialects.require_supported(dialect)


def upgrade_of(host: Host) -> str:
    """Return the message of an upgrade that is refused."""
    result = host.app.test_cli_runner().invoke(args=["xgen-sessions", "upgrade"])
    assert result.exit_code == 1, result.output
    return result.stderr


def assert_refused(host: Host, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Expect that upgrade, doctor and the first use name the database, and change nothing."""
    before = tables_of(host)
    runner = host.app.test_cli_runner()

    assert name in upgrade_of(host)
    examined = runner.invoke(args=["xgen-sessions", "doctor", "--open", "open_to_all"])
    assert examined.exit_code == 1
    assert name in " ".join(examined.stdout.split())
    for _ in range(2):
        assert host.client().post("/sign-in", data={"user_id": "1"}).status_code == 503
    assert name in caplog.text
    assert tables_of(host) == before


def tables_of(host: Host) -> list[str]:
    with host.app.app_context():
        admin = sa.create_engine(host.db.engine.url, poolclass=sa.NullPool)
    if admin.dialect.name == "postgresql":  # the version that it tells is made up
        admin.dialect.__dict__["_get_server_version_info"] = lambda _: (15, 0)
    return sorted(sa.inspect(admin).get_table_names())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CockroachDB CCL v23.1.0 (x86_64-pc-linux-gnu)", "CockroachDB CCL v23.1.0"),
        ("PostgreSQL 8.0.2 on i686-pc-linux-gnu, Redshift 1.0.12103", "PostgreSQL 8.0.2"),
        ("PostgreSQL 11.22 on x86_64-pc-linux-gnu", "PostgreSQL 11.22"),
    ],
)
def test_a_server_that_is_no_postgresql_or_too_old_is_refused(
    make_host: MakeHost, postgresql_url: str, caplog: pytest.LogCaptureFixture, text: str, name: str
) -> None:
    host = make_host(postgresql_url, create_all=False)
    admin = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    told = "CREATE OR REPLACE FUNCTION pg_catalog.version() RETURNS text"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"{told} LANGUAGE sql AS $$ SELECT '{text}' $$")
    try:
        assert_refused(host, name, caplog)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"{told} LANGUAGE internal STABLE AS 'pgsql_version'")
        admin.dispose()


@pytest.fixture(scope="module")
def mysql_url() -> Iterator[str]:
    """Yield the URL of a server that says that it is MySQL."""

    class Disguised(PrivateMariaDB):
        def _command(self) -> list[str]:
            return [*super()._command(), "--version=5.7.10"]

    require_service(Disguised.reason_against())
    server = Disguised()
    server.set_up()
    server.create_database("test_disguised")
    yield sa.make_url(server.admin_url).set(database="test_disguised").render_as_string()
    server.close()


@pytest.mark.slow
def test_a_server_that_is_mysql_is_refused(
    make_host: MakeHost, mysql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert_refused(make_host(mysql_url, create_all=False), "MySQL 5.7.10", caplog)


def test_an_old_sqlite_is_refused_at_the_start(
    make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlite3.dbapi2.sqlite_version_info", (3, 34, 1))

    with pytest.raises(ConfigurationError, match=r"SQLite 3\.34\.1 is not supported"):
        make_host(f"sqlite:///{tmp_path / 'own.db'}")


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("postgresql+psycopg_async://127.0.0.1/none", {}, "asynchronous driver, psycopg"),
        ("sqlite://", {"isolation_level": "AUTOCOMMIT"}, "isolation level AUTOCOMMIT"),
        (
            "sqlite://",
            {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
            "isolation level AUTOCOMMIT",
        ),
    ],
)
def test_the_start_refuses_an_engine_that_cannot_work(
    make_host: MakeHost, url: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_host(url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        ("postgresql", "client_encoding=latin1", "character set LATIN1.*client_encoding=utf8"),
        ("mariadb", "charset=latin1", "character set latin1.*charset=utf8mb4"),
        ("mariadb", "charset=utf8", "character set utf8mb3.*charset=utf8mb4"),
    ],
)
def test_a_connection_that_lacks_letters_is_refused(
    request: pytest.FixtureRequest,
    make_host: MakeHost,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    option: str,
    message: str,
) -> None:
    url = f"{request.getfixturevalue(f'{kind}_url')}?{option}"
    host = make_host(url, create_all=False)

    assert_refused(host, message.partition(".*")[0], caplog)

    assert re.search(message, caplog.text)


@pytest.mark.slow
def test_a_postgresql_database_in_another_encoding_is_refused(
    make_host: MakeHost, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    admin = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"{sa.make_url(postgresql_url).database}_latin"
    with admin.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 "
            "LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    url = (
        sa.make_url(postgresql_url)
        .set(database=name)
        .update_query_dict({"client_encoding": "utf8"})
    )
    host = make_host(url.render_as_string(hide_password=False), create_all=False)
    try:
        assert_refused(host, "character set LATIN1", caplog)
    finally:
        host.dispose()
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


def test_no_database_refuses_old_snapshots_by_default(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)

    with host.app.app_context(), host.db.engine.connect() as connection:
        refuses = dialects.of(connection).refuses_old_snapshots(connection)

    assert not refuses
