"""Calls that must come to an end: a test fails where one hangs, and does not hang with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MARGIN_S = 4.0
"""What a busy machine may take on top of a deadline."""

_HANGS_S = 30

_T = TypeVar("_T")


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


def at_once(seconds: float, calls: Iterable[Callable[[], _T]]) -> list[_T]:
    """Return what the calls return that are made at the same time; see :func:`within`."""
    made = list(calls)
    with ThreadPoolExecutor(len(made)) as threads:
        return list(threads.map(lambda call: within(seconds, call), made))
