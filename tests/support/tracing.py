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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

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


@contextmanager
def without_coverage() -> Iterator[None]:
    """Pause the measurement of coverage, if there is one."""
    from coverage import Coverage

    measurement = Coverage.current()
    if measurement is None:
        yield
        return
    with _turn:
        measurement.stop()
    try:
        yield
    finally:
        with _turn:
            measurement.start()
