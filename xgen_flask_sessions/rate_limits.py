"""RateLimit limits: how often something may be done within a moving window. No Flask here.

Counted in memory, for one process, or in Redis, for all of them, by the library ``limits``.

A limit slows down who guesses passwords, or a script that has run wild; what is revoked does not
depend on it. So where the storage cannot be reached, nothing is limited, and a line in the log
says so: an administrator who has to end a session must not wait for Redis, and nobody is to lock
all users out by taking it away.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import threading
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import limits
from limits.errors import ConfigurationError as StorageMisfit
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from .errors import ConfigurationError, RateLimited
from .settings import PREFIX, Settings

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_REDIS_SECONDS: Final = 0.5
"""How long Redis may take for an answer."""
_PAUSE_SECONDS: Final = 5
"""How long a storage is left alone that could not be reached: each call would wait for it."""
_SWEEP: Final = 1000
"""Keys kept in memory before the first look for those that can go."""


class _Memory(MemoryStorage):
    """The library's, which keeps a list for each key for ever: an attacker makes up many."""

    STORAGE_SCHEME = []  # not to be found in the place of the library's own

    def __init__(self) -> None:
        super().__init__(wrap_exceptions=True)
        self._lock = threading.Lock()
        self._sweep_at = _SWEEP

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count one, if the limit is not reached; see the library."""
        with self._lock:  # a list is not to go between another thread's two looks at it
            if len(self.events) >= self._sweep_at:
                for empty in [known for known, hits in list(self.events.items()) if not hits]:
                    del self.events[empty]
                self._sweep_at = max(_SWEEP, 2 * len(self.events))
            return super().acquire_entry(key, limit, expiry, amount)


class _Store:
    """Where the hits are counted; does without it while it cannot be reached."""

    def __init__(self, url: str, key_prefix: str) -> None:
        self._limiter = MovingWindowRateLimiter(_open(url, key_prefix))
        self._down_until = -math.inf

    def ask(self, question: Callable[[MovingWindowRateLimiter], _T], without: _T) -> _T:
        """Return the storage's answer, or *without* where there is none."""
        if time.monotonic() < self._down_until:
            return without
        try:
            return question(self._limiter)
        except StorageError as error:
            self._down_until = time.monotonic() + _PAUSE_SECONDS
            _log.error(
                "The storage of the rate limits cannot be used, so nothing is limited: %s",
                error.storage_error,
            )
            return without


def _open(url: str, key_prefix: str) -> Storage:
    if url.startswith("memory:"):
        return _Memory()
    try:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        options: dict[str, Any] = {
            "key_prefix": key_prefix,
            "wrap_exceptions": True,
            "socket_timeout": _REDIS_SECONDS,
            "socket_connect_timeout": _REDIS_SECONDS,
            "retry": Retry(NoBackoff(), 1),  # once: an idle connection may have been closed
        }
        return cast("Storage", storage_from_string(url, **options))
    except (ImportError, StorageMisfit) as error:
        raise ConfigurationError(
            f"{PREFIX}RATE_LIMIT_STORAGE needs a driver that is not installed, or another release "
            "of it; install xgen-flask-sessions with the extra 'redis'."
        ) from error
    except ValueError:
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            f"{PREFIX}RATE_LIMIT_STORAGE must be a URL such as 'redis://host:6379/0'."
        ) from None


class RateLimit:
    """How often one thing may be done by one key, such as an administrator.

    :param name: What is done; part of the storage's keys.
    :param limit: How often; ``None`` for as often as one likes.
    :param store: Where it is counted.
    """

    def __init__(self, name: str, limit: limits.RateLimitItem | None, store: _Store) -> None:
        self._name = name
        self._limit = limit
        self._store = store

    def take(self, *key: str) -> None:
        """Count one, before it is done.

        :raises RateLimited: It was done too often; nothing was counted.
        """
        if self._limit is not None and not self.count(*key):
            raise self._refusal(self._limit, key)

    def check(self, *key: str) -> None:
        """Look whether it may be done, and count nothing.

        :raises RateLimited: It was done too often.
        """
        limit = self._limit
        if limit is None:
            return
        if not self._store.ask(lambda limiter: limiter.test(limit, *self._path(key)), True):
            raise self._refusal(limit, key)

    def count(self, *key: str) -> bool:
        """Count one; return whether that was within the limit. Nothing is counted beyond it."""
        limit = self._limit
        if limit is None:
            return True
        return self._store.ask(lambda limiter: limiter.hit(limit, *self._path(key)), True)

    def _refusal(self, limit: limits.RateLimitItem, key: tuple[str, ...]) -> RateLimited:
        free_at = self._store.ask(
            lambda limiter: limiter.get_window_stats(limit, *self._path(key)).reset_time, 0.0
        )
        # At the very end of the window it is still too early, and Redis rounds times.
        wait_s = math.floor(free_at - time.time() + 0.0001) + 1
        return RateLimited(retry_after_s=max(1, wait_s))

    def _path(self, key: tuple[str, ...]) -> tuple[str, str]:
        # A digest: names are personal, may be long, and hold what keys are put together with.
        text = "\0".join(key).encode("utf-8", "surrogatepass")
        return self._name, hashlib.sha256(text).hexdigest()


class SignInRateLimit:
    """How often a sign-in may fail: for a username from one address, and from one address at all.

    Nobody is locked out from elsewhere: another address's failures do not count.
    """

    def __init__(
        self,
        per_username: limits.RateLimitItem | None,
        per_address: limits.RateLimitItem | None,
        store: _Store,
    ) -> None:
        self._per_username = RateLimit("sign-in", per_username, store)
        self._per_address = RateLimit("sign-in-address", per_address, store)

    def check(self, address: str | None, username: str) -> None:
        """Look whether a password may be tried. Call it before one is checked.

        Calls that come at the same moment all pass: a server of *n* threads may try *n* - 1
        passwords more than the limit says.

        :param address: Where it is tried from, already cleaned; ``None`` if that is not known.
        :param username: As it was typed.
        :raises RateLimited: Too many have failed.
        """
        self._per_username.check(_network(address), _plain(username))
        # Who has no address has nothing in common but that.
        if address is not None:
            self._per_address.check(_network(address))

    def failed(self, address: str | None, username: str) -> None:
        """Count a sign-in that failed; parameters as of :meth:`check`."""
        self._per_username.count(_network(address), _plain(username))
        if address is not None:
            self._per_address.count(_network(address))


class RateLimits:
    """The limits of one application.

    :param settings: Says how often, and where it is counted.
    :raises ConfigurationError: The storage cannot be used by this installation.
    """

    def __init__(self, settings: Settings) -> None:
        # Deployments with one issuer are one deployment.
        store = _Store(settings.rate_limit_storage, f"xgen_sessions:{settings.issuer}")
        self.force_logout = RateLimit("force-logout", settings.force_logout_limit, store)
        self.sign_in = SignInRateLimit(
            settings.sign_in_limit, settings.sign_in_address_limit, store
        )


def _network(address: str | None) -> str:
    """Return what one attacker has of addresses: of IPv6, that is a /64 (RFC 6177)."""
    if address is None or ":" not in address:
        return address or ""
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def _plain(username: str) -> str:
    """Return what all spellings have in common that a host may take for one user.

    Case, accents and what cannot be seen make no difference to many a collation.
    """
    letters = unicodedata.normalize("NFKD", username).casefold()
    seen = (char for char in letters if unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFKD", "".join(seen)).strip()


_UNSEEN: Final = frozenset({"Mn", "Cc", "Cf"})
"""Unicode's categories of accents, control and format characters."""
