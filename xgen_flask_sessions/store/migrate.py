"""The plugin's migrations: upgrade its tables, or adopt tables that the host made.

Alembic runs on one connection and in one transaction, with a version table of its own. The host's
tables, history and logging stay unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..connections.opening import (
    closing_on_error,
    explaining_failures,
    limiting_connects,
)
from ..errors import ConfigurationError
from . import commit_hooks, dialects, revocations
from .revocations import Cause
from .tables import TABLES, VERSION_TABLE, Base

try:
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.script.revision import RevisionError
except ImportError as missing:
    raise ConfigurationError(
        f"The migrations need Alembic, which cannot be imported ({missing}); install "
        "xgen-flask-sessions with the extra 'commands': pip install 'xgen-flask-sessions[commands]'"
    ) from missing


def options(connection: sa.Connection) -> dict[str, Any]:
    """Return Alembic's options, restricted to the plugin's tables and their schema."""
    schema = _schema(connection)

    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == schema
        return kind != "table" or (name in TABLES and parents["schema_name"] == schema)

    return {
        "target_metadata": _metadata(schema),
        "version_table": VERSION_TABLE,
        "version_table_schema": schema,
        "include_schemas": schema is not None,
        "include_name": is_ours,
        "compare_type": True,
    }


_IDS_CHANGED: Final = "sessions belong to the primary key from this release on"
ACCOUNTS: Final = "0006"
"""The revision from which on ``user_id`` is the primary key; it was the result of ``get_id()``."""


def upgrade(engine: sa.Engine, *, ids_change: bool = False) -> list[str]:
    """Bring the tables to this release.

    Tables that ``db.create_all()`` or the host's migrations made are adopted if they equal the
    result of one of the plugin's migrations: that version is recorded, and later ones are run.
    Processes that upgrade at the same time take turns.

    :param engine: The database.
    :param ids_change: Whether ``get_id()`` returns another attribute than the primary key: then
        rows from before :data:`ACCOUNTS` are under ids that no force logout finds, so that all
        sessions end with the upgrade.
    :returns: The revisions recorded now, oldest first; empty if the tables were up to date.
    :raises ConfigurationError: The tables equal the result of no migration, or the database is not
        supported; it is unchanged.
    """
    with (
        _connected(engine) as connection,
        connection.begin(),
        dialects.of(connection).lock_out_upgrades(connection),
    ):
        config = _config(connection)
        recorded = _recorded(connection)
        due = _due(config, recorded)
        made_by = recorded
        if due and recorded is None and _present(connection):
            made_by = _find_revision(connection, due)
            command.stamp(config, made_by)
        if due:
            command.upgrade(config, "head")
        if ids_change and made_by is not None and ACCOUNTS in _due(config, made_by):
            _end_all(connection)
    return due


def _end_all(connection: sa.Connection) -> None:
    """End every session, in the transaction of the upgrade."""
    with Session(connection, join_transaction_mode="rollback_only") as session:
        revocations.force_logout_everyone(session, Cause(actor="upgrade", reason=_IDS_CHANGED))
        commit_hooks.take_last_steps(session)


def pending(engine: sa.Engine) -> bool:
    """Return whether :func:`upgrade` has something to do.

    Tables without a recorded version belong to the host's migrations: they are up to date if they
    equal this release's.

    :param engine: The database.
    :raises ConfigurationError: A newer release made the tables, or the database is not supported,
        or names no schema for them.
    """
    with _connected(engine) as connection:
        recorded = _recorded(connection)
        if recorded is None:
            return bool(_differences(connection))
        return bool(_due(_config(connection), recorded))


@contextmanager
def _connected(engine: sa.Engine) -> Iterator[sa.Connection]:
    dialects.require_supported(engine.dialect)
    made: list[Any] = []
    with (
        closing_on_error(made),
        limiting_connects(engine, made=made),
        explaining_failures(engine.dialect),
    ):
        connection = engine.connect()
    with connection:
        # The server's version is known now.
        dialects.require_supported(
            engine.dialect, lambda sql, _: connection.exec_driver_sql(sql).one()
        )
        connection.rollback()
        _require_schema(connection)
        yield connection


def _require_schema(connection: sa.Connection) -> None:
    if _schema(connection) is None and connection.dialect.default_schema_name is None:
        raise ConfigurationError(
            "The database has no default schema for the tables; name a database at the end of "
            "SQLALCHEMY_DATABASE_URI, or a schema that exists in PostgreSQL's search_path."
        )


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _directory() -> Path:
    """Return ``migrations/``: within the package if installed from a wheel, beside it if not."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _recorded(connection: sa.Connection) -> str | None:
    """Return the recorded version, or ``None`` without one."""
    return MigrationContext.configure(connection, opts=options(connection)).get_current_revision()


def _due(config: Config, recorded: str | None) -> list[str]:
    """Return the revisions after *recorded*, oldest first."""
    script = ScriptDirectory.from_config(config)
    try:
        newer = list(script.iterate_revisions("head", recorded or "base"))
    except RevisionError as error:
        raise ConfigurationError(
            f"The tables are at version {recorded}, which this release does not know; "
            "install the release that made them, or a newer one."
        ) from error
    return [script.revision for script in reversed(newer)]


def _present(connection: sa.Connection) -> bool:
    names = sa.inspect(connection).get_table_names(schema=_schema(connection))
    return not set(TABLES).isdisjoint(names)


def _schema(connection: sa.Connection) -> str | None:
    """Return the schema that ``schema_translate_map`` maps the tables to; ``None`` is the default.

    SQLAlchemy translates statements, but not inspections of the schema.
    """
    schemas = connection.get_execution_options().get("schema_translate_map") or {}
    schema: str | None = schemas.get(None)
    return None if schema == connection.dialect.default_schema_name else schema


def _metadata(schema: str | None) -> sa.MetaData:
    if schema is None:
        return Base.metadata
    metadata = sa.MetaData()
    for table in Base.metadata.tables.values():
        table.to_metadata(metadata, schema=schema)
    return metadata


def _find_revision(connection: sa.Connection, revisions: list[str]) -> str:
    """Return the newest of *revisions* whose result equals these tables.

    :raises ConfigurationError: There is none.
    """
    differences = _differences(connection)
    for revision in reversed(revisions):
        if sorted(differences) == sorted(_differences_after(revision)):
            return revision
    raise ConfigurationError(
        "The tables exist without a recorded version and are not this release's, nor an earlier "
        f"one's; nothing was changed. What it would take: {', '.join(differences)}. Do that with "
        "the migrations that made them, then upgrade again."
    )


def _differences_after(revision: str) -> list[str]:
    """Return the differences of new tables after that migration."""
    engine = sa.create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            command.upgrade(_config(connection), revision)
            return _differences(connection)
    finally:
        engine.dispose()


def _differences(connection: sa.Connection) -> list[str]:
    """Describe the changes that would make the tables equal to the models."""
    opts = options(connection)
    context = MigrationContext.configure(connection, opts=opts)
    return list(map(_describe, _flat(compare_metadata(context, opts["target_metadata"]))))


def _flat(differences: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for difference in differences:
        # The changes of one column come as a list of their own.
        yield from difference if isinstance(difference, list) else [difference]


def _describe(difference: tuple[Any, ...]) -> str:
    operation, *what = difference
    if operation.startswith("modify_"):
        _, table, column, _, old, new = what
        return f"{operation.replace('_', ' ')} of {table}.{column} from {old!r} to {new!r}"
    if operation.endswith("_column"):
        _, table, column = what
        return f"{operation.replace('_', ' ')} {table}.{column.name}"
    if operation.endswith("_index"):
        columns = ", ".join(str(column.name) for column in what[0].columns)
        return f"{operation.replace('_', ' ')} {what[0].name} ({columns})"
    return f"{operation.replace('_', ' ')} {what[0].name}"
