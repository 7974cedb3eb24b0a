"""The denylist in memory: answers of the database that hold until the feed says otherwise.

The database is asked once about a token, and again only after a change of its user. The memory is
valid only while the process hears from the feed. A reader that read the feed to its end knows
everything committed before that; so an answer is never older than the staleness bound, whatever
fails, and independent of other machines' clocks.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from typing import Final, NamedTuple

from .. import runtime
from ..feed.follower import Batch, FeedReader, Follower
from ..feed.wakeups import Wakeup
from ..store import feed_table
from ..store.feed_table import Change
from .strict import StrictDenylist, TokenStatus

MAX_TOKENS: Final = 32_768
"""Tokens in memory; a new one replaces the oldest."""

KEPT_S: Final = 30.0
"""Seconds after which the database is asked again. Less than a renewed token's grace period."""

MAX_USERS: Final = 10_000
"""Users whose last change is in memory; with more, the whole memory is invalidated."""

_IDLE_S: Final = 30.0


class _Kept(NamedTuple):
    status: TokenStatus
    until_s: float
    generation: int


class Watch:
    """A denylist that answers from memory within the staleness bound.

    :param denylist: Answers for tokens that are not in memory.
    :param wakeup: Notices that the feed has grown.
    :param max_staleness_s: The staleness bound, in seconds.
    """

    def __init__(self, denylist: StrictDenylist, wakeup: Wakeup, max_staleness_s: float) -> None:
        self._denylist = denylist
        self._max_staleness_s = max_staleness_s
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._generation = 0
        """Rises with each change. A user's answers from before a change are invalid."""
        self._floor = 0
        """Answers of earlier generations are invalid for every user."""
        self._changed: dict[str, int] = {}
        """The generation of each user's last change."""
        self._fresh_until_s = 0.0
        self._asked_s = 0.0
        self._follower = Follower(
            "xgen-sessions-watch",
            self._poll,
            wakeup,
            rest_s=max_staleness_s / 4,
            is_wanted=lambda: runtime.elapsed() - self._asked_s < _IDLE_S,
            on_fork=self._forget,
        )
        feed_table.subscribe(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._kept = {}
        self._fresh_until_s = 0.0

    @property
    def size(self) -> int:
        """The number of tokens in memory."""
        return len(self._kept)

    def is_fresh(self) -> bool:
        """Return whether the memory is valid now."""
        return runtime.elapsed() < self._fresh_until_s

    def stop(self) -> None:
        """Stop following the feed, until the next token is checked."""
        self._follower.stop()

    def status(self, jti: str) -> TokenStatus | None:
        """Return the status of the token *jti*, or ``None`` if it was never recorded.

        :raises DenylistUnavailable: The database had to be asked and does not answer in time.
        """
        now_s = self._asked_s = runtime.elapsed()
        if now_s < self._fresh_until_s:
            kept = self._kept.get(jti)
            if (
                kept is not None
                and now_s < kept.until_s
                # In this order: the floor rises before the changes are cleared.
                and kept.generation >= self._changed.get(kept.status.user_id, 0)
                and kept.generation >= self._floor
            ):
                return kept.status
        else:
            self._follow()
        generation = self._generation  # before the database is asked
        status = self._denylist.status(jti)
        if status is not None:
            self._keep(jti, _Kept(status, now_s + KEPT_S, generation))
        return status

    def _keep(self, jti: str, kept: _Kept) -> None:
        with self._lock:
            if jti not in self._kept:
                while len(self._kept) >= MAX_TOKENS:
                    del self._kept[next(iter(self._kept))]
            self._kept[jti] = kept

    def _follow(self) -> None:
        source = self._denylist.source()
        if source is not None:  # otherwise the host's only connection is asked each time
            self._follower.ensure_running(source)

    def _poll(self, reader: FeedReader) -> None:
        heard_s = runtime.elapsed()
        self._take(reader.read())
        self._fresh_until_s = heard_s + self._max_staleness_s

    def committed(self, change: Change) -> None:
        """Invalidate answers after this process's own change, without waiting for the feed."""
        self._invalidate({change.user_id})

    def _take(self, batch: Batch) -> None:
        if batch.resync:
            self._invalidate({None})
        elif batch.events:
            self._invalidate({event.change.user_id for event in batch.events})

    def _invalidate(self, users: Set[str | None]) -> None:
        """Invalidate cached answers for these users; ``None`` means everyone."""
        with self._lock:
            self._generation += 1
            if None in users or len(self._changed) + len(users) > MAX_USERS:
                self._floor = self._generation
                self._kept.clear()
                self._changed.clear()
            else:
                for user_id in users:
                    self._changed[str(user_id)] = self._generation
