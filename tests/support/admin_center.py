"""A standalone Admin Center in a separate process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.hosts import PATIENT
from tests.support.ports import free_port

PASSWORD = "correct horse battery staple"
UNLIMITED = {
    "XGEN_SESSIONS_SIGN_IN_LIMIT": "1000/minute",
    "XGEN_SESSIONS_SIGN_IN_ADDRESS_LIMIT": "1000/minute",
    "XGEN_SESSIONS_FORCE_LOGOUT_LIMIT": "1000/minute",
}
"""Settings for one administrator who signs in and acts in every test of a module."""


class AdminCenter:
    """``python -m xgen_flask_sessions serve`` on a free port, for the length of a ``with`` block.

    :param instance: The instance directory, which will hold the database.
    :param python: The Python interpreter; its environment has the package.
    :param environment: More environment variables.
    """

    def __init__(
        self, instance: Path, *, python: Path | str = sys.executable, **environment: str
    ) -> None:
        self._python = str(python)
        self._cwd = instance.parent
        self._environment = {
            **os.environ,
            "XGEN_INSTANCE_PATH": str(instance),
            "XGEN_ADMIN_PASSWORD": PASSWORD,
            **{name: str(value) for name, value in PATIENT.items()},
            **environment,
        }
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        """The id of the server's process."""
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._python, "-m", "xgen_flask_sessions", "serve", "--port", str(self.port)],
            cwd=self._cwd, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)  # real time: another process is starting
                continue
            return self
        self._process.kill()
        raise AssertionError(self._process.communicate()[0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def run(self, *arguments: str) -> str:
        """Run a command of the package on this instance and return its output."""
        return subprocess.run(
            [self._python, "-m", "xgen_flask_sessions", *arguments],
            cwd=self._cwd, env=self._environment,
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip

    def add_user(self, name: str, *options: str) -> None:
        """Create a user with the password :data:`PASSWORD`."""
        self.run("users", "create", name, "--password", PASSWORD, *options)
