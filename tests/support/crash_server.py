"""A server that restarts at once after a kill: python -m tests.support.crash_server URL.

A supervisor imports the application once and listens. It first prints its port. For each line on
stdin it reaps the previous child; after the line "serve" it also forks a new child, which serves
on the same socket. Then it prints the child's process id, or 0. The supervisor has no database
connection and no thread, so a child starts like a fresh process.
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
"""Time limit of each step, in seconds."""


class CrashServer:
    """A client's handle on the supervisor and on the current child.

    :param database_url: The application's database; it has the tables.
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
        """Kill the child with SIGKILL; return the monotonic time just before the kill."""
        moment = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        self.pid = self._tell("reap")
        return moment

    def connect(self) -> http.client.HTTPConnection:
        """Return a new client connection, not yet opened."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def _tell(self, command: str) -> int:
        assert self._supervisor.stdin is not None
        print(command, file=self._supervisor.stdin, flush=True)
        return self._read()

    def _read(self) -> int:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        assert line, "the supervisor ended; its stderr has the reason"
        return int(line)


def add_screen(app: Flask) -> Mapping[str, Any]:
    """Add Flask-Admin, which gets the plugin's Login Management screen."""
    return {"admin": Admin(app, name="Admin Center")}


def serve(host: Host, listening: socket.socket) -> NoReturn:
    """Serve, in the child process, until the process is killed."""
    sys.stdin.close()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # bursts are expected
    waitress.serve(host.app, sockets=[listening], threads=THREADS, _quiet=True)
    os._exit(1)


def main() -> None:
    """Reap or fork a child for each line, until stdin ends."""
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
