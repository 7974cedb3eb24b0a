"""The denylist in memory: what the database said of a token holds until the feed says otherwise.

A token is asked about once, strictly, and then not again while its user's tokens are left alone.
Only while the process hears from the feed does its memory count. Whoever read the feed to its end
at some moment knows all that was committed before it; so an answer from memory is never older than
the largest staleness allowed, whatever fails, and without any clock of another machine.
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
"""Of which the status is kept in memory; the one that was kept the longest makes room."""

KEPT_S: Final = 30.0
"""After which a token is asked about again, revoked or not. Less than a renewed token's grace."""

MAX_USERS: Final = 10_000
"""Whose last changes are remembered; when there are more, all of the memory is given up."""

_IDLE_S: Final = 30.0


class _Kept(NamedTuple):
    status: TokenStatus
    until_s: float
    generation: int


class Watch:
    """Answers as :class:`StrictDenylist` does, from memory where that is as good.

    :param denylist: Is asked for what is not in memory.
    :param wake: How to notice that the feed has grown.
    :param max_staleness_s: How old an answer may be at most, in seconds.
    """

    def __init__(self, denylist: StrictDenylist, wake: Wakeup, max_staleness_s: float) -> None:
        self._denylist = denylist
        self._max_staleness_s = max_staleness_s
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._generation = 0
        """Rises with each change. What was asked before a change counts no more for its user."""
        self._floor = 0
        """The generation from which on anything counts."""
        self._changed: dict[str, int] = {}
        """The generation of a user's last change."""
        self._fresh_until_s = 0.0
        self._asked_s = 0.0
        self._follower = Follower(
            "xgen-sessions-watch",
            self._beat,
            wake,
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
        """Of how many tokens the status is in memory."""
        return len(self._kept)

    def is_fresh(self) -> bool:
        """Say whether the memory counts just now."""
        return runtime.elapsed() < self._fresh_until_s

    def stop(self) -> None:
        """Have the feed be followed no more, until the next token is checked."""
        self._follower.stop()

    def status(self, jti: str) -> TokenStatus | None:
        """Return how the token *jti* stands, or ``None`` if no such token was recorded.

        :raises DenylistUnavailable: The database had to be asked, and could not be, or not in
            time.
        """
        now_s = self._asked_s = runtime.elapsed()
        if now_s < self._fresh_until_s:
            kept = self._kept.get(jti)
            if (
                kept is not None
                and now_s < kept.until_s
                # In this order: the floor is raised before the changes are forgotten.
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
        if source is not None:  # else there is only the host's one connection, which is asked
            self._follower.ensure_running(source)

    def _beat(self, reader: FeedReader) -> None:
        heard_s = runtime.elapsed()
        self._take(reader.read())
        self._fresh_until_s = heard_s + self._max_staleness_s

    def committed(self, change: Change) -> None:
        """Have what this process itself has ended be refused from its next call on."""
        self._drop({change.user_id})

    def _take(self, batch: Batch) -> None:
        if batch.resync:
            self._drop({None})
        elif batch.events:
            self._drop({event.change.user_id for event in batch.events})

    def _drop(self, users: Set[str | None]) -> None:
        """Let nothing count that was asked about these users; ``None`` stands for everyone."""
        with self._lock:
            self._generation += 1
            if None in users or len(self._changed) + len(users) > MAX_USERS:
                self._floor = self._generation
                self._kept.clear()
                self._changed.clear()
            else:
                for user_id in users:
                    self._changed[str(user_id)] = self._generation
