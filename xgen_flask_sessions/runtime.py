"""The process: its identity, its clock, its threads, and the state that a fork must not share."""

from __future__ import annotations

import atexit
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

_getpid: Final = os.getpid

process_id: int = _getpid()
"""The process that the state in memory belongs to."""

is_exiting: bool = False
"""Whether the interpreter is shutting down, so that threads should end."""

_is_forking = False
"""Whether Python's hooks have run for a fork that is about to happen."""
_prepared_process: int | None = None
"""The process, if Python's hooks ran before the fork that made it."""

_PHASES: Final = 3
_resets: Final = tuple(
    weakref.WeakKeyDictionary[object, Callable[[Any], object]]() for _ in range(_PHASES)
)
_resetting: Final[dict[int, int]] = {}
"""The thread that resets the state, by the process."""


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


def reset_after_fork(reset: Callable[[], object], *, phase: int = 0) -> None:
    """Call a bound method in each forked child, for as long as its object lives.

    Objects are reset in the order in which they registered. Threads do not survive a fork, and a
    lock may have been held by a thread that did not.

    :param reset: The bound method; one for each object.
    :param phase: 0 to 2: the objects of a phase are reset after those of the earlier phases.
    """
    method = cast("MethodType", reset)
    _resets[phase][method.__self__] = method.__func__


def fork_was_prepared() -> bool:
    """Return whether Python's hooks ran before the fork that made this process.

    uWSGI runs none, or only those after the fork.
    """
    return _prepared_process == _getpid()


def reset_all() -> None:
    """Call every method that :func:`reset_after_fork` registered; runs in a forked child."""
    global process_id, _is_forking, _prepared_process
    if _is_forking:
        _is_forking = False
        _prepared_process = _getpid()
    try:
        for phase in _resets:
            for owner, reset in list(phase.items()):
                reset(owner)
    finally:
        process_id = _getpid()


def notice_fork() -> None:
    """Reset the state if this process was forked without Python's hooks.

    Servers written in C, such as uWSGI, fork so. Call this before the state of a process is used.
    """
    if _getpid() != process_id:
        _reset_once(_getpid())


def _reset_once(process: int) -> None:
    """Let one thread of this process reset the state, and the others wait for it."""
    thread = threading.get_ident()
    if _resetting.get(process) == thread:
        return  # a reset itself came here
    if _resetting.setdefault(process, thread) == thread:
        try:
            reset_all()
        finally:
            del _resetting[process]
    while process_id != process:
        time.sleep(0.001)


def before_fork(before: Callable[[], object], in_parent: Callable[[], object]) -> None:
    """Call a function before each fork, and another one in the parent after it.

    A no-op on Windows, which has no fork.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=in_parent)


def at_exit(close: Callable[[], object]) -> None:
    """Call a function when the interpreter shuts down, after :data:`is_exiting` was set."""

    def begin_exit() -> None:
        global is_exiting
        is_exiting = True
        close()

    atexit.register(begin_exit)


def _set_forking(is_forking: bool) -> None:
    global _is_forking
    _is_forking = is_forking


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_set_forking, True),
        after_in_parent=partial(_set_forking, False),
        after_in_child=reset_all,
    )
