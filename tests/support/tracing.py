"""Coverage in threads that start at the same moment.

CPython installs one trace function at a time: a second thread that installs one meanwhile ends
with a RuntimeError before it runs its target. A lock makes the threads wait for each other.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_turn = threading.RLock()


def _in_turn(call: Callable[_P, _T]) -> Callable[_P, _T]:
    @wraps(call)
    def wait_and_call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _turn:
            return call(*args, **kwargs)

    return wait_and_call


def install_in_turn() -> None:
    """Make threads install their trace functions one after the other; call it once in a process."""
    try:
        from coverage.collector import Collector
    except ImportError:
        return
    sys.settrace = _in_turn(sys.settrace)  # the first call of a new thread
    Collector._installation_trace = _in_turn(Collector._installation_trace)  # type: ignore[method-assign]
    os.register_at_fork(
        before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_turn.release
    )
