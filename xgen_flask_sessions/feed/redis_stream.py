"""The feed in Redis: its keys, its format, and its reader.

The names of the three keys share a hash tag, so that a cluster keeps them on one node:

``meta``
    A hash. ``history`` names the run of positions; a flush or a restored database begins a new
    one. ``epoch`` names the snapshot. ``position`` and ``id`` are the last event's,
    ``snapshot_position`` and ``snapshot_id`` those of the event at which the snapshot was read.
    ``heartbeat``: every event committed before it, by Redis's clock, is in the stream.
    ``changed`` and ``made``: the times at which the stream grew last and the snapshot was
    installed.
``snapshot``
    A list of JSON arrays of up to :data:`CHANGES_PER_CHUNK` changes: earlier revocations that still
    matter.
``stream``
    The events, with ids of the form ``<position>-1``. The first entry marks the beginning of the
    history, so that a complete stream is never empty.

Reading needs no write permission: it uses ``MULTI`` and reading commands, no script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from ..changes import Change, Event, EventKind
from ..clock import SECOND_US
from ..connections.redis_client import client_options
from ..errors import ConfigurationError

SHORTEST_STALENESS_S: Final = 0.5
"""The smallest staleness bound of a service, in seconds."""

CHANGES_PER_CHUNK: Final = 1000
"""The most changes in one element of a snapshot."""

EVENTS_PER_CALL: Final = 1000
"""The most events that one call to Redis reads or appends."""

_CHUNKS_PER_CALL: Final = 10
_LONGEST_WAIT_MS: Final = 400  # less than the client's timeout
_META: Final = ("history", "epoch", "position", "heartbeat")
_SNAPSHOT: Final = ("history", "epoch", "snapshot_position", "snapshot_id")


class RedisUnavailable(Exception):
    """Redis does not answer."""


class Keys(NamedTuple):
    """The keys of an issuer's feed."""

    meta: str
    stream: str
    snapshot: str
    lock: str

    @classmethod
    def of(cls, issuer: str) -> Keys:
        """Return the keys of the deployment whose tokens have this ``iss``."""
        # Braces would end the tag; characters of patterns are quoted, too.
        tag = f"xgen_sessions:{{{quote(issuer, safe=':/@')}}}"
        return cls(*(f"{tag}:{name}" for name in cls._fields))


def connect(redis_url: str) -> Any:
    """Return a client that waits at most :data:`~.redis_client.TIMEOUT_S` for Redis.

    :raises ConfigurationError: The driver is not installed, or the URL is invalid.
    """
    try:
        import redis

        options = client_options()
    except ImportError as error:
        raise ConfigurationError(
            f"The feed in Redis needs a driver that cannot be imported ({error}); install "
            "xgen-flask-sessions with the extra 'redis': pip install 'xgen-flask-sessions[redis]'"
        ) from error
    try:
        return redis.Redis.from_url(redis_url, decode_responses=True, **options)
    except ValueError:
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            "The feed's Redis must be a URL such as 'redis://host:6379/0'."
        ) from None


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise :class:`RedisUnavailable` for each error of Redis or its driver."""
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis cannot be used: {error}") from error


def pack(changes: Sequence[Change]) -> str:
    """Return changes as one element of a snapshot."""
    return json.dumps(changes, separators=(",", ":"), ensure_ascii=False)


def unpack(chunk: str) -> list[Change]:
    """Return the changes of an element; the inverse of :func:`pack`."""
    return [Change(*fields) for fields in json.loads(chunk)]


class Place(NamedTuple):
    """A reader's position."""

    history: str
    position: int
    id: str
    """The id of the event at the position."""


class Read(NamedTuple):
    """The result of one read."""

    now_us: int
    """Redis's time."""
    heartbeat_us: int
    """Every event committed before it, by Redis's clock, is in the stream."""
    epoch: str
    events: list[Event]
    """The events after the position, in order."""
    is_end: bool
    """Whether the end of the stream was reached."""


class RedisFeed:
    """Reads the feed.

    :param redis_url: Redis's URL.
    :param issuer: The deployment's ``iss``.
    :raises ConfigurationError: The driver is not installed, or the URL is invalid.
    """

    def __init__(self, redis_url: str, issuer: str) -> None:
        self._keys = Keys.of(issuer)
        self._redis = connect(redis_url)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def read(self, place: Place) -> Read | None:
        """Return the events after *place*, read atomically.

        :returns: ``None`` if the reader must resync: there is no feed, or another one, or events
            after *place* are missing.
        :raises RedisUnavailable: Redis does not answer.
        """
        with translated_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hmget(self._keys.meta, *_META)
            pipe.xrange(self._keys.stream, f"{place.position}-1", "+", count=EVENTS_PER_CALL + 1)
            (seconds, micros), (history, epoch, position, heartbeat), entries = pipe.execute()
        if history != place.history or position is None or heartbeat is None:
            return None
        events = [_event_of(entry) for entry in entries]
        if not events or events[0][:2] != (place.position, place.id):
            return None
        is_end = len(events) <= EVENTS_PER_CALL
        # A stream that was trimmed or mixed up has another end, or a gap.
        if is_end and events[-1].position != int(position):
            return None
        if events[-1].position != place.position + len(events) - 1:
            return None
        now_us = seconds * SECOND_US + micros
        return Read(now_us, int(heartbeat), epoch, events[1:], is_end)

    def find_snapshot(self) -> tuple[Place, str] | None:
        """Return the snapshot's position and epoch; ``None`` if there is none.

        :raises RedisUnavailable: Redis does not answer.
        """
        with translated_errors():
            history, epoch, position, event_id = self._redis.hmget(self._keys.meta, *_SNAPSHOT)
        if None in (history, epoch, position, event_id):
            return None
        return Place(history, int(position), event_id), epoch

    def read_snapshot(self, epoch: str) -> Iterator[list[Change] | None]:
        """Yield the changes of a snapshot, part by part; ``None`` if it was replaced meanwhile.

        :param epoch: Its epoch.
        :raises RedisUnavailable: Redis does not answer.
        """
        start = 0
        while True:
            with translated_errors(), self._redis.pipeline(transaction=True) as pipe:
                pipe.hmget(self._keys.meta, "epoch", "chunks")
                pipe.lrange(self._keys.snapshot, start, start + _CHUNKS_PER_CALL - 1)
                pipe.llen(self._keys.snapshot)
                (now_epoch, chunks), found, length = pipe.execute()
            if now_epoch != epoch or chunks is None or int(chunks) != length:
                yield None
                return
            for chunk in found:
                yield unpack(chunk)
            start += _CHUNKS_PER_CALL
            if start >= length:
                return

    def wait(self, position: int, seconds: float) -> None:
        """Return when there is an event after *position*, after *seconds* at the latest.

        :raises RedisUnavailable: Redis does not answer.
        """
        block = min(max(int(seconds * 1000), 1), _LONGEST_WAIT_MS)
        with translated_errors():
            self._redis.xread({self._keys.stream: f"{position}-1"}, count=1, block=block)


def event_values(event: Event) -> list[str | int]:
    """Return the seven values of an event that ``publish.lua`` takes."""
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
    return Event(int(entry_id.partition("-")[0]), fields["id"], change)
