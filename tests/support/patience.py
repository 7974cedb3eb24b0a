"""Calls that must come to an end: a test fails where one hangs, and does not hang with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from xgen_flask_sessions.errors import DatabaseUnavailable

MARGIN_S = 4.0
"""What a busy machine may take on top of a deadline."""

_QUICKEST_S = 1.0
"""What it may take on top of a deadline at the best of several attempts."""
_HANGS_S = 60

_T = TypeVar("_T")


def until(holds: Callable[[], bool], *, within_s: float = _HANGS_S) -> None:
    """Wait until something holds.

    :raises AssertionError: It does not come to hold in time.
    """
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, "It did not come to be in time."
        threading.Event().wait(0.002)


def expect_in_time(took_s: Iterable[float], deadline_s: float) -> None:
    """Expect calls to have kept to a deadline, as far as a busy machine lets them.

    :param took_s: How long each took.
    """
    taken = sorted(took_s)
    assert taken[0] < deadline_s + _QUICKEST_S, taken
    assert taken[-1] < deadline_s + MARGIN_S, taken


def within(seconds: float, call: Callable[[], _T], *, margin_s: float = MARGIN_S) -> _T:
    """Return what *call* returns, or raise what it raises.

    :param seconds: How long it may take, the margin aside.
    :param margin_s: What a busy machine may take on top.
    :raises AssertionError: It took longer, or goes on still.
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
    assert returned, f"It goes on after {took:.1f} s."
    assert took < seconds + margin_s, f"It took {took:.2f} s."
    return returned[0]


def in_spite_of_stalls(seconds: float, call: Callable[[], _T]) -> _T:
    """Return what *call* returns; of another attempt, where it was refused for want of time.

    A busy machine may hold up a call for as long as the database may take. Whoever is refused
    sooner is refused for another reason.

    :param seconds: How long the database may take.
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
    """Return what the calls return that are made at the same time; see :func:`within`."""
    made = list(calls)
    with ThreadPoolExecutor(len(made)) as threads:
        return list(threads.map(lambda call: within(seconds, call, margin_s=2 * MARGIN_S), made))
