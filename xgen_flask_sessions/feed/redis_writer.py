"""Writes the feed in Redis: each call is one Lua script, so that no reader sees half of it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..changes import KEPT
from .redis_stream import PAGE_BYTES, Keys, RedisUnavailable, translated_errors
from .signed_state import TURN_US, FeedState

_PAUSE_S: Final = 1.0
"""Seconds for which calls fail at once after Redis did not answer, instead of waiting for it."""

_DRAFT_S: Final = 60
_SCRIPTS: Final = ("look", "publish", "install", "turn", "remove")


class Look(NamedTuple):
    """What there is of the feed in Redis. ``look.lua`` documents it."""

    now_us: int
    """Redis's time."""
    text: bytes
    """The signed state."""
    first_id: bytes
    last_id: bytes
    length: int
    snapshot_size: int


class Answer(NamedTuple):
    """The result of a script that replaces the state. ``publish.lua`` documents it."""

    status: str
    text: bytes
    now_us: int


class RedisWriter:
    """Changes the feed. Each call is short, or raises :class:`RedisUnavailable`.

    For a second after such an error, calls fail at once.

    :param client: The result of :func:`~.redis_stream.connect`.
    :param issuer: The deployment's ``iss``.
    """

    def __init__(self, client: Any, issuer: str) -> None:
        self._keys = Keys.of(issuer)
        self._redis = client
        common = _text("common")
        self._scripts = {
            name: self._redis.register_script(f"{common}\n{_text(name)}") for name in _SCRIPTS
        }
        self._down_until = 0.0

    def look(self) -> Look:
        """Return what there is."""
        now_us, *found = self._run("look")
        return Look(int(now_us), *found)

    def publish(
        self,
        replaced: bytes,
        text: bytes,
        asked_us: int,
        position: int,
        events: Sequence[tuple[int, Sequence[bytes]]],
    ) -> Answer:
        """Append events, and replace the signed state.

        :param replaced: The signed state that is replaced.
        :param text: The new one.
        :param asked_us: Redis's time before the database was read.
        :param position: The position of the stream's last event.
        :param events: Positions and values.
        """
        values = [value for number, each in events for value in (number, *each)]
        entry_id = f"{position}-1"
        return _answer(self._run("publish", replaced, text, asked_us, entry_id, KEPT, *values))

    def install(
        self,
        draft: str,
        replaced: bytes,
        text: bytes,
        asked_us: int,
        state: FeedState,
        *,
        begins: bool,
    ) -> Answer:
        """Replace the snapshot by a draft, and the signed state.

        :param replaced: The signed state that is replaced.
        :param text: The new one.
        :param asked_us: Redis's time before the database was read.
        :param state: The content of the new one.
        :param begins: Whether to begin a new stream at the snapshot's event.
        """
        snapshot = state.snapshot
        values = (snapshot.size, snapshot.position, snapshot.id, int(begins), state.history)
        return _answer(self._run("install", replaced, text, asked_us, *values, key=draft))

    def put_draft(self, content: bytes) -> str:
        """Write a draft of a snapshot and return its key. It vanishes after a minute."""
        draft = f"{self._keys.snapshot}:{uuid.uuid4().hex}"
        with self._calls():
            self._redis.set(draft, content[:PAGE_BYTES], ex=_DRAFT_S)
            for start in range(PAGE_BYTES, len(content), PAGE_BYTES):
                self._redis.append(draft, content[start : start + PAGE_BYTES])
        return draft

    def delete_draft(self, draft: str) -> None:
        """Delete a draft, if Redis answers."""
        self._delete(draft)

    def take_turn(self, proof: bytes, overridden: bytes = b"") -> bytes:
        """Take the turn to make a snapshot.

        :param proof: The proof of the turn.
        :param overridden: A proof that does not count.
        :returns: Nothing, or the proof of the process that has the turn.
        """
        held: bytes = self._run("turn", proof, TURN_US // 1000, overridden, key=self._keys.lock)
        return held

    def end_turn(self) -> None:
        """Let other processes make a snapshot, if Redis answers."""
        self._delete(self._keys.lock)

    def remove(self, text: bytes) -> bool:
        """Delete the feed with this signed state; return whether there was one."""
        return bool(self._run("remove", text))

    def _run(self, name: str, *values: Any, key: str | None = None) -> Any:
        keys = self._keys[:3] if key is None else (*self._keys[:3], key)
        with self._calls():
            return self._scripts[name](keys=keys, args=values)

    def _delete(self, key: str) -> None:
        with contextlib.suppress(RedisUnavailable), self._calls():
            self._redis.delete(key)

    @contextlib.contextmanager
    def _calls(self) -> Iterator[None]:
        if time.monotonic() < self._down_until:
            raise RedisUnavailable("Redis could not be used a moment ago.")
        try:
            with translated_errors():
                yield
        except RedisUnavailable:
            self._down_until = time.monotonic() + _PAUSE_S
            # After a fail-over, the address is another server's. Another thread, which compacts or
            # writes a heartbeat, may be using a connection of its own.
            self._redis.connection_pool.disconnect(inuse_connections=False)
            raise


def _text(script: str) -> str:
    return Path(__file__).with_name(f"{script}.lua").read_text(encoding="utf-8")


def _answer(result: tuple[bytes, bytes, bytes]) -> Answer:
    status, text, now_us = result
    return Answer(status.decode(), text, int(now_us))
