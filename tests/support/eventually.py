"""Waits for conditions in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

PATIENCE_S = 60.0


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds. Treat an HTTP transport error as "not yet"."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if is_so():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)  # real time: other processes are at work
    raise AssertionError(f"The condition does not hold after {PATIENCE_S} s.")
