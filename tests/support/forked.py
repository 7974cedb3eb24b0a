"""A host application in a forked process: python -m tests.support.forked URL MODE HOW TOKEN.

The process uses its database, forks, and lets the child answer commands on stdin, one line each.

``URL``
    The database, which has the tables.
``MODE``
    ``XGEN_SESSIONS_CONSISTENCY``.
``HOW``
    How it forks: see :data:`FORKS`. Several, such as ``busy+hook``, are combined.
``TOKEN``
    A token to check before the fork.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

import sqlalchemy as sa

from tests.support.hosts import Host, make_app
from tests.support.patience import until
from xgen_flask_sessions import (
    DenylistUnavailable,
    LedgerUnavailable,
    TokenError,
)
from xgen_flask_sessions.connections import closing, deadlines
from xgen_flask_sessions.connections.deadlines import watchdog

WAIT_S = 60
"""Seconds after which a step hangs."""

FORKS = ("hook", "daemon", "bare")
"""``hook``: ``os.fork``, and the parent lives. ``daemon``: twice, and the parents end. ``bare``:
the C library's fork, without Python's hooks, as uWSGI does; the parent lives."""


class Forked:
    """A client's handle on the forked process."""

    def __init__(self, url: str, mode: str, how: str, token: str) -> None:
        self._command = [sys.executable, "-m", "tests.support.forked", url, mode, how, token]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._read() == "ready", self.stop()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> str:
        """Let the child end by itself, and return the log. The pipes are closed, too."""
        try:
            return self._process.communicate(timeout=WAIT_S)[1]
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # also the child, which has the pipes
            self._process.communicate()
            raise

    def ask(self, *words: str) -> str:
        """Return the child's answer to a command."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._read()

    def verify(self, token: str) -> str:
        """Return whether the child accepts a token: ``ok``, ``revoked``, ``unavailable``."""
        return self.ask("verify", token)

    def _read(self) -> str:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], WAIT_S)[0], "The child hangs."
        return self._process.stdout.readline().strip()


def answer(host: Host, command: str, *words: str) -> str:
    """Run a command in the child."""
    try:
        if command == "verify":
            host.verify(words[0])
        elif command == "force":
            host.force_logout(words[0])
        elif command == "issue":
            return host.issue(words[0]).token
        elif command == "query":
            with host.app.app_context():
                return str(host.db.session.scalar(sa.text("SELECT count(*) FROM users")))
        elif command == "threads":
            return ",".join(sorted({each.name for each in threading.enumerate()}))
    except TokenError:
        return "revoked"
    except (DenylistUnavailable, LedgerUnavailable):
        return "unavailable"
    return "ok"


def serve(host: Host) -> NoReturn:
    """Answer commands until stdin ends, and exit as a process does."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(answer(host, *line.split()), flush=True)
    sys.exit(0)


def sleeps(thread: threading.Thread) -> bool:
    """Return whether a thread waits without a limit: not for the interpreter's lock."""
    call = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return len(call) > 4 and int(call[4], 16) == 0  # futex(address, operation, value, limit, …)


def bare_fork(host: Host) -> int:
    """Fork without Python's hooks on Linux, and return 0 in the child.

    The C library's condition variables keep the threads that did not survive. The child would wait
    for one that waited for the interpreter's lock, so all threads have to sleep.
    """
    watch = host.app.extensions["xgen_sessions"].watch
    if watch is not None:
        watch.stop()
        until(lambda: not watch._follower.is_running)
    vars(deadlines)["_IDLE_TICKS"] = 0  # it sleeps at once
    thread = watchdog._thread
    until(lambda: thread is None or (watchdog._asleep and sleeps(thread)))
    return int(ctypes.PyDLL(None).fork())


def fork(how: str, host: Host) -> int:
    """Fork, and return 0 in the child."""
    if how == "bare":
        return bare_fork(host)
    # From Python 3.12 on, a fork of a process with threads is warned of on stderr.
    warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
    if how == "daemon":
        if os.fork():
            os._exit(0)
        if os.fork():
            os._exit(0)
        return 0
    return os.fork()


def keep_busy(call: Callable[[], object]) -> Callable[[], None]:
    """Call a function again and again in another thread, and return a function that ends it."""
    begun, over = threading.Event(), threading.Event()

    def run() -> None:
        while not over.is_set():
            with suppress(TokenError):
                call()
            begun.set()

    threading.Thread(target=run, daemon=True).start()
    begun.wait()
    return over.set


def main() -> None:
    """Use the database, fork, and serve in the child."""
    url, mode, hows, token = sys.argv[1:]
    how = hows.split("+")
    host = make_app(url, create_all=False, XGEN_SESSIONS_CONSISTENCY=mode)
    host.verify(token)
    with host.app.app_context():
        host.db.session.scalars(sa.select(host.model)).all()
    watch = host.app.extensions["xgen_sessions"].watch
    while watch is not None and not watch.is_fresh():
        host.verify(token)
        time.sleep(0.002)
    ends = []
    if "busy" in how:
        ends.append(keep_busy(lambda: host.verify(token)))
    if "querying" in how:
        ends.append(keep_busy(lambda: answer(host, "query")))
    if "held" in how:  # a session that was not ended
        host.app.app_context().push()
        host.db.session.scalars(sa.select(host.model)).all()
    else:  # on a busy machine, a thread may stall while it has a connection
        vars(closing).update(_OWN_S=WAIT_S, _HOST_S=WAIT_S)
    child = fork(how[-1], host)
    if child == 0:
        serve(host)
    for end in ends:
        end()
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
