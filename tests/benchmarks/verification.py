"""What a checked request costs: python -m tests.benchmarks.verification [--database-url URL].

In one process, one request of a trivial route, the cases taken in turn, round by round; the
median of the rounds, and its ratio to the same host that decodes the token with PyJWT and checks
no revocation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from flask import Flask, request
from flask_login import login_required

from tests.hosts import SECRET, bearer, make_app
from xgen_flask_sessions import token_required

ROUNDS, REQUESTS = 15, 200


def add_routes(app: Flask) -> Mapping[str, Any]:
    """Add one route per case; each says the same."""

    def say() -> str:
        return "hello"

    def decoded() -> str:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_sub": False})
        return "hello"

    app.add_url_rule("/open", "bench_open", say)
    app.add_url_rule("/decoded", "bench_decoded", decoded)
    app.add_url_rule("/token", "bench_token", token_required(say))
    app.add_url_rule("/login", "bench_login", login_required(say))
    return {}


def measure(call: Callable[[], object]) -> float:
    """Return the microseconds of one call, averaged over many."""
    start = time.perf_counter()
    for _ in range(REQUESTS):
        call()
    return (time.perf_counter() - start) / REQUESTS * 1e6


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url")
    with tempfile.TemporaryDirectory() as home:
        url = parser.parse_args().database_url or f"sqlite:///{home}/bench.db"
        host = make_app(url, extras=add_routes)
        with host.app.app_context():
            host.db.drop_all()
            host.db.create_all()
        token = host.issue(host.add_user("alice"))
        client = host.client()
        cases = {
            "no token at all": ("/open", {}),
            "PyJWT decoding, no revocation check": ("/decoded", bearer(token)),
            "token_required": ("/token", bearer(token)),
            "login_required, with the user row": ("/login", bearer(token)),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, (path, headers) in cases.items():
                times[name].append(measure(lambda p=path, h=headers: client.get(p, headers=h)))  # type: ignore[misc]
        base = statistics.median(times["PyJWT decoding, no revocation check"])
        print(f"| {url.partition(':')[0]} | µs | ratio |\n|---|---|---|")
        for name, rounds in times.items():
            median = statistics.median(rounds)
            print(f"| {name} | {median:.0f} | {median / base:.2f} |")
        with host.app.app_context():
            host.db.drop_all()
        host.dispose()


if __name__ == "__main__":
    main()
