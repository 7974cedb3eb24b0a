"""Concurrent calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor


def in_threads(jobs: Sequence[Callable[[], object]]) -> None:
    """Run the jobs at the same time; raise the first exception, if any."""
    start = threading.Barrier(len(jobs), timeout=60)

    def run(job: Callable[[], object]) -> None:
        start.wait()
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(run, job) for job in jobs]:
            done.result(timeout=120)
