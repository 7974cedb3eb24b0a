"""The plugin's migrations, alone and beside a host's own migrations."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from tests.support.databases import MakeHost
from tests.support.hosts import NamedUser
from tests.support.revisions import ALL
from xgen_flask_sessions import ConfigurationError
from xgen_flask_sessions.store.migrate import pending, upgrade
from xgen_flask_sessions.store.tables import (
    TABLES,
    VERSION_TABLE,
    Base,
    UserLogin,
    copy_tables,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

HOST = """
import sys

from flask import Flask
from flask.cli import ScriptInfo
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from xgen_flask_sessions import XgenSessions

app = Flask(__name__)
app.config.update(SECRET_KEY="a secret for tests that is long enough")
app.config["SQLALCHEMY_DATABASE_URI"] = sys.argv[1]
db = SQLAlchemy(app)

class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    username = db.Column(db.String(80), nullable=False)

XgenSessions().init_app(app, db=db, user_model=User)
Migrate(app, db, directory="history")
for line in sys.argv[2:]:
    app.cli.main(line.split(), obj=ScriptInfo(create_app=lambda: app), standalone_mode=False)
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)
    yield engine
    engine.dispose()


def execute(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def table_names(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def names_in(engine: sa.Engine, schema: str) -> set[str]:
    return set(sa.inspect(engine).get_table_names(schema=schema))


def versions(engine: sa.Engine, table: str = VERSION_TABLE) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(f"SELECT version_num FROM {table}")))


def reflect(engine: sa.Engine) -> dict[str, Any]:
    """Return the columns, keys, indexes and options of the tables in the database."""
    inspector = sa.inspect(engine)

    def options_of(name: str) -> Any:
        try:
            return inspector.get_table_options(name)
        except NotImplementedError:  # SQLAlchemy 2.0.31 has them for MariaDB only
            return None

    return {
        name: (
            [{**column, "type": repr(column["type"])} for column in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            sorted(map(_as_text, inspector.get_indexes(name))),
            options_of(name),
        )
        for name in TABLES
    }


def _as_text(index: Any) -> str:
    """Return an index with its condition, which is an object of its own at each reflection."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def config_for(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["connection"] = connection
    return config


def migrate_to(engine: sa.Engine, revision: str) -> None:
    with engine.begin() as connection:
        command.upgrade(config_for(connection), revision)


def create_all(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)


class TestUpgrade:
    def test_creates_the_tables_and_records_the_version(self, engine: sa.Engine) -> None:
        revisions = upgrade(engine)

        assert revisions == ALL
        assert table_names(engine) == {*TABLES, VERSION_TABLE}
        assert versions(engine) == ALL[-1:]

    def test_leaves_nothing_for_autogenerate_to_find(self, engine: sa.Engine) -> None:
        upgrade(engine)

        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
            )
            assert compare_metadata(context, Base.metadata) == []

    def test_creates_the_same_tables_as_create_all(self, engine: sa.Engine) -> None:
        upgrade(engine)
        migrated = reflect(engine)
        execute(engine, *(f"DROP TABLE {name}" for name in TABLES))

        create_all(engine)

        assert reflect(engine) == migrated

    def test_adds_the_row_that_stands_for_everyone(self, engine: sa.Engine) -> None:
        upgrade(engine)

        with engine.connect() as connection:
            rows = connection.execute(sa.select(UserLogin.__table__)).all()
        assert [tuple(row) for row in rows] == [("*", 0, 0, None, None, 0, None, None)]

    def test_does_nothing_the_second_time(self, engine: sa.Engine) -> None:
        upgrade(engine)
        before = reflect(engine)

        revisions = upgrade(engine)

        assert revisions == []
        assert reflect(engine) == before
        assert versions(engine) == ALL[-1:]

    def test_leaves_the_hosts_tables_and_history_alone(self, engine: sa.Engine) -> None:
        execute(
            engine,
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
            "INSERT INTO alembic_version VALUES ('abc')",
            "CREATE TABLE things (id INTEGER)",
        )

        upgrade(engine)

        assert {"alembic_version", "things"} < table_names(engine)
        assert versions(engine, "alembic_version") == ["abc"]

    def test_runs_once_in_processes_that_start_together(self, engine: sa.Engine) -> None:
        url = engine.url.render_as_string(hide_password=False)
        waiting = {"timeout": 60} if engine.dialect.name == "sqlite" else {}
        code = (
            "import sqlalchemy as sa; from xgen_flask_sessions.store.migrate import upgrade; "
            f"print(upgrade(sa.create_engine({url!r}, connect_args={waiting!r})))"
        )

        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        answers = [process.communicate(timeout=180)[0].strip() for process in processes]

        assert sorted(answers) == [str(ALL), "[]", "[]"]

    @pytest.mark.parametrize("url", ["sqlite_url", "postgresql_url"])
    def test_leaves_nothing_behind_when_it_fails(
        self, url: str, request: pytest.FixtureRequest
    ) -> None:
        engine = sa.create_engine(request.getfixturevalue(url))
        taken = "CREATE INDEX ix_xgen_revocations_kind ON things (id)"
        execute(engine, "CREATE TABLE things (id INTEGER)", taken)

        with pytest.raises(sa.exc.DBAPIError, match="ix_xgen_revocations_kind"):
            upgrade(engine)

        assert table_names(engine) == {"things"}
        engine.dispose()

    def test_joins_a_transaction_that_the_host_begins_on_sqlite(
        self, sqlite_engine: sa.Engine
    ) -> None:
        @sa.event.listens_for(sqlite_engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        assert upgrade(sqlite_engine) == ALL
        assert upgrade(sqlite_engine) == []

    def test_leaves_the_hosts_logging_alone(self, sqlite_engine: sa.Engine) -> None:
        own = logging.getLogger("host.own")
        before = (logging.root.level, list(logging.root.handlers))

        upgrade(sqlite_engine)

        assert (logging.root.level, list(logging.root.handlers)) == before
        assert not own.disabled
        assert logging.getLogger("alembic").level == logging.NOTSET

    def test_can_be_downgraded(self, engine: sa.Engine) -> None:
        upgrade(engine)

        with engine.begin() as connection:
            command.downgrade(config_for(connection), "base")

        assert table_names(engine) == {VERSION_TABLE}
        assert upgrade(engine) == ALL

    def test_finds_its_migrations_in_an_installed_wheel(self, tmp_path: Path) -> None:
        ignored = shutil.ignore_patterns("__pycache__")
        installed = tmp_path / "100% site" / "xgen_flask_sessions"
        shutil.copytree(ROOT / "xgen_flask_sessions", installed, ignore=ignored)
        shutil.copytree(ROOT / "migrations", installed / "migrations", ignore=ignored)
        code = (
            "import sqlalchemy as sa; from xgen_flask_sessions.store import migrate; "
            "print(migrate.__file__, migrate.upgrade(sa.create_engine('sqlite://')))"
        )

        answer = subprocess.run(
            [sys.executable, "-c", code],
            cwd=installed.parent, capture_output=True, text=True, check=True,
        )  # fmt: skip

        assert answer.stdout == f"{installed / 'store' / 'migrate.py'} {ALL}\n"

    def test_refuses_the_tables_of_a_newer_release(self, engine: sa.Engine) -> None:
        upgrade(engine)
        execute(engine, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

        with pytest.raises(ConfigurationError, match="version 9999, which this release does not"):
            upgrade(engine)
        with pytest.raises(ConfigurationError, match="version 9999"):
            pending(engine)
        assert versions(engine) == ["9999"]


class TestAdoption:
    def test_records_the_version_of_tables_made_by_create_all(self, engine: sa.Engine) -> None:
        create_all(engine)
        before = reflect(engine)

        revisions = upgrade(engine)

        assert revisions == ALL
        assert versions(engine) == ALL[-1:]
        assert reflect(engine) == before
        assert upgrade(engine) == []

    def test_treats_an_empty_version_table_as_missing(
        self, make_host: MakeHost, database_url: str, engine: sa.Engine
    ) -> None:
        host = make_host(database_url, create_all=False)
        host.create_tables()
        token = host.issue(host.add_user())
        assert versions(engine) == []

        upgrade(engine)

        assert versions(engine) == ALL[-1:]
        assert host.verify(token).session_id == token.session_id

    def test_creates_the_tables_beside_an_empty_version_table(self, engine: sa.Engine) -> None:
        upgrade(engine)
        execute(engine, *(f"DROP TABLE {name}" for name in TABLES), f"DELETE FROM {VERSION_TABLE}")

        revisions = upgrade(engine)

        assert revisions == ALL
        assert set(TABLES) < table_names(engine)

    # "0003" and "0004" leave equal tables, except for the condition of an index on PostgreSQL.
    @pytest.mark.parametrize("revision", sorted({ALL[0], *ALL[3::2], ALL[-1]}))
    def test_continues_from_the_migration_that_leaves_equal_tables(
        self, engine: sa.Engine, revision: str
    ) -> None:
        upgrade(engine)
        newest = reflect(engine)
        execute(engine, *(f"DROP TABLE {name}" for name in (*TABLES, VERSION_TABLE)))
        migrate_to(engine, revision)
        execute(engine, f"DROP TABLE {VERSION_TABLE}")
        assert pending(engine) == (revision != ALL[-1])

        revisions = upgrade(engine)

        assert revisions == ALL
        assert versions(engine) == ALL[-1:]
        assert reflect(engine) == newest
        assert not pending(engine)

    def test_refuses_an_index_of_the_same_name_on_other_columns(self, engine: sa.Engine) -> None:
        migrate_to(engine, "0001")
        name, table = "ix_xgen_user_logins_newest", "xgen_user_logins"
        on = f" ON {table}" if engine.dialect.name not in ("sqlite", "postgresql") else ""
        execute(
            engine,
            f"DROP TABLE {VERSION_TABLE}",
            f"DROP INDEX {name}{on}",
            f"CREATE INDEX {name} ON {table} (last_ip)",
        )

        with pytest.raises(ConfigurationError, match=r"remove index \w+_newest \(last_ip\)"):
            upgrade(engine)

        (index,) = [each for each in sa.inspect(engine).get_indexes(table) if each["name"] == name]
        assert index["column_names"] == ["last_ip"]
        assert VERSION_TABLE not in table_names(engine)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ("DROP TABLE xgen_revocations", "add table xgen_revocations"),
            ("ALTER TABLE xgen_sessions DROP COLUMN ip", "add column xgen_sessions.ip"),
            ("ALTER TABLE xgen_sessions ADD more INTEGER", "remove column xgen_sessions.more"),
            ("CREATE INDEX ix_more ON xgen_sessions (jti)", "remove index ix_more"),
        ],
    )
    def test_refuses_tables_that_differ_and_changes_nothing(
        self, engine: sa.Engine, change: str, complaint: str
    ) -> None:
        create_all(engine)
        execute(engine, change)
        before = sa.MetaData()
        before.reflect(engine)

        with pytest.raises(ConfigurationError, match="nothing was changed") as caught:
            upgrade(engine)

        assert f": {complaint}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert pending(engine)
        after = sa.MetaData()
        after.reflect(engine)
        assert after.tables.keys() == before.tables.keys()
        assert VERSION_TABLE not in after.tables

    def test_refuses_a_narrower_column(self, engine: sa.Engine) -> None:
        create_all(engine)
        execute(
            engine,
            "DROP TABLE xgen_user_logins",
            "CREATE TABLE xgen_user_logins (user_id VARCHAR(20) PRIMARY KEY, "
            "last_issued_us BIGINT NOT NULL, invalid_before_us BIGINT NOT NULL, "
            "last_login_us BIGINT, last_ip VARCHAR(45), active_until_us BIGINT NOT NULL)",
            "CREATE INDEX ix_xgen_user_logins_active ON xgen_user_logins (active_until_us)",
            "CREATE INDEX ix_xgen_user_logins_newest ON xgen_user_logins (last_login_us)",
        )

        with pytest.raises(ConfigurationError, match=r"modify type of xgen_user_logins\.user_id"):
            upgrade(engine)


class TestTranslatedSchema:
    """The schema of a ``schema_translate_map``: migrations change and check its tables only."""

    @pytest.fixture
    def plain(self, postgresql_url: str) -> Iterator[sa.Engine]:
        engine = sa.create_engine(postgresql_url)
        execute(engine, "DROP SCHEMA IF EXISTS apart CASCADE", "CREATE SCHEMA apart")
        yield engine
        engine.dispose()

    @pytest.fixture
    def tenant(self, plain: sa.Engine) -> sa.Engine:
        return plain.execution_options(schema_translate_map={None: "apart"})

    def test_is_upgraded_once_and_can_be_downgraded(
        self, plain: sa.Engine, tenant: sa.Engine
    ) -> None:
        assert pending(tenant)
        assert (upgrade(tenant), upgrade(tenant)) == (ALL, [])
        assert not pending(tenant)
        assert names_in(plain, "apart") == {*TABLES, VERSION_TABLE}
        assert versions(plain, f"apart.{VERSION_TABLE}") == ALL[-1:]

        with tenant.begin() as connection:
            command.downgrade(config_for(connection), "base")

        assert names_in(plain, "apart") == {VERSION_TABLE}
        assert upgrade(tenant) == ALL
        assert table_names(plain) == set()

    def test_is_separate_from_the_default_schema(self, plain: sa.Engine, tenant: sa.Engine) -> None:
        assert upgrade(plain) == ALL
        assert pending(tenant)
        assert upgrade(tenant) == ALL
        execute(plain, "DROP TABLE xgen_feed", f"DELETE FROM {VERSION_TABLE}")
        assert pending(plain)
        assert not pending(tenant)

    @pytest.mark.parametrize("revision", [ALL[0], ALL[-2], ALL[-1]])
    def test_is_adopted_from_any_migration(
        self, plain: sa.Engine, tenant: sa.Engine, revision: str
    ) -> None:
        migrate_to(tenant, revision)
        execute(plain, f"DROP TABLE apart.{VERSION_TABLE}")
        assert pending(tenant) == (revision != ALL[-1])

        assert upgrade(tenant) == ALL

        assert not pending(tenant)
        assert table_names(plain) == set()

    def test_is_refused_with_tables_that_differ(self, plain: sa.Engine, tenant: sa.Engine) -> None:
        create_all(tenant)
        execute(
            plain,
            "ALTER TABLE apart.xgen_sessions DROP COLUMN ip",
            "CREATE TABLE apart.things (id INTEGER)",
        )

        with pytest.raises(ConfigurationError, match=r"take: add column xgen_sessions\.ip\. Do"):
            upgrade(tenant)

        assert pending(tenant)

    @pytest.mark.parametrize("schemas", [{None: "public"}, {None: None}, {"host": "apart"}, {}])
    def test_may_be_the_default_schema(
        self, plain: sa.Engine, schemas: dict[str | None, str | None]
    ) -> None:
        engine = plain.execution_options(schema_translate_map=schemas)

        assert (upgrade(engine), upgrade(engine)) == (ALL, [])
        assert not pending(engine)
        execute(plain, f"DELETE FROM {VERSION_TABLE}")
        assert not pending(engine)
        assert upgrade(engine) == ALL
        assert table_names(plain) == {*TABLES, VERSION_TABLE}


class TestPending:
    def test_is_true_until_the_tables_are_made(self, engine: sa.Engine) -> None:
        assert pending(engine)

        upgrade(engine)

        assert not pending(engine)

    def test_is_false_for_tables_that_the_host_creates(self, engine: sa.Engine) -> None:
        create_all(engine)

        assert not pending(engine)
        assert VERSION_TABLE not in table_names(engine)


class TestHostsOwnHistory:
    """``flask db`` and ``flask xgen-sessions upgrade`` on one database."""

    def test_creates_our_tables_and_upgrade_adopts_them(
        self, engine: sa.Engine, tmp_path: Path
    ) -> None:
        run(engine, tmp_path, "db init", "db migrate -m first", "db upgrade")
        run(engine, tmp_path, "db migrate -m more")

        (migration,) = migrations(tmp_path)
        upward = migration.partition("def downgrade")[0]
        assert "xgen_flask_sessions" not in migration
        assert "drop_" not in upward
        assert all(f"create_table('{name}'" in upward for name in (*TABLES, VERSION_TABLE, "user"))
        assert {*TABLES, VERSION_TABLE, "user", "alembic_version"} == table_names(engine)
        assert not pending(engine)
        made = reflect(engine)
        head = versions(engine, "alembic_version")

        run(engine, tmp_path, "xgen-sessions upgrade")
        run(engine, tmp_path, "db migrate -m again")

        assert versions(engine) == ALL[-1:]
        assert versions(engine, "alembic_version") == head
        assert migrations(tmp_path) == [migration]
        assert reflect(engine) == made
        execute(engine, *(f"DROP TABLE {name}" for name in TABLES))
        create_all(engine)
        assert reflect(engine) == made

    def test_leaves_our_tables_alone_after_upgrade(self, engine: sa.Engine, tmp_path: Path) -> None:
        run(engine, tmp_path, "xgen-sessions upgrade", "db init", "db migrate -m first")

        (migration,) = migrations(tmp_path)
        upward = migration.partition("def downgrade")[0]
        assert "create_table('user'" in upward
        assert "xgen" not in migration
        assert "drop_" not in upward

        run(engine, tmp_path, "db upgrade")
        run(engine, tmp_path, "db migrate -m again", "xgen-sessions upgrade")

        assert migrations(tmp_path) == [migration]
        assert versions(engine) == ALL[-1:]
        assert {*TABLES, VERSION_TABLE, "user", "alembic_version"} == table_names(engine)


def run(engine: sa.Engine, directory: Path, *lines: str) -> None:
    """Run ``flask`` commands of a host application, in a separate process.

    Flask-Migrate sets up logging, which would affect later tests. In one process, only the first
    command that needs its environment may be ``db migrate``, or it writes empty migrations.
    """
    (directory / "host.py").write_text(HOST)
    url = engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "host.py", url, *lines],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def migrations(directory: Path) -> list[str]:
    return [path.read_text() for path in (directory / "history" / "versions").glob("*.py")]


def test_the_schema_of_the_hosts_metadata_is_for_its_own_tables() -> None:
    metadata = sa.MetaData(schema="host")

    copy_tables(metadata)
    copy_tables(metadata)

    assert set(metadata.tables) == {*TABLES, VERSION_TABLE}


ODD_IDS = ["alice", "ALICE", "alic\u00e9", "alice\u0301", "alice ", "\U0001f600", "x" * 255]


def test_migrated_tables_distinguish_users_byte_by_byte(
    make_host: MakeHost, database_url: str, engine: sa.Engine
) -> None:
    upgrade(engine)
    host = make_host(database_url, model=NamedUser, create_all=False)
    NamedUser.metadata.tables["users"].create(engine)
    for number, user in enumerate(ODD_IDS):
        host.add_user(f"user{number}", id=user)
    tokens = {user: host.issue(user) for user in ODD_IDS}

    for user in ODD_IDS:
        assert host.force_logout(user).sessions_ended == 1

        left = [other for other in ODD_IDS if host.status(tokens[other]) == 200]
        assert left == ODD_IDS[ODD_IDS.index(user) + 1 :]
    assert upgrade(engine) == []
    recorded = {row["user_id"] for row in host.rows("xgen_user_logins")}
    assert recorded == {"*", *ODD_IDS}
