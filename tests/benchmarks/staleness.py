"""The delay before watching processes refuse a token: python -m tests.benchmarks.staleness.

Eight processes watch one database (``XGEN_SESSIONS_CONSISTENCY="watch"``) and verify one token
every millisecond. Once all of them accept it from memory, another process revokes it at a random
moment, alternately by a force logout and by the end of its session. For each process and
revocation, the command measures the time until the first refusal, both from the return and from the
beginning of the revoking call. All times are of the machine's monotonic clock, which the processes
share.

``mariadb+redis`` is an application on MariaDB whose processes all publish the feed to Redis. In
``service``, the eight processes are services with a ``Verifier``: they have Redis and no database.
The same application revokes.

With --others PER_SECOND, one more process makes force logouts of another user all the time, at that
rate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.support.databases import REDIS, SERVERS
from tests.support.hosts import SECRET, Host, make_app
from tests.support.redis_place import RedisPlace, redis_place
from xgen_flask_sessions import DenylistUnavailable, SessionRevoked
from xgen_flask_sessions.state import State
from xgen_flask_sessions.verifier import Verifier

from .cases import Places, Unavailable, places, require_redis
from .table import describe, machine, markdown, write_json

PROCESSES: Final = 8
REVOCATIONS: Final = 250
OVER_REDIS: Final = "mariadb+redis"
SERVICE: Final = "service"
DATABASES: Final = ("sqlite", *SERVERS, OVER_REDIS, SERVICE)
_PAUSE_S: Final = 0.001
_LONGEST_WAIT_S: Final = 0.06
"""The longest random pause before a revocation, so that it falls anywhere between two polls."""
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The database and the Redis that an application shares with the watching processes."""

    url: str
    """The URL of the application's database."""
    redis: RedisPlace | None = None
    """The place in Redis to which the application publishes its feed, if there is one."""
    has_services: bool = False
    """Whether the watching processes are services, without the database."""


@contextmanager
def _host_of(deployment: Deployment) -> Iterator[Host]:
    """Yield the host of an application process; at the end, wait until its relay has stopped."""
    settings = {} if deployment.redis is None else deployment.redis.settings()
    host = make_app(deployment.url, create_all=False, XGEN_SESSIONS_CONSISTENCY="watch", **settings)
    relaying = _state(host).relay
    try:
        yield host
    finally:
        host.dispose()
        while relaying is not None and relaying.follower.is_running:
            time.sleep(_PAUSE_S)  # its last heartbeat would be written after the keys are deleted


def _relay(host: Host) -> None:
    """Start the host's relay, if it has one, as any request would."""
    relaying = _state(host).relay
    if relaying is not None:
        with host.app.app_context():
            relaying.ensure_running()


def _state(host: Host) -> State:
    state: State = host.app.extensions["xgen_sessions"]
    return state


@contextmanager
def _checking(
    deployment: Deployment,
) -> Iterator[tuple[Callable[[], bool], Callable[[str], object]]]:
    """Yield a function that returns whether the memory is valid, and one that verifies a token."""
    if deployment.has_services:
        assert deployment.redis is not None
        redis = deployment.redis
        with Verifier(redis_url=redis.url, secret_key=SECRET, issuer=redis.issuer) as verifier:
            yield partial(verifier.ready, _PATIENCE_S), verifier.verify
        return
    with _host_of(deployment) as host:
        _relay(host)
        watch = _state(host).watch
        assert watch is not None
        with host.app.app_context():
            yield watch.is_fresh, host.sessions.verify


def _watch(deployment: Deployment, tokens: Sequence[str], told: Any) -> None:
    """Run one watching process: verify each token until it is refused, then the next one."""
    try:
        with _checking(deployment) as (is_fresh, verify):
            for token in tokens:
                while not (_is_accepted(verify, token) and is_fresh()):
                    time.sleep(_PAUSE_S)
                told.put(("accepted", 0))
                while not _is_revoked(verify, token):
                    time.sleep(_PAUSE_S)
                told.put(("refused", time.monotonic_ns()))
    except BaseException:
        told.put((traceback.format_exc(), 0))


def _is_accepted(verify: Callable[[str], object], token: str) -> bool:
    """Return whether a token is accepted; false if the denylist is not available."""
    try:
        verify(token)
    except DenylistUnavailable:
        return False
    return True


def _is_revoked(verify: Callable[[str], object], token: str) -> bool:
    """Return whether a token is refused as revoked; false if the denylist is not available."""
    try:
        verify(token)
    except SessionRevoked:
        return True
    except DenylistUnavailable:
        pass
    return False


def _revoke_others(deployment: Deployment, user_id: str, pause_s: float, over: Any) -> None:
    """Run a process that repeats the force logout of another user."""
    with _host_of(deployment) as host:
        _relay(host)
        while not over.wait(pause_s):
            host.force_logout(user_id)


@contextmanager
def _processes(
    count: int, deployment: Deployment, tokens: Sequence[str], told: Any
) -> Iterator[None]:
    context = multiprocessing.get_context("forkserver")
    watching = [
        context.Process(target=_watch, args=(deployment, tokens, told), daemon=True)
        for _ in range(count)
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
def _others(deployment: Deployment, user_id: str, per_second: float) -> Iterator[None]:
    if not per_second:
        yield
        return
    context = multiprocessing.get_context("forkserver")
    over = context.Event()
    process = context.Process(
        target=_revoke_others, args=(deployment, user_id, 1 / per_second, over), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        over.set()
        process.join()


class _Reports:
    """The reports of the watching processes."""

    def __init__(self, source: Any, number: int) -> None:
        self._source = source
        self._number = number
        self._times: dict[str, list[int]] = {"accepted": [], "refused": []}

    def all(self, outcome: str) -> list[int]:
        """Wait until every process has reported *outcome*, and return the reported times.

        :raises RuntimeError: A process failed, or did not report in time.
        """
        give_up = threading.Timer(
            _PATIENCE_S, self._source.put, [("A process did not report in time.", 0)]
        )
        give_up.start()
        try:
            while len(self._times[outcome]) < self._number:
                said, at_ns = self._source.get()
                if said not in self._times:
                    raise RuntimeError(said)
                self._times[said].append(at_ns)
        finally:
            give_up.cancel()
        times, self._times[outcome] = self._times[outcome], []
        return times


def measure(
    deployment: Deployment, processes: int, revocations: int, others: float
) -> dict[str, Any]:
    """Revoke tokens on an empty database, and return the delays in milliseconds.

    :param others: The number of force logouts of another user per second.
    """
    since_begin, since_return = [], []
    with _host_of(deployment) as host, ExitStack() as stack:
        host.create_tables()
        _relay(host)
        users = [host.add_user(f"user{number}") for number in range(revocations)]
        issued = [host.issue(user) for user in users]
        chance = random.Random(1)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        source = context.SimpleQueue()
        told = _Reports(source, processes)
        tokens = [each.token for each in issued]
        stack.enter_context(_processes(processes, deployment, tokens, source))
        stack.enter_context(_others(deployment, host.add_user("other"), others))
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
    return {"since it returned": figures(since_return), "since it began": figures(since_begin)}


@contextmanager
def deployed(name: str, lent: Places) -> Iterator[Deployment]:
    """Yield an empty database and, if the name says so, a place in Redis.

    :param name: One of :data:`DATABASES`.
    :raises Unavailable: A server is not available.
    """
    if name not in (OVER_REDIS, SERVICE):
        yield Deployment(url=lent.url(name))
        return
    require_redis()
    with redis_place(REDIS) as place:
        yield Deployment(url=lent.url("mariadb"), redis=place, has_services=name == SERVICE)


def figures(times: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the maximum of some times."""
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
    header = ["ms after the revoking call returned", "refusals", *names, *began]
    return f"{describe(document['machine'])}\n\n{markdown(header, rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON on request."""
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
                with deployed(name, lent) as deployment:
                    databases[name] = measure(
                        deployment, options.processes, options.revocations, options.others
                    )
            except Unavailable as error:
                databases[name] = {"left_out": str(error)}
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
