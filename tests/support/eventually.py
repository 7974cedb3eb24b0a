"""Waits for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

PATIENCE_S = 60.0


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until something is so in other processes."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if is_so():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)  # real time: other processes are at work
    raise AssertionError(f"It is not so after {PATIENCE_S} s.")
