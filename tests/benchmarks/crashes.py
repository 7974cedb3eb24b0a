"""Force logouts lost in a crash: python -m tests.benchmarks.crashes [--database-url URL].

While several clients make force logouts, the server is killed with SIGKILL at random moments and
started again; see :mod:`tests.support.crashes`. Without --database-url, the command tests all three
databases in turn, as ``tests.benchmarks.histories`` does. The exit status is 1 if a force logout
that was answered with 200 was lost, if one was half done, or if another check failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from tests.benchmarks.histories import empty_database, given_database
from tests.support import crashes
from tests.support.databases import SERVERS
from tests.support.hosts import make_app


def main(options: list[str] | None = None) -> int:
    """Kill the server, check the database, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--database-url")
    arguments = parser.parse_args(options)
    url: str | None = arguments.database_url
    names = ["sqlite", *SERVERS] if url is None else [sa.make_url(url).get_backend_name()]
    wrong = False
    for name in names:
        with tempfile.TemporaryDirectory() as home:
            database = empty_database(name, Path(home)) if url is None else given_database(url)
            with database as lent:
                wrong |= _kill(name, lent, arguments.kills, arguments.seed)
    return int(wrong)


def _kill(name: str, url: str, kills: int, seed: int) -> bool:
    """Kill a server of one empty database, print a table, and return whether a check failed."""
    host = make_app(url)
    begun = time.monotonic()
    tally = crashes.run(host, url, kills, seed)
    seconds = time.monotonic() - begun
    host.dispose()
    print(f"| {name}, seed {seed}, {seconds:.0f} s | |\n|---|---|")
    for words, number in tally.lines():
        print(f"| {words} | {number} |")
    print(*tally.wrong, sep="\n", file=sys.stderr)
    return bool(tally.lost or tally.half or tally.wrong)


if __name__ == "__main__":
    raise SystemExit(main())
