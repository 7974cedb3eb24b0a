"""The time of each step of a checked request: python -m tests.benchmarks.profile_request.

The same request is made with more and more steps of the check in its view, with all variants in
turn and equally often. The figure of a row is the time that its step adds to the steps before it.
The steps are measured within a request, because Flask empties the processor's caches in the
meantime: a step then takes about twice as long as in a loop.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from tests.support.databases import SERVERS
from xgen_flask_sessions import clock
from xgen_flask_sessions.connections.drivers import CachingSQLite, compile_lookup, fast_lookup
from xgen_flask_sessions.connections.pool import DeadlinePool
from xgen_flask_sessions.denylist.strict import STATEMENTS
from xgen_flask_sessions.state import State
from xgen_flask_sessions.web.request_token import outcome

from .cases import CASES, Places, Unavailable, places, ready
from .measuring import Requests, in_turn
from .sites import PATH, Site, hello
from .table import describe, machine, markdown, write_json

ROUNDS, REQUESTS = 60, 40
DATABASES: Final = ("sqlite", *SERVERS)

STEPS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "Flask: contexts, routing, the answer; the view": ("plain", ()),
    "the plugin's functions before and after each request": ("open", ("plain",)),
    "the driver: the look-up and its round trip": ("driver", ("open",)),
    "the connection from the pool, and its deadline": ("pool", ("driver",)),
    "the engine, and decoding the row": ("status", ("pool",)),
    "the claims, signature checked before; expiry": ("decode", ("open",)),
    "token against row; the VerifiedToken": ("verify", ("status", "decode", "-open")),
    "finding the token, keeping the outcome": ("outcome", ("verify",)),
    "token_required around the view": ("whole", ("outcome",)),
}
"""The measurement of each row, and the measurements subtracted from it ("-" adds one)."""

BESIDE: Final = "(the same look-up with a cursor of the driver)"
"""A row for comparison: the time of the look-up with the driver's usual cursor."""

ALONE: Final = "(the token checked in a loop, without a request)"
"""A row for comparison: the time of the check while the processor's caches stay filled."""


@dataclass(frozen=True)
class _Parts:
    """The objects that the single steps need."""

    state: State
    token: str
    jti: str
    pool: DeadlinePool
    engine: sa.Engine
    connection: Any


@contextmanager
def _parts(site: Site, token: str) -> Iterator[_Parts]:
    state: State = site.app.extensions["xgen_sessions"]
    jti = state.codec.decode(token, now_us=clock.now_us()).jti
    with site.app.app_context():
        engine = site.db.engine
    pool = DeadlinePool(engine, state.settings.deadline.total_seconds())
    borrowed = engine.raw_connection()
    connection: Any = borrowed.dbapi_connection
    borrowed.detach()
    engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")
    try:
        yield _Parts(state, token, jti, pool, engine, connection)
    finally:
        connection.close()
        engine.dispose()


def _views(parts: _Parts) -> dict[str, Callable[[], str]]:
    state, token, jti, connection = parts.state, parts.token, parts.jti, parts.connection
    statement = STATEMENTS["status"]
    sql, parameters = compile_lookup(statement, parts.engine)
    ask = fast_lookup(connection, parts.engine.dialect)
    if isinstance(ask, CachingSQLite):  # read the row once, so that the cache has it
        cache, ask = ask, ask.cached
        ask(sql, parameters(jti))
        cache.keep(sql, parameters(jti), cache(sql, parameters(jti)))
    made = statement.compile(dialect=parts.engine.dialect)
    usual = (jti,) if made.positional else {"about": jti}

    def by_cursor() -> str:
        cursor = connection.cursor()
        cursor.execute(str(made), usual)
        cursor.fetchone()
        cursor.close()
        return "hello"

    def calling(step: Callable[[], object]) -> Callable[[], str]:
        def view() -> str:
            step()
            return "hello"

        return view

    return {
        "open": hello,
        "cursor": by_cursor,
        "driver": calling(lambda: ask(sql, parameters(jti))),
        "pool": calling(lambda: parts.pool.fetch_one(sql, parameters(jti))),
        "status": calling(lambda: state.denylist.status(jti)),
        "decode": calling(lambda: state.codec.decode(token, now_us=clock.now_us())),
        "verify": calling(lambda: state.checker.verify(token)),
        "outcome": calling(outcome),
    }


def profile(database: str, lent: Places, rounds: int, requests: int) -> dict[str, float]:
    """Return the microseconds of each of :data:`STEPS`, and of the whole request.

    :raises Unavailable: The database is not available.
    """
    ours = CASES[f"token_required, strict, {database}"]
    with ExitStack() as stack:
        site, caller, _ = stack.enter_context(ready(ours, lent))
        plain, _, _ = stack.enter_context(ready(CASES["no token at all"], lent))
        token = caller.headers["Authorization"].removeprefix("Bearer ")
        parts = stack.enter_context(_parts(site, token))
        calls = {"plain": Requests(plain.app, caller.headers, PATH)}
        for name, view in _views(parts).items():
            site.app.add_url_rule(f"/{name}", name, view)
            calls[name] = Requests(site.app, caller.headers, f"/{name}")
        calls["whole"] = Requests(site.app, caller.headers, PATH)
        measures = {name: _measure(call, requests) for name, call in calls.items()}
        measures["alone"] = lambda: _time_in_loop(site, parts, requests)
        results = in_turn(measures, rounds)
    return {row: _difference(results, *step) for row, step in STEPS.items()} | {
        "in all": statistics.median(results["whole"]),
        BESIDE: _difference(results, "cursor", ("open",)),
        ALONE: statistics.median(results["alone"]),
    }


def _measure(call: Requests, requests: int) -> Callable[[], float]:
    return lambda: call.microseconds(requests)


def _time_in_loop(site: Site, parts: _Parts, count: int) -> float:
    """Return the mean time of *count* checks in a loop, in microseconds."""
    with site.app.app_context():
        begun = time.perf_counter_ns()
        for _ in range(count):
            parts.state.checker.verify(parts.token)
        return (time.perf_counter_ns() - begun) / count / 1000


def _difference(results: Mapping[str, list[float]], name: str, others: tuple[str, ...]) -> float:
    """Return the median, over the rounds, of a measurement minus *others* (plus those with "-")."""
    figures = []
    for number, figure in enumerate(results[name]):
        less = figure
        for other in others:
            sign = -1 if other.startswith("-") else 1
            less -= sign * results[other.removeprefix("-")][number]
        figures.append(less)
    return statistics.median(figures)


def main(arguments: list[str] | None = None) -> int:
    """Profile a request on each database, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for each step in a round")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", nargs="+", choices=DATABASES, default=DATABASES)
    options = parser.parse_args(arguments)
    told = machine()
    columns: dict[str, dict[str, float]] = {}
    with places() as lent:
        for database in options.only:
            try:
                columns[database] = profile(database, lent, options.rounds, options.requests)
            except Unavailable as error:
                print(f"Left out: {error}", file=sys.stderr)
    rows = [
        [row, *(f"{figures[row]:.1f}" for figures in columns.values())]
        for row in (*STEPS, "in all", BESIDE, ALONE)
    ]
    print(f"{describe(told)}\n\n{markdown(['µs', *columns], rows)}")
    if options.json:
        write_json(options.json, {"machine": told, "us": columns})
    return 0


if __name__ == "__main__":
    sys.exit(main())
