"""A cache of tokens whose signature and claims have been checked.

Only facts that never change are cached: that a token is genuine, and its claims. Its expiry and the
denylist are checked at every call.
"""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

from ..runtime import notice_fork, reset_after_fork

_T = TypeVar("_T")

_MAX_TOKENS: Final = 4096
_MAX_LENGTH: Final = 1024
"""The longest cached token, in characters, so that the cache holds 4 MB of tokens at most."""


class TokenCache(Generic[_T]):
    """The claims of the most recent genuine tokens, by their exact text."""

    def __init__(self) -> None:
        self._claims: dict[str, _T] = {}
        self._lock = threading.Lock()
        self.get = self._claims.get
        reset_after_fork(self._reset_after_fork)

    @property
    def size(self) -> int:
        """The number of cached tokens."""
        return len(self._claims)

    def put(self, token: str, claims: _T) -> None:
        """Cache the claims of a token; the oldest entry is evicted.

        :param token: A genuine token.
        :param claims: Its claims, which must not change afterwards.
        """
        if len(token) > _MAX_LENGTH:
            return
        notice_fork()
        with self._lock:
            while len(self._claims) >= _MAX_TOKENS:
                del self._claims[next(iter(self._claims))]
            self._claims[token] = claims

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
