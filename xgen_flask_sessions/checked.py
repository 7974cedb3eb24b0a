"""Tokens whose signature and claims were checked before: the same text need not be checked twice.

Only what never changes is kept: that a token is genuine, and what it says. Its expiry and the
denylist are asked at every call.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Final, Generic, TypeVar

_T = TypeVar("_T")

_MAX_TOKENS: Final = 4096
_MAX_LENGTH: Final = 1024
"""Of a token, in characters; longer ones are checked each time. So 4 MB of tokens at most."""


class CheckedTokens(Generic[_T]):
    """What the most recent genuine tokens say, by their exact text."""

    def __init__(self) -> None:
        self._kept: dict[str, _T] = {}
        self._lock = threading.Lock()
        self.get = self._kept.get
        _all.add(self)

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

    def forget_lock(self) -> None:
        """Begin anew in a forked process: whoever held the lock is not there."""
        self._lock = threading.Lock()


_all: weakref.WeakSet[CheckedTokens[Any]] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    for tokens in list(_all):
        tokens.forget_lock()


os.register_at_fork(after_in_child=_begin_anew_in_child)
