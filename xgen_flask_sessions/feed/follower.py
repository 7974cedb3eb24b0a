"""Reads the feed as it grows, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from .. import runtime
from ..connections.drivers import compile_statement
from ..connections.pool import Connection, DeadlinePool
from ..connections.sqlite_files import OpenFile
from ..runtime import has_green_threads, notice_fork, reset_after_fork, start
from ..store import feed_table
from ..store.feed_table import Event
from ..text import cause_of
from .wakeups import Wakeup

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
"""Seconds to wait before a retry: doubled after each failure."""


class Batch(NamedTuple):
    """The events appended since the last read."""

    resync: bool
    """Whether all earlier knowledge is invalid: the feed is another one, or too far ahead."""
    events: list[Event]


class FeedReader:
    """Reads the feed in the order of the commits, on a connection of its own.

    :param source: The database.
    """

    def __init__(self, source: FeedSource) -> None:
        self.source = source
        self._newest = compile_statement(feed_table.NEWEST, source.engine)[0]
        self._since, self._parameters = compile_statement(feed_table.SINCE, source.engine)
        self._connection: Connection | None = None
        self._file: OpenFile | None = None
        self.newest: Event | None = None
        """The last event that was read; ``None`` if the feed has none."""
        self._started = False

    @property
    def connection(self) -> Connection:
        """The connection, opened at the first use and after a fork."""
        if self._connection is None or not self._connection.is_open:
            self._connection = self.source.pool.open()
            if self._connection.file != self._file:  # another file: rows without events differ, too
                self._started = False
                self._file = self._connection.file
        return self._connection

    def read(self) -> Batch:
        """Read the events since the last call: all that were committed before this one.

        :raises Exception: One of the pool's ``errors``; the next call tries again.
        """
        try:
            return self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> Batch:
        _ = self.connection  # a new one may be to another file
        if not self._started:
            return self._resync()
        events: list[Event] = []
        while True:
            position = self.newest.position if self.newest else 0
            found = self._fetch(self._since, self._parameters(position))
            is_last_page = len(found) < feed_table.PAGE
            # The last event must still be there, followed by its successors only.
            if self.newest is not None and (not found or found.pop(0) != self.newest):
                return self._resync()
            if any(event.position != place for place, event in enumerate(found, position + 1)):
                return self._resync()
            if found:
                events += found
                self.newest = found[-1]
            if is_last_page:
                return Batch(False, events)

    def _resync(self) -> Batch:
        newest = self._fetch(self._newest, ())
        self.newest = newest[0] if newest else None
        self._started = True
        return Batch(True, [])

    def _fetch(self, sql: str, parameters: Any) -> list[Event]:
        due = time.monotonic() + self.source.pool.deadline_s
        return [feed_table.event_of(row) for row in self.connection.fetch_all(sql, parameters, due)]

    def close(self) -> None:
        """Close the connection and keep the position."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget_connection(self) -> None:
        """Leave the connection to the parent process."""
        if self._connection is not None:
            self._connection.leave_to_parent()
            self._connection = None


class FeedSource(Protocol):
    """The database that holds the feed."""

    @property
    def engine(self) -> sa.Engine: ...
    @property
    def pool(self) -> DeadlinePool: ...


class Follower:
    """A thread that polls the feed and waits between two polls until it may have grown.

    :meth:`ensure_running` starts it, in a forked process again. It ends when it is not wanted.

    :param name: The thread's name.
    :param poll: Reads the feed with the given reader and uses the result.
    :param wakeup: Waits between two polls.
    :param rest_s: The longest wait, in seconds.
    :param is_wanted: Called after each poll, also a failed one; the thread ends if it is false.
    :param on_fork: Called first in a forked process.
    """

    def __init__(
        self,
        name: str,
        poll: Callable[[FeedReader], object],
        wakeup: Wakeup,
        *,
        rest_s: float,
        is_wanted: Callable[[], bool] = lambda: True,
        on_fork: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._poll = poll
        self._wakeup = wakeup
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
        """Start the thread unless it runs; if it cannot be started, the next call retries."""
        notice_fork()
        if self.is_running:
            return
        if has_green_threads():
            if not self._refused:  # log it once, though each request tries
                _log.error("The feed needs real threads, so it is not followed here.")
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
        """Make the thread end after the current wait."""
        self._stopped = True

    def run(self, source: FeedSource) -> None:
        """Follow the feed in the calling thread."""
        reader = self._reader = FeedReader(source)
        self._follow(reader)
        reader.close()

    def _follow(self, reader: FeedReader) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._poll(reader)
                if pause_s != _FIRST_PAUSE_S:
                    _log.info("The feed can be read again.")
                pause_s = _FIRST_PAUSE_S
                if self._must_end():
                    return
                self._wakeup.wait(reader.connection, self._rest_s)
            except Exception as error:
                reader.close()
                if self._must_end():
                    return
                if pause_s == _FIRST_PAUSE_S:  # log it once
                    _log.warning("The feed cannot be read: %s", cause_of(error))
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _must_end(self) -> bool:
        return self._stopped or runtime.is_exiting or not self._is_wanted()

    def _reset_after_fork(self) -> None:
        self._on_fork()
        if self._reader is not None:
            self._reader.forget_connection()
        self._reset()
