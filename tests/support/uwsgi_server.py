"""uWSGI, serving an application that it loads before it forks its workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

_ROOT = Path(__file__).parents[2]
_PATHS = (str(Path(sys.executable).parent), os.environ.get("XGEN_TEST_PATH", ""), os.defpath)

UWSGI = shutil.which("uwsgi", path=os.pathsep.join(_PATHS))
"""The program; ``None`` if it is not installed."""


@contextmanager
def uwsgi(file: Path, *options: str, workers: int, patience_s: float) -> Iterator[int]:
    """Serve the ``application`` of a file until the end of the block, and yield the port.

    :param file: The file. uWSGI runs none of Python's hooks when it forks.
    :param options: Further options of uWSGI.
    :param patience_s: Seconds to wait for its end.
    """
    port = free_port()
    command = [str(UWSGI), f"--http-socket=127.0.0.1:{port}", f"--wsgi-file={file}", "--master"]
    command += [f"--processes={workers}", "--threads=2", "--need-app", "--die-on-term", *options]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(command, cwd=_ROOT, env=environment) as server:
        try:
            yield port
        finally:
            server.terminate()
            server.wait(patience_s)
