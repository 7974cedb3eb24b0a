"""How a process notices that the feed has grown, on each database."""

from __future__ import annotations

import select
import threading
import time
import weakref
from typing import Any, Final, Protocol

from ..connections.pool import Connection
from ..runtime import reset_after_fork
from ..store import feed_table
from ..store.dialects.postgresql import CHANNEL

COUNTER_S: Final = 0.01
"""How often SQLite's change counter is looked at, in seconds."""

INTERVAL_S: Final = 0.025
"""How often a database is asked that cannot tell by itself, in seconds."""

_LISTEN_S: Final = 2.0
"""How long it may take to begin to listen, in seconds."""


class Wakeup(Protocol):
    """Waits until the feed may have grown."""

    def wait(self, connection: Connection, seconds: float) -> None:
        """Return when it may have grown, and no later than in *seconds*.

        :param connection: The reader's, which nobody else uses just now.
        """


class ChangeCounter:
    """SQLite counts what other connections have committed (``PRAGMA data_version``)."""

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()

    def wait(self, connection: Connection, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            version = self._count(connection)
            # The first time, something may have been committed before it was looked at.
            if self._seen.get(connection) != version:
                self._seen[connection] = version
                return
            if time.monotonic() >= until:
                return
            time.sleep(COUNTER_S)

    @staticmethod
    def _count(connection: Connection) -> int:
        cursor = connection.dbapi_connection.execute("PRAGMA data_version")
        (version,) = cursor.fetchone()
        cursor.close()
        return int(version)


class Notifications:
    """PostgreSQL tells who listens as soon as a transaction is committed."""

    def __init__(self) -> None:
        self._told: weakref.WeakKeyDictionary[Connection, list[Any]] = weakref.WeakKeyDictionary()
        """What arrived together with the answer to something else: no wait would notice it."""

    def wait(self, connection: Connection, seconds: float) -> None:
        driver = connection.dbapi_connection
        if connection not in self._told:
            connection.execute(f"LISTEN {CHANNEL}", time.monotonic() + _LISTEN_S)
            self._told[connection] = _told(driver)
            return  # it may have grown before
        if not hasattr(driver, "fileno"):
            Interval().wait(connection, seconds)
            return
        told = self._told[connection]
        if not _take(driver) and not told:
            poller = select.poll()
            poller.register(driver.fileno(), select.POLLIN)
            poller.poll(seconds * 1000)
            _take(driver)
        told.clear()


def _told(driver: Any) -> list[Any]:
    """Return the list that a driver adds to what arrives while it waits for an answer."""
    told: list[Any] = []
    if hasattr(driver, "pgconn"):  # psycopg
        driver.add_notify_handler(told.append)
    elif hasattr(driver, "notifies"):  # psycopg2
        told = driver.notifies
    return told


def _take(driver: Any) -> bool:
    """Take what has arrived, without waiting, and say whether anything had.

    :raises Exception: The driver's error: the server is gone.
    """
    if hasattr(driver, "pgconn"):  # psycopg
        driver.pgconn.consume_input()
        taken = False
        while driver.pgconn.notifies():
            taken = True
        return taken
    driver.poll()  # psycopg2
    return bool(driver.notifies)


class Interval:
    """Asks again after a short while, for a database that cannot tell by itself."""

    def wait(self, connection: Connection, seconds: float) -> None:  # noqa: ARG002
        time.sleep(min(seconds, INTERVAL_S))


class Commits:
    """Notices what this process commits; the rest is found when the time is over."""

    def __init__(self) -> None:
        self._reset()
        feed_table.subscribe(self)
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._grown = threading.Event()

    def committed(self, _: feed_table.Change) -> None:
        """Note that the feed has grown."""
        self._grown.set()

    def wait(self, connection: Connection, seconds: float) -> None:  # noqa: ARG002
        self._grown.wait(seconds)
        self._grown.clear()


class ByDatabase:
    """Waits in the way that the database of the connection has.

    :param otherwise: For one that cannot tell by itself.
    """

    def __init__(self, otherwise: Wakeup) -> None:
        self._otherwise = otherwise
        self._own: dict[str, Wakeup] = {"sqlite": ChangeCounter(), "postgresql": Notifications()}

    def wait(self, connection: Connection, seconds: float) -> None:
        """Return when the feed may have grown, and no later than in *seconds*."""
        wake = self._own.get(connection.dialect.name, self._otherwise)
        wake.wait(connection, seconds)
