"""The denylist of a service without the database: in memory, kept up to date by Redis."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from ..clock import SECOND_US
from ..errors import ConfigurationError, DenylistUnavailable
from ..runtime import elapsed, has_green_threads, notice_fork, reset_after_fork, start
from ..text import traceback_of
from .redis_stream import Place, Read, RedisFeed, RedisUnavailable, connect, unpack
from .revoked import RevokedTokens
from .signed_state import FeedRefused, FeedState

_log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.1
_CONNECT_S: Final = 1.0
"""Seconds between two new connections while no token can be checked."""
_POLLS: Final = 8
"""Polls of Redis, at least, while its last answer is still valid."""
_CHECK_THE_RELAY: Final = (
    "is XGEN_SESSIONS_REDIS_URL set in the application, to this Redis and database, and has it "
    "had a request, or does `flask xgen-sessions relay` run? Has it this service's keys?"
)


class View(NamedTuple):
    """The revocations known now, and the time until which they are valid. Replaced as a whole."""

    revoked: RevokedTokens
    fresh_until_s: float
    deployment: str
    """The id of the deployment that publishes the feed."""


class Reading(NamedTuple):
    """A feed that is being followed."""

    place: Place
    epoch: str
    revoked: RevokedTokens


class _Heartbeat(NamedTuple):
    """A heartbeat: every event committed before it is in the stream."""

    history: str
    time_us: int
    """By Redis's clock."""
    at_s: float
    """By this machine's clock, and no later than it was; an unknown age counts as infinite."""


class RedisDenylist:
    """Follows the feed in Redis, in a thread that starts at the first use.

    :param redis_url: Redis's URL.
    :param issuer: The deployment's ``iss``.
    :param max_staleness_s: The staleness bound, in seconds.
    :param open_state: Checks a signed state; raises :class:`~.signed_state.FeedRefused`.
    :param before_poll: Called before each poll.
    :raises ConfigurationError: The driver is not installed, the URL is invalid, or gevent or
        eventlet replaces threads.
    """

    def __init__(
        self,
        redis_url: str,
        issuer: str,
        max_staleness_s: float,
        open_state: Callable[[bytes], FeedState],
        before_poll: Callable[[], object] = lambda: None,
    ) -> None:
        _require_real_threads()
        self._redis_url = redis_url
        self._issuer = issuer
        self._max_staleness_s = max_staleness_s
        self._open_state = open_state
        self._before_poll = before_poll
        self._connect().close()  # raises if the URL is invalid
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._news = threading.Condition()
        self.view: View | None = None
        """The revocations known now; valid until its ``fresh_until_s``."""
        self._reading: Reading | None = None
        self._heartbeat: _Heartbeat | None = None
        self._logged: object = None
        """The kind of the last logged reason why no token can be checked; ``None`` if they can."""
        self._first_until_s = 0.0

    def first_view(self) -> View:
        """Return a valid view; in a new process, wait for it up to the staleness bound.

        :raises DenylistUnavailable: There is none.
        """
        notice_fork()
        if self._thread is None:
            self.start()
        view = self.wait_until(self._first_until_s)
        if view is None:
            raise DenylistUnavailable
        return view

    def wait_until(self, until_s: float) -> View | None:
        """Return a valid view, waiting until *until_s* by :func:`~.runtime.elapsed`."""
        with self._news:
            while True:
                view, now_s = self.view, elapsed()
                if view is not None and now_s < view.fresh_until_s:
                    return view
                if now_s >= until_s:
                    return None
                self._news.wait(min(until_s - now_s, _PAUSE_S))

    def start(self) -> None:
        """Start the thread, unless it runs.

        :raises DenylistUnavailable: The system cannot start another thread now.
        """
        notice_fork()
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

    def close(self) -> None:
        """End the thread and close the connections; the next use starts a new one."""
        notice_fork()
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped.set()
        if thread is not None:
            thread.join()
        self.view = self._reading = self._logged = None

    def _connect(self) -> RedisFeed:
        return RedisFeed(connect(self._redis_url), self._issuer, self._open_state)

    def _run(self, stopped: threading.Event) -> None:
        source = self._connect()
        connect_due_s = 0.0
        try:
            while not stopped.is_set():
                if not self._is_fresh() and elapsed() >= connect_due_s:
                    source.close()  # the address may be another server's now
                    connect_due_s = elapsed() + _CONNECT_S
                try:
                    self._poll(source, stopped)
                except RedisUnavailable as error:
                    # The view stays valid until its time is over.
                    self._log_once(type(error.__cause__), error)
                    stopped.wait(_PAUSE_S)
                except Exception as error:
                    self._lose()
                    self._log_once(type(error), error)
                    stopped.wait(_PAUSE_S)
        finally:
            source.close()

    def _poll(self, source: RedisFeed, stopped: threading.Event) -> None:
        self._before_poll()
        if self._follow(source):
            position = self._reading.place.position if self._reading else 0
            source.wait(position, self._max_staleness_s / _POLLS)
        elif not self._load(source):
            stopped.wait(_PAUSE_S)

    def _follow(self, source: RedisFeed) -> bool:
        """Apply the new events; return whether the feed continues."""
        reading = self._reading
        if reading is None:
            return False
        asked_s = elapsed()
        try:
            read = source.read(reading.place)
        except FeedRefused as refused:
            self._lose()
            self._log_refused(refused)
            return False
        if read is None:
            self._lose()
            return False
        for event in read.events:
            reading.revoked.apply(event.change)
        self._reading = reading = reading._replace(place=read.place)
        self._show(reading, asked_s, read)
        # A newer snapshot leaves out changes that no longer matter.
        return reading.epoch == read.state.snapshot.epoch

    def _show(self, reading: Reading, asked_s: float, read: Read) -> None:
        heartbeat = self._heartbeat = self._date(reading.place.history, asked_s, read)
        with self._news:
            until_s = heartbeat.at_s + self._max_staleness_s
            self.view = View(reading.revoked, until_s, read.state.deployment)
            self._news.notify_all()
        if self._is_fresh():
            if self._logged is not None:
                _log.info("The feed can be followed again.")
            self._logged = None
        elif read.state.is_disputed:
            self._log_once("disputed", "two databases with one deployment's id publish a feed.")
        elif heartbeat.at_s == float("-inf"):
            self._log_once("ahead", "the last heartbeat is in the future, by Redis's clock.")
        else:
            self._log_once(
                "stalled",
                f"the last heartbeat of issuer {self._issuer!r} is "
                f"{elapsed() - heartbeat.at_s:.1f} s old; {_CHECK_THE_RELAY}",
            )

    def _date(self, history: str, asked_s: float, read: Read) -> _Heartbeat:
        """Return when the last heartbeat was, as far as Redis's clock can be trusted.

        The same heartbeat never becomes younger, whatever that clock is set to. The age of one in
        the future is unknown: the clock was set back.
        """
        heartbeat_us = read.state.heartbeat_us
        age_us = read.now_us - heartbeat_us
        at_s = asked_s - age_us / SECOND_US if age_us >= 0 else float("-inf")
        last = self._heartbeat
        if last is not None and last[:2] == (history, heartbeat_us):
            at_s = min(at_s, last.at_s)
        return _Heartbeat(history, heartbeat_us, at_s)

    def _is_fresh(self) -> bool:
        view = self.view
        return view is not None and elapsed() < view.fresh_until_s

    def _log_once(self, kind: object, reason: str | Exception) -> None:
        """Log why no token can be checked, unless the last logged reason was of the same kind.

        :param kind: The kind of the reason.
        :param reason: A sentence, or the error.
        """
        if self._logged == kind or self._is_fresh():
            return
        self._logged = kind
        if isinstance(reason, str | RedisUnavailable):
            _log.warning("The feed cannot be followed, and no token passes: %s", reason)
        else:
            _log.error("The feed cannot be followed.\n%s", traceback_of(reason))

    def _lose(self) -> None:
        self.view = self._reading = None

    def _load(self, source: RedisFeed) -> bool:
        """Load a snapshot; meanwhile, keep a view that is still valid up to date."""
        try:
            place, snapshot = source.find_snapshot()
            parts = []
            for part in source.read_snapshot(snapshot):
                if part is None:  # it was replaced meanwhile
                    return False
                parts.append(part)
                self._follow(source)
        except FeedRefused as refused:
            self._log_refused(refused)
            return False
        revoked = RevokedTokens()
        for changes in unpack(b"".join(parts)):
            for change in changes:
                revoked.apply(change)
            self._follow(source)
        self._reading = Reading(place, snapshot.epoch, revoked)
        return self._follow(source)

    def _log_refused(self, refused: FeedRefused) -> None:
        reason = f"the feed of issuer {self._issuer!r} {refused}; {_CHECK_THE_RELAY}"
        self._log_once(str(refused), reason)


def _require_real_threads() -> None:
    if has_green_threads():
        raise ConfigurationError(
            "Verifier needs real threads, but gevent or eventlet replaces them: a busy request "
            "would keep it from hearing of revocations. Leave threading unpatched."
        )
