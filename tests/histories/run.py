"""Starts workers on a database, injects disturbances, and checks the recorded history."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from tests.histories.checker import check
from tests.histories.disturbances import Disturbance
from tests.histories.exchange import Shared, read_tokens
from tests.histories.findings import Finding, Report
from tests.histories.observer import Observer
from tests.histories.record import Recorder, read_history
from tests.histories.workload import Plan, open_host, work
from tests.support.hosts import Host, bearer
from tests.support.redis_place import RedisPlace

USERS = 6
PROCESSES = 8
_PATIENCE_S = 60.0


def run(
    database_url: str,
    directory: Path,
    *,
    seconds: float,
    least_steps: int = 0,
    processes: int = PROCESSES,
    system: str = "right",
    seed: int = 1,
    consistency: Literal["strict", "watch"] = "strict",
    max_staleness_s: float = 2.0,
    showing: int = 0,
    distant_url: str | None = None,
    redis: RedisPlace | None = None,
    distant_redis_url: str | None = None,
    disturbances: Sequence[Disturbance] = (),
) -> Report:
    """Run workers on an empty database, and check their history.

    :param database_url: The database, where tables and users are created.
    :param directory: An empty directory for the records.
    :param seconds: The duration of the workers' operations.
    :param least_steps: Steps of each worker, even if they take longer, as on a busy machine.
    :param processes: The number of worker processes.
    :param system: One of ``wrong_systems.SYSTEMS``.
    :param seed: The seed of the workers' choices and clocks.
    :param consistency: The consistency of the workers' hosts.
    :param max_staleness_s: The staleness bound in seconds, for ``"watch"``.
    :param showing: The number of processes that only verify tokens.
    :param distant_url: The URL of the database for those processes, if it is another one.
    :param redis: The destination of the feed; the last process is then a service without the
        database.
    :param distant_redis_url: The URL of Redis for that service, if it is another one.
    :param disturbances: The faults to inject, one after another.
    :raises RuntimeError: A worker failed.
    """
    with _host(database_url, redis) as host:
        users = tuple(host.add_user(f"user{number}") for number in range(USERS))
        plan = Plan(
            database_url=database_url,
            directory=directory,
            processes=processes,
            users=users,
            seconds=seconds,
            least_steps=least_steps,
            seed=seed,
            system=system,
            consistency=consistency,
            max_staleness_s=max_staleness_s,
            showing=showing,
            distant_url=distant_url,
            redis=redis,
            distant_redis_url=distant_redis_url,
        )
        host.dispose()  # it needs no connection while the workers run
        _work_together(plan, disturbances)
        wrong_counts = _compare_counts(host, plan)
    staleness_ns = int(max_staleness_s * 1e9) if consistency == "watch" else 0
    report = check(read_history(directory), staleness_ns=staleness_ns)
    return replace(report, findings=[*report.findings, *wrong_counts])


@contextmanager
def _host(database_url: str, redis: RedisPlace | None) -> Iterator[Host]:
    host = open_host(database_url, **({} if redis is None else redis.settings()))
    try:
        with host.app.app_context():
            host.db.create_all()
        yield host
    finally:
        host.dispose()


def _work_together(plan: Plan, disturbances: Sequence[Disturbance]) -> None:
    # Each is forked from a process that has imported all modules and has no connection.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    ready = context.Barrier(plan.processes + 1, timeout=_PATIENCE_S)
    workers = [
        context.Process(target=work, args=(plan, number, ready)) for number in range(plan.processes)
    ]
    for worker in workers:
        worker.start()
    try:
        with suppress(threading.BrokenBarrierError):  # a worker failed: see _await
            ready.wait()
            _disturb(disturbances, plan.seconds)
    finally:
        _await(workers, time.monotonic() + plan.seconds + 2 * _PATIENCE_S)


def _disturb(disturbances: Sequence[Disturbance], seconds: float) -> None:
    """Inject the disturbances, spread evenly over a number of seconds."""
    begun = time.monotonic()
    for number, disturbance in enumerate(disturbances, 1):
        due = begun + seconds * number / (len(disturbances) + 1)
        time.sleep(max(0.0, due - time.monotonic()))
        disturbance.act()


def _await(workers: Sequence[BaseProcess], deadline: float) -> None:
    """Wait for every worker to end.

    :raises RuntimeError: A worker failed, or did not end by the deadline.
    """
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    failed = [worker for worker in workers if worker.exitcode != 0]
    for worker in failed:
        worker.kill()
        worker.join()
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(workers)} workers failed.")


def _compare_counts(host: Host, plan: Plan) -> list[Finding]:
    """Verify one token of every session, and compare the number accepted with Login Management."""
    newest: dict[str, Shared] = {}
    for shared in read_tokens(plan.directory):
        newest[shared.session_id] = shared
    accepted: Counter[str] = Counter()
    with closing(Recorder(plan.directory, plan.processes)) as recorder:
        observer = Observer(plan.processes, host, recorder)
        for shared in newest.values():
            accepted[shared.user] += observer.verify(shared) is not None
    admin = host.issue(host.add_user("admin", is_superuser=True))
    answer = host.client().get("/sessions/users", headers=bearer(admin)).get_json()
    counted = {user["user_id"]: user["active_sessions"] for user in answer["users"]}
    return [
        Finding(
            "wrong session count",
            f"user {user} has {accepted[user]} accepted sessions, and "
            f"{counted.get(user, 0)} in Login Management.",
        )
        for user in plan.users
        if accepted[user] != counted.get(user, 0)
    ]
