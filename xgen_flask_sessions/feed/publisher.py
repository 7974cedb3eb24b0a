"""Publishes the feed from the database to Redis, for services without the database.

Every process of the application may do so at the same time: a process appends only events that the
stream does not have, and a read that is too old appends none. Each step is one Lua script, so that
no reader sees half of it. The database is authoritative: if Redis has lost the feed, or its feed
does not continue into the database's, a new one replaces it.

:mod:`.redis_stream` describes the keys.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ..changes import KEPT, Event
from ..clock import SECOND_US
from .redis_stream import (
    CHANGES_PER_CHUNK,
    EVENTS_PER_CALL,
    Keys,
    RedisUnavailable,
    connect,
    event_values,
    pack,
    translated_errors,
)
from .snapshot import ORIGIN, Snapshot

COMPACT_AFTER_US: Final = 3600 * SECOND_US
"""Time after which a new snapshot, without changes that no longer matter, replaces the old one."""

COMPACT_AFTER_EVENTS: Final = KEPT // 2
"""Number of events after which it does so: the stream must reach back to the snapshot."""

_PAUSE_S: Final = 1.0
"""Seconds for which calls fail at once after Redis did not answer, instead of waiting for it."""

_MAX_RECENT: Final = 2000

_LOCK_MS: Final = 5000
_DRAFT_S: Final = 60


class _Reply(NamedTuple):
    """The reply of ``publish.lua``, which documents it."""

    status: str
    epoch: str
    position: int
    made_us: int
    snapshot_position: int


class Publisher:
    """Copies the database's feed to Redis. Not thread-safe.

    Each call takes a fraction of a second, or raises :class:`RedisUnavailable`; for a second after
    such an error, calls fail at once.

    :param redis_url: Redis's URL.
    :param issuer: The deployment's ``iss``.
    :param background: Runs work for which no heartbeat must wait, at once or in another thread. It
        may skip the work while earlier work is running.
    :raises ConfigurationError: The driver is not installed, or the URL is invalid.
    """

    def __init__(
        self,
        redis_url: str,
        issuer: str,
        background: Callable[[Callable[[], object]], object] = lambda work: work(),
    ) -> None:
        self._keys = Keys.of(issuer)
        self._background = background
        self._redis = connect(redis_url)
        self._publish = self._redis.register_script(_script("publish.lua"))
        self._install = self._redis.register_script(_script("install.lua"))
        self._recent: list[Event] = []
        """The last events that were read, without a gap."""
        self._published = 0
        self._gap_at: int | None = None
        self._down_until = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def redis_time_us(self) -> int:
        """Return Redis's time in microseconds, for :meth:`publish`; call it before reading.

        :raises RedisUnavailable: Redis does not answer.
        """
        with self._redis_calls():
            seconds, micros = self._redis.time()
        return int(seconds) * SECOND_US + int(micros)

    def publish(
        self,
        asked_us: int,
        events: Sequence[Event],
        newest: Event | None,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        """Append the events that Redis does not have, and write the heartbeat *asked_us*.

        :param asked_us: The result of :meth:`redis_time_us` before the database was read.
        :param events: The events read since the *newest* of the previous call, or since an earlier
            one; empty after a resync.
        :param newest: The newest event read; ``None`` if the feed has none.
        :param snapshot: Reads a snapshot. It is called if Redis has no feed that continues into
            this one, and for each compaction.
        :raises RedisUnavailable: Redis does not answer. The events are kept for the next call.
        """
        self._remember(events, newest or ORIGIN)
        with self._redis_calls():
            reply = self._send(asked_us)
        if reply.status == "gap" and reply.position != self._gap_at:
            # Another process may be about to fill the gap.
            self._gap_at = reply.position
            return
        self._gap_at = None
        if reply.status in ("missing", "diverged", "gap"):
            self._replace(asked_us, reply, snapshot, history=uuid.uuid4().hex)
        elif reply.status == "ok" and self._is_compaction_due(asked_us, reply):
            # The stream may grow meanwhile; install.lua allows for that.
            self._background(lambda: self._replace(asked_us, reply, snapshot, history=""))

    def _remember(self, events: Sequence[Event], newest: Event) -> None:
        recent = self._recent
        for event in events:
            if recent and event.position != recent[-1].position + 1:
                at = event.position - recent[0].position
                if 0 <= at < len(recent) and recent[at] == event:
                    continue
                recent.clear()
            recent.append(event)
        if not recent or recent[-1] != newest:
            recent[:] = [newest]
        del recent[:-_MAX_RECENT]

    def _send(self, asked_us: int) -> _Reply:
        """Append the missing events, a page at a time."""
        recent = self._recent
        at = min(max(self._published - recent[0].position, 0), len(recent) - 1)
        while True:
            page = recent[at : at + EVENTS_PER_CALL + 1]
            is_last = at + len(page) == len(recent)
            reply = self._send_page(asked_us, page, is_last)
            self._published = reply.position
            behind = reply.position - recent[0].position
            if reply.status == "gap" and 0 <= behind < at:
                at = behind
            elif reply.status == "ok" and not is_last:
                at = min(max(behind, at + 1), len(recent) - 1)
            else:
                return reply

    def _send_page(self, asked_us: int, page: Sequence[Event], is_last: bool) -> _Reply:
        newest = self._recent[-1]
        values = [value for event in page for value in event_values(event)]
        status, epoch, *numbers = self._publish(
            keys=self._keys[:3],
            args=[asked_us, newest.position, newest.id, int(is_last), KEPT, *values],
        )
        return _Reply(status, epoch, *map(int, numbers))

    @staticmethod
    def _is_compaction_due(asked_us: int, reply: _Reply) -> bool:
        return (
            asked_us - reply.made_us >= COMPACT_AFTER_US
            or reply.position - reply.snapshot_position >= COMPACT_AFTER_EVENTS
        )

    def _replace(
        self, asked_us: int, reply: _Reply, snapshot: Callable[[], Snapshot], history: str
    ) -> None:
        """Install a new snapshot, and with a *history* also a new stream.

        The lock only prevents many processes from reading a snapshot at the same time; correctness
        does not depend on it.
        """
        with self._redis_calls():
            if not self._redis.set(self._keys.lock, "1", nx=True, px=_LOCK_MS):
                return
        installed = False
        try:
            found = snapshot()
            with self._redis_calls():
                installed = self._put(asked_us, reply.epoch, found, history)
        finally:
            # If events arrive too fast for a snapshot to fit, the lock delays the next attempt.
            if installed or history:
                with contextlib.suppress(RedisUnavailable), self._redis_calls():
                    self._redis.delete(self._keys.lock)

    def _put(self, asked_us: int, expected: str, found: Snapshot, history: str) -> bool:
        epoch = uuid.uuid4().hex
        draft = f"{self._keys.snapshot}:{epoch}"
        chunks = 0
        while not chunks or chunks * CHANGES_PER_CHUNK < len(found.changes):
            first = chunks * CHANGES_PER_CHUNK
            self._redis.rpush(draft, pack(found.changes[first : first + CHANGES_PER_CHUNK]))
            if not chunks:
                self._redis.expire(draft, _DRAFT_S)
            chunks += 1
        return bool(
            self._install(
                keys=[*self._keys[:3], draft],
                args=[expected, epoch, history, asked_us, found.position, found.id, chunks],
            )
        )

    @contextlib.contextmanager
    def _redis_calls(self) -> Iterator[None]:
        if time.monotonic() < self._down_until:
            raise RedisUnavailable("Redis could not be used a moment ago.")
        try:
            with translated_errors():
                yield
        except RedisUnavailable:
            self._down_until = time.monotonic() + _PAUSE_S
            raise


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
