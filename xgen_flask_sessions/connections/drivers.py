"""Asks a driver one question at the least cost it can be asked at.

Of a look-up over TCP, most of the time goes into the driver, not into the network or the server.
So the statement is prepared on the server, and of the driver only the part is used that the
answer needs. A file of SQLite is asked whether anything was committed since the last answer. Any
other driver is asked as all drivers are, by a cursor.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

Row = Sequence[Any] | None
Ask = Callable[[str, Any], Row]
"""Runs a statement with its parameters, as compiled for the driver, and returns its first row."""

_PLACEHOLDER: Final = re.compile(r"%\(\w+\)s")
_INTEGERS: Final = frozenset({20, 21, 23})
"""PostgreSQL's type numbers of int8, int2 and int4."""
_MAX_ROWS: Final = 1024
"""That a connection to SQLite keeps: 1 MB at most."""


def schema_options(engine: sa.Engine) -> dict[str, Any]:
    """Return what has a statement compiled with the engine's ``schema_translate_map`` in it."""
    schemas = engine.get_execution_options().get("schema_translate_map")
    if not schemas:
        return {}
    return {"schema_translate_map": schemas, "render_schema_translate": True}


def suited(statement: sa.Select[Any], dialect: sa.Dialect) -> sa.Select[Any]:
    """Return *statement* as :func:`asking` wants it for that dialect.

    PyMySQL reads each column's description in Python: one column, in JSON, is read faster than
    seven. What integers and strings it holds is the same.
    """
    if not _reads_json(dialect):
        return statement
    return statement.with_only_columns(
        sa.func.json_array(*statement.selected_columns), maintain_column_froms=True
    )


def asking(dbapi_connection: Any, dialect: sa.Dialect) -> Ask:
    """Return what asks one connection.

    :param dbapi_connection: The driver's own connection object, in autocommit.
    :param dialect: What the statements are compiled for.
    """
    if dialect.driver == "psycopg" and _may_prepare(dbapi_connection):
        return _Psycopg(dbapi_connection)
    if _reads_json(dialect):
        return _PyMySQL(dbapi_connection)
    if isinstance(dbapi_connection, sqlite3.Connection):
        return KeepingSQLite(dbapi_connection)
    return _Cursor(dbapi_connection)


def _reads_json(dialect: sa.Dialect) -> bool:
    return dialect.driver == "pymysql"


def _may_prepare(connection: Any) -> bool:
    """Say whether a connection of psycopg's may be asked past its cursor.

    Not where the host said that nothing is to be prepared, as behind some poolers; nor where
    gevent has to see each wait.
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


def require_autocommit(connection: Any) -> None:
    """Make sure that a connection is in no transaction of sqlite3's.

    :raises OSError: It is.
    """
    if getattr(connection, "in_transaction", False):  # of sqlite3
        raise OSError("The connection is in a transaction: it would go on to see the past.")


class _Cursor:
    """The way that every driver has."""

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


class KeepingSQLite:
    """Rows read before, as long as nobody has committed anything to the file since.

    That is what ``PRAGMA data_version`` says, for whatever process has committed; asking it takes
    the same locks as a query and reads no page. The connection itself writes nothing.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._version: int | None = None
        self._rows: dict[tuple[str, Any], Row] = {}
        databases = self._execute("PRAGMA database_list").fetchall()
        attached = {name for _, name, _ in databases} - {"main", "temp"}
        self._most = 0 if attached else _MAX_ROWS  # the version tells of "main" only

    def kept(self, sql: str, parameters: Any) -> Row:
        """Return the row that was read before, if it still is as it was; ``None`` otherwise.

        Waits no longer than SQLite's own ``busy_timeout``.
        """
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._rows.clear()
            self._version = version
        return self._rows.get((sql, parameters))

    def __call__(self, sql: str, parameters: Any) -> Row:
        # What was committed since kept() was called makes the version differ the next time.
        row: Row = self._execute(sql, parameters).fetchone()
        require_autocommit(self._connection)
        if row is not None and self._most:
            if len(self._rows) >= self._most:
                self._rows.clear()
            self._rows[sql, parameters] = row
        return row


class _Psycopg:
    """libpq, without psycopg's cursor around it."""

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
        if self._connection.closed:  # has no error code
            raise self._errors.OperationalError(result.error_message.decode(errors="replace"))
        raise self._errors.error_from_result(result, encoding="utf-8")


class _PyMySQL:
    """Statements prepared by SQL, whose one column is JSON."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._prepared: dict[str, str] = {}
        self._plain = _Cursor(connection)

    def __call__(self, sql: str, parameters: Mapping[str, str] | tuple[()]) -> Row:
        if not parameters:
            return self._plain(sql, parameters)
        name = self._prepared.get(sql) or self._prepare(sql)
        (value,) = parameters.values()
        row = self._plain(f"EXECUTE {name} USING {self._connection.escape(value)}", None)
        return None if row is None else json.loads(row[0])

    def _prepare(self, sql: str) -> str:
        name = f"xgen_{len(self._prepared)}"
        text = self._connection.escape(_PLACEHOLDER.sub("?", sql))
        self._plain(f"PREPARE {name} FROM {text}", None)
        self._prepared[sql] = name
        return name
