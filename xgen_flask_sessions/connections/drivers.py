"""The differences between database drivers: fast look-ups, connection set-up, SQL parameters.

Most of the time of a look-up over TCP is spent in the driver, not in the network or the server. So
the server prepares the statement, and the look-up bypasses the parts of the driver that the answer
does not need. A look-up in an SQLite file first checks whether anything was committed since the
last answer. Any other driver is used through a cursor.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

Row = Sequence[Any] | None
Lookup = Callable[[str, Any], Row]
"""Runs a statement with its parameters, as compiled for the driver, and returns the first row."""
Read = Callable[[Sequence[Any]], Any]
"""Makes a value that does not change of a row."""
MakeParameters = Callable[[Any], Any]
"""Returns the driver's parameters for the one value of a statement."""

_PLACEHOLDER: Final = re.compile(r"%\(\w+\)s")
_INTEGERS: Final = frozenset({20, 21, 23})
"""PostgreSQL's type OIDs of int8, int2 and int4."""
_MAX_ROWS: Final = 1024
"""Rows of which one SQLite connection caches the values, 1 MB at most."""


def schema_options(engine: sa.Engine) -> dict[str, Any]:
    """Return the compile options that apply the engine's ``schema_translate_map``."""
    schemas = engine.get_execution_options().get("schema_translate_map")
    if not schemas:
        return {}
    return {"schema_translate_map": schemas, "render_schema_translate": True}


def compile_statement(statement: sa.Select[Any], engine: sa.Engine) -> tuple[str, MakeParameters]:
    """Compile a statement with at most one parameter for the driver of *engine*.

    :returns: The SQL, and the function that makes the driver's parameters.
    """
    dialect = _with_drivers_parameters(engine.dialect)
    compiled = statement.compile(dialect=dialect, **schema_options(engine))
    if not compiled.params:
        return str(compiled), lambda _: ()
    (name,) = compiled.params
    if compiled.positional:
        return str(compiled), lambda value: (value,)
    return str(compiled), lambda value: {name: value}


def _with_drivers_parameters(dialect: sa.Dialect) -> sa.Dialect:
    """Return the dialect with the driver's parameter style instead of the option ``paramstyle``."""
    style = dialect.loaded_dbapi.paramstyle
    if dialect.paramstyle == style:
        return dialect
    own = copy.copy(dialect)
    own.paramstyle, own.positional = style, style in ("qmark", "format")
    return own


def compile_lookup(statement: sa.Select[Any], engine: sa.Engine) -> tuple[str, MakeParameters]:
    """Compile a statement with one parameter for :func:`fast_lookup`.

    PyMySQL parses the description of each column in Python, so it is given one column in JSON,
    which is read faster than seven. Integers and strings keep their values.

    :returns: The SQL, and the function that makes the driver's parameters.
    """
    if reads_json(engine.dialect):
        statement = statement.with_only_columns(
            sa.func.json_array(*statement.selected_columns), maintain_column_froms=True
        )
    return compile_statement(statement, engine)


def fast_lookup(dbapi_connection: Any, dialect: sa.Dialect) -> Lookup:
    """Return the fastest look-up that the driver of a connection supports.

    :param dbapi_connection: The driver's own connection object, in autocommit mode.
    :param dialect: The dialect that the statements are compiled for.
    """
    if dialect.driver == "psycopg" and _may_prepare(dbapi_connection):
        return _Psycopg(dbapi_connection)
    if reads_json(dialect):
        return _PyMySQL(dbapi_connection)
    if isinstance(dbapi_connection, sqlite3.Connection):
        return CachingSQLite(dbapi_connection)
    return _Cursor(dbapi_connection)


def configure(dbapi_connection: Any, dialect: sa.Dialect, deadline_s: float) -> None:
    """Switch a new connection to autocommit and limit its statements to *deadline_s* seconds.

    A server does not notice that the client gave up, so it is told to cancel the statement itself.
    """
    dialect.set_isolation_level(dbapi_connection, "AUTOCOMMIT")
    if dialect.name == "sqlite":
        _configure_sqlite(dbapi_connection, deadline_s)
    limit = _statement_limit(dialect, dbapi_connection, deadline_s)
    if limit is not None:
        cursor = dbapi_connection.cursor()
        cursor.execute(limit)
        cursor.close()


def _configure_sqlite(dbapi_connection: Any, deadline_s: float) -> None:
    """Switch a file to its write-ahead log, so that readers and the writer work side by side."""
    if hasattr(dbapi_connection, "autocommit"):  # Python 3.12: overrides the isolation level
        dbapi_connection.autocommit = True
    # A read-only file, or one that stays locked, keeps its journal mode.
    dbapi_connection.execute(f"PRAGMA busy_timeout = {int(deadline_s * 250)}").close()
    with contextlib.suppress(dbapi_connection.OperationalError):
        dbapi_connection.execute("PRAGMA journal_mode = WAL").close()
    dbapi_connection.execute(f"PRAGMA busy_timeout = {int(deadline_s * 1000)}").close()


def _statement_limit(dialect: Any, dbapi_connection: Any, seconds: float) -> str | None:
    if dialect.name == "postgresql":
        # A pooler that supports no prepared statements would pass the setting on to other clients.
        if getattr(dbapi_connection, "prepare_threshold", 0) is None:
            return None
        return f"SET statement_timeout = {int(seconds * 1000)}"
    if dialect.name in ("mysql", "mariadb"):
        if dialect.is_mariadb:
            return f"SET SESSION max_statement_time = {seconds}"
        return f"SET SESSION max_execution_time = {int(seconds * 1000)}"
    return None


def require_autocommit(connection: Any) -> None:
    """Raise if a connection of sqlite3 is in a transaction.

    :raises OSError: It is in a transaction.
    """
    if getattr(connection, "in_transaction", False):  # only sqlite3 has it
        raise OSError("The connection is in a transaction and would read an old snapshot.")


def reads_json(dialect: sa.Dialect) -> bool:
    """Return whether :func:`compile_lookup` makes a look-up return one column of JSON."""
    return dialect.driver == "pymysql"


def _may_prepare(connection: Any) -> bool:
    """Return whether a look-up may use libpq directly on a connection of psycopg.

    It may not if the host disabled prepared statements, as behind some poolers, or if gevent has
    to see each wait.
    """
    monkey = sys.modules.get("gevent.monkey")
    patched = monkey is not None and (
        monkey.is_module_patched("select") or monkey.is_module_patched("socket")
    )
    return (
        connection.prepare_threshold is not None
        and connection.info.encoding == "utf-8"
        and not patched
    )


class _Cursor:
    """Looks up with a cursor, as every driver can."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __call__(self, sql: str, parameters: Any) -> Row:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, parameters)
            row: Row = cursor.fetchone()
        finally:
            cursor.close()
        require_autocommit(self._connection)
        return row


class CachingSQLite:
    """Caches what was read in an SQLite file until another connection commits to it.

    ``PRAGMA data_version`` changes with each commit of another connection, in any process. Reading
    it takes the same locks as a query but reads no page. This connection itself never writes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._version: int | None = None
        self._values: dict[tuple[str, Any], Any] = {}
        databases = self._execute("PRAGMA database_list").fetchall()
        attached = {name for _, name, _ in databases} - {"main", "temp"}
        self._max_rows = 0 if attached else _MAX_ROWS  # the version covers only "main"

    def cached(self, sql: str, parameters: Any) -> Any | None:
        """Return the cached value, or ``None`` if there is none or it may be outdated.

        Waits no longer than SQLite's own ``busy_timeout``.
        """
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._values.clear()
            self._version = version
        return self._values.get((sql, parameters))

    def keep(self, sql: str, parameters: Any, value: object) -> None:
        """Cache the value of a row that was read since :meth:`cached` was called."""
        # A commit since then has changed the version, which the next call notices.
        if self._max_rows:
            if len(self._values) >= self._max_rows:
                self._values.clear()
            self._values[sql, parameters] = value

    def __call__(self, sql: str, parameters: Any) -> Row:
        row: Row = self._execute(sql, parameters).fetchone()
        require_autocommit(self._connection)
        return row


class _Psycopg:
    """Looks up with libpq, without psycopg's cursor."""

    def __init__(self, connection: Any) -> None:
        import psycopg

        self._connection = connection
        self._prepared: dict[str, bytes] = {}
        self._pq = psycopg.pq
        self._errors = psycopg.errors

    def __call__(self, sql: str, parameters: Mapping[str, str] | tuple[()]) -> Row:
        name = self._prepared.get(sql) or self._prepare(sql)
        values = [value.encode() for value in parameters.values()] if parameters else None
        result = self._connection.pgconn.exec_prepared(name, values)
        if result.status != self._pq.ExecStatus.TUPLES_OK:
            self._fail(result)
        if result.ntuples == 0:
            return None
        return [self._value(result, column) for column in range(result.nfields)]

    def _prepare(self, sql: str) -> bytes:
        name = f"xgen_{len(self._prepared)}".encode()
        text = _PLACEHOLDER.sub("$1", sql).encode()
        result = self._connection.pgconn.prepare(name, text)
        if result.status != self._pq.ExecStatus.COMMAND_OK:
            self._fail(result)
        self._prepared[sql] = name
        return name

    @staticmethod
    def _value(result: Any, column: int) -> int | str | None:
        value = result.get_value(0, column)
        if value is None:
            return None
        return int(value) if result.ftype(column) in _INTEGERS else value.decode()

    def _fail(self, result: Any) -> None:
        if self._connection.closed:  # the result has no error code
            raise self._errors.OperationalError(result.error_message.decode(errors="replace"))
        raise self._errors.error_from_result(result, encoding="utf-8")


class _PyMySQL:
    """Looks up with ``PREPARE`` and ``EXECUTE``; the one column is JSON."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._prepared: dict[str, str] = {}
        self._cursor = _Cursor(connection)

    def __call__(self, sql: str, parameters: Mapping[str, str] | tuple[()]) -> Row:
        if not parameters:
            return self._cursor(sql, parameters)
        name = self._prepared.get(sql) or self._prepare(sql)
        (value,) = parameters.values()
        row = self._cursor(f"EXECUTE {name} USING {self._connection.escape(value)}", None)
        return None if row is None else json.loads(row[0])

    def _prepare(self, sql: str) -> str:
        name = f"xgen_{len(self._prepared)}"
        text = self._connection.escape(_PLACEHOLDER.sub("?", sql))
        self._cursor(f"PREPARE {name} FROM {text}", None)
        self._prepared[sql] = name
        return name
