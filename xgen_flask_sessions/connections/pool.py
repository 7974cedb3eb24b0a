"""Connections of the verifier's own, with a deadline on every call.

They are opened as the host's are, with the same address, options and event listeners, and are
counted nowhere in the host's pool: a request that holds one of the host's connections, or a host
that has run out of them, does not keep a token from being checked.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from ..runtime import reset_after_fork, start
from .deadlines import watchdog
from .drivers import (
    KeepingSQLite,
    asking,
    require_autocommit,
    schema_options,
    suited,
)
from .opening import limiting_connects, open_unpooled

_MAX_IDLE: Final = 64
_MAX_IDLE_S: Final = 60
"""After which a connection is not trusted any more: something between may have forgotten it."""
_MAX_OPENING: Final = 8
"""How many threads may be waiting for a server to take a connection."""
_TURN_S: Final = 0.01
"""How long to wait for a turn to open one before looking for one that was given back."""

_inherited: list[Connection] = []
"""Connections of the process that this one was forked from: closing one would close it there."""


class Connection:
    """One connection, in autocommit: each statement sees whatever was committed before it.

    :param dbapi_connection: The driver's own connection object.
    :param dialect: What its statements are compiled for.
    """

    def __init__(self, dbapi_connection: Any, dialect: sa.Dialect) -> None:
        self.dbapi_connection = dbapi_connection
        self.dialect = dialect
        self._ask = asking(dbapi_connection, dialect)
        self._kept = self._ask.kept if isinstance(self._ask, KeepingSQLite) else None
        self.used_at = time.monotonic()

    def fetch_one(self, sql: str, parameters: Any, due: float) -> Sequence[Any] | None:
        """Return the first row, or ``None``; raise the driver's error once *due* has passed."""
        if self._kept is not None:
            row = self._kept(sql, parameters)
            if row is not None:
                return row
        call = watchdog.begin(self, due)
        try:
            return self._ask(sql, parameters)
        finally:
            watchdog.end(call)

    def fetch_all(self, sql: str, parameters: Any, due: float) -> Sequence[Sequence[Any]]:
        """Return all rows; raise the driver's error once *due* has passed."""
        with (
            watchdog.limit(self, due),
            contextlib.closing(self.dbapi_connection.cursor()) as cursor,
        ):
            cursor.execute(sql, parameters)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
        require_autocommit(self.dbapi_connection)
        return rows

    def execute(self, sql: str, due: float) -> None:
        """Run a statement that returns nothing; raise the driver's error once *due* has passed."""
        with (
            watchdog.limit(self, due),
            contextlib.closing(self.dbapi_connection.cursor()) as cursor,
        ):
            cursor.execute(sql)

    def is_lost(self, error: BaseException, dialect: sa.Dialect) -> bool:
        """Say whether *error* means that the server has let go of it."""
        errors = dialect.loaded_dbapi.Error
        return isinstance(error, errors) and dialect.is_disconnect(
            error, self.dbapi_connection, None
        )

    def close(self) -> None:
        """Close it, whatever state it is in."""
        with contextlib.suppress(Exception):
            self.dbapi_connection.close()


class DeadlinePool:
    """Lends connections to one database, last in first out.

    :param engine: The host's engine for it.
    :param deadline_s: How many seconds a call may take, opening a connection included.
    """

    def __init__(self, engine: sa.Engine, deadline_s: float) -> None:
        self._engine = engine
        self._source = engine.pool.recreate()
        self.deadline_s = deadline_s
        """How many seconds a call may take."""
        self._longest_s = deadline_s + _MAX_IDLE_S
        self._idle: deque[Connection] = deque()
        self._opening = threading.BoundedSemaphore(_MAX_OPENING)
        dbapi = engine.dialect.loaded_dbapi
        self.errors: tuple[type[Exception], ...] = (dbapi.Error, SQLAlchemyError, OSError)
        """What a call raises if the database cannot be used."""
        self._disposals = 0
        event.listen(engine, "engine_disposed", self._dispose)
        reset_after_fork(self._reset_after_fork)

    def fetch_one(self, sql: str, parameters: Any = ()) -> Sequence[Any] | None:
        """Run a statement and return its first row, or ``None``.

        A connection that broke while it was idle, as when the server was restarted, is replaced;
        the host's idle ones are let go of as well.

        :param sql: The statement, in the driver's parameter style.
        :raises Exception: One of :attr:`errors`: the database cannot be used, or not in time.
        """
        now = time.monotonic()
        due = now + self.deadline_s
        while True:
            connection, idle = self._take(due)
            try:
                row = connection.fetch_one(sql, parameters, due)
            except BaseException as error:
                lost = connection.is_lost(error, self._engine.dialect)
                connection.close()
                if not idle or not isinstance(error, self.errors):
                    raise
                self._close_idle()  # they are as old
                if lost:  # and so are the host's, which would fail one after the other
                    self._engine.dispose()
                if time.monotonic() >= due:
                    raise
            else:
                connection.used_at = now
                self._give_back(connection)
                return row

    def open(self) -> Connection:
        """Open a connection that the caller keeps, and closes.

        :raises Exception: One of :attr:`errors`: the database cannot be used, or not in time.
        """
        due = time.monotonic() + self.deadline_s
        if not self._opening.acquire(timeout=self.deadline_s):
            raise TimeoutError("The database takes no connections in time.")
        return self._open_in_time(due)

    def _take(self, due: float) -> tuple[Connection, bool]:
        """Return a connection, and whether it was idle before."""
        while True:
            while self._idle:
                try:
                    connection = self._idle.pop()
                except IndexError:  # another thread took it
                    break
                if connection.used_at >= due - self._longest_s:
                    return connection, True
                connection.close()
            if self._opening.acquire(timeout=_TURN_S):
                return self._open_in_time(due), False
            if time.monotonic() >= due:
                raise TimeoutError("The database takes no connections in time.")

    def _open_in_time(self, due: float) -> Connection:
        """Open a connection in a thread of its own: of that wait, no driver lets go."""
        opened: Future[Connection] = Future()
        thread = threading.Thread(
            target=self._open, args=(opened,), name="xgen-sessions-connect", daemon=True
        )
        try:
            start(thread)
        except OSError:
            self._opening.release()
            raise
        try:
            return opened.result(max(0.0, due - time.monotonic()))
        except TimeoutError:
            if not opened.cancel():  # it ended just now, or the driver raised the error
                return opened.result()
            raise TimeoutError("The database takes no connection in time.") from None

    def _open(self, opened: Future[Connection]) -> None:
        disposals = self._disposals
        try:
            connection = self._connect()
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # the caller gave up
                opened.set_exception(error)
        else:
            try:
                opened.set_result(connection)
            except InvalidStateError:  # the caller gave up
                self._give_back(connection)
                if disposals != self._disposals:  # the engine has been disposed of since
                    self._close_idle()
        finally:
            self._opening.release()

    def _connect(self) -> Connection:
        dialect = self._engine.dialect
        with limiting_connects(self._engine, timeout_s=self.deadline_s):
            dbapi_connection = open_unpooled(self._source)
        dialect.set_isolation_level(dbapi_connection, "AUTOCOMMIT")
        if dialect.name == "sqlite":
            _tune_sqlite(dbapi_connection, self.deadline_s)
        limit = _statement_limit(dialect, dbapi_connection, self.deadline_s)
        if limit is not None:
            cursor = dbapi_connection.cursor()
            cursor.execute(limit)
            cursor.close()
        return Connection(dbapi_connection, dialect)

    def _give_back(self, connection: Connection) -> None:
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _dispose(self, _: object) -> None:
        self._disposals += 1  # first: what is being opened just now is not to stay idle
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def _reset_after_fork(self) -> None:
        """Leave the connections to the parent process, which still uses them."""
        _inherited.extend(self._idle)
        self._idle = deque()
        self._opening = threading.BoundedSemaphore(_MAX_OPENING)


def _statement_limit(dialect: Any, dbapi_connection: Any, seconds: float) -> str | None:
    """Return what makes a server give up by itself: it does not notice that nobody waits."""
    if dialect.name == "postgresql":
        # Behind a pooler that takes no prepared statements, another would get the connection next.
        if getattr(dbapi_connection, "prepare_threshold", 0) is None:
            return None
        return f"SET statement_timeout = {int(seconds * 1000)}"
    if dialect.name in ("mysql", "mariadb"):
        if dialect.is_mariadb:
            return f"SET SESSION max_statement_time = {seconds}"
        return f"SET SESSION max_execution_time = {int(seconds * 1000)}"
    return None


def leave_to_parent(connection: Connection) -> None:
    """Keep a connection of the process that this one was forked from, and never close it."""
    _inherited.append(connection)


def compiled(statement: sa.Select[Any], engine: sa.Engine) -> tuple[str, Callable[[Any], Any]]:
    """Return a statement with one parameter as a :class:`DeadlinePool` of that engine takes it.

    :param engine: What it is for; its ``schema_translate_map`` counts.
    :returns: The SQL, and what makes the driver's parameters of the one value.
    """
    return rendered(suited(statement, engine.dialect), engine)


def rendered(statement: sa.Select[Any], engine: sa.Engine) -> tuple[str, Callable[[Any], Any]]:
    """Return a statement with one parameter, or none, as the driver takes it.

    :param engine: What it is for; its ``schema_translate_map`` counts.
    :returns: The SQL, and what makes the driver's parameters of the one value.
    """
    made = statement.compile(dialect=engine.dialect, **schema_options(engine))
    if not made.params:
        return str(made), lambda _: ()
    (name,) = made.params
    if made.positional:
        return str(made), lambda value: (value,)
    return str(made), lambda value: {name: value}


def _tune_sqlite(dbapi_connection: Any, deadline_s: float) -> None:
    """Let readers and the writer of a file work side by side (write-ahead log; it stays so)."""
    if hasattr(dbapi_connection, "autocommit"):  # Python 3.12: over the isolation level
        dbapi_connection.autocommit = True
    # A file that is read-only, or being read or written for long, is read as it is.
    dbapi_connection.execute(f"PRAGMA busy_timeout = {int(deadline_s * 250)}").close()
    with contextlib.suppress(dbapi_connection.OperationalError):
        dbapi_connection.execute("PRAGMA journal_mode = WAL").close()
    dbapi_connection.execute(f"PRAGMA busy_timeout = {int(deadline_s * 1000)}").close()
