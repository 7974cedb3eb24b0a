"""Time limits for calls: if a call hangs, the test fails and does not hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from xgen_flask_sessions.errors import DatabaseUnavailable

MARGIN_S = 4.0
"""Seconds by which a call may exceed its deadline on a busy machine."""

_QUICKEST_S = 1.0
"""Seconds by which the fastest of several calls may exceed its deadline."""
_HANGS_S = 60

_T = TypeVar("_T")


def until(holds: Callable[[], bool], *, within_s: float = _HANGS_S) -> None:
    """Wait until a condition holds.

    :raises AssertionError: It does not hold in time.
    """
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, "The condition did not hold in time."
        threading.Event().wait(0.002)


def expect_in_time(took_s: Iterable[float], deadline_s: float) -> None:
    """Expect that calls kept a deadline, with a tolerance for a busy machine.

    :param took_s: The duration of each call.
    """
    taken = sorted(took_s)
    assert taken[0] < deadline_s + _QUICKEST_S, taken
    assert taken[-1] < deadline_s + MARGIN_S, taken


def within(seconds: float, call: Callable[[], _T], *, margin_s: float = MARGIN_S) -> _T:
    """Make a call with a time limit, and return its result or raise its exception.

    :param seconds: The time limit, without the margin.
    :param margin_s: Added to the limit for a busy machine.
    :raises AssertionError: The call took longer, or still runs.
    """
    returned: list[_T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    start = time.monotonic()
    thread.start()
    thread.join(max(_HANGS_S, seconds + margin_s))
    took = time.monotonic() - start
    if raised:
        raise raised[0]
    assert returned, f"The call still runs after {took:.1f} s."
    assert took < seconds + margin_s, f"The call took {took:.2f} s."
    return returned[0]


def in_spite_of_stalls(seconds: float, call: Callable[[], _T]) -> _T:
    """Return the result of *call*, and retry it up to twice if it ran out of time.

    A busy machine may delay a call until its deadline has passed. A call that is refused sooner
    is refused for another reason, and is not repeated.

    :param seconds: The deadline for the database.
    """
    for _ in range(3):
        start = time.monotonic()
        refusal: DatabaseUnavailable | None = None
        try:
            result = within(seconds, call)
            refused = getattr(result, "status_code", result) == HTTPStatus.SERVICE_UNAVAILABLE
        except DatabaseUnavailable as error:
            refusal, refused = error, True
        if not refused or time.monotonic() - start < 0.9 * seconds:
            break
    if refusal is not None:
        raise refusal
    return result


def at_once(seconds: float, calls: Iterable[Callable[[], _T]]) -> list[_T]:
    """Make calls at the same time, and return their results; see :func:`within`."""
    made = list(calls)
    with ThreadPoolExecutor(len(made)) as threads:
        return list(threads.map(lambda call: within(seconds, call, margin_s=2 * MARGIN_S), made))
