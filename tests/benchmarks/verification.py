"""The time of a checked request, compared with peers: python -m tests.benchmarks.verification.

The command measures a request of a trivial route through the WSGI application. All cases run in one
process, in the same kind of host, and each round measures all of them in turn. The figure of a
round is the median of its requests, and the time in the table is the median of the rounds. The
ratio is the median of the rounds' ratios to the base: the host that decodes the token with PyJWT
and checks no revocation.

A case that watches has a thread that follows the feed. The thread would run during the requests of
other cases, whenever a driver releases the interpreter lock. The watching cases are therefore
measured after the others, together with the base again.

Before the measurement, the command checks that each case accepts its token and refuses a revoked
one. A case whose package or server is missing is left out, and the table gives the reason.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from .cases import BASE, Case, Unavailable, chosen, places, ready
from .measuring import Requests, in_turn, ratios
from .sites import Caller, Site
from .table import describe, machine, markdown, write_json

ROUNDS, REQUESTS = 60, 50


def checked_requests(site: Site, caller: Caller) -> Requests:
    """Return a case's requests, after a check that the case refuses a revoked token.

    :raises RuntimeError: The case refuses a valid token, or accepts a revoked one.
    """
    requests = Requests(site.app, caller.headers)
    if not requests.status().startswith("200"):
        raise RuntimeError(f"A valid token was answered with {requests.status()}.")
    if caller.revoked is not None:
        refused = Requests(site.app, caller.revoked).status()
        if not refused.startswith("401"):
            raise RuntimeError(f"A revoked token was answered with {refused}.")
    return requests


def measure(cases: Mapping[str, Case], rounds: int, requests: int) -> dict[str, Any]:
    """Measure, and return the document that ``--json`` writes."""
    told = machine()
    figures: dict[str, Any] = {}
    for part in parts(cases):
        figures = _measure_part(part, rounds, requests) | figures
    return {
        "machine": told,
        "rounds": rounds,
        "requests": requests,
        "base": BASE,
        "cases": {name: figures[name] for name in cases},
    }


def parts(cases: Mapping[str, Case]) -> list[Mapping[str, Case]]:
    """Return the cases without and those with a background thread, each part with the base."""
    threaded = {name: case for name, case in cases.items() if case.has_threads}
    others = {name: case for name, case in cases.items() if name not in threaded}
    return [others, {BASE: cases[BASE], **threaded}] if threaded else [others]


def _measure_part(cases: Mapping[str, Case], rounds: int, requests: int) -> dict[str, Any]:
    """Return the figures of cases measured in turn, or the reason that a case is left out."""
    figures: dict[str, Any] = {}
    measures: dict[str, Callable[[], float]] = {}
    with places() as lent, ExitStack() as stack:
        for name, case in cases.items():
            try:
                site, caller, _ = stack.enter_context(ready(case, lent))
            except Unavailable as error:
                figures[name] = {"left_out": str(error)}
            else:
                measures[name] = partial(checked_requests(site, caller).microseconds, requests)
        results = in_turn(measures, rounds)
    for name, ratio in ratios(results, BASE).items():
        figures[name] = {
            "us": round(statistics.median(results[name]), 1),
            "fastest_us": round(min(results[name]), 1),
            "ratio": round(ratio, 3),
        }
    return figures


def show(document: Mapping[str, Any]) -> str:
    """Return the document as a table."""
    rows = []
    for name, figure in document["cases"].items():
        if "left_out" in figure:
            rows.append([name, "-", f"left out: {figure['left_out']}"])
        else:
            rows.append([name, f"{figure['us']:.0f}", f"{figure['ratio']:.2f}"])
    return f"{describe(document['machine'])}\n\n{markdown(['', 'µs', 'ratio'], rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for each case in a round")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="the base, and cases whose name contains a NAME"
    )
    options = parser.parse_args(arguments)
    document = measure(chosen(options.only), options.rounds, options.requests)
    print(show(document))
    if options.json:
        write_json(options.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
