"""The process: its clock, its threads, and the one hook that runs in each forked child."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, Final, cast

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

elapsed: Callable[[], float] = (
    time.monotonic if _CLOCK is None else partial(time.clock_gettime, _CLOCK)
)
"""Seconds that only ever rise, including the time for which the machine was suspended."""

_resets: Final[weakref.WeakKeyDictionary[object, Callable[[Any], object]]] = (
    weakref.WeakKeyDictionary()
)


def has_green_threads() -> bool:
    """Return whether gevent or eventlet replaces the threads of this process."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and eventlet.is_monkey_patched("thread")


def start(thread: threading.Thread) -> None:
    """Start a thread.

    :raises OSError: The system cannot start another thread now.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError("No thread can be started.") from error


def reset_after_fork(reset: Callable[[], object]) -> None:
    """Call a bound method in each forked child, for as long as its object lives.

    Objects are reset in the order in which they registered. Threads do not survive a fork, and a
    lock may have been held by a thread that did not.

    :param reset: The bound method; one for each object.
    """
    method = cast("MethodType", reset)
    _resets[method.__self__] = method.__func__


def reset_all() -> None:
    """Call every method that :func:`reset_after_fork` registered; runs in a forked child."""
    for owner, reset in list(_resets.items()):
        reset(owner)


os.register_at_fork(after_in_child=reset_all)
