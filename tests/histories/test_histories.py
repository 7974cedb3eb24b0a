"""Recorded histories of concurrent processes with wrong clocks contain no fault.

A longer run: ``python -m tests.benchmarks.histories``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.benchmarks.histories import main
from tests.histories.disturbances import (
    Place,
    feed_cut,
    place_on,
    redis_flushed,
    redis_flushed_repeatedly,
    usual,
    wire_blocked,
)
from tests.histories.findings import Report, Rule
from tests.histories.record import Kind
from tests.histories.run import run
from tests.histories.wrong_systems import WRONG_SERVICES, WRONG_SYSTEMS, WRONG_WATCHES
from tests.support.private_server import PrivateServer
from tests.support.redis_place import RedisPlace
from tests.support.wire import wire_to

pytestmark = pytest.mark.slow

FORCED_OUT: tuple[Kind, ...] = ("force out", "force out several")

LEAST_DONE: dict[Kind, int] = {
    "sign in": 20,
    "renew": 5,
    "end session": 1,
    "force out": 3,
    "force out several": 1,
    "force out everyone": 1,
    "deactivate": 1,
    "activate": 3,
    "verify": 30,
    "GET /api/token": 5,
    "GET /api/user": 5,
}
"""The minimum even on a busy machine; an idle one makes twenty times as many operations."""

BOUND_S = 0.5
"""The staleness bound, in seconds."""

SHORT_BOUND_S = 0.2
"""The staleness bound for a faulty watch: its fault is visible earlier, before another event
hides it."""

ATTEMPTS = 12
"""The maximum number of histories until one contains a race that happens only by chance."""

EXPECTED_RULE: dict[str, Rule] = {
    "whole-second": "accepted after its revocation",
    "node-clock": "stamps out of order",
    "check-then-renew": "accepted after its revocation",
    "watch-without-bound": "accepted after its revocation",
    "watch-with-losses": "accepted after its revocation",
    "watch-keeping-late": "accepted after its revocation",
    "service-without-bound": "accepted after its revocation",
}
"""A rule that each wrong system breaks; it may break others too."""


def test_a_history_of_eight_processes_with_wrong_clocks_has_no_fault(
    database_url: str, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    records.mkdir()

    report = run(database_url, records, seconds=3, least_steps=80, processes=8)

    assert [str(finding) for finding in report.findings] == []
    done = {kind: report.counts[kind, "done"] for kind in LEAST_DONE}
    assert {kind: n for kind, n in done.items() if n < LEAST_DONE[kind]} == {}
    refusals = [n for (_, outcome), n in report.counts.items() if outcome == "refused"]
    assert sum(refusals) >= 50


@pytest.mark.parametrize(
    ("database_url", "system"),
    [
        *(("sqlite", system) for system in WRONG_SYSTEMS),
        ("postgresql", "node-clock"),
        ("mariadb", "check-then-renew"),
    ],
    indirect=["database_url"],
)
def test_the_checker_detects_a_wrong_system(system: str, database_url: str, tmp_path: Path) -> None:
    def history(records: Path) -> Report:
        drop_tables(database_url)
        return run(database_url, records, seconds=0.5, least_steps=60, system=system)

    assert EXPECTED_RULE[system] in rules_broken(history, tmp_path, system)


def rules_broken(history: Callable[[Path], Report], home: Path, system: str) -> set[Rule]:
    """Make histories until one breaks the system's expected rule; return the last one's findings.

    The fault needs a race of processes, which may not happen within a few seconds.

    :param history: Makes a history on an empty database, given an empty directory for the records.
    """
    found: set[Rule] = set()
    for attempt in range(ATTEMPTS):
        records = home / f"records-{attempt}"
        records.mkdir()
        found = {finding.rule for finding in history(records).findings}
        if EXPECTED_RULE[system] in found:
            break
    return found


def drop_tables(url: str) -> None:
    engine = sa.create_engine(url)
    tables = sa.MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()


# --- Watch -----------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def place(
    request: pytest.FixtureRequest,
    private_servers: Callable[[str], PrivateServer],
    sqlite_url: str,
) -> Iterator[Place]:
    """Yield an empty database of each kind; its server, if any, may be restarted."""
    if request.param == "sqlite":
        yield Place(sqlite_url)
        return
    server = private_servers(request.param)
    with place_on(server) as place:
        yield place
    server.restore()


def test_a_watch_accepts_no_token_after_the_bound_under_any_disturbance(
    place: Place, tmp_path: Path
) -> None:
    # A late acceptance needs a verification before the process has read the revocation.
    late = 0
    for attempt in range(ATTEMPTS):
        records = tmp_path / f"records-{attempt}"
        records.mkdir()
        drop_tables(place.url)

        report = run(
            place.url,
            records,
            seconds=6,
            processes=5,  # the server has no connections for more
            consistency="watch",
            max_staleness_s=BOUND_S,
            showing=2,
            distant_url=place.distant_url,
            disturbances=usual(records, BOUND_S, place),
        )

        assert [str(finding) for finding in report.findings] == []
        assert report.longest_staleness_ns <= BOUND_S * 1e9
        assert sum(report.counts[each, "done"] for each in FORCED_OUT) >= 3
        assert report.counts["verify", "done"] >= 30
        assert report.counts["verify", "refused"] >= 30
        assert place.wire is None or report.counts["verify", "not done"] > 0
        late = report.late_acceptances
        if late:
            assert report.longest_staleness_ns > 0
            break

    assert late > 0


def run_watch_on_sqlite(system: str, records: Path) -> Report:
    return run(
        f"sqlite:///{records}.db",
        records,
        seconds=4,
        processes=4,
        system=system,
        consistency="watch",
        max_staleness_s=SHORT_BOUND_S,
        showing=2,
        disturbances=[feed_cut(records, 3 * SHORT_BOUND_S)],
    )


@pytest.mark.parametrize("system", WRONG_WATCHES)
def test_the_checker_detects_a_wrong_watch(system: str, tmp_path: Path) -> None:
    assert EXPECTED_RULE[system] in rules_broken(
        partial(run_watch_on_sqlite, system), tmp_path, system
    )


@pytest.mark.parametrize("database", ["sqlite", "mariadb"])
def test_a_service_accepts_no_token_after_the_bound_though_redis_loses_the_feed(
    request: pytest.FixtureRequest, database: str, tmp_path: Path, own_redis: RedisPlace
) -> None:
    late = 0
    for attempt in range(ATTEMPTS):
        url: str = request.getfixturevalue(f"{database}_url")
        drop_tables(url)
        records = tmp_path / f"records-{attempt}"
        records.mkdir()

        report = run_with_a_service("right", records, own_redis, url)

        assert [str(finding) for finding in report.findings] == []
        for outcome in ("done", "refused", "not done"):
            assert report.counts["Verifier.verify", outcome] >= 10
        assert sum(report.counts[each, "done"] for each in FORCED_OUT) >= 3
        late = report.late_acceptances
        if late:
            break

    assert late > 0


def run_with_a_service(
    system: str, records: Path, redis: RedisPlace, url: str | None = None
) -> Report:
    with wire_to(redis.url) as (wire, distant_redis_url):
        return run(
            url or f"sqlite:///{records}.db",
            records,
            seconds=5,
            processes=4,
            system=system,
            consistency="watch",
            max_staleness_s=BOUND_S,
            showing=1,
            redis=redis,
            distant_redis_url=distant_redis_url,
            disturbances=[
                redis_flushed(redis),
                redis_flushed_repeatedly(redis, 2 * BOUND_S),
                wire_blocked(wire, 3 * BOUND_S, "services"),
            ],
        )


@pytest.mark.parametrize("system", WRONG_SERVICES)
def test_the_checker_detects_a_wrong_service(
    system: str, tmp_path: Path, own_redis: RedisPlace
) -> None:
    def history(records: Path) -> Report:
        return run_with_a_service(system, records, own_redis)

    assert EXPECTED_RULE[system] in rules_broken(history, tmp_path, system)


def test_a_watch_on_a_slow_database_has_no_fault(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()

    report = run_watch_on_sqlite("slow", records)

    assert [str(finding) for finding in report.findings] == []


# --- The command -----------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "status"), [("right", 0), ("whole-second", 1)])
def test_the_command_exits_with_1_if_it_found_a_fault(
    system: str, status: int, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seconds", "2", "--system", system, "--database-url", sqlite_url]

    assert main(options) == status

    table = capsys.readouterr().out
    assert "| | sqlite |\n|---|---|\n| sign in | " in table
    assert ("| faults | 0 |" in table) == (status == 0)
    engine = sa.create_engine(sqlite_url, poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []
