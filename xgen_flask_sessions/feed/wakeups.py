"""How a process notices that the feed has grown, on each database."""

from __future__ import annotations

import selectors
import threading
import time
import weakref
from typing import Any, Final, Protocol

from ..connections.pool import Connection
from ..runtime import reset_after_fork
from ..store import feed_table
from ..store.dialects.postgresql import CHANNEL

_COUNTER_S: Final = 0.01
"""Seconds between two reads of SQLite's change counter."""

_INTERVAL_S: Final = 0.025
"""Seconds between two polls of a database without notifications."""

_LISTEN_S: Final = 2.0
"""Seconds that LISTEN may take."""


_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Windows has no poll; elsewhere, select refuses descriptors over 1023."""


class Wakeup(Protocol):
    """Waits until the feed may have grown."""

    def wait(self, connection: Connection, seconds: float) -> None:
        """Return when it may have grown, after *seconds* at the latest.

        :param connection: The reader's connection, which is free.
        """


class ChangeCounter:
    """SQLite: its counter of other connections' commits (``PRAGMA data_version``)."""

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()

    def wait(self, connection: Connection, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            if not connection.is_open:  # it was closed for a fork
                return
            version = connection.data_version()
            # The first time, there may have been a commit before the counter was read.
            if self._seen.get(connection) != version:
                self._seen[connection] = version
                return
            if time.monotonic() >= until:
                return
            time.sleep(_COUNTER_S)


class Notifications:
    """PostgreSQL: LISTEN and NOTIFY."""

    def __init__(self) -> None:
        self._arrived: weakref.WeakKeyDictionary[Connection, list[Any]] = (
            weakref.WeakKeyDictionary()
        )
        """Notifications that arrived with the result of a statement: no wait notices them."""

    def wait(self, connection: Connection, seconds: float) -> None:
        driver = connection.dbapi_connection
        if connection not in self._arrived:
            connection.execute(f"LISTEN {CHANNEL}", time.monotonic() + _LISTEN_S)
            self._arrived[connection] = _notifications(driver)
            return  # it may have grown before LISTEN
        if not hasattr(driver, "fileno"):
            FixedInterval().wait(connection, seconds)
            return
        arrived = self._arrived[connection]
        if not _consume(driver) and not arrived:
            with _Selector() as selector:
                selector.register(driver.fileno(), selectors.EVENT_READ)
                selector.select(seconds)
            _consume(driver)
        arrived.clear()


def _notifications(driver: Any) -> list[Any]:
    """Return the list to which the driver adds notifications that arrive with a result."""
    arrived: list[Any] = []
    if hasattr(driver, "pgconn"):  # psycopg
        driver.add_notify_handler(arrived.append)
    elif hasattr(driver, "notifies"):  # psycopg2
        arrived = driver.notifies
    return arrived


def _consume(driver: Any) -> bool:
    """Consume the notifications that have arrived; return whether there were any.

    :raises Exception: The driver's error: the connection is lost.
    """
    if hasattr(driver, "pgconn"):  # psycopg
        driver.pgconn.consume_input()
        found = False
        while driver.pgconn.notifies():
            found = True
        return found
    driver.poll()  # psycopg2
    return bool(driver.notifies)


class FixedInterval:
    """Other databases: poll at short intervals."""

    def wait(self, connection: Connection, seconds: float) -> None:  # noqa: ARG002
        time.sleep(min(seconds, _INTERVAL_S))


class LocalCommits:
    """Wakes at this process's own commits; others are found after the longest wait."""

    def __init__(self) -> None:
        self._reset()
        feed_table.subscribe(self)
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._grown = threading.Event()

    def committed(self, _: feed_table.Change) -> None:
        """Wake the waiting thread."""
        self._grown.set()

    def wait(self, connection: Connection, seconds: float) -> None:  # noqa: ARG002
        self._grown.wait(seconds)
        self._grown.clear()


class DatabaseWakeup:
    """Chooses the wake-up for the connection's database.

    :param fallback: For databases without notifications.
    """

    def __init__(self, fallback: Wakeup) -> None:
        self._fallback = fallback
        self._by_dialect: dict[str, Wakeup] = {
            "sqlite": ChangeCounter(),
            "postgresql": Notifications(),
        }

    def wait(self, connection: Connection, seconds: float) -> None:
        """Return when the feed may have grown, after *seconds* at the latest."""
        wakeup = self._by_dialect.get(connection.dialect.name, self._fallback)
        if not connection.is_own:  # LISTEN would stay on it
            wakeup = FixedInterval()
        wakeup.wait(connection, seconds)
