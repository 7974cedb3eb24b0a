"""Compares the feed in Redis with its signed state, as a service that starts would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from .redis_stream import RedisFeed, is_end

_EVERY_US: Final = 300_000
"""The time between two rounds, of all processes together: a small feed is repaired within a
second."""

_EVENTS_PER_STEP: Final = 500


class Audit:
    """Reads the whole feed, a part at each step, so that no heartbeat waits for it.

    :param source: Reads the feed.
    """

    def __init__(self, source: RedisFeed) -> None:
        self._source = source
        self._round: Iterator[None] | None = None
        self._begun_us = 0
        self._pause_us = _EVERY_US

    def step(self, now_us: int, audited_us: int) -> int:
        """Read the next part, if a round is due.

        :param now_us: Redis's time.
        :param audited_us: The end of the last round, of any process.
        :returns: The end of the last round.
        :raises FeedRefused: The feed differs from its state.
        :raises RedisUnavailable: Redis does not answer.
        """
        if self._round is None:
            if 0 <= now_us - audited_us < self._pause_us:
                return audited_us
            # Of several processes, one goes first; the others find its round in the state.
            self._pause_us = _EVERY_US + random.randrange(_EVERY_US // 2)  # noqa: S311
            self._round = self._read_all()
            self._begun_us = now_us
        try:
            next(self._round)
        except StopIteration:
            self._round = None
            return self._begun_us
        except BaseException:
            self._round = None
            raise
        return audited_us

    def _read_all(self) -> Iterator[None]:
        place, snapshot = self._source.find_snapshot()
        for part in self._source.read_snapshot(snapshot):
            if part is None:  # it was replaced meanwhile
                return
            yield
        while True:
            page = self._source.read_page(place, _EVENTS_PER_STEP)
            if page is None or is_end(page):
                return
            place = page.place
            yield
