"""The thread that takes the feed from the database to Redis, in every process that has a Redis."""

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
from ..runtime import start
from .follower import FeedReader, FeedSource, Follower
from .publisher import Publisher
from .redis_stream import SHORTEST_STALENESS_S
from .snapshot import Snapshot, read_snapshot
from .wakeups import ByDatabase, Commits

_log = logging.getLogger(__name__)

_SNAPSHOT_S = 30.0
"""How long the database may take to say all that was revoked, in seconds."""

_REST_S = SHORTEST_STALENESS_S / 4
"""How long after one sign of life the next may come: often enough for every service there is,
whatever the application allows itself."""


class Relay:
    """Relays the feed for as long as the process lives, once it has begun.

    :param redis_url: Where Redis is.
    :param issuer: The deployment's ``iss``.
    :param find_source: Returns the database; ``None`` for SQLite in memory, which others cannot
        read. Called within an application context.
    :raises ConfigurationError: Redis's driver is not installed, or the URL is none.
    """

    def __init__(
        self, redis_url: str, issuer: str, find_source: Callable[[], FeedSource | None]
    ) -> None:
        self._make_relay = partial(Publisher, redis_url, issuer, self._do_aside)
        self._relay = self._make_relay()
        self._aside: threading.Thread | None = None
        self._find_source = find_source
        self.follower = Follower(
            "xgen-sessions-relay",
            self._beat,
            ByDatabase(Commits()),
            rest_s=_REST_S,
            on_fork=self._forget,
        )

    def _forget(self) -> None:
        self._relay = self._make_relay()

    def ensure_running(self) -> None:
        """Begin, if this process has not yet; within an application context."""
        if not self.follower.is_running:
            source = self._find_source()
            if source is not None:  # nobody else could read what is in memory
                self.follower.ensure_running(source)

    def stop(self) -> None:
        """Publisher no more, until :meth:`ensure_running` is called again."""
        self.follower.stop()

    def run(self) -> None:
        """Publisher until the process ends; within an application context.

        :raises ConfigurationError: There is nothing to relay from.
        """
        source = self._find_source()
        if source is None:
            raise ConfigurationError("SQLite in memory is nobody else's: there is no feed to take.")
        self.follower.run(source)

    def _do_aside(self, work: Callable[[], object]) -> None:
        """Do something in a thread of its own, unless there is one that has not ended yet."""
        if self._aside is None or not self._aside.is_alive():
            self._aside = threading.Thread(
                target=_compact, args=(work,), name="xgen-sessions-compaction", daemon=True
            )
            with contextlib.suppress(OSError):  # there can be no more of them just now
                start(self._aside)

    def _beat(self, reader: FeedReader) -> None:
        mark = self._relay.mark()
        batch = reader.read()
        read = partial(_read_snapshot, reader.source.engine)
        self._relay.publish(mark, batch.events, reader.newest, read)


def _compact(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:
        _log.warning("What was revoked cannot be taken to Redis anew, for now: %s", error)


def _read_snapshot(engine: sa.Engine) -> Snapshot:
    with unpooled_engine(engine).connect() as connection:
        due = time.monotonic() + _SNAPSHOT_S
        with watchdog.limit(connection.connection, due):
            return read_snapshot(connection, clock.now_us())
