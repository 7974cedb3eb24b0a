"""Closes the SQLite files of a process before a fork, and at its exit.

Before a fork, so that the child can open and lock them itself. At the exit, so that SQLite copies
the write-ahead log into the database: after a clean stop, the file alone holds all data.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from functools import cache
from typing import Final

from ..runtime import at_exit, before_fork, reset_after_fork
from .engine_guard import forks, guards_of_files
from .pool import all_pools
from .sqlite_files import open_databases

_OWN_S: Final = 1.0
"""Seconds to wait for the package's own connections that are in use."""
_HOST_S: Final = 0.5
"""Seconds to wait for the host's; one that the forking thread itself holds stays in use."""
_PAUSE_S: Final = 0.002


class _Files:
    """Closes the files; one fork at a time."""

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self._reset)
        before_fork(self.before_fork, self.in_parent)
        at_exit(self.exit)

    def _reset(self) -> None:
        self._forking = threading.Lock()

    def before_fork(self) -> None:
        """Close what is not in use, and let this package open nothing until after the fork."""
        self._forking.acquire(timeout=_OWN_S)
        self._close_own()
        forks.begin()  # now: a connection that the package was opening had to be waited for
        self._close_hosts()

    def in_parent(self) -> None:
        """Let connections be opened again."""
        for pool in all_pools():
            pool.reopen()
        forks.end()
        with contextlib.suppress(RuntimeError):  # it was not acquired in time
            self._forking.release()

    def exit(self) -> None:
        """Close what is not in use; what runs later in the exit may open it again."""
        for pool in all_pools():
            pool.checkpoint()
        self._close_own()
        self._close_hosts()
        for pool in all_pools():
            pool.reopen()

    @staticmethod
    def _close_own() -> None:
        due = time.monotonic() + _OWN_S
        for pool in all_pools():
            pool.close_files(due)

    @staticmethod
    def _close_hosts() -> None:
        guards = guards_of_files()
        due = time.monotonic() + _HOST_S
        for each in guards:
            each.dispose()
        collected = False
        while guards:
            files = {file.identity for each in guards if (file := each.last_file()) is not None}
            if files.isdisjoint(open_databases()) or time.monotonic() >= due:
                return
            if not collected:  # pools that were replaced earlier may hold connections in cycles
                gc.collect()
                collected = True
            time.sleep(_PAUSE_S)


@cache
def close_files_at_forks_and_exit() -> None:
    """Close this process's SQLite files before each fork and at the exit, from now on."""
    _kept.append(_Files())


_kept: Final[list[_Files]] = []
