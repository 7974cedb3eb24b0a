"""Connections of the verifier's own, with a deadline on every call.

They are opened as the host's are, with the same address, options and event listeners, and are
counted nowhere in the host's pool: a request that holds one of the host's connections, or a host
that has run out of them, does not keep a token from being checked.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from .drivers import KeepingSQLite, asking, require_autocommit, schema_options, suited
from .watchdog import start, watchdog

_MAX_IDLE: Final = 64
_MAX_IDLE_S: Final = 60
"""After which a connection is not trusted any more: something between may have forgotten it."""
_MAX_OPENING: Final = 8
"""How many threads may be waiting for a server to take a connection."""
_TURN_S: Final = 0.01
"""How long to wait for a turn to open one before looking for one that was given back."""

_WITH_TIMEOUT: Final = frozenset({"psycopg", "psycopg2", "pymysql"})
"""Drivers that know ``connect_timeout``, in whole seconds."""
_connecting_s: ContextVar[float | None] = ContextVar("xgen_sessions_connecting", default=None)

_pools: weakref.WeakSet[DeadlinePool] = weakref.WeakSet()
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
        if not event.contains(engine, "do_connect", _connect_in_time):
            event.listen(engine, "do_connect", _connect_in_time)
        _pools.add(self)

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
        opened = _Handover()
        thread = threading.Thread(
            target=self._open, args=(opened,), name="xgen-sessions-connect", daemon=True
        )
        try:
            start(thread)
        except OSError:
            self._opening.release()
            raise
        return opened.take(max(0.0, due - time.monotonic()))

    def _open(self, opened: _Handover) -> None:
        disposals = self._disposals
        try:
            connection = self._connect()
        except BaseException as error:
            opened.fail(error)
        else:
            if not opened.give(connection):  # nobody waits for it any more
                self._give_back(connection)
                if disposals != self._disposals:  # and nobody is to come
                    self._close_idle()
        finally:
            self._opening.release()

    def _connect(self) -> Connection:
        dialect = self._engine.dialect
        limited = _connecting_s.set(self.deadline_s)
        try:
            dbapi_connection = open_apart(self._source)
        finally:
            _connecting_s.reset(limited)
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

    def forget(self) -> None:
        """Begin anew in a forked process, which must leave the connections of the other alone."""
        _inherited.extend(self._idle)
        self._idle = deque()
        self._opening = threading.BoundedSemaphore(_MAX_OPENING)


def _connect_in_time(dialect: sa.Dialect, _: object, args: Any, options: Any) -> Any:
    """Have the driver itself give up, where the pool is connecting.

    The thread that connects would else go on for minutes where a network drops everything, and
    keep others from trying: also when the server is back.
    """
    seconds = _connecting_s.get()
    if seconds is None or dialect.driver not in _WITH_TIMEOUT:
        return None
    whole = max(2, math.ceil(seconds))  # libpq takes 1 for 2
    own = options.get("connect_timeout")
    if own is not None and 0 < float(own) < whole:
        return None
    return dialect.connect(*args, **{**options, "connect_timeout": whole})


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


def open_apart(source: sa.Pool) -> Any:
    """Open a connection as a pool would, and keep it out of the pool.

    :returns: The driver's own connection object, in no transaction.
    """
    borrowed = source.connect()
    dbapi_connection: Any = borrowed.dbapi_connection
    borrowed.detach()
    dbapi_connection.commit()  # a listener of the host's may have begun one
    return dbapi_connection


class _Handover:
    """Takes a connection from the thread that opens it to the one that waits, or does not."""

    def __init__(self) -> None:
        self._done = threading.Condition()
        self._result: Connection | BaseException | None = None
        self._given_up = False

    def give(self, connection: Connection) -> bool:
        """Hand it over; return whether somebody still waits."""
        return self._finish(connection)

    def fail(self, error: BaseException) -> None:
        self._finish(error)

    def _finish(self, result: Connection | BaseException) -> bool:
        with self._done:
            self._result = result
            self._done.notify()
            return not self._given_up

    def take(self, seconds: float) -> Connection:
        with self._done:
            self._done.wait_for(lambda: self._result is not None, seconds)
            if self._result is None:
                self._given_up = True
                raise TimeoutError("The database takes no connection in time.")
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result


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


_engines: weakref.WeakKeyDictionary[sa.Engine, sa.Engine] = weakref.WeakKeyDictionary()


def engine_apart(engine: sa.Engine) -> sa.Engine:
    """Return an engine for the same database whose connections are counted in no host's pool.

    They are opened as the host's are, and see whatever was committed before each statement.

    :param engine: The host's.
    """
    apart = _engines.get(engine)
    if apart is None:
        apart = _engine_like(
            engine,
            poolclass=sa.QueuePool,
            pool_size=2,
            max_overflow=-1,  # as many as there are threads that use one at the same time
            pool_pre_ping=True,
        )
        apart = _engines.setdefault(engine, apart)
        event.listen(engine, "engine_disposed", lambda _, own=apart: own.dispose())
    return apart


def engine_without_pool(engine: sa.Engine) -> sa.Engine:
    """Return the like of :func:`engine_apart`, whose connections are closed after their use.

    It leaves the host's engine alone, which another thread may be disposing of.

    :param engine: The host's.
    """
    return _engine_like(engine, poolclass=sa.NullPool)


def _engine_like(engine: sa.Engine, **pooling: Any) -> sa.Engine:
    source = engine.pool.recreate()
    fresh = {} if engine.dialect.name == "sqlite" else {"isolation_level": "READ COMMITTED"}
    return sa.create_engine(
        engine.url,
        creator=lambda: _begin_by_itself(open_apart(source)),
        execution_options=dict(engine.get_execution_options()),
        **pooling,
        **fresh,
    )


def _begin_by_itself(dbapi_connection: Any) -> Any:
    """Have sqlite3 begin transactions by itself, whatever the host has set up for its own."""
    if isinstance(dbapi_connection, sqlite3.Connection):
        if hasattr(dbapi_connection, "autocommit"):  # Python 3.12
            dbapi_connection.autocommit = -1  # LEGACY_TRANSACTION_CONTROL: by isolation_level
        dbapi_connection.isolation_level = "DEFERRED"
    return dbapi_connection


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()
    for engine in list(_engines.values()):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_all)
