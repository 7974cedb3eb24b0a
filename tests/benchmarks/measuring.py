"""Measures the time of requests within one process, through the WSGI application.

A request copies a prepared environ, calls ``app.wsgi_app`` with it, and reads the response, as a
WSGI server does. It avoids the noise of a server and the cost of a test client.
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
    :param headers: The headers of the request.
    :param path: The path of the request.
    """

    def __init__(self, app: Flask, headers: Headers, path: str = PATH) -> None:
        self._call = app.wsgi_app
        self._environ = environ(headers, path)
        self._status = ""

    def status(self) -> str:
        """Make one request, and return the status line of the response."""
        self._send()
        return self._status

    def microseconds(self, count: int) -> float:
        """Make *count* requests one after the other, and return the median of their times.

        :raises RuntimeError: A request was not answered with 200.
        """
        times = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            self._send()
            times.append(time.perf_counter_ns() - begun)
            if not self._status.startswith("200"):
                raise RuntimeError(f"A request was answered with {self._status}.")
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
    """Take each measurement once per round, and return its results, round by round.

    Each round begins with a different measurement, so that none always follows the slowest.

    :param rounds: The number of rounds whose results are kept.
    :param warm_up: The number of rounds before them, whose results are discarded.
    """
    names = list(measures)
    results: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # no request pays for collecting the objects of the set-up
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
    """Return the median, over the rounds, of the ratio of each result to the base's result."""
    return {
        name: statistics.median(
            own / other for own, other in zip(values, results[base], strict=True)
        )
        for name, values in results.items()
    }
