"""Requests over sockets: python -m tests.benchmarks.sockets [--seconds N] [--json FILE].

gunicorn serves each case of ``tests.benchmarks.verification``, first with one and then with two
sync workers, and wrk makes as many requests as it can for a few seconds. The table has the requests
per second, their ratio to the requests per second of the host that decodes with PyJWT and checks no
revocation, and the 99th percentile of the request times. wrk and the servers share the machine.

Before and after the load, the command checks that each case accepts its token, and refuses a
revoked token and a request without a token. A case whose package or server is missing is left out,
and the table gives the reason.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port

from .cases import BASE, CASES, Places, Unavailable, chosen, places, ready
from .sites import PATH, Caller, Headers, hello
from .table import describe, machine, markdown, write_json

WORKERS: Final = (1, 2)
CONNECTIONS: Final = 4
"""Connections of wrk for each worker."""
SECONDS, WARM_UP_S = 4, 1
START_S: Final = 20.0
END_S: Final = 10.0
ACCEPT: Final = {"Accept": "application/json"}
"""Sent with each request: otherwise Flask-Security refuses with a redirect to its login page."""
_ROOT: Final = Path(__file__).parents[2]
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def missing() -> str | None:
    """Return a message that names a missing program and its installation, or ``None``."""
    if shutil.which("wrk") is None:
        return "wrk is not installed: apt-get install wrk"
    if importlib.util.find_spec("gunicorn") is None:
        return "gunicorn is not installed: pip install -e '.[benchmark]'"
    return None


@contextmanager
def server(case: str, url: str, workers: int, headers: Headers) -> Iterator[str]:
    """Serve a case with gunicorn, in separate processes, and yield the address of its route.

    :raises RuntimeError: It does not answer 200 in time.
    """
    port = free_port()
    application = f"tests.benchmarks.sites:serve({case!r}, {url!r})"
    command = [sys.executable, "-m", "gunicorn", application, f"--bind=127.0.0.1:{port}"]
    command += [f"--workers={workers}", "--worker-class=sync", "--log-level=warning"]
    address = f"http://127.0.0.1:{port}{PATH}"
    with subprocess.Popen(command, cwd=_ROOT, start_new_session=True) as process:
        try:
            _wait_for(address, headers, process)
            yield address
        finally:
            _end(process)


def _wait_for(address: str, headers: Headers, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_S
    answered = "nothing"
    while process.poll() is None and time.monotonic() < give_up:
        try:
            answered = str(answer(address, headers)[0])
        except ConnectionError:
            time.sleep(0.05)
        else:
            break
    if answered != "200":
        raise RuntimeError(f"gunicorn answered {answered}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop gunicorn and its workers, so that they are gone when the next case begins."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(address: str, headers: Headers) -> tuple[int, bytes]:
    """Return the status and the body of one response; a redirect is not followed."""
    url = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(url.netloc, timeout=START_S)
    with closing(connection):
        connection.request("GET", url.path, headers={**ACCEPT, **headers})
        given = connection.getresponse()
        return given.status, given.read()


def require_right_answers(address: str, caller: Caller) -> None:
    """Check that a case accepts its token, and refuses a revoked and a missing token.

    Each request is sent several times, so that every worker is likely to answer one.

    :raises RuntimeError: A response was wrong.
    """
    for _ in range(2 * max(WORKERS)):
        status, body = answer(address, caller.headers)
        if (status, body) != (200, hello().encode()):
            raise RuntimeError(f"A valid token was answered with {status}: {body[:200]!r}")
        refused = {
            "A revoked token": caller.revoked,
            "A request without a token": {} if caller.headers else None,
        }
        for shown, headers in refused.items():
            if headers is not None and (status := answer(address, headers)[0]) != 401:
                raise RuntimeError(f"{shown} was answered with {status}.")


def load(address: str, headers: Headers, connections: int, seconds: int) -> dict[str, float]:
    """Run wrk, and return the requests per second and the 99th percentile of their times in ms.

    :raises RuntimeError: A request was not answered with 200.
    """
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s"]
    for name, value in {**ACCEPT, **headers}.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run([*command, address], capture_output=True, text=True, check=True)
    return read(done.stdout)


def read(told: str) -> dict[str, float]:
    """Return the figures in the output of wrk.

    :raises RuntimeError: Requests failed, or a figure is missing.
    """
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", told)
    if rate is None or slow is None or "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(f"Not every request was answered with 200:\n{told}")
    return {"per_second": float(rate[1]), "p99_ms": round(float(slow[1]) * _UNITS[slow[2]], 3)}


def measure_case(name: str, lent: Places, seconds: int) -> dict[int, dict[str, float]]:
    """Return the figures of one case, for each number of workers.

    :raises Unavailable: A package or server that the case needs is missing.
    :raises RuntimeError: A response was wrong.
    """
    figures = {}
    with ready(CASES[name], lent) as (_, caller, url):
        for workers in WORKERS:
            with server(name, url, workers, caller.headers) as address:
                connections = CONNECTIONS * workers
                require_right_answers(address, caller)
                load(address, caller.headers, connections, WARM_UP_S)
                figures[workers] = load(address, caller.headers, connections, seconds)
                require_right_answers(address, caller)
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
    empty = [""] * (3 * len(WORKERS) - 1)
    rows += [[name, f"left out: {why}", *empty] for name, why in left_out.items()]
    return f"{describe(told)}\n\n{markdown(header, rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON on request; return 1 if wrk or gunicorn is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each case and server")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="the base, and cases whose name contains a NAME"
    )
    options = parser.parse_args(arguments)
    lacking = missing()
    if lacking is not None:
        print(lacking, file=sys.stderr)
        return 1
    told, cases, left_out = machine(), {}, {}
    with places() as lent:
        for name in chosen(options.only):
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
