"""How long a request takes, inside one process, through the WSGI application.

A request is a copy of an environ that was made beforehand, given to ``app.wsgi_app``, and the
reading of its answer: what a WSGI server does, without its noise and without a test client's.
"""

from __future__ import annotations

import gc
import io
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask

from .sites import PATH, Headers

Environ = dict[str, Any]


def environ(headers: Headers, path: str = PATH) -> Environ:
    """Return the environ of a GET request, as a WSGI server would make it."""
    made: Environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_USER_AGENT": "benchmark",
        "HTTP_ACCEPT": "application/json",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        made[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return made


class Requests:
    """One kind of request to one application.

    :param app: The application.
    :param headers: What the request carries.
    :param path: Where it goes.
    """

    def __init__(self, app: Flask, headers: Headers, path: str = PATH) -> None:
        self._call = app.wsgi_app
        self._environ = environ(headers, path)
        self._status = ""

    def status(self) -> str:
        """Make one request, and return the status line of the answer."""
        self._send()
        return self._status

    def microseconds(self, count: int) -> float:
        """Make *count* requests one after the other; return the median of their times.

        :raises RuntimeError: One was not answered 200.
        """
        times = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            self._send()
            times.append(time.perf_counter_ns() - begun)
            if not self._status.startswith("200"):
                raise RuntimeError(f"A request was answered {self._status}.")
        return statistics.median(times) / 1000

    def _send(self) -> None:
        answer = self._call(self._environ.copy(), self._start_response)
        for _ in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()

    def _start_response(self, status: str, headers: object, exc_info: object = None) -> Any:
        self._status = status
        return None


def in_turn(
    measures: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Take every measure once a round, and return each one's results, round by round.

    Each round begins with another, so that none is always the one after the slowest.

    :param rounds: How many results of each are kept.
    :param warm_up: How many rounds before are not.
    """
    names = list(measures)
    results: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # what was set up is no part of any request's garbage
    try:
        for number in range(warm_up + rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                result = measures[name]()
                if number >= warm_up:
                    results[name].append(result)
    finally:
        gc.unfreeze()
    return results


def ratios(results: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Return the median, over the rounds, of each one's result by the base's of that round."""
    return {
        name: statistics.median(
            own / other for own, other in zip(values, results[base], strict=True)
        )
        for name, values in results.items()
    }
