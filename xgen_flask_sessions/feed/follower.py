"""Reads the feed as it grows, in a thread of its own: what a process learns from, and when."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from ..connections.pool import (
    Connection,
    DeadlinePool,
    leave_to_parent,
    rendered,
)
from ..runtime import has_green_threads, reset_after_fork, start
from ..store import feed_table
from ..store.feed_table import Event
from .wakeups import Wakeup

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
"""How long to wait after a failure before trying again; twice as long after each."""


class Batch(NamedTuple):
    """What was added to the feed since it was read last."""

    resync: bool
    """Whether what was known before counts no more: the feed is another one, or too far on."""
    events: list[Event]


class FeedReader:
    """Reads the feed in the order of the commits, on a connection of its own.

    :param source: Opens connections, and is what the statements are for.
    """

    def __init__(self, source: FeedSource) -> None:
        self.source = source
        self._newest = rendered(feed_table.NEWEST, source.engine)[0]
        self._since, self._parameters = rendered(feed_table.SINCE, source.engine)
        self._connection: Connection | None = None
        self.newest: Event | None = None
        """The last event that was read; ``None`` if there is none in the feed."""
        self._begun = False

    @property
    def connection(self) -> Connection:
        """The connection, opened if it is not there."""
        if self._connection is None:
            self._connection = self.source.pool.open()
        return self._connection

    def read(self) -> Batch:
        """Read what has been added since the last call: all that was committed before this one.

        :raises Exception: One of the pool's ``errors``; the next call tries again.
        """
        try:
            return self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> Batch:
        if not self._begun:
            return self._begin()
        events: list[Event] = []
        while True:
            position = self.newest.position if self.newest else 0
            found = self._fetch(self._since, self._parameters(position))
            is_last_page = len(found) < feed_table.PAGE
            # The one that was read last must still be there, followed by none but its successors.
            if self.newest is not None and (not found or found.pop(0) != self.newest):
                return self._begin()
            if any(event.position != place for place, event in enumerate(found, position + 1)):
                return self._begin()
            if found:
                events += found
                self.newest = found[-1]
            if is_last_page:
                return Batch(False, events)

    def _begin(self) -> Batch:
        newest = self._fetch(self._newest, ())
        self.newest = newest[0] if newest else None
        self._begun = True
        return Batch(True, [])

    def _fetch(self, sql: str, parameters: Any) -> list[Event]:
        due = time.monotonic() + self.source.pool.deadline_s
        return [feed_table.event_of(row) for row in self.connection.fetch_all(sql, parameters, due)]

    def close(self) -> None:
        """Let go of the connection; what was read stays read."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget_connection(self) -> None:
        """Leave the connection to the process that this one was forked from."""
        if self._connection is not None:
            leave_to_parent(self._connection)
            self._connection = None


class FeedSource(Protocol):
    """Where the feed is."""

    @property
    def engine(self) -> sa.Engine: ...
    @property
    def pool(self) -> DeadlinePool: ...


class Follower:
    """A thread that reads the feed at each beat, and between two of them waits for more.

    It is started by :meth:`ensure_running`, ends when it is no longer wanted, and begins anew in
    a forked process, where threads do not come along.

    :param name: Of the thread.
    :param beat: Reads the feed by the reader it is given, and does something with it.
    :param wake: Waits between two beats.
    :param rest_s: For how long at most, in seconds.
    :param is_wanted: Asked after each beat, be it a failed one; when it says no, the thread ends.
    :param on_fork: Called in a forked process, before anything else there.
    """

    def __init__(
        self,
        name: str,
        beat: Callable[[FeedReader], object],
        wake: Wakeup,
        *,
        rest_s: float,
        is_wanted: Callable[[], bool] = lambda: True,
        on_fork: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._beat = beat
        self._wake = wake
        self._rest_s = rest_s
        self._is_wanted = is_wanted
        self._on_fork = on_fork
        self._reset()
        reset_after_fork(self._reset_after_fork)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._refused = False
        self._reader: FeedReader | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread runs in this process."""
        return self._thread is not None and self._thread.is_alive()

    def ensure_running(self, source: FeedSource) -> None:
        """Start the thread if it is not running.

        Where no thread can be started just now, the next call tries again.
        """
        if self.is_running:
            return
        if has_green_threads():
            if not self._refused:  # once, though each request tries
                _log.error("The feed of revocations needs real threads: it is not followed.")
            self._refused = True
            return
        with self._lock:
            if not self.is_running:
                self._stopped = False
                thread = threading.Thread(
                    target=self.run, args=(source,), name=self._name, daemon=True
                )
                try:
                    start(thread)
                except OSError:
                    return
                self._thread = thread

    def stop(self) -> None:
        """Have the thread end, within the rest between two beats at the latest."""
        self._stopped = True

    def run(self, source: FeedSource) -> None:
        """Do in the calling thread what :meth:`ensure_running` starts one for."""
        reader = self._reader = FeedReader(source)
        self._follow(reader)
        reader.close()

    def _follow(self, reader: FeedReader) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._beat(reader)
                if pause_s != _FIRST_PAUSE_S:
                    _log.info("The feed of revocations is read again.")
                pause_s = _FIRST_PAUSE_S
                if self._stopped or not self._is_wanted():
                    return
                self._wake.wait(reader.connection, self._rest_s)
            except Exception as error:
                reader.close()
                if self._stopped or not self._is_wanted():
                    return
                if pause_s == _FIRST_PAUSE_S:  # once, however long it lasts
                    _log.warning("The feed of revocations cannot be read: %s", error)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _reset_after_fork(self) -> None:
        self._on_fork()
        if self._reader is not None:
            self._reader.forget_connection()
        self._reset()
