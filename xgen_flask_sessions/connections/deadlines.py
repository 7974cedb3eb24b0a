"""Deadlines for database calls: a thread breaks the connection of a call that exceeds its own.

A driver waits for the server's answer without a limit. A server that is paused, or behind a
network that drops every packet, never answers. Shutting down the connection's socket ends the wait
at once, with the driver's own error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from ..runtime import notice_fork, reset_after_fork, start
from .wrappers import unwrap

_TICK_S: Final = 0.05
"""Seconds between two checks of the deadlines."""
_IDLE_TICKS: Final = 40
"""Checks without a call after which the thread sleeps until the next call."""


_SOCKETS: Final = tuple(
    map(attrgetter, ("_usock.fileno", "_sock.fileno", "socket.fileno", "_socket.sock.fileno"))
)
"""The sockets of pg8000, PyMySQL, MariaDB's connector and MySQL's connector."""


class HasDriverConnection(Protocol):
    """A wrapper around a driver's connection, such as SQLAlchemy's pooled connection."""

    @property
    def dbapi_connection(self) -> Any:
        """The driver's own connection object; ``None`` once it was returned to its pool."""


class _Call(NamedTuple):
    due: float
    connection: HasDriverConnection
    socket: _Socket | None
    """The socket, where the driver does not tell it during the call."""


class _Socket(NamedTuple):
    descriptor: int
    inode: int


class Watchdog:
    """Watches the calls of one process, in a thread that the first call starts."""

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._calls: dict[object, _Call] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._asleep = False

    @contextmanager
    def limit(self, connection: HasDriverConnection, due: float) -> Iterator[None]:
        """Break a connection if the block has not ended in time.

        Has no effect on a driver that :func:`can_break` does not know.

        :param connection: The connection that the block uses. It is not broken after its return to
            the pool.
        :param due: The deadline, as a value of ``time.monotonic()``.
        """
        notice_fork()
        call = self.begin(connection, due)
        try:
            yield
        finally:
            self.end(call)

    def begin(self, connection: HasDriverConnection, due: float) -> object:
        """Begin to watch a call, as :meth:`limit` does, at less cost.

        :returns: A handle. The caller must pass it to :meth:`end`, also after an error.
        """
        call = object()
        self._calls[call] = _Call(due, connection, _hidden_socket(connection))
        if self._thread is None or self._asleep:
            try:
                self._wake_up()
            except BaseException:
                self.end(call)
                raise
        return call

    def end(self, call: object) -> None:
        """Stop watching a call. After the return, its connection is not broken any more."""
        if self._calls.pop(call, None) is None:
            with self._lock:  # wait until the thread has finished breaking the connection
                pass

    def _wake_up(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(
                        target=self._watch, name="xgen-sessions-watchdog", daemon=True
                    )
                    start(thread)
                    self._thread = thread
        self._wake.set()

    def _watch(self) -> None:
        idle = 0
        while True:
            self._wake.wait(_TICK_S)
            self._wake.clear()
            idle = 0 if self._calls else idle + 1
            if idle > _IDLE_TICKS:
                self._asleep = True
                if not self._calls:  # checked after the flag is set, so that no call is missed
                    self._wake.wait()
                self._asleep = False
                idle = 0
            with self._lock:
                now = time.monotonic()
                for key, call in self._calls.copy().items():
                    # pop() decides between this thread and end(): only one of them gets the call.
                    if call.due <= now and self._calls.pop(key, None) is not None:
                        _break(call)


def can_break(dbapi_connection: Any) -> bool:
    """Return whether deadlines hold for the calls of a driver's connection.

    They do for psycopg, psycopg2, pg8000, PyMySQL, mysqlclient, MariaDB's connector, MySQL's
    connector without its C extension, and sqlite3.
    """
    try:
        driver = unwrap(dbapi_connection)
        return hasattr(driver, "interrupt") or _descriptor(driver) >= 0
    except Exception:
        return False


def _break(call: _Call) -> None:
    """Make the call that another thread is running on a driver's connection fail."""
    # The connection may have been closed, or returned to its pool, a moment ago.
    with contextlib.suppress(Exception):
        dbapi_connection = unwrap(call.connection.dbapi_connection)
        if hasattr(dbapi_connection, "interrupt"):
            dbapi_connection.interrupt()
        elif call.socket is None:
            _shut_down(_descriptor(dbapi_connection))
        elif os.fstat(call.socket.descriptor).st_ino == call.socket.inode:
            _shut_down(call.socket.descriptor)


def _shut_down(descriptor: int) -> None:
    connected = socket.socket(fileno=descriptor)
    try:
        connected.shutdown(socket.SHUT_RDWR)
    finally:
        connected.detach()  # the driver closes it


def _descriptor(dbapi_connection: Any) -> int:
    """Return the file descriptor of a connection's socket.

    :raises Exception: The driver does not tell it.
    """
    fileno = getattr(dbapi_connection, "fileno", None)
    if fileno is None:
        fileno = next(filter(None, (_or_none(find, dbapi_connection) for find in _SOCKETS)))
    return int(fileno())


def _or_none(find: attrgetter[Any], dbapi_connection: Any) -> Any:
    try:
        return find(dbapi_connection)
    except AttributeError:
        return None


def _hidden_socket(connection: HasDriverConnection) -> _Socket | None:
    """Return the socket of mysqlclient, which answers no other thread during a call."""
    driver = unwrap(connection.dbapi_connection)
    if type(driver).__module__ != "MySQLdb.connections":
        return None
    descriptor = driver.fileno()
    return _Socket(descriptor, os.fstat(descriptor).st_ino)


watchdog: Final = Watchdog()
"""The watchdog of this process."""
