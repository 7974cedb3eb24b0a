"""A server that may be killed and is back at once: python -m tests.support.crash_server URL.

The supervisor imports the application once and listens. For each line on stdin it reaps the child
of before and forks another, which serves on the same socket; it prints the port first, and then
each child's id. It has no connection to the database and no thread, so that a child starts as a
fresh process would.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn, Self

import waitress
from flask import Flask
from flask_admin import Admin

from tests.support.hosts import Host, make_app

THREADS = 8
WAIT_S = 20
"""How long anything here may take."""


class CrashServer:
    """The supervisor seen from outside, and the child that serves just now.

    :param database_url: What the application is to use; its tables are there.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self.pid = 0

    def __enter__(self) -> Self:
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash_server", self._url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.communicate(timeout=WAIT_S)

    def start(self) -> None:
        """Fork a child that serves."""
        self.pid = self._tell("serve")

    def kill(self) -> float:
        """Kill the child with SIGKILL; return the moment before."""
        moment = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        self.pid = self._tell("reap")
        return moment

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of a client's."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def _tell(self, what: str) -> int:
        assert self._supervisor.stdin is not None
        print(what, file=self._supervisor.stdin, flush=True)
        return self._read()

    def _read(self) -> int:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        assert line, "the supervisor ended; see stderr"
        return int(line)


def add_screen(app: Flask) -> Mapping[str, Any]:
    """Add Login Management."""
    return {"admin": Admin(app, name="Admin Center")}


def serve(host: Host, listening: socket.socket) -> NoReturn:
    """Serve, as the child, until killed."""
    sys.stdin.close()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a burst is no news
    waitress.serve(host.app, sockets=[listening], threads=THREADS, _quiet=True)
    os._exit(1)


def main() -> None:
    """Fork a child for each line, until stdin ends."""
    host = make_app(sys.argv[1], create_all=False, extras=add_screen)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        print(listening.getsockname()[1], flush=True)
        child = 0
        for line in sys.stdin:
            if child:
                os.waitpid(child, 0)
                child = 0
            if line == "serve\n":
                assert threading.active_count() == 1
                child = os.fork() or serve(host, listening)
            print(child, flush=True)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
