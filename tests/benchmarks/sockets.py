"""The same over real sockets: python -m tests.benchmarks.sockets [--seconds N] [--json FILE].

gunicorn with one and with two sync workers, and wrk, which makes as many requests as it can for a
few seconds; requests per second, the 99th percentile of their times, and the ratio of the
requests per second to those of the same host that decodes with PyJWT and checks no revocation.
wrk and the servers share the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .cases import BASE, CASES, Places, Unavailable, places, ready
from .sites import PATH, Headers
from .table import describe, machine, markdown, write_json

NAMES: Final = (
    "no token at all",
    BASE,
    "token_required, strict, sqlite",
    "token_required, strict, postgresql",
    "token_required, watch, sqlite",
    "token_required, watch, postgresql",
    "token_required, watch, mariadb",
)
WORKERS: Final = (1, 2)
CONNECTIONS: Final = 4
"""Of wrk, for each worker."""
START_S: Final = 20.0
_ROOT: Final = Path(__file__).parents[2]
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def missing() -> str | None:
    """Say what is not there and how to get it; ``None`` if nothing is missing."""
    if shutil.which("wrk") is None:
        return "wrk is not there: apt-get install wrk"
    if importlib.util.find_spec("gunicorn") is None:
        return "gunicorn is not installed: pip install -e '.[benchmark]'"
    return None


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(case: str, url: str, workers: int, headers: Headers) -> Iterator[str]:
    """Serve a case by gunicorn, in processes of its own; give the address of its route.

    :raises RuntimeError: It does not answer 200 in time.
    """
    port = free_port()
    application = f"tests.benchmarks.sites:serve({case!r}, {url!r})"
    command = [sys.executable, "-m", "gunicorn", application, f"--bind=127.0.0.1:{port}"]
    command += [f"--workers={workers}", "--worker-class=sync", "--log-level=warning"]
    address = f"http://127.0.0.1:{port}{PATH}"
    with subprocess.Popen(command, cwd=_ROOT) as process:
        try:
            _wait_for(address, headers, process)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_for(address: str, headers: Headers, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_S
    request = urllib.request.Request(address, headers=dict(headers))
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(request, timeout=START_S):
                return
        except ConnectionError:
            time.sleep(0.05)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(0.05)
    raise RuntimeError("gunicorn did not answer in time.")


def load(address: str, headers: Headers, connections: int, seconds: int) -> dict[str, float]:
    """Let wrk make requests; return how many a second, and the 99th percentile in ms.

    :raises RuntimeError: One was not answered 200.
    """
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run([*command, address], capture_output=True, text=True, check=True)
    return read(done.stdout)


def read(told: str) -> dict[str, float]:
    """Return the figures in what wrk printed.

    :raises RuntimeError: Requests failed, or there are no figures.
    """
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", told)
    if rate is None or slow is None or "Non-2xx" in told:
        raise RuntimeError(f"Not every request was answered 200:\n{told}")
    return {"per_second": float(rate[1]), "p99_ms": round(float(slow[1]) * _UNITS[slow[2]], 3)}


def measure_case(name: str, lent: Places, seconds: int) -> dict[int, dict[str, float]]:
    """Return the figures of one case, for each number of workers.

    :raises Unavailable: Its database is not there.
    """
    figures = {}
    with ready(CASES[name], lent) as (_, caller, url):
        for workers in WORKERS:
            with server(name, url, workers, caller.headers) as address:
                connections = CONNECTIONS * workers
                load(address, caller.headers, connections, 1)  # warms up
                figures[workers] = load(address, caller.headers, connections, seconds)
    return figures


def show(told: Mapping[str, Any], cases: Mapping[str, Any], left_out: Mapping[str, str]) -> str:
    """Return the figures as a table."""
    header = [""]
    for workers in WORKERS:
        header += [f"requests/s, {workers} worker{'s' * (workers > 1)}", "ratio", "p99 ms"]
    rows: list[Sequence[str]] = []
    for name, figures in cases.items():
        row = [name]
        for workers, figure in figures.items():
            ratio = figure["per_second"] / cases[BASE][workers]["per_second"]
            row += [f"{figure['per_second']:.0f}", f"{ratio:.2f}", f"{figure['p99_ms']:.1f}"]
        rows.append(row)
    rows += [[name, f"left out: {why}", *[""] * 5] for name, why in left_out.items()]
    return f"{describe(told)}\n\n{markdown(header, rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON if asked to; 1 if wrk or gunicorn is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each case and server")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases whose name holds one")
    options = parser.parse_args(arguments)
    lacking = missing()
    if lacking is not None:
        print(lacking, file=sys.stderr)
        return 1
    told, cases, left_out = machine(), {}, {}
    with places() as lent:
        for name in NAMES:
            if options.only and name != BASE and not any(part in name for part in options.only):
                continue
            try:
                cases[name] = measure_case(name, lent, options.seconds)
            except Unavailable as error:
                left_out[name] = str(error)
    print(show(told, cases, left_out))
    if options.json:
        write_json(options.json, {"machine": told, "cases": cases, "left_out": left_out})
    return 0


if __name__ == "__main__":
    sys.exit(main())
