"""The feed of revocations as it is in Redis: its keys, its form, and how it is read.

Three keys, whose names share a hash tag, so that a cluster keeps them on one server:

``meta``
    A hash. ``history`` names the run of positions, and is another one after a flush or a restored
    database. ``epoch`` names the snapshot. ``position`` and ``id`` are the last event's,
    ``snapshot_position`` and ``snapshot_id`` the one's that the snapshot was read at.
    ``heartbeat``: all that was committed before it, by Redis's clock, is in the stream.
    ``changed`` and ``made``: when the stream grew last, and when the snapshot was installed.
``snapshot``
    A list of JSON arrays, each of up to :data:`CHUNK` changes: what was revoked before, as far as
    it can still matter.
``stream``
    The events, each by the id ``<position>-1``. The first is no event but where a history begins,
    so that a stream that is whole never is empty.

To read takes no right to write: ``MULTI`` and reading commands do, without any script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from ..changes import Change, Event, EventKind
from ..errors import ConfigurationError

TIMEOUT_S: Final = 0.5
"""How long Redis may take to connect or to answer; a wait for news comes on top."""

SHORTEST_STALENESS_S: Final = 0.5
"""How little a service may allow a revocation to go unheard of, in seconds."""

CHUNK: Final = 1000
"""Changes in one part of a snapshot."""

PAGE: Final = 1000
"""Events that are read at once."""

_CHUNKS_AT_ONCE: Final = 10
_LONGEST_WAIT_MS: Final = 400  # a client whose timeout is TIMEOUT_S takes no longer wait
_META: Final = ("history", "epoch", "position", "heartbeat")
_SNAPSHOT: Final = ("history", "epoch", "snapshot_position", "snapshot_id")


class RedisUnavailable(Exception):
    """Redis cannot be used just now."""


class Keys(NamedTuple):
    """Where an issuer's feed is."""

    meta: str
    stream: str
    snapshot: str
    lock: str

    @classmethod
    def of(cls, issuer: str) -> Keys:
        """Return the keys of the deployment whose tokens have this ``iss``."""
        # Neither braces, which would end the tag, nor what a pattern is made of.
        tag = f"xgen_sessions:{{{quote(issuer, safe=':/@')}}}"
        return cls(*(f"{tag}:{name}" for name in cls._fields))


def connect(redis_url: str) -> Any:
    """Return a client that waits for nothing longer than :data:`TIMEOUT_S`.

    :raises ConfigurationError: The driver is not installed, or the URL is none.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise ConfigurationError(
            "The feed in Redis needs a driver that is not installed; install xgen-flask-sessions "
            "with the extra 'redis': pip install 'xgen-flask-sessions[redis]'"
        ) from error
    try:
        return redis.Redis.from_url(
            redis_url,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # once: an idle connection may have been closed
        )
    except ValueError:
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            "The feed's Redis must be a URL such as 'redis://host:6379/0'."
        ) from None


@contextmanager
def failing_as_unavailable() -> Iterator[None]:
    """Raise :class:`RedisUnavailable` for whatever Redis or its driver fails with."""
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis cannot be used: {error}") from error


def pack(changes: Sequence[Change]) -> str:
    """Return changes as a part of a snapshot."""
    return json.dumps(changes, separators=(",", ":"), ensure_ascii=False)


def unpack(chunk: str) -> list[Change]:
    """Return what :func:`pack` was given."""
    return [Change(*fields) for fields in json.loads(chunk)]


class Place(NamedTuple):
    """How far somebody has read."""

    history: str
    position: int
    id: str
    """Of the event that is there."""


class Read(NamedTuple):
    """What Redis said at one moment."""

    now_us: int
    """Redis's time."""
    heartbeat_us: int
    """All that was committed before this moment of Redis's time is in the stream."""
    epoch: str
    events: list[Event]
    """Those that follow, in order."""
    is_end: bool
    """Whether the stream had no more."""


class RedisFeed:
    """Reads the feed.

    :param redis_url: Where it is.
    :param issuer: Whose it is.
    :raises ConfigurationError: The driver is not installed, or the URL is none.
    """

    def __init__(self, redis_url: str, issuer: str) -> None:
        self._keys = Keys.of(issuer)
        self._redis = connect(redis_url)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def read(self, place: Place) -> Read | None:
        """Return what follows *place*, all of it at one moment.

        :returns: ``None`` if what was read so far counts no more: there is no feed, or another
            one, or not everything that follows is there.
        :raises RedisUnavailable: Redis does not answer.
        """
        with failing_as_unavailable(), self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hmget(self._keys.meta, *_META)
            pipe.xrange(self._keys.stream, f"{place.position}-1", "+", count=PAGE + 1)
            (seconds, micros), (history, epoch, position, heartbeat), entries = pipe.execute()
        if history != place.history or position is None or heartbeat is None:
            return None
        events = [_event_of(entry) for entry in entries]
        if not events or events[0][:2] != (place.position, place.id):
            return None
        is_end = len(events) <= PAGE
        # To a stream that was cut off, or mixed, there would be another end, or a gap.
        if is_end and events[-1].position != int(position):
            return None
        if events[-1].position != place.position + len(events) - 1:
            return None
        now_us = seconds * 1_000_000 + micros
        return Read(now_us, int(heartbeat), epoch, events[1:], is_end)

    def begin(self) -> tuple[Place, str] | None:
        """Return where the snapshot stands, and its epoch; ``None`` if there is none.

        :raises RedisUnavailable: Redis does not answer.
        """
        with failing_as_unavailable():
            history, epoch, position, event_id = self._redis.hmget(self._keys.meta, *_SNAPSHOT)
        if None in (history, epoch, position, event_id):
            return None
        return Place(history, int(position), event_id), epoch

    def snapshot(self, epoch: str) -> Iterator[list[Change] | None]:
        """Give the changes of a snapshot, part by part; ``None`` if it was lost meanwhile.

        :param epoch: Its epoch.
        :raises RedisUnavailable: Redis does not answer.
        """
        start = 0
        while True:
            with failing_as_unavailable(), self._redis.pipeline(transaction=True) as pipe:
                pipe.hmget(self._keys.meta, "epoch", "chunks")
                pipe.lrange(self._keys.snapshot, start, start + _CHUNKS_AT_ONCE - 1)
                pipe.llen(self._keys.snapshot)
                (now_epoch, chunks), found, length = pipe.execute()
            if now_epoch != epoch or chunks is None or int(chunks) != length:
                yield None
                return
            for chunk in found:
                yield unpack(chunk)
            start += _CHUNKS_AT_ONCE
            if start >= length:
                return

    def wait(self, position: int, seconds: float) -> None:
        """Return when there is an event after *position*, and no later than in *seconds*.

        :raises RedisUnavailable: Redis does not answer.
        """
        block = min(max(int(seconds * 1000), 1), _LONGEST_WAIT_MS)
        with failing_as_unavailable():
            self._redis.xread({self._keys.stream: f"{position}-1"}, count=1, block=block)


def _position_of(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def fields_of(event: Event) -> list[str | int]:
    """Return an event as what :meth:`RedisFeed.read` reads it from: its position, then values."""
    position, event_id, change = event
    return [position, event_id, *("" if value is None else value for value in change)]


def _event_of(entry: tuple[str, dict[str, str]]) -> Event:
    entry_id, fields = entry
    change = Change(
        cast("EventKind", fields["kind"]),
        fields["user"] or None,
        fields["session"] or None,
        int(fields["cut"] or 0),
        int(fields["until"]) if fields["until"] else None,
    )
    return Event(_position_of(entry_id), fields["id"], change)
