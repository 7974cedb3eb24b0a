"""Takes the feed of revocations from the database to Redis, for services without the database.

Every process of the deployment may do it, all at the same time: what one has added, another does
not add again, and what was read too long ago adds nothing. Each step is one script, so that nobody
sees half of it. The database is always right: where Redis has lost the feed, or has one that does
not continue into the database's, a new one takes its place.

See :mod:`.redis_feed` for what is where.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from ..changes import KEPT, Event
from ..clock import SECOND_US
from .redis_stream import (
    CHUNK,
    PAGE,
    Keys,
    RedisUnavailable,
    connect,
    failing_as_unavailable,
    fields_of,
    pack,
)
from .snapshot import ORIGIN, Snapshot

COMPACT_AFTER_US: Final = 3600 * SECOND_US
"""After which a new snapshot takes the old one's place, without what can no longer matter."""

COMPACT_AFTER_EVENTS: Final = KEPT // 2
"""The same, where there are that many events: the stream must reach back to the snapshot."""

_PAUSE_S: Final = 1.0
"""How long Redis is left alone that could not be reached: each call would wait for it."""

_REMEMBERED: Final = 2000

_LOCK_MS: Final = 5000
_DRAFT_S: Final = 60

_STREAM_FIELDS: Final = (
    "'id', e[2], 'kind', e[3], 'user', e[4], 'session', e[5], 'cut', e[6], 'until', e[7]"
)

_PUBLISH: Final = """
local meta, stream, snapshot = KEYS[1], KEYS[2], KEYS[3]
local mark, newest, newest_id, is_last = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local kept = ARGV[5]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local m = redis.call('HMGET', meta, 'epoch', 'position', 'id', 'changed', 'heartbeat', 'made',
                     'snapshot_position')
local epoch = m[1] or ''
for i = 1, 7 do
  if not m[i] then return {'lost', epoch, '0', '0', '0'} end
end
-- What is yet to come is of a clock that was set back. It is taken for what could be said now, or
-- nobody would be heard until the clock has caught up.
for i, name in pairs({[4] = 'changed', [6] = 'made'}) do
  if tonumber(m[i]) > tonumber(now) then
    m[i] = now
    redis.call('HSET', meta, name, now)
  end
end
if tonumber(m[5]) > tonumber(now) then m[5] = '0' end
if mark > tonumber(now) then mark = 0 end
local position = tonumber(m[2])
local function answer(word)
  return {word, epoch, string.format('%.0f', position), m[6], m[7]}
end
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
if redis.call('EXISTS', snapshot) == 0 or #last == 0 or last[1][1] ~= m[2] .. '-1' then
  return answer('lost')
end
-- Who read the database after the stream was written sees more than the stream, never less or
-- other; so if it is less or other, the database is not what it was.
local function differs()
  if mark > tonumber(m[4]) then return answer('other') end
  return answer('behind')
end
if newest < position then
  return differs()
elseif newest == position then
  if newest_id ~= m[3] then return differs() end
else
  local e, found, id = nil, false, m[3]
  for i = 6, #ARGV, 7 do
    e = {}
    for j = 0, 6 do e[j + 1] = ARGV[i + j] end
    local place = tonumber(e[1])
    if place == position and not found then
      if e[2] ~= id then return differs() end
      found = true
    elseif found and place == position + 1 then
      redis.call('XADD', stream, 'MAXLEN', '~', kept, e[1] .. '-1', FIELDS)
      position, id = place, e[2]
    end
  end
  if not found then return answer('gap') end
  redis.call('HSET', meta, 'position', string.format('%.0f', position), 'id', id, 'changed', now)
end
if is_last == '1' and position >= newest and mark > tonumber(m[5]) then
  redis.call('HSET', meta, 'heartbeat', ARGV[1])
end
return answer('done')
""".replace("FIELDS", _STREAM_FIELDS)

_INSTALL: Final = """
local meta, stream, snapshot, draft = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expected, epoch, history, mark = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local position, id, chunks = ARGV[5], ARGV[6], ARGV[7]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if tonumber(mark) > tonumber(now) then mark = '0' end
local function give_up()
  redis.call('DEL', draft)
  return 0
end
if (redis.call('HGET', meta, 'epoch') or '') ~= expected then return give_up() end
if redis.call('LLEN', draft) ~= tonumber(chunks) then return give_up() end
if history == '' then
  local there = redis.call('XRANGE', stream, position .. '-1', position .. '-1')
  if #there == 0 or there[1][2][2] ~= id then return give_up() end
else
  redis.call('DEL', meta, stream)
  redis.call('XADD', stream, position .. '-1', 'id', id, 'kind', 'begin', 'user', '', 'session',
             '', 'cut', '', 'until', '')
  redis.call('HSET', meta, 'history', history, 'position', position, 'id', id, 'changed', now,
             'heartbeat', mark)
end
redis.call('RENAME', draft, snapshot)
redis.call('PERSIST', snapshot)
redis.call('HSET', meta, 'epoch', epoch, 'chunks', chunks, 'made', now,
           'snapshot_position', position, 'snapshot_id', id)
return 1
"""


class _Answer(NamedTuple):
    word: str
    epoch: str
    position: int
    made_us: int
    snapshot_position: int


class Publisher:
    """Makes Redis's feed contain what the database's does.

    Each call is over in a fraction of a second, or raises :class:`RedisUnavailable`. After one
    that did, others do at once for a second, without a look at Redis. Not for several threads.

    :param redis_url: Where Redis is.
    :param issuer: The deployment's ``iss``.
    :param aside: Does what may take long and what no sign of life must wait for, at once or in
        another thread; or does not, where it has not yet done what it was given before.
    :raises ConfigurationError: The driver is not installed, or the URL is none.
    """

    def __init__(
        self,
        redis_url: str,
        issuer: str,
        aside: Callable[[Callable[[], object]], object] = lambda work: work(),
    ) -> None:
        self._keys = Keys.of(issuer)
        self._aside = aside
        self._redis = connect(redis_url)
        self._publish = self._redis.register_script(_PUBLISH)
        self._install = self._redis.register_script(_INSTALL)
        self._recent: list[Event] = []
        """The last events that were read, without a gap."""
        self._relayed = 0
        self._gap_at: int | None = None
        self._down_until = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def mark(self) -> int:
        """Return Redis's time in microseconds, for :meth:`publish`.

        To be called before the database is read.

        :raises RedisUnavailable: Redis does not answer.
        """
        with self._asking():
            seconds, micros = self._redis.time()
        return int(seconds) * SECOND_US + int(micros)

    def publish(
        self,
        mark: int,
        events: Sequence[Event],
        newest: Event | None,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        """Add to Redis what it does not have, and say that it has all from before *mark*.

        :param mark: What :meth:`mark` returned before the database was read.
        :param events: What was read after the *newest* of the call before, or from further back;
            nothing if the reader has begun anew, be it that there is more.
        :param newest: The newest event read; ``None`` if the feed has none.
        :param snapshot: Reads what was revoked; called where Redis has no feed that goes on into
            this one, and now and then to let go of what can no longer matter.
        :raises RedisUnavailable: Redis does not answer. What was given is not lost by that.
        """
        self._remember(events, newest or ORIGIN)
        with self._asking():
            answer = self._send(mark)
        if answer.word == "gap" and answer.position != self._gap_at:
            # Somebody else may be just about to close it.
            self._gap_at = answer.position
            return
        self._gap_at = None
        if answer.word in ("lost", "other", "gap"):
            self._replace(mark, answer, snapshot, history=uuid.uuid4().hex)
        elif answer.word == "done" and self._is_compaction_due(mark, answer):
            # The stream goes on meanwhile: the script that installs it minds what was added.
            self._aside(lambda: self._replace(mark, answer, snapshot, history=""))

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
        del recent[:-_REMEMBERED]

    def _send(self, mark: int) -> _Answer:
        """Have the script add what is missing, a page at a time."""
        recent = self._recent
        at = min(max(self._relayed - recent[0].position, 0), len(recent) - 1)
        while True:
            page = recent[at : at + PAGE + 1]
            is_last = at + len(page) == len(recent)
            answer = self._send_page(mark, page, is_last)
            self._relayed = answer.position
            behind = answer.position - recent[0].position
            if answer.word == "gap" and 0 <= behind < at:
                at = behind
            elif answer.word == "done" and not is_last:
                at = min(max(behind, at + 1), len(recent) - 1)
            else:
                return answer

    def _send_page(self, mark: int, page: Sequence[Event], is_last: bool) -> _Answer:
        newest = self._recent[-1]
        values = [value for event in page for value in fields_of(event)]
        word, epoch, *numbers = self._publish(
            keys=self._keys[:3],
            args=[mark, newest.position, newest.id, int(is_last), KEPT, *values],
        )
        return _Answer(word, epoch, *map(int, numbers))

    @staticmethod
    def _is_compaction_due(mark: int, answer: _Answer) -> bool:
        return (
            mark - answer.made_us >= COMPACT_AFTER_US
            or answer.position - answer.snapshot_position >= COMPACT_AFTER_EVENTS
        )

    def _replace(
        self, mark: int, answer: _Answer, snapshot: Callable[[], Snapshot], history: str
    ) -> None:
        """Install a new snapshot, and with a *history* a new stream, unless another does so.

        The lock only keeps many processes from reading the same at once; nothing depends on it.
        """
        with self._asking():
            if not self._redis.set(self._keys.lock, "1", nx=True, px=_LOCK_MS):
                return
        installed = False
        try:
            found = snapshot()
            with self._asking():
                installed = self._put(mark, answer.epoch, found, history)
        finally:
            # Where events come so fast that none fits, it is not tried again at once.
            if installed or history:
                with contextlib.suppress(RedisUnavailable), self._asking():
                    self._redis.delete(self._keys.lock)

    def _put(self, mark: int, expected: str, found: Snapshot, history: str) -> bool:
        epoch = uuid.uuid4().hex
        draft = f"{self._keys.snapshot}:{epoch}"
        chunks = 0
        while not chunks or chunks * CHUNK < len(found.changes):
            self._redis.rpush(draft, pack(found.changes[chunks * CHUNK : (chunks + 1) * CHUNK]))
            if not chunks:
                self._redis.expire(draft, _DRAFT_S)
            chunks += 1
        return bool(
            self._install(
                keys=[*self._keys[:3], draft],
                args=[expected, epoch, history, mark, found.position, found.id, chunks],
            )
        )

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        if time.monotonic() < self._down_until:
            raise RedisUnavailable("Redis could not be used a moment ago.")
        try:
            with failing_as_unavailable():
                yield
        except RedisUnavailable:
            self._down_until = time.monotonic() + _PAUSE_S
            raise
