"""A pool of connections for checking tokens, with a deadline on every call.

They are opened as the host's are, with the same address, options and event listeners, but they do
not count in the host's pool. So a token can be checked although the host's pool is exhausted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from .. import runtime
from ..errors import UnsupportedDatabase
from ..runtime import notice_fork, reset_after_fork, start
from .borrowed import BorrowedReader, give_back
from .deadlines import can_break, watchdog
from .drivers import CachingSQLite, Read, configure, fast_lookup, reads_json, require_autocommit
from .engine_guard import keep_for_parent, leave_to_parent
from .opening import ConnectionSource, Opened, closing_on_error
from .sqlite_files import OpenFile, UnusableFile, WriteAheadLog

_log = logging.getLogger(__name__)

_MAX_IDLE: Final = 64
_MAX_IDLE_S: Final = 60
"""Seconds after which an idle connection is closed: a firewall may have dropped it."""
_MAX_OPENING: Final = 8
"""Connections that may be opening at the same time."""
_TURN_S: Final = 0.01
"""Seconds to wait for a turn to open a connection before checking for a returned one."""
_EXIT_S: Final = 1.0
"""Seconds that a checkpoint at the exit may take."""
_LOG_S: Final = 0.05
"""Seconds between two checks of whether an SQLite file's write-ahead log is still there."""
_PAUSE_S: Final = 0.001
"""Seconds between two checks of whether the connections in use were returned."""


class Connection:
    """One connection in autocommit mode: each statement sees all data committed before it.

    :param dbapi_connection: The driver's own connection object.
    :param dialect: The dialect that statements are compiled for.
    :param file: The file that it has open, with SQLite.
    :param is_own: Whether it may be configured. One that the host handed out is in no autocommit
        mode; each read is a transaction of its own.
    :param is_shared: Whether the host uses it at the same time; it stays open.
    """

    def __init__(
        self,
        dbapi_connection: Any,
        dialect: sa.Dialect,
        file: OpenFile | None = None,
        *,
        is_own: bool = True,
        is_shared: bool = False,
    ) -> None:
        self.dbapi_connection = dbapi_connection
        self.dialect = dialect
        self.file = file
        self.is_own = is_own
        self._is_shared = is_shared
        self.log: WriteAheadLog | None = None
        """The write-ahead log, with SQLite."""
        self._log_due = 0.0
        self.is_open = True
        self.is_kept = False
        """Whether it is not of the pool: its user keeps it, and :attr:`in_use` tells when."""
        self.in_use = threading.RLock()
        self._borrowed = BorrowedReader(dbapi_connection, in_json=reads_json(dialect))
        self._lookup = fast_lookup(dbapi_connection, dialect) if is_own else self._borrowed
        self._cache = self._lookup if isinstance(self._lookup, CachingSQLite) else None
        self.used_at = time.monotonic()

    def fetch_one(self, sql: str, parameters: Any, due: float, read: Read = tuple) -> Any | None:
        """Return the first row's value, or ``None``; raise the driver's error after *due*."""
        if self.file is not None:
            self.file.require_current()
            if due >= self._log_due and self.log is not None:
                self.log.require_current()
                self._log_due = due + _LOG_S
        cache = self._cache
        if cache is not None:
            value = cache.cached(sql, parameters)
            if value is not None:
                return value
        call = watchdog.begin(self, due)
        try:
            row = self._lookup(sql, parameters)
        finally:
            watchdog.end(call)
        if row is None:
            return None
        value = read(row)
        if cache is not None:
            cache.keep(sql, parameters, value)
        return value

    def fetch_all(self, sql: str, parameters: Any, due: float) -> Sequence[Sequence[Any]]:
        """Return all rows; raise the driver's error once *due* has passed."""
        if not self.is_own:
            with self._usable(), watchdog.limit(self, due):
                return self._borrowed.fetch_all(sql, parameters)
        with (
            self._usable(),
            watchdog.limit(self, due),
            contextlib.closing(self.dbapi_connection.cursor()) as cursor,
        ):
            cursor.execute(sql, parameters)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
        require_autocommit(self.dbapi_connection)
        return rows

    def execute(self, sql: str, due: float) -> None:
        """Run a statement without a result; raise the driver's error once *due* has passed."""
        with (
            self._usable(),
            watchdog.limit(self, due),
            contextlib.closing(self.dbapi_connection.cursor()) as cursor,
        ):
            cursor.execute(sql)

    def data_version(self) -> int:
        """Return SQLite's counter of other connections' commits."""
        with self._usable():
            cursor = self.dbapi_connection.execute("PRAGMA data_version")
            (version,) = cursor.fetchone()
            cursor.close()
        return int(version)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        with self.in_use:
            if not self.is_open:
                raise UnusableFile("The connection was closed for a fork.")
            if self.file is not None:
                self.file.require_usable()
            if self.log is not None:
                self.log.require_current()
            yield

    def is_lost(self, error: BaseException, dialect: sa.Dialect) -> bool:
        """Return whether *error* means that no connection to the database can be used."""
        if isinstance(error, UnusableFile):
            return True
        errors = dialect.loaded_dbapi.Error
        return isinstance(error, errors) and dialect.is_disconnect(
            error, self.dbapi_connection, None
        )

    def close_unless_used(self, seconds: float) -> None:
        """Close a connection that its user keeps, once no statement runs on it.

        :param seconds: The longest wait.
        """
        if self.in_use.acquire(timeout=seconds):
            try:
                self.close()
            finally:
                self.in_use.release()

    def leave_to_parent(self) -> None:
        """Leave the connection to the parent process, in a forked child."""
        if not self.is_open:
            return
        self.is_open = False
        if self.in_use.acquire(blocking=False):
            leave_to_parent(self.dbapi_connection, self.file)
        else:  # it was in use at the fork
            keep_for_parent(self)

    def close(self) -> None:
        """Close the connection and ignore errors."""
        self.is_open = False
        if self._is_shared:
            return
        with contextlib.suppress(Exception):
            give_back(self.dbapi_connection)


class DeadlinePool:
    """Lends connections to one database, last in first out.

    :param engine: The host's engine.
    :param deadline_s: Seconds that a call may take, including the opening of a connection.
    :param check: Called with the dialect of each new connection and, until one is in use, a
        function that reads a row on it; raises ``UnsupportedDatabase`` for a server that cannot be
        used.
    """

    def __init__(
        self,
        engine: sa.Engine,
        deadline_s: float,
        check: Callable[[sa.Dialect, BorrowedReader | None], object] = lambda *_: None,
    ) -> None:
        self._engine = engine
        self._check = check
        self._is_checked = False
        self._warned = False
        self._source = ConnectionSource(engine)
        self._guard = self._source.guard
        self._is_sqlite = engine.dialect.name == "sqlite"
        # SQLite's may belong to the thread that opened them.
        self._keeps_borrowed = not (self._is_sqlite or isinstance(engine.pool, sa.NullPool))
        self.deadline_s = deadline_s
        """Seconds that a call may take."""
        self._longest_s = deadline_s + _MAX_IDLE_S
        self._idle: deque[Connection] = deque()
        self._opening = threading.BoundedSemaphore(_MAX_OPENING)
        dbapi = engine.dialect.loaded_dbapi
        self.errors: tuple[type[Exception], ...] = (
            dbapi.Error,
            SQLAlchemyError,
            OSError,
            UnsupportedDatabase,
        )
        """Errors treated as "database unavailable"."""
        self._disposals = 0
        self._live: weakref.WeakSet[Connection] = weakref.WeakSet()
        """All connections, with SQLite."""
        self._turns_held = 0
        _pools.add(self)
        event.listen(engine, "engine_disposed", self._dispose)
        reset_after_fork(self._reset_after_fork)

    def fetch_one(self, sql: str, parameters: Any = (), read: Read = tuple) -> Any | None:
        """Run a statement and return the value of its first row, or ``None``.

        A connection that broke while it was idle, as after a restart of the server, is replaced;
        the host's idle connections are closed, too.

        :param sql: The statement, in the driver's parameter style.
        :param read: Makes the value, which may be cached; one for each statement.
        :raises Exception: One of :attr:`errors`: the database does not answer in time.
        """
        notice_fork()
        now = time.monotonic()
        due = now + self.deadline_s
        while True:
            connection, idle = self._take(due)
            try:
                value = connection.fetch_one(sql, parameters, due, read)
            except BaseException as error:
                lost = connection.is_lost(error, self._engine.dialect)
                self._discard(connection)
                if not idle or not isinstance(error, self.errors):
                    raise
                self._close_idle()  # they are as old as this one
                if lost:  # the host's connections would fail one after the other
                    self._guard.dispose()
                if time.monotonic() >= due:
                    raise
            else:
                connection.used_at = now
                self._give_back(connection)
                return value

    def open(self) -> Connection:
        """Open a connection that the caller keeps and closes.

        :raises Exception: One of :attr:`errors`: the database does not answer in time.
        """
        notice_fork()
        if runtime.is_exiting:
            raise OSError("The process ends.")
        due = time.monotonic() + self.deadline_s
        if not self._opening.acquire(timeout=self.deadline_s):
            raise TimeoutError("The database takes no connections in time.")
        connection = self._open_in_time(due)
        connection.is_kept = True
        return connection

    def _take(self, due: float) -> tuple[Connection, bool]:
        """Return a connection, and whether it was in the pool before."""
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
        """Open a connection in a thread of its own: no deadline interrupts that wait."""
        if self._is_sqlite and self._source.is_foreign:
            try:
                return self._connect()
            finally:
                self._opening.release()
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
        try:
            opened = self._source.open(timeout_s=self.deadline_s)
            with closing_on_error([opened.dbapi_connection]):
                reader = BorrowedReader(opened.dbapi_connection, in_json=False)
                self._check(dialect, None if self._is_checked else reader)
                self._is_checked = True
                if opened.is_own:
                    configure(opened.dbapi_connection, dialect, self.deadline_s)
                connection = self._wrap(opened, dialect)
        except UnsupportedDatabase as error:
            self._warn("%s", error)
            raise
        if not can_break(opened.dbapi_connection):
            self._warn(
                "The driver %s cannot be interrupted: while the database is silent, calls hang.",
                dialect.driver,
            )
        return connection

    def _wrap(self, opened: Opened, dialect: sa.Dialect) -> Connection:
        file = self._guard.file
        open_file = None if file is None else file.opened(opened.dbapi_connection)
        connection = Connection(
            opened.dbapi_connection,
            dialect,
            open_file,
            is_own=opened.is_own,
            is_shared=opened.is_shared,
        )
        if file is not None and open_file is not None:
            connection.log = file.note_log(opened.dbapi_connection)
            self._live.add(connection)
        return connection

    def _warn(self, message: str, about: object) -> None:
        """Log a warning once."""
        if not self._warned:
            self._warned = True
            _log.warning(message, about)

    def _give_back(self, connection: Connection) -> None:
        is_kept = connection.is_own or self._keeps_borrowed
        if is_kept and len(self._idle) < _MAX_IDLE and not self._turns_held:
            self._idle.append(connection)
        else:
            connection.close()

    def _discard(self, connection: Connection) -> None:
        """Close a broken connection; the pool that it came from may wait for the server then."""
        if connection.is_own or self._is_sqlite:
            connection.close()
            return
        closing = threading.Thread(target=connection.close, name="xgen-sessions-close", daemon=True)
        try:
            start(closing)
        except OSError:
            connection.close()

    def _dispose(self, _: object) -> None:
        notice_fork()
        self._disposals += 1  # first, so that a connection that is being opened is closed
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def checkpoint(self) -> None:
        """Copy an SQLite file's write-ahead log into it, although others may have it open.

        Of a server's processes, one may end without Python's exit, and so without closing the file,
        as multiprocessing's forked children do.
        """
        file = self._guard.file
        if file is not None and file.has_log:
            with contextlib.suppress(IndexError, *self.errors):
                connection = self._idle.pop() if self._idle else self._connect()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)", time.monotonic() + _EXIT_S)
                self._give_back(connection)

    def close_files(self, due: float) -> None:
        """Close all connections to a file of SQLite, and open none before :meth:`reopen`.

        :param due: The end of the wait for those in use, as a value of ``time.monotonic()``.
        """
        if not self._guard.has_file:
            return
        while self._turns_held < _MAX_OPENING:
            if not self._opening.acquire(timeout=max(0.0, due - time.monotonic())):
                break
            self._turns_held += 1
        while True:
            self._close_idle()
            used = [each for each in list(self._live) if each.is_open]
            for each in used:
                if each.is_kept:
                    each.close_unless_used(max(0.0, due - time.monotonic()))
            if not used or time.monotonic() >= due:
                return
            time.sleep(_PAUSE_S)

    def reopen(self) -> None:
        """Let connections be opened again after :meth:`close_files`."""
        while self._turns_held:
            self._turns_held -= 1
            self._opening.release()

    def _reset_after_fork(self) -> None:
        """Leave the connections to the parent process, which still uses them."""
        for connection in [*self._idle, *(each for each in self._live if each.is_kept)]:
            connection.leave_to_parent()
        self._idle = deque()
        self._live = weakref.WeakSet()
        self._turns_held = 0
        self._opening = threading.BoundedSemaphore(_MAX_OPENING)


_pools: Final[weakref.WeakSet[DeadlinePool]] = weakref.WeakSet()


def all_pools() -> list[DeadlinePool]:
    """Return the pools of this process."""
    return list(_pools)
