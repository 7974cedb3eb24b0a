"""The feed in Redis: its keys, its format, and its reader.

The names of the keys share a hash tag, so that a cluster keeps them on one node:

``meta``
    A string: the signed :class:`~.signed_state.FeedState`, which proves all else.
``snapshot``
    A string: lines of JSON, each an array of up to :data:`CHANGES_PER_LINE` changes. They are the
    earlier revocations that still matter.
``stream``
    The events, with ids of the form ``<position>-1``. The first entry marks the beginning of the
    history, and names it as its user; so a complete stream is never empty.
``lock``
    Keeps several processes from making a snapshot at the same time.

Reading needs no write permission: it uses ``MULTI`` and reading commands, no script. All that is
read is data of an attacker until the state proves it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from ..changes import Change, Event
from ..clock import SECOND_US
from ..connections.redis_client import client_options, require_known_options
from ..errors import ConfigurationError
from .signed_state import (
    ABSENT,
    MAX_STATE_BYTES,
    NOT_GENUINE,
    STREAM_FIELDS,
    FeedRefused,
    FeedState,
    SnapshotState,
    chained,
    event_of,
)

SHORTEST_STALENESS_S: Final = 0.5
"""The smallest staleness bound of a service, in seconds."""

CHANGES_PER_LINE: Final = 1000
"""The most changes in one line of a snapshot."""

EVENTS_PER_CALL: Final = 1000
"""The most events that one call to Redis reads or appends."""

PAGE_BYTES: Final = 512 * 1024
"""The most bytes of a snapshot that one call to Redis reads or writes."""

INCOMPLETE: Final = "is incomplete"
ALTERED: Final = "was altered"
REPLAYED: Final = "is an earlier state than one that was read before"

_LONGEST_WAIT_MS: Final = 400  # less than the client's timeout
_ENTRY_ID: Final = re.compile(rb"(\d{1,18})-1")


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

    Its answers are bytes, whatever the URL's options are: not all that is in Redis need be text.

    :raises ConfigurationError: The driver is not installed, or the URL is invalid.
    """
    try:
        import redis

        options = client_options()
    except ImportError as error:
        raise ConfigurationError(
            "The feed in Redis needs a driver that is not installed; install xgen-flask-sessions "
            "with the extra 'redis': pip install 'xgen-flask-sessions[redis]'"
        ) from error
    try:
        client = redis.Redis.from_url(redis_url, **options)
        pool = client.connection_pool
        pool.connection_kwargs["decode_responses"] = False
        require_known_options(pool)
    except (ValueError, TypeError):
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            "The feed's Redis must be a URL such as 'redis://host:6379/0', with options that "
            "redis-py knows."
        ) from None
    return client


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise :class:`RedisUnavailable` for each error of Redis or its driver."""
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis cannot be used: {error}") from error


def pack(changes: Sequence[Change]) -> bytes:
    """Return changes as the lines of a snapshot."""
    starts = range(0, len(changes), CHANGES_PER_LINE)
    lines = [changes[start : start + CHANGES_PER_LINE] for start in starts]
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def unpack(content: bytes) -> Iterator[list[Change]]:
    """Yield the changes of each line; the inverse of :func:`pack`."""
    for line in content.splitlines():
        yield [Change(*fields) for fields in json.loads(line)]


class Place(NamedTuple):
    """A reader's position."""

    history: str
    position: int
    id: str
    chain: str
    """The id and the chain of the event at the position."""


class Read(NamedTuple):
    """The result of one read, proven by the state."""

    now_us: int
    """Redis's time."""
    state: FeedState
    place: Place
    """The end of the stream."""
    events: list[Event]
    """The events up to there, in order."""


class Page(NamedTuple):
    """A part of the stream. Only the chain at the stream's end proves it."""

    now_us: int
    state: FeedState
    place: Place
    events: list[tuple[int, list[bytes]]]
    """Positions and values."""


class RedisFeed:
    """Reads the feed.

    :param client: The result of :func:`connect`.
    :param issuer: The deployment's ``iss``.
    :param open_state: Checks a signed state; raises :class:`FeedRefused`.
    """

    def __init__(self, client: Any, issuer: str, open_state: Callable[[bytes], FeedState]) -> None:
        self._keys = Keys.of(issuer)
        self._open_state = open_state
        self._redis = client
        self._newest = ("", 0)
        """The history and the position of the newest state."""

    def close(self) -> None:
        """Close the connections; the next call opens a new one."""
        self._redis.connection_pool.disconnect()  # close() keeps them open in redis-py 5.0.0

    def read(self, place: Place) -> Read | None:
        """Return all events after *place*.

        :returns: ``None`` if the reader must resync: there is another history.
        :raises FeedRefused: The stream is not the one that the state proves.
        :raises RedisUnavailable: Redis does not answer.
        """
        found: list[tuple[int, list[bytes]]] = []
        while True:
            page = self.read_page(place)
            if page is None:
                return None
            found += page.events
            place = page.place
            if is_end(page):
                events = [event_of(position, values) for position, values in found]
                return Read(page.now_us, page.state, place, events)

    def read_page(self, place: Place, count: int | None = None) -> Page | None:
        """Return the next events after *place*, read atomically; see :meth:`read`.

        :param count: The most events.
        """
        count = EVENTS_PER_CALL if count is None else count
        start = f"{place.position}-1"
        now, text, entries = self._query(
            ("TIME",),
            ("GETRANGE", self._keys.meta, 0, MAX_STATE_BYTES),
            ("XRANGE", self._keys.stream, start, "+", "COUNT", count + 1),
        )
        state = self._state(text)
        if state.history != place.history:
            return None
        events = [_event_values(entry) for entry in entries]
        # The event at the place itself is there, unless the stream was trimmed or altered.
        if not events or (events[0][0], events[0][1][0]) != (place.position, place.id.encode()):
            raise FeedRefused(INCOMPLETE)
        chain, last_id = place.chain, place.id.encode()
        for expected, (position, values) in enumerate(events[1:], place.position + 1):
            if position != expected or position > state.position:
                raise FeedRefused(ALTERED)
            chain, last_id = chained(chain, position, values), values[0]
        last = events[-1][0]
        if len(events) <= count and last != state.position:
            raise FeedRefused(INCOMPLETE)
        if last == state.position and (last_id, chain) != (state.id.encode(), state.chain):
            raise FeedRefused(ALTERED)
        end = Place(place.history, last, last_id.decode("utf-8", "replace"), chain)
        seconds, micros = now
        return Page(int(seconds) * SECOND_US + int(micros), state, end, events[1:])

    def holds(self, state: FeedState) -> bool:
        """Return whether the stream is still that of an earlier state.

        :raises RedisUnavailable: Redis does not answer.
        """
        entry_id = f"{state.position}-1"
        try:
            (found,) = self._query(("XRANGE", self._keys.stream, entry_id, entry_id))
        except FeedRefused:
            return False
        fields = found[0][1] if found else {}
        if state.id:
            return bool(fields.get(b"id") == state.id.encode())
        return bool(fields.get(b"user") == state.history.encode())  # before the first event

    def find_snapshot(self) -> tuple[Place, SnapshotState]:
        """Return the snapshot's position, and its state.

        :raises FeedRefused: There is none.
        :raises RedisUnavailable: Redis does not answer.
        """
        (text,) = self._query(("GETRANGE", self._keys.meta, 0, MAX_STATE_BYTES))
        if not text:
            raise FeedRefused(ABSENT)
        state = self._state(text)
        snapshot = state.snapshot
        place = Place(state.history, snapshot.position, snapshot.id, snapshot.chain)
        return place, snapshot

    def read_snapshot(self, snapshot: SnapshotState) -> Iterator[bytes | None]:
        """Yield a snapshot, part by part; the end of the iteration proves it.

        ``None`` is the last part if the snapshot was replaced meanwhile.

        :param snapshot: Its state.
        :raises FeedRefused: It is not the one that the state proves.
        :raises RedisUnavailable: Redis does not answer.
        """
        digest = hashlib.sha256()
        for start in range(0, snapshot.size, PAGE_BYTES):
            text, size, part = self._query(
                ("GETRANGE", self._keys.meta, 0, MAX_STATE_BYTES),
                ("STRLEN", self._keys.snapshot),
                ("GETRANGE", self._keys.snapshot, start, start + PAGE_BYTES - 1),
            )
            if self._state(text).snapshot.epoch != snapshot.epoch:
                yield None
                return
            if size != snapshot.size:
                raise FeedRefused(INCOMPLETE)
            digest.update(part)
            yield part
        if digest.hexdigest() != snapshot.digest:
            raise FeedRefused(ALTERED)

    def wait(self, position: int, seconds: float) -> None:
        """Return when there is an event after *position*, after *seconds* at the latest.

        :raises RedisUnavailable: Redis does not answer.
        """
        block = min(max(int(seconds * 1000), 1), _LONGEST_WAIT_MS)
        with translated_errors():
            self._redis.xread({self._keys.stream: f"{position}-1"}, count=1, block=block)

    def _state(self, text: bytes) -> FeedState:
        """Return the state; within a history, its position never falls."""
        state = self._open_state(text)
        history, position = self._newest
        if state.history == history and state.position < position:
            raise FeedRefused(REPLAYED)
        self._newest = (state.history, state.position)
        return state

    def _query(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Return the results of reading commands, run atomically."""
        import redis

        with translated_errors(), self._redis.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            results: list[Any] = pipe.execute(raise_on_error=False)
            for result in results:
                if isinstance(result, redis.RedisError):
                    if str(result).startswith("WRONGTYPE"):
                        raise FeedRefused(NOT_GENUINE)
                    raise result
        return results


def is_end(page: Page) -> bool:
    """Return whether a page ends at the end of the stream, so that it is proven."""
    return page.place.position == page.state.position


def _event_values(entry: tuple[bytes, dict[bytes, bytes]]) -> tuple[int, list[bytes]]:
    entry_id, fields = entry
    match = _ENTRY_ID.fullmatch(entry_id)
    if match is None or tuple(fields) != STREAM_FIELDS:
        raise FeedRefused(ALTERED)
    return int(match[1]), list(fields.values())
