"""The thread that publishes the feed to Redis, in every process of an application with Redis."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from .. import clock
from ..connections.deadlines import watchdog
from ..connections.side_engines import unpooled_engine
from ..errors import ConfigurationError
from ..runtime import notice_fork, start
from ..text import cause_of
from .follower import FeedReader, FeedSource, Follower
from .publisher import Publisher
from .redis_stream import SHORTEST_STALENESS_S
from .snapshot import Snapshot, read_snapshot
from .wakeups import DatabaseWakeup, LocalCommits

_log = logging.getLogger(__name__)

_SNAPSHOT_S = 30.0
"""Seconds that the database may take for a snapshot."""

_REST_S = SHORTEST_STALENESS_S / 4
"""Seconds between two heartbeats at most: often enough for the smallest staleness bound."""


class Relay:
    """Publishes the feed from its first start until the process ends.

    :param redis_url: Redis's URL.
    :param issuer: The deployment's ``iss``.
    :param find_source: Returns the database; ``None`` for SQLite in memory, which others cannot
        read. Called within an application context.
    :raises ConfigurationError: Redis's driver is not installed, or the URL is invalid.
    """

    def __init__(
        self, redis_url: str, issuer: str, find_source: Callable[[], FeedSource | None]
    ) -> None:
        self._make_publisher = partial(Publisher, redis_url, issuer, self._in_background)
        self._publisher = self._make_publisher()
        self._worker: threading.Thread | None = None
        self._find_source = find_source
        self.follower = Follower(
            "xgen-sessions-relay",
            self._poll,
            DatabaseWakeup(LocalCommits()),
            rest_s=_REST_S,
            on_fork=self._reset_after_fork,
        )

    def _reset_after_fork(self) -> None:
        self._publisher = self._make_publisher()
        self._worker = None

    def ensure_running(self) -> None:
        """Start the thread, unless it runs; call it within an application context."""
        notice_fork()
        if not self.follower.is_running:
            source = self._find_source()
            if source is not None:  # SQLite in memory has no other reader
                self.follower.ensure_running(source)

    def stop(self) -> None:
        """Stop the thread, until :meth:`ensure_running` is called again."""
        self.follower.stop()

    def run(self) -> None:
        """Publish in the calling thread until the process ends, within an application context.

        :raises ConfigurationError: The database is SQLite in memory.
        """
        source = self._find_source()
        if source is None:
            raise ConfigurationError("SQLite in memory has no feed that others could read.")
        self.follower.run(source)

    def _in_background(self, work: Callable[[], object]) -> None:
        """Run *work* in a thread, unless the previous one still runs."""
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(
                target=_compact, args=(work,), name="xgen-sessions-compaction", daemon=True
            )
            with contextlib.suppress(OSError):  # no thread can be started now
                start(self._worker)

    def _poll(self, reader: FeedReader) -> None:
        asked_us = self._publisher.redis_time_us()
        batch = reader.read()
        read = partial(_read_snapshot, reader.source.engine)
        self._publisher.publish(asked_us, batch.events, reader.newest, read)


def _compact(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:
        _log.warning("The snapshot in Redis cannot be replaced now: %s", cause_of(error))


def _read_snapshot(engine: sa.Engine) -> Snapshot:
    with unpooled_engine(engine).connect() as connection:
        due = time.monotonic() + _SNAPSHOT_S
        with watchdog.limit(connection.connection, due):
            return read_snapshot(connection, clock.now_us())
