"""Tokens whose signature and claims were checked before: the same text need not be checked twice.

Only what never changes is kept: that a token is genuine, and what it says. Its expiry and the
denylist are asked at every call.
"""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

from ..runtime import reset_after_fork

_T = TypeVar("_T")

_MAX_TOKENS: Final = 4096
_MAX_LENGTH: Final = 1024
"""Of a token, in characters; longer ones are checked each time. So 4 MB of tokens at most."""


class TokenCache(Generic[_T]):
    """What the most recent genuine tokens say, by their exact text."""

    def __init__(self) -> None:
        self._kept: dict[str, _T] = {}
        self._lock = threading.Lock()
        self.get = self._kept.get
        reset_after_fork(self._reset_after_fork)

    @property
    def size(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def put(self, token: str, said: _T) -> None:
        """Keep what *token* says; the one that was kept the longest makes room.

        :param token: A token that is genuine.
        :param said: What it says; nobody may change it afterwards.
        """
        if len(token) > _MAX_LENGTH:
            return
        with self._lock:
            while len(self._kept) >= _MAX_TOKENS:
                del self._kept[next(iter(self._kept))]
            self._kept[token] = said

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
