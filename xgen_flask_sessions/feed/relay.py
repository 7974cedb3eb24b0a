"""The thread that publishes the feed to Redis, in every process of an application with Redis."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from .. import clock
from ..clock import SECOND_US
from ..connections.deadlines import watchdog
from ..connections.side_engines import unpooled_engine
from ..errors import ConfigurationError
from ..runtime import notice_fork, start
from ..store.deployments import find_deployment, forget_deployments, make_deployment
from ..text import cause_of
from .follower import FeedReader, FeedSource, Follower
from .publisher import Publisher
from .redis_stream import SHORTEST_STALENESS_S
from .signed_state import FeedRefused, ForeignFeed, StateSigner
from .snapshot import Snapshot, read_snapshot
from .wakeups import DatabaseWakeup, LocalCommits

_log = logging.getLogger(__name__)

_SNAPSHOT_S = 30.0
"""Seconds that the database may take for a snapshot."""

_DEPLOYMENT_S = 10.0
"""Seconds that the database may take for the deployment's id."""

_REST_S = SHORTEST_STALENESS_S / 4
"""Seconds between two heartbeats at most: often enough for the smallest staleness bound."""


class FeedTaken(ConfigurationError):
    """Redis holds the feed of another deployment, which is never replaced.

    :param foreign: The id of the other deployment.
    :param own: The id of this one.
    :param issuer: The issuer of both.
    """

    def __init__(self, foreign: str, own: str, issuer: str) -> None:
        self.meaning = (
            f"Redis holds the feed of another deployment, {foreign}, under the issuer {issuer!r}. "
            f"This one, {own}, publishes nothing, and its services accept no token."
        )
        self.mend = (
            "Give one of the two another XGEN_SESSIONS_ISSUER, or another Redis by "
            "XGEN_SESSIONS_REDIS_URL. If the other one no longer exists, run: flask xgen-sessions "
            f"remove-feed {foreign}"
        )
        super().__init__(f"{self.meaning} {self.mend}")


class FeedStatus(NamedTuple):
    """The status of a deployment's feed in Redis."""

    deployment: str
    """The deployment's id."""
    fault: str | None
    """A clause that says why the feed cannot be used; ``None`` if it can."""
    is_disputed: bool = False
    """Whether two databases with the deployment's id publish it."""
    age_s: float = 0.0
    """The age of the last heartbeat, in seconds."""


class Relay:
    """Publishes the feed from its first start until the process ends.

    :param redis_url: Redis's URL.
    :param issuer: The deployment's ``iss``.
    :param signer: Signs the feed's state.
    :param find_source: Returns the database; ``None`` for SQLite in memory, which others cannot
        read. Called within an application context.
    :raises ConfigurationError: Redis's driver is not installed, or the URL is invalid.
    """

    def __init__(
        self,
        redis_url: str,
        issuer: str,
        signer: StateSigner,
        find_source: Callable[[], FeedSource | None],
    ) -> None:
        self._issuer = issuer
        self._signer = signer
        # So many processes sign little more often than one.
        recent_us = int(_REST_S * SECOND_US / 2)
        self._make_publisher = partial(
            Publisher, redis_url, issuer, signer, self._in_background, recent_us
        )
        self._publisher = self._make_publisher()
        self._deployment = ""
        self._foreign: str | None = None
        """The deployment whose feed is in Redis instead of this one's."""
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
        self.follower.run(self._require_source())

    def inspect(self) -> FeedStatus:
        """Return the status of this deployment's feed in Redis.

        Call it within an application context.

        :raises FeedTaken: Redis holds the feed of another deployment.
        :raises ConfigurationError: The database is SQLite in memory.
        :raises RedisUnavailable: Redis does not answer.
        """
        deployment = _deployment_of(self._require_source().engine)
        look = self._publisher.look()
        try:
            state = self._signer.open_own(look.text, deployment)
        except FeedRefused as refused:
            return FeedStatus(deployment, str(refused))
        except ForeignFeed as foreign:
            raise FeedTaken(foreign.deployment, deployment, self._issuer) from None
        age_s = (look.now_us - state.heartbeat_us) / SECOND_US
        return FeedStatus(deployment, None, state.is_disputed, age_s)

    def remove(self, deployment: str) -> bool:
        """Delete the feed of a deployment from Redis; return whether it was there.

        :param deployment: The deployment's id.
        :raises RedisUnavailable: Redis does not answer.
        """
        return self._publisher.remove(deployment)

    def _require_source(self) -> FeedSource:
        source = self._find_source()
        if source is None:
            raise ConfigurationError("SQLite in memory has no feed that others could read.")
        return source

    def _in_background(self, work: Callable[[], object]) -> None:
        """Run *work* in a thread, unless the previous one still runs."""
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(
                target=_compact, args=(work,), name="xgen-sessions-compaction", daemon=True
            )
            with contextlib.suppress(OSError):  # no thread can be started now
                start(self._worker)

    def _poll(self, reader: FeedReader) -> None:
        look = self._publisher.look()
        batch = reader.read()
        engine = reader.source.engine
        if batch.resync:  # the database may be another one
            forget_deployments()
            self._deployment = _deployment_of(engine)
        read = partial(_read_snapshot, engine)
        foreign = None
        try:
            self._publisher.publish(look, self._deployment, batch.events, reader.newest, read)
        except ForeignFeed as found:
            foreign = found.deployment
        if foreign != self._foreign:  # log it once
            self._foreign = foreign
            if foreign is None:
                _log.info("Redis has the feed of this deployment again.")
            else:
                _log.error("%s", FeedTaken(foreign, self._deployment, self._issuer))


def _deployment_of(engine: sa.Engine) -> str:
    """Return the deployment's id; make it at the first use."""
    with unpooled_engine(engine).begin() as connection:
        due = time.monotonic() + _DEPLOYMENT_S
        with watchdog.limit(connection.connection, due):
            return find_deployment(connection) or make_deployment(connection)


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
