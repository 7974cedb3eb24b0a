"""gunicorn, serving an application of the tests in workers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

_ROOT = Path(__file__).parents[2]


@contextmanager
def gunicorn(application: str, *options: str, workers: int, patience_s: float) -> Iterator[int]:
    """Serve *application* until the end of the block, and yield the port.

    :param application: The factory's call, as gunicorn takes it.
    :param options: Further options of gunicorn.
    :param patience_s: Seconds to wait for its end.
    """
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", f"--bind=127.0.0.1:{port}"]
    command += [f"--workers={workers}", "--log-level=warning", *options, application]
    with subprocess.Popen(command, cwd=_ROOT) as server:
        try:
            yield port
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(patience_s)
