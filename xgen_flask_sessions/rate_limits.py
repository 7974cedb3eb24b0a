"""Rate limits: how often an act is allowed within a moving window.

Hits are counted by the library ``limits``: in memory, for one process, or in Redis, for all of
them.

A limit slows down password guessing and scripts out of control; revocations do not depend on it.
So if the storage cannot be reached, there is no limit, and the log says so: an administrator must
be able to end a session without Redis, and an attacker must not be able to lock all users out by
stopping it.
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

from .connections.redis_client import client_options, require_known_options
from .errors import ConfigurationError, RateLimited
from .runtime import notice_fork, reset_after_fork
from .settings import PREFIX, Settings

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 5
"""Seconds for which the storage is not asked after it did not answer."""
_SWEEP: Final = 1000
"""Keys in memory before the first removal of empty ones."""


class _Memory(MemoryStorage):
    """The library's storage with a removal of empty keys: an attacker can invent many."""

    STORAGE_SCHEME = []  # do not register it in place of the library's own

    def __init__(self) -> None:
        super().__init__(wrap_exceptions=True)
        self._lock = threading.Lock()
        self._sweep_at = _SWEEP

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count a hit, if the limit is not reached; see the library."""
        with self._lock:  # the library reads a list twice and expects it to stay
            if len(self.events) >= self._sweep_at:
                for empty in [known for known, hits in list(self.events.items()) if not hits]:
                    del self.events[empty]
                self._sweep_at = max(_SWEEP, 2 * len(self.events))
            self._drop_future_hits(key)
            return super().acquire_entry(key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of the window and its hits; see the library."""
        with self._lock:
            self._drop_future_hits(key)
            return super().get_moving_window(key, limit, expiry)

    def _drop_future_hits(self, key: str) -> None:
        """Drop hits from before the clock was set back: they would count until it catches up."""
        now = time.time()
        hits = self.events.get(key)
        if hits and hits[0].atime > now:
            hits[:] = [hit for hit in hits if hit.atime <= now]


class _Store:
    """The storage of the hits; there is no limit while it cannot be reached."""

    def __init__(self, url: str, key_prefix: str) -> None:
        self._is_memory = url.startswith("memory:")
        # The library's memory has a thread, which must not begin before a fork.
        self._limiter = None if self._is_memory else _limiter(_open(url, key_prefix))
        self._down_until = -math.inf
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        if self._is_memory:
            self._limiter = None

    def ask(self, question: Callable[[MovingWindowRateLimiter], _T], without: _T) -> _T:
        """Return the storage's answer, or *without* if it does not answer."""
        notice_fork()
        if time.monotonic() < self._down_until:
            return without
        try:
            return question(self._limiter or self._begin_memory())
        except StorageError as error:
            self._down_until = time.monotonic() + _PAUSE_SECONDS
            _log.error(
                "The storage of the rate limits cannot be used, so there is no limit: %s",
                error.storage_error,
            )
            return without

    def _begin_memory(self) -> MovingWindowRateLimiter:
        with self._lock:
            if self._limiter is None:
                self._limiter = _limiter(_Memory())
            return self._limiter


def _limiter(storage: Storage) -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(storage)


def _open(url: str, key_prefix: str) -> Storage:
    try:
        options: dict[str, Any] = {"key_prefix": key_prefix, "wrap_exceptions": True}
        options |= client_options()
        storage = cast("Storage", storage_from_string(url, **options))
        pool = getattr(getattr(storage, "storage", None), "connection_pool", None)
        if pool is not None:  # it is in Redis
            require_known_options(pool)
    except (ImportError, StorageMisfit) as error:
        raise ConfigurationError(
            f"{PREFIX}RATE_LIMIT_STORAGE needs a driver that cannot be used ({error}); install "
            "xgen-flask-sessions with the extra 'redis'."
        ) from error
    except (ValueError, TypeError):
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            f"{PREFIX}RATE_LIMIT_STORAGE must be a URL such as 'redis://host:6379/0', with options "
            "that redis-py knows."
        ) from None
    return storage


class RateLimit:
    """The limit of one act for each key, such as an administrator.

    :param name: The act; part of the storage's keys.
    :param limit: The limit; ``None`` for no limit.
    :param store: The storage of the hits.
    """

    def __init__(self, name: str, limit: limits.RateLimitItem | None, store: _Store) -> None:
        self._name = name
        self._limit = limit
        self._store = store

    def take(self, *key: str) -> None:
        """Count a hit before the act.

        :raises RateLimited: The limit is reached; the hit was not counted.
        """
        if self._limit is not None and not self.count(*key):
            raise self._refusal(self._limit, key)

    def check(self, *key: str) -> None:
        """Check the limit without counting a hit.

        :raises RateLimited: The limit is reached.
        """
        limit = self._limit
        if limit is None:
            return
        if not self._store.ask(lambda limiter: limiter.test(limit, *self._path(key)), True):
            raise self._refusal(limit, key)

    def count(self, *key: str) -> bool:
        """Count a hit within the limit; return whether the limit was not reached."""
        limit = self._limit
        if limit is None:
            return True
        return self._store.ask(lambda limiter: limiter.hit(limit, *self._path(key)), True)

    def _refusal(self, limit: limits.RateLimitItem, key: tuple[str, ...]) -> RateLimited:
        free_at = self._store.ask(
            lambda limiter: limiter.get_window_stats(limit, *self._path(key)).reset_time, 0.0
        )
        # The end of the window itself is too early, and Redis rounds times.
        wait_s = math.floor(free_at - time.time() + 0.0001) + 1
        return RateLimited(retry_after_s=max(1, wait_s))

    def _path(self, key: tuple[str, ...]) -> tuple[str, str]:
        # A digest: names are personal, may be long, and may contain separators.
        text = "\0".join(key).encode("utf-8", "surrogatepass")
        return self._name, hashlib.sha256(text).hexdigest()


class SignInRateLimit:
    """How often a sign-in may fail: for a username from one address, and from one address in all.

    Failures from other addresses do not count, so that they cannot lock a user out. Clients without
    an address share the limit of one, but not that of a username: one of them could lock a user
    out at all others.
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
        """Check whether a password may be tried. Call it before checking one.

        Simultaneous calls all pass: a server with *n* threads may try *n* - 1 passwords more than
        the limit.

        :param address: The client's address, already cleaned; ``None`` if it is unknown.
        :param username: As it was typed.
        :raises RateLimited: Too many have failed.
        """
        if address is not None:
            self._per_username.check(_network(address), _plain(username))
        self._per_address.check(_network(address))

    def failed(self, address: str | None, username: str) -> None:
        """Count a failed sign-in; parameters as in :meth:`check`."""
        if address is not None:
            self._per_username.count(_network(address), _plain(username))
        self._per_address.count(_network(address))


class RateLimits:
    """The limits of one application.

    :param settings: The limits and the URL of the storage.
    :raises ConfigurationError: The storage's driver is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        # Deployments with one issuer are one deployment.
        store = _Store(settings.rate_limit_storage, f"xgen_sessions:{settings.issuer}")
        self.force_logout = RateLimit("force-logout", settings.force_logout_limit, store)
        self.sign_in = SignInRateLimit(
            settings.sign_in_limit, settings.sign_in_address_limit, store
        )


def _network(address: str | None) -> str:
    """Return the addresses that one attacker controls: for IPv6, a /64 (RFC 6177)."""
    if address is None or ":" not in address:
        return address or ""
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def _plain(username: str) -> str:
    """Return the common form of all spellings that a host may treat as one user.

    Many collations ignore case, accents and invisible characters. Longer names than any host has
    count as one: to normalize takes the square of their length.
    """
    if len(username) > _MAX_TYPED:
        return _TOO_LONG
    visible = _without_unseen(username)
    if len(visible) > _MAX_USERNAME:
        return _TOO_LONG
    letters = unicodedata.normalize("NFKD", visible).casefold()[: 2 * _MAX_USERNAME]
    return unicodedata.normalize("NFKD", _without_unseen(letters)).strip()


def _without_unseen(text: str) -> str:
    return "".join(char for char in text if unicodedata.category(char) not in _UNSEEN)


_MAX_TYPED: Final = 4096
_MAX_USERNAME: Final = 512
_TOO_LONG: Final = "\0"
"""No username: it has a control character."""
_UNSEEN: Final = frozenset({"Mn", "Cc", "Cf"})
"""Unicode's categories of accents, control and format characters."""
