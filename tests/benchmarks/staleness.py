"""How soon a revocation is seen where watching answers: python -m tests.benchmarks.staleness.

Eight processes watch one database (``XGEN_SESSIONS_CONSISTENCY="watch"``) and show one token every
millisecond; one more revokes it at a random moment once all of them let it pass from memory: by a
force logout, or by the end of its session, in turn. Measured are, for each process and revocation,
the times from when the revoking call returned, and from when it began, to when the first refusal
was there. All are of the machine's monotonic clock, which the processes share.

With --others, yet another process forces out other users all the while, that many in a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from tests.conftest import SERVERS
from tests.hosts import Host, make_app
from xgen_flask_sessions import SessionRevoked
from xgen_flask_sessions.state import State

from .cases import Unavailable, places
from .table import describe, machine, markdown, write_json

PROCESSES: Final = 8
REVOCATIONS: Final = 250
DATABASES: Final = ("sqlite", *SERVERS)
_PAUSE_S: Final = 0.001
_LONGEST_WAIT_S: Final = 0.06
"""Before a revocation: long enough for it to come at any moment between two looks at the feed."""
_PATIENCE_S: Final = 60.0


def _host(url: str) -> Host:
    return make_app(url, create_all=False, XGEN_SESSIONS_CONSISTENCY="watch")


def _watch(url: str, tokens: Sequence[str], told: Any) -> None:
    """Be one process that watches: show each token until it is refused, then the next."""
    try:
        host = _host(url)
        state: State = host.app.extensions["xgen_sessions"]
        assert state.watch is not None
        with host.app.app_context():
            for token in tokens:
                while not state.watch.is_fresh():
                    host.sessions.verify(token)
                    time.sleep(_PAUSE_S)
                host.sessions.verify(token)
                told.put(("accepted", 0))
                with suppress(SessionRevoked):
                    while True:
                        time.sleep(_PAUSE_S)
                        host.sessions.verify(token)
                told.put(("refused", time.monotonic_ns()))
        host.dispose()
    except BaseException:
        told.put((traceback.format_exc(), 0))


def _revoke_others(url: str, user_id: str, pause_s: float, over: Any) -> None:
    """Be a process that forces out somebody else, again and again."""
    host = _host(url)
    while not over.wait(pause_s):
        host.force_logout(user_id)
    host.dispose()


@contextmanager
def _processes(count: int, url: str, tokens: Sequence[str], told: Any) -> Iterator[None]:
    context = multiprocessing.get_context("forkserver")
    watching = [
        context.Process(target=_watch, args=(url, tokens, told), daemon=True) for _ in range(count)
    ]
    for process in watching:
        process.start()
    try:
        yield
    finally:
        for process in watching:
            process.join(1)
            process.kill()
            process.join()


@contextmanager
def _others(url: str, user_id: str, per_second: float) -> Iterator[None]:
    if not per_second:
        yield
        return
    context = multiprocessing.get_context("forkserver")
    over = context.Event()
    process = context.Process(
        target=_revoke_others, args=(url, user_id, 1 / per_second, over), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        over.set()
        process.join()


class _Told:
    """What the watching processes say, each at its own time."""

    def __init__(self, source: Any, number: int) -> None:
        self._source = source
        self._number = number
        self._times: dict[str, list[int]] = {"accepted": [], "refused": []}

    def all(self, what: str) -> list[int]:
        """Wait until every process has said *what*, and return the times that it said.

        :raises RuntimeError: One failed, or said nothing in time.
        """
        give_up = threading.Timer(_PATIENCE_S, self._source.put, [("Nothing was said.", 0)])
        give_up.start()
        try:
            while len(self._times[what]) < self._number:
                said, at_ns = self._source.get()
                if said not in self._times:
                    raise RuntimeError(said)
                self._times[said].append(at_ns)
        finally:
            give_up.cancel()
        times, self._times[what] = self._times[what], []
        return times


def measure(url: str, processes: int, revocations: int, others: float) -> dict[str, Any]:
    """Revoke on an empty database, and return how soon it was seen, in milliseconds.

    :param others: How many revocations of others there are in a second.
    """
    host = _host(url)
    host.create_tables()
    users = [host.add_user(f"user{number}") for number in range(revocations)]
    issued = [host.issue(user) for user in users]
    chance = random.Random(1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    source = context.SimpleQueue()
    told = _Told(source, processes)
    since_begin, since_return = [], []
    with (
        _processes(processes, url, [each.token for each in issued], source),
        _others(url, host.add_user("other"), others),
    ):
        for number, (user, token) in enumerate(zip(users, issued, strict=True)):
            told.all("accepted")
            time.sleep(chance.uniform(0, _LONGEST_WAIT_S))
            begun_ns = time.monotonic_ns()
            if number % 2:
                host.end_session(token.session_id)
            else:
                host.force_logout(user)
            returned_ns = time.monotonic_ns()
            for seen_ns in told.all("refused"):
                since_begin.append((seen_ns - begun_ns) / 1e6)
                since_return.append(max(0.0, (seen_ns - returned_ns) / 1e6))
    host.dispose()
    return {"since it returned": figures(since_return), "since it began": figures(since_begin)}


def figures(times: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the longest of some times."""
    ordered = sorted(times)
    return {
        "median": round(ordered[len(ordered) // 2], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "longest": round(ordered[-1], 1),
        "count": len(ordered),
    }


def show(document: Mapping[str, Any]) -> str:
    """Return the figures as a table."""
    rows = []
    for database, figure in document["databases"].items():
        if "left_out" in figure:
            rows.append([database, f"left out: {figure['left_out']}", *[""] * 6])
            continue
        row = [database, str(figure["since it returned"]["count"])]
        for since in ("since it returned", "since it began"):
            row += [f"{figure[since][name]:.1f}" for name in ("median", "p99", "longest")]
        rows.append(row)
    names = ["median", "p99", "longest"]
    began = [f"{name}, since it began" for name in names]
    header = ["ms from when the revoking call returned", "seen", *names, *began]
    return f"{describe(document['machine'])}\n\n{markdown(header, rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--revocations", type=int, default=REVOCATIONS)
    parser.add_argument("--others", type=float, default=0.0, metavar="PER_SECOND")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", nargs="+", choices=DATABASES, default=DATABASES)
    options = parser.parse_args(arguments)
    told, databases = machine(), dict[str, Any]()
    with places() as lent:
        for name in options.only:
            try:
                url = lent.url(name)
            except Unavailable as error:
                databases[name] = {"left_out": str(error)}
            else:
                databases[name] = measure(
                    url, options.processes, options.revocations, options.others
                )
    document = {
        "machine": told,
        "processes": options.processes,
        "others_per_second": options.others,
        "databases": databases,
    }
    print(show(document))
    if options.json:
        write_json(options.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
