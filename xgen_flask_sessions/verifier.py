"""Verifies tokens in services without the deployment's database: keys and Redis are enough.

No Flask, no SQLAlchemy: for an API of the same deployment on FastAPI, gRPC or anything else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from . import clock
from .clock import SECOND_US
from .errors import ConfigurationError, DenylistUnavailable, SessionRevoked
from .feed.redis_stream import (
    SHORTEST_STALENESS_S,
    Place,
    Read,
    RedisFeed,
    RedisUnavailable,
)
from .feed.revoked import Revocations
from .runtime import (
    elapsed,
    has_green_threads,
    reset_after_fork,
    start,
)
from .tokens.claims import VerifiedToken as VerifiedToken
from .tokens.claims import verified_token
from .tokens.codec import TokenCodec
from .tokens.keys import (
    MIN_SECRET_BYTES,
    Key,
    load_jwks,
    load_key,
)

_log = logging.getLogger(__name__)

MAX_LEEWAY: Final = timedelta(minutes=5)
"""Of the setting ``XGEN_SESSIONS_LEEWAY``, too: what ended is kept in Redis that much longer."""

_LONGEST_STALENESS_S: Final = 60.0
_PAUSE_S: Final = 0.1
_KEYS_S: Final = 1.0
_WHO_RELAYS: Final = (
    "is XGEN_SESSIONS_REDIS_URL set in the application, to this Redis and database, and has it "
    "had a request, or does `flask xgen-sessions relay` run?"
)
_BEATS: Final = 8
"""How often Redis is asked, at least, while its last answer still counts."""


class _View(NamedTuple):
    """What is known, and until when that is good enough. Replaced as a whole."""

    revocations: Revocations
    fresh_until_s: float


class _Reading(NamedTuple):
    """A feed that is read along."""

    place: Place
    epoch: str
    revocations: Revocations


class _Sign(NamedTuple):
    """A sign of life in the feed: all that was committed before it is in the stream."""

    history: str
    heartbeat_us: int
    """By Redis's clock."""
    at_s: float
    """By this machine's, and no later than it was; what cannot be told is taken as long ago."""


class Verifier:
    """Checks tokens against keys and a denylist in memory, which follows the deployment by Redis.

    One thread per process reads the feed of revocations. It knows at each moment how long ago it
    had heard of all that was committed; past *max_staleness*, and whenever Redis has lost the feed
    or part of it, no token is let through until the feed is whole again: so a revoked token is
    refused *max_staleness* seconds after the revocation's commit at the latest, whatever fails.
    As a rule, it is refused within milliseconds.

    Two things a database would tell are not known here: that a genuine token was never recorded,
    as in a transaction that was rolled back, and that its record was deleted by hand. Revoke such
    tokens by a force logout.

    In memory are, until they can no longer matter: users and sessions that were signed out, as
    long as a token of theirs is unexpired, and sessions that were renewed, as long as an older
    token is; about 250 bytes for each, twice as much for moments each hour when what has expired
    is let go of. Processes are not to be forked by several threads at once; a forked one begins
    anew by itself.

    :param redis_url: The deployment's ``XGEN_SESSIONS_REDIS_URL``: ``redis://host:6379/0``. To
        read is enough: ``+@read +@connection +@transaction +time`` on ``xgen_sessions:*``.
    :param secret_key: Its ``SECRET_KEY``, where it signs with HS256.
    :param public_keys: Its public keys in PEM, where it signs with another algorithm.
    :param jwks_file: The same as a file, as ``flask xgen-sessions jwks`` prints it; read again
        when it changes.
    :param previous_keys: Secrets or public keys that no longer sign and still verify.
    :param issuer: Its ``ISSUER``.
    :param audience: Its ``AUDIENCE``.
    :param leeway: Seconds that a token outlives its ``exp`` by; up to 300.
    :param max_staleness: How many seconds a revocation may go unheard of at most; 0.5 to 60.
    :raises ConfigurationError: Something is wrong; the message names the mend.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        secret_key: str | bytes | None = None,
        public_keys: Sequence[str | bytes] = (),
        jwks_file: str | os.PathLike[str] | None = None,
        previous_keys: Sequence[str | bytes] = (),
        issuer: str = "xgen",
        audience: str | None = None,
        leeway: float = 0,
        max_staleness: float = 2.0,
    ) -> None:
        if not SHORTEST_STALENESS_S <= max_staleness <= _LONGEST_STALENESS_S:
            raise ConfigurationError("max_staleness must be 0.5 to 60 seconds.")
        if not 0 <= leeway <= MAX_LEEWAY.total_seconds():
            raise ConfigurationError("leeway must be 0 to 300 seconds.")
        _require_real_threads()
        self._redis_url = redis_url
        self._issuer = issuer
        self._audience = audience
        self._leeway_us = round(leeway * SECOND_US)
        self._max_staleness_s = max_staleness
        self._given_keys = _load_given(secret_key, public_keys, previous_keys)
        self._jwks_file = None if jwks_file is None else Path(jwks_file)
        self._jwks_version: object = None
        self._keys_due_s = 0.0
        self._codec = self._make_codec()
        RedisFeed(redis_url, issuer).close()  # a wrong URL is told of at once
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._news = threading.Condition()
        self._view: _View | None = None
        self._reading: _Reading | None = None
        self._sign: _Sign | None = None
        self._told: object = None
        """Of what the log was told last: why no token can be checked; ``None`` if they can."""
        self._first_until_s = 0.0

    def verify(self, token: str) -> VerifiedToken:
        """Check one token.

        The first call in a process waits for the feed, up to *max_staleness*; no other call waits
        for anything.

        :param token: The compact JWS, as sent.
        :raises TokenInvalid: It is no token of this deployment.
        :raises TokenExpired: Its ``exp`` has passed.
        :raises SessionRevoked: Its session, its user or everyone was signed out after its issue.
        :raises DenylistUnavailable: What was revoked is not known just now; the token must not
            pass.
        """
        now_us = clock.now_us()
        claims = self._codec.decode(token, now_us=now_us)
        view = self._view
        if view is None or view.fresh_until_s <= elapsed():
            view = self._first_view()
        ended = view.revocations.ends(claims.user_id, claims.session_id, claims.issued_us, now_us)
        if ended is not None:
            raise SessionRevoked(forced=ended == "forced", user_id=claims.user_id)
        return verified_token(claims)

    def ready(self, timeout: float = 0) -> bool:
        """Say whether tokens can be checked just now.

        :param timeout: How many seconds to wait for that at most.
        """
        self._start()
        return self._wait_until(elapsed() + timeout) is not None

    def close(self) -> None:
        """End the thread and close the connections. To verify again begins anew."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped.set()
        if thread is not None:
            thread.join()
        self._view = self._reading = self._told = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _first_view(self) -> _View:
        """Return what is known, in a process that has only just begun to follow the feed."""
        if self._thread is None:
            self._start()
        view = self._wait_until(self._first_until_s)
        if view is None:
            raise DenylistUnavailable
        return view

    def _wait_until(self, until_s: float) -> _View | None:
        with self._news:
            while True:
                view, now_s = self._view, elapsed()
                if view is not None and now_s < view.fresh_until_s:
                    return view
                if now_s >= until_s:
                    return None
                self._news.wait(min(until_s - now_s, _PAUSE_S))

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            _require_real_threads()
            self._stopped = threading.Event()
            self._first_until_s = elapsed() + self._max_staleness_s
            thread = threading.Thread(
                target=self._run,
                args=(self._stopped,),
                name="xgen-sessions-verifier",
                daemon=True,
            )
            try:
                start(thread)
            except OSError as error:
                raise DenylistUnavailable from error
            self._thread = thread

    def _run(self, stopped: threading.Event) -> None:
        source = RedisFeed(self._redis_url, self._issuer)
        try:
            while not stopped.is_set():
                try:
                    self._beat(source, stopped)
                except RedisUnavailable as error:
                    # What is known counts until it is too old.
                    self._tell(type(error.__cause__), error)
                    stopped.wait(_PAUSE_S)
                except Exception as error:
                    self._lose()
                    self._tell(type(error), error)
                    stopped.wait(_PAUSE_S)
        finally:
            source.close()

    def _beat(self, source: RedisFeed, stopped: threading.Event) -> None:
        self._reread_keys()
        if self._follow(source):
            position = self._reading.place.position if self._reading else 0
            source.wait(position, self._max_staleness_s / _BEATS)
        elif not self._load(source):
            stopped.wait(_PAUSE_S)

    def _follow(self, source: RedisFeed) -> bool:
        """Take what has been added; say whether that was to be had, and to be trusted."""
        while True:
            reading = self._reading
            if reading is None:
                return False
            asked_s = elapsed()
            read = source.read(reading.place)
            if read is None:
                self._lose()
                return False
            for event in read.events:
                reading.revocations.take(event.change)
            if read.events:
                last = read.events[-1]
                place = reading.place._replace(position=last.position, id=last.id)
                self._reading = reading = reading._replace(place=place)
            if read.is_end:
                self._show(reading, asked_s, read)
                # What a newer snapshot leaves out can no longer matter.
                return reading.epoch == read.epoch

    def _show(self, reading: _Reading, asked_s: float, read: Read) -> None:
        sign = self._sign = self._date(reading.place.history, asked_s, read)
        with self._news:
            self._view = _View(reading.revocations, sign.at_s + self._max_staleness_s)
            self._news.notify_all()
        if self._is_fresh():
            if self._told is not None:
                _log.info("Revocations are heard of again.")
            self._told = None
        elif sign.at_s == float("-inf"):
            self._tell("ahead", "the last sign of life is yet to come, by Redis's clock.")
        else:
            self._tell(
                "stalled",
                f"the last sign of life of issuer {self._issuer!r} is {elapsed() - sign.at_s:.1f} "
                f"s old; {_WHO_RELAYS}",
            )

    def _date(self, history: str, asked_s: float, read: Read) -> _Sign:
        """Say when the last sign of life was, as far as Redis's clock can be trusted with it.

        The same sign never becomes younger, whatever that clock is set to. One that is yet to
        come is of a clock that was set back: how old it is cannot be told.
        """
        age_us = read.now_us - read.heartbeat_us
        at_s = asked_s - age_us / SECOND_US if age_us >= 0 else float("-inf")
        last = self._sign
        if last is not None and last[:2] == (history, read.heartbeat_us):
            at_s = min(at_s, last.at_s)
        return _Sign(history, read.heartbeat_us, at_s)

    def _is_fresh(self) -> bool:
        view = self._view
        return view is not None and elapsed() < view.fresh_until_s

    def _tell(self, kind: object, reason: str | Exception) -> None:
        """Have the log say why no token can be checked: once, for as long as that stays the same.

        :param kind: Of the reason: another one is told of, too.
        :param reason: In words, or what was raised.
        """
        if self._told == kind or self._is_fresh():
            return
        self._told = kind
        if isinstance(reason, str | RedisUnavailable):
            _log.warning("Revocations cannot be heard of, and no token passes: %s", reason)
        else:
            _log.error("Revocations cannot be heard of.", exc_info=reason)

    def _lose(self) -> None:
        self._view = self._reading = None

    def _load(self, source: RedisFeed) -> bool:
        """Load a snapshot; meanwhile, what was known is kept up to date where it still counts."""
        begun = source.begin()
        if begun is None:
            self._tell("none", f"there is no feed of issuer {self._issuer!r}; {_WHO_RELAYS}")
            return False
        place, epoch = begun
        revocations = Revocations()
        for changes in source.snapshot(epoch):
            if changes is None:
                self._tell_of_part()
                return False
            for change in changes:
                revocations.take(change)
            self._follow(source)
        self._reading = _Reading(place, epoch, revocations)
        followed = self._follow(source)
        if self._view is None:
            self._tell_of_part()
        return followed

    def _tell_of_part(self) -> None:
        self._tell("part", f"the feed of issuer {self._issuer!r} is not whole; {_WHO_RELAYS}")

    def _make_codec(self) -> TokenCodec:
        keys = list(self._given_keys)
        if self._jwks_file is not None:
            self._jwks_version, document = _read_file(self._jwks_file)
            try:
                keys += load_jwks(document)
            except ConfigurationError as error:
                raise ConfigurationError(f"{self._jwks_file} cannot be used: {error}") from None
        if not keys:
            raise ConfigurationError(
                "No key to verify with: pass secret_key=, public_keys= or a jwks_file= with keys."
            )
        return TokenCodec(
            keys, issuer=self._issuer, audience=self._audience, leeway_us=self._leeway_us
        )

    def _reread_keys(self) -> None:
        """Read the file of keys again if it has changed; one that cannot be used changes none."""
        if self._jwks_file is None or elapsed() < self._keys_due_s:
            return
        self._keys_due_s = elapsed() + _KEYS_S
        try:
            if _version_of(self._jwks_file) != self._jwks_version:
                self._codec = self._make_codec()
        except (OSError, ConfigurationError) as error:
            _log.error("The keys stay as they were: %s", error)


def _require_real_threads() -> None:
    if has_green_threads():
        raise ConfigurationError(
            "Verifier needs real threads, and gevent or eventlet stands in for them here: a busy "
            "request would keep it from hearing of revocations. Leave threading unpatched."
        )


def _load_given(
    secret_key: str | bytes | None,
    public_keys: Sequence[str | bytes],
    previous_keys: Sequence[str | bytes],
) -> list[Key]:
    for name, value in (("public_keys", public_keys), ("previous_keys", previous_keys)):
        if isinstance(value, str | bytes):
            raise ConfigurationError(f"{name} must be a list of keys.")
    keys = []
    if secret_key is not None:
        keys.append(load_key(_secret(_bytes(secret_key)), "HS256"))
    for material in map(_bytes, public_keys):
        key = load_key(material)
        if key.signing is not None:
            raise ConfigurationError("public_keys must be public keys in PEM; one is a secret.")
        keys.append(key)
    for material in map(_bytes, previous_keys):
        is_pem = material.lstrip().startswith(b"-----BEGIN")
        keys.append(load_key(material if is_pem else _secret(material)))
    return keys


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _secret(value: bytes) -> bytes:
    if len(value) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"A secret has {len(value)} bytes; HS256 needs at least {MIN_SECRET_BYTES}."
        )
    return value


def _version_of(path: Path) -> object:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read_file(path: Path) -> tuple[object, bytes]:
    try:
        version = _version_of(path)  # first: what is written meanwhile is read the next time
        return version, path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
