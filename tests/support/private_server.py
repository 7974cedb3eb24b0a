"""A private database server that a test may stop, pause, fill or make read-only.

Its data are in a temporary directory, and it listens on a free port of 127.0.0.1. The application
connects as the database user ``app``, which owns its databases and has no right on the server.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from tests.support.ports import free_port

MAX_CONNECTIONS = 20
"""The default limit of connections to a server."""

_START_S = 120


class PrivateServer(ABC):
    """One private server, from :meth:`set_up` to :meth:`close`."""

    name: str
    system_user: str
    """The system user of the server if the tests run as root; it refuses to run as root."""
    _driver: str
    _owner: str
    _count_app: str

    def __init__(self, max_connections: int = MAX_CONNECTIONS) -> None:
        self.max_connections = max_connections
        self.home = Path(tempfile.mkdtemp(prefix=f"xgen-{self.name}-"))
        self.data = self.home / "data"
        self._as_user = self.system_user if os.geteuid() == 0 else None
        if self._as_user:
            shutil.chown(self.home, self._as_user, self._as_user)
        self.port = free_port()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = sa.create_engine(
            self.admin_url,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )

    @property
    @abstractmethod
    def _first_database(self) -> str:
        """The name of a database that exists on every server."""

    @classmethod
    @abstractmethod
    def programs(cls) -> Sequence[str]:
        """Return the names or paths of the programs that the server needs."""

    @classmethod
    def reason_against(cls) -> str | None:
        """Return the reason why the server cannot run here, or ``None`` if it can."""
        for program in cls.programs():
            if shutil.which(program) is None:
                return f"a private {cls.name} is not possible: {program} is not installed"
        return None

    @abstractmethod
    def _make(self) -> None:
        """Create the data directory."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def _admit_application(self) -> None:
        """Create the database user ``app``."""

    @abstractmethod
    def create_database(self, name: str) -> None:
        """Create a database on which ``app`` has all rights."""

    @abstractmethod
    def restore(self) -> None:
        """Undo a test's changes: the server runs, answers, and is writable again."""

    def set_up(self) -> None:
        """Create the server and start it."""
        self._make()
        self.start()
        self._admit_application()

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers.

        :raises AssertionError: The server ended; the message is its log.
        """
        if self._process is not None:
            return
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, user=self._as_user, cwd=self.home
            )
        process = self._process
        await_condition(lambda: process.poll() is not None or self._answers())
        assert process.poll() is None, (self.home / "log").read_text()

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals | None = None) -> None:
        """Stop the server with a signal, if it runs.

        :param how: The signal; by default the one that shuts the server down in order.
        """
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(how or self._end_signal)
        self._process.wait(120)
        self._process = None

    @property
    @abstractmethod
    def _end_signal(self) -> signal.Signals:
        """The signal that shuts the server down without waiting for its clients."""

    def pause(self) -> None:
        """Suspend the server: it still listens, but does not answer."""
        for pid in self._pids()[:1]:
            _stop(pid)  # first, so that no further child process starts
        for pid in self._pids()[1:]:
            _stop(pid)

    def resume(self) -> None:
        """Resume the server after :meth:`pause`."""
        for pid in reversed(self._pids()):
            _signal(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """Return the ids of the server's process and of its children, in this order."""
        if self._process is None:
            return []
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def execute(self, *statements: str) -> None:
        """Run statements as the server's owner."""
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def query(self, statement: str) -> object:
        """Run a statement as the server's owner, and return the first value of its first row."""
        with self._admin.connect() as connection:
            return connection.exec_driver_sql(statement).scalar()

    def url(self, database: str, *, user: str = "app") -> str:
        """Return the URL of a database."""
        return f"{self._driver}://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def admin_url(self) -> str:
        """The URL of the server's owner."""
        return self.url(self._first_database, user=self._owner)

    def empty_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self.create_database(name)
        return self.url(name)

    @contextmanager
    def filled(self, database_url: str) -> Iterator[None]:
        """End all connections of ``app``, and take every free one for the length of the block."""
        engine = sa.create_engine(database_url, poolclass=sa.NullPool)
        held: list[sa.Connection] = []
        self._cut_off()
        await_condition(lambda: self._clients() == 0)
        try:
            with suppress(sa.exc.OperationalError):
                while True:
                    held.append(engine.connect())
            yield
        finally:
            for connection in held:
                connection.close()
            await_condition(
                lambda: self._clients() < self.max_connections / 2
            )  # the server notices closed connections with a delay

    def _clients(self) -> int:
        """Return the number of connections of ``app``."""
        return int(str(self.query(self._count_app)))

    @abstractmethod
    def _cut_off(self) -> None:
        """End every connection of ``app``."""

    @abstractmethod
    def set_read_only(self, read_only: bool) -> None:
        """Forbid writing to ``app``, or allow it again."""

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self.home)

    def run(self, *command: str) -> None:
        """Run a program as the server's system user."""
        subprocess.run(
            command, check=True, capture_output=True, user=self._as_user, cwd=self.home, timeout=180
        )


def await_condition(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that another process brings about.

    :raises AssertionError: It does not hold in time.
    """
    deadline = time.monotonic() + _START_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # real time: another process is at work


def _is_stopped(pid: int) -> bool:
    """Return whether every thread of a process is stopped, or the process has ended."""
    try:
        states = [
            task.read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").glob("*/stat")
        ]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(state in "TZX" for state in states)


def _stop(pid: int) -> None:
    _signal(pid, signal.SIGSTOP)
    await_condition(lambda: _is_stopped(pid))


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # the process of a connection may have ended meanwhile
        os.kill(pid, number)
