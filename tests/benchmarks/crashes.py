"""What a killed server loses: python -m tests.benchmarks.crashes [--database-url URL].

The server is killed with SIGKILL at random moments while several clients force users out, and is
started again; see :mod:`tests.crashes`. The database is emptied first. Ends with 1 if a force
logout that was answered 200 was lost, or half of one was found, or anything else was wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time

from tests import crashes
from tests.hosts import make_app


def main() -> int:
    """Kill, look, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--database-url")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        url = arguments.database_url or f"sqlite:///{home}/crashes.db"
        host = make_app(url)
        with host.app.app_context():
            host.db.drop_all()
            host.db.create_all()
        begun = time.monotonic()
        tally = crashes.run(host, url, arguments.kills, arguments.seed)
        seconds = time.monotonic() - begun
        with host.app.app_context():
            host.db.drop_all()
        host.dispose()
    print(f"| {url.partition(':')[0]}, seed {arguments.seed}, {seconds:.0f} s | |\n|---|---|")
    for words, number in tally.lines():
        print(f"| {words} | {number} |")
    print(*tally.wrong, sep="\n", file=sys.stderr)
    return 1 if tally.lost or tally.half or tally.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
