"""The database cost of sign-ins and force logouts: round trips, deadlines and query plans."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.benchmarks import growth, writes
from tests.support.databases import SERVERS, MakeHost, Server
from tests.support.hosts import Host
from tests.support.locks import is_anybody_waiting
from tests.support.patience import MARGIN_S, in_spite_of_stalls, until
from tests.support.wire import Wire, wire_to
from xgen_flask_sessions import IssuedToken, LedgerUnavailable
from xgen_flask_sessions.store import reachability

pytestmark = pytest.mark.slow

DEADLINE_S = 0.8

ROUND_TRIPS = {"postgresql": (5, 6), "mysql": (6, 7)}
"""Round trips of a sign-in and of a force logout, with the begin or the pool's reset of each."""


@pytest.fixture(params=["postgresql", "mariadb"])
def wired(request: pytest.FixtureRequest, make_host: MakeHost) -> Iterator[tuple[Host, Wire]]:
    """Yield a host on a database server, and the wire between the two."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    with wire_to(url) as (wire, through):
        host = make_host(through, XGEN_SESSIONS_DEADLINE=timedelta(seconds=DEADLINE_S))
        yield host, wire
        wire.let_go()
        host.dispose()


def sign_in(host: Host, user: str) -> IssuedToken:
    """Sign a user in; retry, because a busy machine may miss the short deadline."""
    return in_spite_of_stalls(DEADLINE_S, lambda: host.issue(user))


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_round_trips_of_a_sign_in_and_of_a_force_logout(
    request: pytest.FixtureRequest,
    make_host: MakeHost,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(reachability, "FRESH_S", 60.0)
    trips = []
    with wire_to(request.getfixturevalue(f"{name}_url")) as (wire, through):
        host = make_host(through)
        user = host.add_user()
        for call in (host.issue, host.force_logout):
            call(user)
            before = wire.sent
            call(user)
            trips.append(wire.sent - before)
        host.dispose()

    assert tuple(trips) == ROUND_TRIPS[host.dialect]


@pytest.mark.parametrize("threshold", [0, None, 5])
def test_a_host_may_prepare_all_statements_or_none(
    make_host: MakeHost, postgresql_url: str, threshold: int | None
) -> None:
    connecting = {"connect_args": {"prepare_threshold": threshold}}
    host = make_host(postgresql_url, SQLALCHEMY_ENGINE_OPTIONS=connecting)
    user = host.add_user()

    tokens = [host.issue(user) for _ in range(8)]

    assert [bool(host.verify(token)) for token in tokens] == [True] * 8


@pytest.mark.parametrize("locked", ["row", "queue"])
def test_a_sign_in_waits_for_a_force_logout_of_everyone_until_its_deadline(
    make_host: MakeHost, postgresql_url: str, locked: str
) -> None:
    host = make_host(postgresql_url, XGEN_SESSIONS_WRITE_DEADLINE=timedelta(seconds=DEADLINE_S))
    user = host.add_user()
    sign_in(host, user)
    lock = "SELECT * FROM xgen_user_logins WHERE user_id = '*' FOR UPDATE"
    if locked == "queue":
        lock = f"SELECT pg_advisory_xact_lock({0x7867656E_2A})"
    with host.app.app_context():
        engine = host.db.engine
    with engine.connect() as connection:
        connection.exec_driver_sql(lock)
        start = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            host.issue(user)
        assert DEADLINE_S / 2 < time.monotonic() - start < DEADLINE_S + MARGIN_S
        until(
            lambda: not is_anybody_waiting(engine), within_s=3 * MARGIN_S
        )  # the server ends the wait, too

    assert host.verify(sign_in(host, user))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "0"


def test_a_silent_server_is_detected_in_time_just_after_an_answer(
    wired: tuple[Host, Wire],
) -> None:
    host, wire = wired
    user = host.add_user()
    sign_in(host, user)
    host.dispose()  # the next query needs a new connection

    wire.hold_up()
    with host.app.app_context():
        start = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="Nothing was done"):
            host.sessions.issue(user)
        assert time.monotonic() - start < DEADLINE_S + MARGIN_S

    wire.let_go()
    token = sign_in(host, user)
    assert in_spite_of_stalls(DEADLINE_S, lambda: host.status(token)) == 200


def test_connections_cut_just_after_an_answer_fail_one_sign_in_at_most(
    wired: tuple[Host, Wire],
) -> None:
    host, _ = wired
    user = host.add_user()
    sign_in(host, user)
    with host.app.app_context(), host.db.engine.connect() as connection:
        postgresql = host.dialect == "postgresql"
        own = "SELECT pg_backend_pid()" if postgresql else "SELECT CONNECTION_ID()"
        number = connection.exec_driver_sql(own).scalar_one()
        server = sa.create_engine(host.db.engine.url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        kill = f"SELECT pg_terminate_backend({number})" if postgresql else f"KILL {number}"
        connection.exec_driver_sql(kill)
    server.dispose()

    with suppress(LedgerUnavailable):
        host.issue(user)
    rows = len(host.rows("xgen_sessions"))
    assert host.verify(host.issue(user))

    assert len(host.rows("xgen_sessions")) == rows + 1


def test_a_silent_server_is_detected_in_time_before_the_pool_pings(
    make_host: MakeHost, postgresql_url: str
) -> None:
    with wire_to(postgresql_url) as (wire, through):
        host = make_host(
            through,
            XGEN_SESSIONS_DEADLINE=timedelta(seconds=DEADLINE_S),
            SQLALCHEMY_ENGINE_OPTIONS={"pool_pre_ping": True},
        )
        user = host.add_user()
        sign_in(host, user)
        wire.hold_up()
        with host.app.app_context():
            start = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="Nothing was done"):
                host.sessions.issue(user)
            assert time.monotonic() - start < DEADLINE_S + MARGIN_S
        wire.let_go()
        host.dispose()


def test_a_lost_row_of_everyone_is_created_again(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.execute("DELETE FROM xgen_user_logins WHERE user_id = '*'")

    again = host.issue(user)

    assert host.verify(token)
    assert host.verify(again)
    assert host.login_row("*")["invalid_before_us"] == 0


def test_a_force_logout_ends_and_counts_a_sign_in_that_it_waited_for(host: Host) -> None:
    user = host.add_user()
    host.issue(user)
    with ThreadPoolExecutor(1) as pool, host.app.app_context():
        host.sessions.issue(user, commit=False)
        forced = pool.submit(host.force_logout, user)
        with suppress(TimeoutError):
            forced.result(timeout=0.3)
        host.db.session.commit()
        assert forced.result(timeout=10).sessions_ended == 2

    assert [row["end_reason"] for row in host.rows("xgen_sessions")] == ["force logout"] * 2


@contextmanager
def plans(host: Host) -> Iterator[list[str]]:
    """Collect the query plans of updates of ``xgen_sessions``."""
    collected: list[str] = []

    def look(
        connection: sa.Connection, _: object, statement: str, parameters: Any, *__: object
    ) -> None:
        if "UPDATE xgen_sessions" not in statement or statement.startswith("EXPLAIN"):
            return
        verb = "EXPLAIN QUERY PLAN" if host.dialect == "sqlite" else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{verb} {statement}", parameters)
        collected.append("\n".join(str(tuple(row)) for row in rows))

    with host.calling_before_statements(look):
        yield collected


def test_a_force_logout_finds_the_sessions_by_an_index(host: Host) -> None:
    users = [host.add_user(f"user{number}") for number in range(3)]
    growth.fill(host, 3000)
    host.issue(users[0])

    with plans(host) as collected:
        assert host.force_logout(users[0]).sessions_ended == 1

    (plan,) = collected
    assert "ix_xgen_sessions_user" in plan
    assert "Seq Scan" not in plan


def test_an_end_and_a_renewal_find_the_session_by_an_index(host: Host) -> None:
    user = host.add_user()
    growth.fill(host, 3000)
    token = host.issue(user)

    with plans(host) as collected:
        renewed = host.renew(token)
        assert host.end_session(renewed.session_id)

    assert len(collected) == 3
    for plan in collected:
        assert "ix_xgen_sessions_session" in plan
        assert "Seq Scan" not in plan
        assert "SCAN xgen_sessions" not in plan


@pytest.mark.unmeasured
def test_the_benchmark_of_writes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROUNDS", "TIMES", "SIGNING_IN"):
        monkeypatch.setattr(writes, name, 2)

    figures = writes.measure(database_url, seconds=0.3, clients=(2,), sessions=(1, 20), users=120)

    assert figures["sign-in per second, clients: 2"] > 0
    assert figures["force logout of 20 sessions (ms)"] > 0
    assert figures["sign-in meanwhile, 99th percentile (ms)"] > 0
    assert figures["force logout of 120 users with 10 sessions each (ms)"] > 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_the_benchmark_of_growth(
    kind: str, tmp_path: Path, server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "TOKENS", 20)
    monkeypatch.setattr(growth, "LOOK_UPS", 50)
    urls = (f"sqlite:///{tmp_path / 'few.db'}", f"sqlite:///{tmp_path / 'many.db'}")
    if kind in SERVERS:
        urls = (server(kind).kept("few"), server(kind).kept("many"))

    figures = growth.measure(
        urls, growth.Sizes(rows=1500, pruned=500, verified=100, seconds=0.5, rounds=2)
    )

    assert figures["verification, many : few"] > 0
    assert figures["rows pruned per second"] > 0
    for mode in growth.MODES:
        assert figures[f"memory after 100 different tokens, {mode} (MB)"] > 0
        assert f"memory that they add, {mode} (MB)" in figures
    # The first token's answer may be dropped when the watch begins.
    assert figures["tokens in memory then"] in (99, 100)
