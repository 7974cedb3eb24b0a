"""Coverage in threads that start at the same moment, and tests that need no coverage.

CPython installs one trace function at a time: a second thread that installs one meanwhile ends
with a RuntimeError before it runs its target. A lock makes the threads wait for each other.

A trace function makes a test take up to twice the time. A test that reaches the same lines as
others runs without one: it has the mark ``unmeasured``, is of a room above the measured packages,
or repeats on PostgreSQL or MariaDB what SQLite's run has measured.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

if TYPE_CHECKING:
    from coverage import Coverage

TESTS = Path(__file__).parent.parent
DIFFERS = {
    *("connections", "denylist", "feed", "lifecycle", "roster", "store", "users"),
    *("test_failures.py", "test_leaver.py", "test_write_deadline.py"),
}
"""Rooms and modules whose tests reach other lines on other databases: measured on all of them."""
ABOVE = {"admin", "api", "attacks", "benchmarks", "cli", "docs", "histories", "standalone"}
"""Rooms whose tests reach no line of the measured packages that tests of those do not reach."""

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


def adds_to_coverage(item: pytest.Item) -> bool:
    """Return whether a test may reach lines that no other test reaches."""
    if item.get_closest_marker("unmeasured"):
        return False
    parts = item.path.relative_to(TESTS).parts
    if parts[0] in ABOVE and DIFFERS.isdisjoint(parts):
        return False
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if parameters.get("database_url", "sqlite") == "sqlite":
        return True
    if not DIFFERS.isdisjoint(parts):
        return True
    # The test itself may choose the databases, without SQLite.
    return any("database_url" in str(mark.args[:1]) for mark in item.iter_markers("parametrize"))


_measurement: Coverage | None = None


def measure(wanted: bool) -> None:
    """Go on with the measurement of coverage, or pause it.

    Modules run one after the other, and most need one of both: each change costs time.
    """
    global _measurement
    from coverage import Coverage

    running = Coverage.current()
    if wanted and running is None and _measurement is not None:
        _measurement.start()
    elif not wanted and running is not None:
        _measurement = running
        running.stop()
