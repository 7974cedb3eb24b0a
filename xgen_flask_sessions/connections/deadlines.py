"""No database call takes longer than it may: a thread that cuts off those that do.

Drivers wait for a server's answer for as long as it takes. Of a server that is paused, or behind
a network that drops everything, no answer ever comes. Breaking the connection's socket ends the
wait at once, with the driver's own error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from ..runtime import reset_after_fork, start

_TICK_S: Final = 0.05
"""How often the thread looks."""
_IDLE_TICKS: Final = 40


class Holder(Protocol):
    """Has a connection to itself, until it has given it back."""

    @property
    def dbapi_connection(self) -> Any:
        """The driver's own connection object; ``None`` once it was given back."""


class Watchdog:
    """Watches the calls of one process, and starts its thread at the first of them."""

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._calls: dict[object, tuple[float, Holder]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._asleep = False

    @contextmanager
    def limit(self, holder: Holder, due: float) -> Iterator[None]:
        """Break a connection if the block has not ended in time.

        A driver whose connections cannot be broken from here waits as it likes to.

        :param holder: Who has the connection; once it has given it back, nothing is broken.
        :param due: When the block is to have ended, by ``time.monotonic()``.
        """
        call = self.begin(holder, due)
        try:
            yield
        finally:
            self.end(call)

    def begin(self, holder: Holder, due: float) -> object:
        """Begin to watch a call, as :meth:`limit` does, at less cost.

        :returns: What :meth:`end` is to be given, without fail.
        """
        call = object()
        self._calls[call] = (due, holder)
        if self._thread is None or self._asleep:
            try:
                self._wake_up()
            except BaseException:
                self.end(call)
                raise
        return call

    def end(self, call: object) -> None:
        """Watch a call no more: from here on, nothing is broken for its sake."""
        if self._calls.pop(call, None) is None:
            with self._lock:  # until what is being broken for its sake is broken
                pass

    def _wake_up(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(
                        target=self._watch, name="xgen-sessions-watchdog", daemon=True
                    )
                    start(thread)
                    self._thread = thread
        self._wake.set()

    def _watch(self) -> None:
        idle = 0
        while True:
            self._wake.wait(_TICK_S)
            self._wake.clear()
            idle = 0 if self._calls else idle + 1
            if idle > _IDLE_TICKS:
                self._asleep = True
                if not self._calls:  # looked at after the flag is up: no call goes unseen
                    self._wake.wait()
                self._asleep = False
                idle = 0
            with self._lock:
                now = time.monotonic()
                for call, (due, holder) in self._calls.copy().items():
                    # Whoever takes the call out, here or in end(), has it.
                    if due <= now and self._calls.pop(call, None) is not None:
                        break_connection(holder.dbapi_connection)


def break_connection(dbapi_connection: Any) -> None:
    """End whatever another thread waits for on a driver's connection, with an error there.

    Known are psycopg and psycopg2 (``fileno()``), PyMySQL (its socket) and sqlite3.
    """
    # What has just been closed, or given back, needs no breaking.
    with contextlib.suppress(Exception):
        if hasattr(dbapi_connection, "interrupt"):
            dbapi_connection.interrupt()
        elif hasattr(dbapi_connection, "fileno"):
            with socket.socket(fileno=os.dup(dbapi_connection.fileno())) as own:
                own.shutdown(socket.SHUT_RDWR)
        else:
            dbapi_connection._sock.shutdown(socket.SHUT_RDWR)


watchdog: Final = Watchdog()
"""The one of this process."""
