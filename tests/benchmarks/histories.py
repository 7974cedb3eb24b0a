"""A long history, recorded and checked: python -m tests.benchmarks.histories [--seconds 60] […].

On one database, several processes sign users in, renew tokens, end sessions, force logouts,
deactivate and activate users, and verify tokens. Their clocks are off by up to two seconds, and
jump. An offline checker then looks for tokens that were accepted by a call begun after their
revocation had returned, and for tokens that were refused without cause. The command prints the
numbers of operations and faults; the exit status is 1 if there was a fault.

With --consistency watch, the processes watch (``XGEN_SESSIONS_CONSISTENCY="watch"``), and a quarter
of them only verify tokens. During the run, the feed is cut off in half of the processes, the server
ends every idle connection, the processes that only verify are cut off from the database, and the
server is restarted. If there is a Redis, it is flushed, first once and then repeatedly, and one of
the processes that only verify is a service that has Redis instead of the database. A token may be
accepted for at most two seconds after its revocation.

Without --database-url, the command tests all three databases in turn: SQLite in a temporary
directory, and PostgreSQL and MariaDB on the servers of the tests, in a new database that is dropped
afterwards.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import sqlalchemy as sa

from tests.histories.disturbances import Place, place_on, usual
from tests.histories.findings import Report
from tests.histories.record import Kind
from tests.histories.run import PROCESSES, run
from tests.histories.wrong_systems import SYSTEMS
from tests.support.databases import REDIS, SERVERS, Server, reason_against_redis
from tests.support.redis_place import RedisPlace, redis_place
from tests.support.server_kinds import KINDS
from tests.support.wire import wire_to

LEAST_STEPS = 60
"""Steps that each process makes at least, even past the given time: a shorter history proves
little."""
TOLD = 10
"""The number of faults that are printed in full."""
BOUND_S = 2.0
"""The staleness bound of the processes that watch, in seconds."""
CONNECTIONS = 100
"""The number of clients that a private server serves at once."""


@contextmanager
def empty_database(name: str, home: Path) -> Iterator[str]:
    """Yield the URL of an empty database of a kind, and drop it afterwards."""
    if name not in SERVERS:
        yield f"sqlite:///{home / 'histories.db'}"
        return
    server = Server(name)
    try:
        yield server.url
    finally:
        server.drop()


@contextmanager
def given_database(url: str) -> Iterator[str]:
    """Yield the URL of an existing empty database, and drop its new tables afterwards.

    :raises SystemExit: It has tables.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if sa.inspect(engine).get_table_names():
        sys.exit("The database has tables; name an empty one.")
    try:
        yield url
    finally:
        made = sa.MetaData()
        made.reflect(engine)
        made.drop_all(engine)


@contextmanager
def disturbable(name: str, home: Path, redis: RedisPlace | None) -> Iterator[Place]:
    """Yield an empty database that can be disturbed, on a private server if possible."""
    if name not in SERVERS:
        yield Place(f"sqlite:///{home / 'histories.db'}", redis=redis)
        return
    if KINDS[name].reason_against() is not None:
        with empty_database(name, home) as url, wire_to(url) as (wire, distant_url):
            yield Place(url, distant_url, wire, SERVERS[name], redis=redis)
        return
    own = KINDS[name](CONNECTIONS)
    try:
        own.set_up()
        with place_on(own, redis) as place:
            yield place
    finally:
        own.close()


def figures(report: Report) -> dict[str, str]:
    """Return the rows of one database's column."""
    rows: dict[str, str] = {}
    for kind in get_args(Kind):
        others = {
            outcome: count
            for (what, outcome), count in sorted(report.counts.items())
            if what == kind and outcome != "done"
        }
        told = "".join(f", {count:,} {outcome}" for outcome, count in others.items())
        rows[kind] = f"{report.counts[kind, 'done']:,} done{told}"
    rows["operations in all"] = f"{sum(report.counts.values()):,}"
    rows["longest acceptance after a revocation"] = f"{report.longest_staleness_ns / 1e6:.3f} ms"
    rows["acceptances after a revocation"] = f"{report.late_acceptances:,}"
    rows["faults"] = f"{len(report.findings):,}"
    return rows


def print_table(columns: Mapping[str, Report]) -> None:
    """Print the numbers in a column for each database, and the first faults in full."""
    cells = [figures(report) for report in columns.values()]
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name in cells[0]:
        print(f"| {name} | {' | '.join(column[name] for column in cells)} |")
    for name, report in columns.items():
        for finding in report.findings[:TOLD]:
            print(f"\n{name}: {finding}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url")
    parser.add_argument("--system", choices=SYSTEMS, default=SYSTEMS[0])
    parser.add_argument("--consistency", choices=("strict", "watch"), default="strict")
    return parser.parse_args(arguments)


@contextmanager
def _redis() -> Iterator[RedisPlace | None]:
    if why := reason_against_redis():
        print(f"Without Redis: {why}")
        yield None
        return
    with redis_place(REDIS) as place:
        yield place


@contextmanager
def _place(options: argparse.Namespace, name: str, home: Path) -> Iterator[Place]:
    if options.database_url is not None:
        with given_database(options.database_url) as url:
            yield Place(url)
    elif options.consistency == "watch":
        with _redis() as redis, disturbable(name, home, redis) as place:
            yield place
    else:
        with empty_database(name, home) as url:
            yield Place(url)


def main(arguments: list[str] | None = None) -> int:
    """Run, check, and print; return 1 if there was a fault."""
    options = parse(arguments)
    columns: dict[str, Report] = {}
    url: str | None = options.database_url
    names = ["sqlite", *SERVERS] if url is None else [url.partition(":")[0]]
    for name in names:
        with tempfile.TemporaryDirectory() as home:
            records = Path(home) / "records"
            records.mkdir()
            with _place(options, name, Path(home)) as place:
                watches = options.consistency == "watch"
                disturbances = usual(records, BOUND_S, place) if watches else []
                columns[name] = run(
                    place.url,
                    records,
                    seconds=options.seconds,
                    least_steps=LEAST_STEPS,
                    processes=options.processes,
                    system=options.system,
                    seed=options.seed,
                    consistency=options.consistency,
                    max_staleness_s=BOUND_S,
                    showing=options.processes // 4 if watches else 0,
                    distant_url=place.distant_url,
                    redis=place.redis,
                    disturbances=disturbances,
                )
                for disturbance in disturbances:
                    print(f"{name}: {disturbance.name}")
    print_table(columns)
    return int(any(report.findings for report in columns.values()))


if __name__ == "__main__":
    sys.exit(main())
