"""Publishes the feed from the database to Redis, for services without the database.

Every process of the application may do so at the same time: a process replaces only the state that
it has read, and appends only events that the stream does not have. The database is authoritative:
if Redis has lost the feed, if it was altered there, or if it does not continue into the database's,
a new one replaces it. The feed of another deployment is never replaced.

:mod:`.redis_stream` describes the keys.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from ..changes import KEPT, Event
from ..clock import SECOND_US
from .audit import Audit
from .installer import ATTEMPTS, Installer
from .redis_stream import ALTERED, EVENTS_PER_CALL, INCOMPLETE, RedisFeed, connect
from .redis_writer import Look, RedisWriter
from .signed_state import (
    ABSENT,
    UNKNOWN_KEY,
    FeedRefused,
    FeedState,
    ForeignFeed,
    StateSigner,
    chained,
    event_values,
)
from .snapshot import ORIGIN, Snapshot

_log = logging.getLogger(__name__)

COMPACT_AFTER_US: Final = 3600 * SECOND_US
"""Time after which a new snapshot, without changes that no longer matter, replaces the old one."""

COMPACT_AFTER_EVENTS: Final = KEPT // 2
"""Number of events after which it does so: the stream must reach back to the snapshot."""

DISPUTED_US: Final = 5 * SECOND_US
"""Time for which a feed has no heartbeat after it replaced one that another database may publish.

While two databases with one id replace each other's feed, services accept no token.
"""

GAP_US: Final = SECOND_US
"""Age of the last heartbeat at which no other process is taken to fill a gap in the stream."""

DISPUTED: Final = (
    "The feed in Redis was written a moment ago and does not continue into this database: another "
    "database with this deployment's id publishes it, or this one was restored just now. Services "
    "accept no token until one database has published alone for 5 seconds."
)
DISPUTED_MEND: Final = (
    "If a copy of the database runs beside the original, stop it. Give it an id of its own (UPDATE "
    "xgen_feed_head SET deployment_id = NULL), and another XGEN_SESSIONS_ISSUER or another Redis."
)

_MAX_RECENT: Final = 2000
_UNKNOWN_KEY_S: Final = 0.7
"""Seconds between two replacements of a feed with an unknown key: during a rotation of keys, two
processes may know different ones."""
_FOREIGN_S: Final = 1.0
"""Seconds for which another deployment may publish its lost feed again before this one does."""
_LOG_EVERY_S: Final = 60.0
_ENTRY_ID: Final = re.compile(rb"(\d{1,18})-1")


class _Discontinued(FeedRefused):
    """The feed in Redis does not continue into the database's.

    :param reason: A clause.
    :param is_disputed: Whether another database with the deployment's id may still publish it.
    """

    def __init__(self, reason: str, *, is_disputed: bool) -> None:
        super().__init__(reason)
        self.is_disputed = is_disputed


class Publisher:
    """Copies the database's feed to Redis. Not thread-safe.

    Each call takes a fraction of a second, or raises :class:`~.redis_stream.RedisUnavailable`.

    :param redis_url: Redis's URL.
    :param issuer: The deployment's ``iss``.
    :param signer: Signs the state.
    :param background: Runs work for which no heartbeat must wait, at once or in another thread. It
        may skip the work while earlier work is running.
    :param recent_us: The time for which a heartbeat of another process is recent enough.
    :raises ConfigurationError: The driver is not installed, or the URL is invalid.
    """

    def __init__(
        self,
        redis_url: str,
        issuer: str,
        signer: StateSigner,
        background: Callable[[Callable[[], object]], object] = lambda work: work(),
        recent_us: int = 0,
    ) -> None:
        self._signer = signer
        self._background = background
        self._recent_us = recent_us
        # One client to write and read: during a fail-over, another may be at another server.
        client = connect(redis_url)
        self._writer = RedisWriter(client, issuer)
        self._installer = Installer(self._writer, signer)
        self._source = RedisFeed(client, issuer, signer.open)
        self._audit = Audit(self._source)
        self._audited_us = 0
        self._recent: list[Event] = []
        """The last events that were read, without a gap."""
        self._gap: tuple[int, float] | None = None
        """The end of a stream that lacks events, and the time at which it was first seen."""
        self._own: FeedState | None = None
        """The last state of the deployment's own feed that was in Redis."""
        self._replaced_s = self._foreign_s = float("-inf")
        self._logged: dict[str, float] = {}

    def close(self) -> None:
        """Close the connections."""
        self._source.close()

    def look(self) -> Look:
        """Return what there is in Redis, for :meth:`publish`; call it before reading the database.

        :raises RedisUnavailable: Redis does not answer.
        """
        return self._writer.look()

    def publish(
        self,
        look: Look,
        deployment: str,
        events: Sequence[Event],
        newest: Event | None,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        """Append the events that Redis does not have, and write a heartbeat.

        :param look: The result of :meth:`look` before the database was read; the heartbeat has its
            time.
        :param deployment: The deployment's id.
        :param events: The events read since the *newest* of the previous call, or since an earlier
            one; empty after a resync.
        :param newest: The newest event read; ``None`` if the feed has none.
        :param snapshot: Reads a snapshot. It is called if Redis has no feed that continues into
            this one, and for each compaction.
        :raises ForeignFeed: Redis holds the feed of another deployment. Nothing was changed.
        :raises RedisUnavailable: Redis does not answer. The events are kept for the next call.
        """
        self._remember(events, newest or ORIGIN)
        try:
            state = self._open_own(look, deployment)
            _require_intact(look, state)
            state, now_us = self._append(look, state)
            self._own = state
            self._audited_us = self._audit.step(now_us, max(state.audited_us, self._audited_us))
        except FeedRefused as refused:
            self._log_damage(refused)
            if self._is_replacement_due(refused):
                is_disputed = isinstance(refused, _Discontinued) and refused.is_disputed
                self._replace(look, deployment, snapshot, is_disputed=is_disputed)
            return
        if _is_compaction_due(state, now_us):
            # The stream may grow meanwhile; install.lua allows for that.
            self._background(lambda: self._installer.compact(state, snapshot))

    def remove(self, deployment: str) -> bool:
        """Delete the feed of a deployment; return whether it was there.

        :param deployment: The deployment's id.
        :raises RedisUnavailable: Redis does not answer.
        """
        text = self.look().text
        try:
            self._signer.open_own(text, deployment)
        except ForeignFeed:
            return False
        except FeedRefused:
            if self._signer.deployment_of_unknown_key(text) != deployment:
                return False
        return self._writer.remove(text)

    def _open_own(self, look: Look, deployment: str) -> FeedState:
        try:
            return self._signer.open_own(look.text, deployment)
        except ForeignFeed:
            # Another deployment's relay would have replaced the stream, too.
            own = self._own
            if own is None or own.deployment != deployment or not self._source.holds(own):
                self._foreign_s = time.monotonic()
                raise
            raise FeedRefused(ALTERED) from None

    def _replace(
        self, look: Look, deployment: str, snapshot: Callable[[], Snapshot], *, is_disputed: bool
    ) -> None:
        made = self._installer.replace(look, deployment, snapshot, is_disputed=is_disputed)
        if made is not None:
            self._own = made
            self._replaced_s = time.monotonic()

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

    def _append(self, look: Look, state: FeedState) -> tuple[FeedState, int]:
        """Append the missing events, a page at a time; return the state and Redis's time."""
        text, now_us, attempts = look.text, look.now_us, 0
        while True:
            missing = self._missing(state, look.now_us, is_current=not attempts)
            if missing is None or self._is_recent(look, state, missing):
                return state, now_us
            page = missing[:EVENTS_PER_CALL]
            is_last = len(page) == len(missing)
            changed, values = self._advanced(state, page, now_us)
            if is_last and not _is_held(state, now_us):
                beat_us = max(changed.heartbeat_us, look.now_us)
                changed = changed._replace(heartbeat_us=beat_us)
            signed = self._signer.sign(changed)
            answer = self._writer.publish(text, signed, look.now_us, state.position, values)
            now_us = answer.now_us
            if answer.status == "altered":
                raise FeedRefused(ALTERED)
            if answer.status == "ok":
                state, text = changed, signed
                if is_last:
                    return state, now_us
            elif answer.status == "changed" and attempts < ATTEMPTS:
                # Another process was faster. The database was read before it wrote this state.
                attempts += 1
                text = answer.text
                state = self._signer.open_own(text, state.deployment)
            else:
                return state, now_us

    def _is_recent(self, look: Look, state: FeedState, missing: Sequence[Event]) -> bool:
        """Return whether another process's heartbeat is enough."""
        return not missing and 0 <= look.now_us - state.heartbeat_us < self._recent_us

    def _missing(
        self, state: FeedState, now_us: int, *, is_current: bool
    ) -> Sequence[Event] | None:
        """Return the events that the stream lacks; ``None`` if another process appends them.

        :param now_us: Redis's time at the look.
        :param is_current: Whether the state was read before the database, which then has all of
            its events.
        :raises _Discontinued: The stream is not the beginning of the database's feed.
        """
        recent = self._recent
        at = state.position - recent[0].position
        if at < 0:
            if is_current:
                self._require_filling(state, now_us)
            return None
        if at < len(recent) and recent[at].id == state.id:
            return recent[at + 1 :]
        if is_current:
            is_disputed = _is_written_since(state, now_us, now_us - DISPUTED_US)
            raise _Discontinued("does not continue into the database's", is_disputed=is_disputed)
        return None

    def _require_filling(self, state: FeedState, now_us: int) -> None:
        """Raise an error if no process of this database is about to fill a gap in the stream."""
        now_s = time.monotonic()
        if self._gap is None or self._gap[0] != state.position:
            self._gap = (state.position, now_s)
        is_disputed = now_s - self._gap[1] >= DISPUTED_US / SECOND_US
        if is_disputed or not _is_written_since(state, now_us, now_us - GAP_US):
            raise _Discontinued("ends before the events that are known", is_disputed=is_disputed)

    def _advanced(
        self, state: FeedState, page: Sequence[Event], now_us: int
    ) -> tuple[FeedState, list[tuple[int, list[bytes]]]]:
        """Return the state after a page of events, and the values of these."""
        values = [(event.position, event_values(event)) for event in page]
        chain = state.chain
        for position, each in values:
            chain = chained(chain, position, each)
        last = (page[-1].position, page[-1].id) if page else (state.position, state.id)
        changed = state._replace(
            position=last[0],
            id=last[1],
            chain=chain,
            # A time in the future means that Redis's clock was set back.
            heartbeat_us=state.heartbeat_us if state.heartbeat_us <= now_us else 0,
            audited_us=max(
                each for each in (0, state.audited_us, self._audited_us) if each <= now_us
            ),
        )
        return changed, values

    def _is_replacement_due(self, refused: FeedRefused) -> bool:
        now_s = time.monotonic()
        if now_s - self._foreign_s < _FOREIGN_S:
            return False
        return str(refused) != UNKNOWN_KEY or now_s - self._replaced_s >= _UNKNOWN_KEY_S

    def _log_damage(self, refused: FeedRefused) -> None:
        message = f"The feed in Redis {refused}; it is replaced."
        if isinstance(refused, _Discontinued):
            message = f"{DISPUTED} {DISPUTED_MEND}" if refused.is_disputed else ""
        if str(refused) == ABSENT or not message:
            return
        now_s = time.monotonic()
        if now_s - self._logged.get(message, float("-inf")) >= _LOG_EVERY_S:
            self._logged[message] = now_s
            _log.warning("%s", message)


def _is_held(state: FeedState, now_us: int) -> bool:
    """Return whether the feed must not have its first heartbeat yet."""
    return state.is_disputed and 0 <= now_us - state.snapshot.made_us < DISPUTED_US


def _is_written_since(state: FeedState, now_us: int, since_us: int) -> bool:
    """Return whether the state was written after *since_us*, and not in the future."""
    return since_us < max(state.heartbeat_us, state.snapshot.made_us) <= now_us


def _is_compaction_due(state: FeedState, now_us: int) -> bool:
    snapshot = state.snapshot
    return (
        not 0 <= now_us - snapshot.made_us < COMPACT_AFTER_US
        or state.position - snapshot.position >= COMPACT_AFTER_EVENTS
    )


def _require_intact(look: Look, state: FeedState) -> None:
    """Compare the ends and lengths with the state; the audit reads the contents."""
    first = _ENTRY_ID.fullmatch(look.first_id)
    if first is None or int(first[1]) > state.snapshot.position:
        raise FeedRefused(INCOMPLETE)
    if look.last_id != b"%d-1" % state.position:
        raise FeedRefused(ALTERED)
    if look.length != state.position - int(first[1]) + 1:
        raise FeedRefused(INCOMPLETE)
    if look.snapshot_size != state.snapshot.size:
        raise FeedRefused(INCOMPLETE)
