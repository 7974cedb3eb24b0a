"""Pruning beside concurrent sign-ins and revocations: no deadlocks, no failures."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host, NamedUser
from xgen_flask_sessions import SessionRevoked
from xgen_flask_sessions.store import pruning
from xgen_flask_sessions.store.pruning import PIGGYBACK_ROWS

pytestmark = pytest.mark.slow

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
LONG_AFTER = NOON + timedelta(days=32)
THREADS = 8


@pytest.fixture(params=["postgresql", "mariadb"])
def row_locking_host(make_host: MakeHost, request: pytest.FixtureRequest) -> Host:
    """Return a host on each database that locks rows; SQLite has one writer at a time."""
    return make_host(request.getfixturevalue(f"{request.param}_url"), model=NamedUser)


def add_old_sessions(host: Host, users: list[str], number: int) -> list[str]:
    """Record sessions of long ago, spread evenly over the users; return their jtis."""
    long_ago = 1_000_000
    rows = [
        {
            "jti": f"{random.Random(n).getrandbits(128):032x}",
            "session_id": f"{n:032x}",
            "user_id": users[n % len(users)],
            "issued_us": n,
            "signed_in_us": n,
            "expires_us": long_ago + n,
            "ended_us": long_ago + n if n % 2 else None,
        }
        for n in range(number)
    ]
    with freeze_time(datetime.now(UTC) - timedelta(minutes=1)):  # the last look is not recent
        for user in users:
            host.issue(user)
    with host.app.app_context():
        host.db.session.execute(sa.insert(host.db.metadata.tables["xgen_sessions"]), rows)
        host.db.session.commit()
    return [str(row["jti"]) for row in rows]


def act(host: Host, users: list[str], seed: int) -> None:
    """Sign a random user in and make a random change, twelve times."""
    choose = random.Random(seed)
    for _ in range(12):
        token = host.issue(choose.choice(users))
        match choose.randrange(6):
            case 0 | 1:
                host.force_logout(choose.choice(users))
            case 2:
                host.end_session(token.session_id)
            case 3:
                with host.app.app_context():
                    host.sessions.prune()
            case 4 if seed == 0:
                with host.app.app_context():
                    host.sessions.force_logout_everyone()
            case _:
                with suppress(SessionRevoked):
                    host.renew(token)


@pytest.mark.parametrize("old", [40, 1500], ids=["few rows", "many rows"])
def test_eight_threads_clear_a_table_full_of_old_rows(
    host: Host, caplog: pytest.LogCaptureFixture, old: int
) -> None:
    users = [host.add_user(f"user{number}") for number in range(6)]
    old_jtis = set(add_old_sessions(host, users, old))
    start = threading.Barrier(THREADS, timeout=120)

    def run(seed: int) -> None:
        start.wait()
        act(host, users, seed)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(run, seed) for seed in range(THREADS)]:
            done.result(timeout=120)
    with host.app.app_context():
        host.sessions.prune()

    assert caplog.records == []
    left = {row["jti"] for row in host.rows("xgen_sessions")}
    assert not left & old_jtis
    assert len(left) >= THREADS * 12


def test_sign_ins_alone_clear_a_table_full_of_old_rows(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    users = [host.add_user(f"user{number}") for number in range(THREADS)]
    old_jtis = set(add_old_sessions(host, users, 200))

    def sign_in(user: str) -> None:
        for _ in range(6):
            host.issue(user)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(sign_in, user) for user in users]:
            done.result(timeout=120)

    assert caplog.records == []
    left = {row["jti"] for row in host.rows("xgen_sessions")}
    assert len(left & old_jtis) <= 200 - 6 * PIGGYBACK_ROWS
    for _ in range(200 // PIGGYBACK_ROWS):
        host.issue(users[0])
    assert not {row["jti"] for row in host.rows("xgen_sessions")} & old_jtis


# --- Locks -----------------------------------------------------------------------------------


@contextmanager
def held_before_its_commit(host: Host, user: str) -> Iterator[threading.Event]:
    """Sign *user* in, in a thread that waits just before the commit until the event is set."""
    arrived, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        if threading.current_thread() is thread:
            arrived.set()
            go_on.wait(300)

    with host.app.app_context():
        engine = host.db.engine
    sa.event.listen(engine, "commit", hold)
    thread = threading.Thread(target=host.issue, args=(user,))
    thread.start()
    try:
        assert arrived.wait(60)
        yield go_on
    finally:
        go_on.set()
        thread.join(60)
        sa.event.remove(engine, "commit", hold)
    assert not thread.is_alive()


def in_time(job: Callable[[], object]) -> None:
    """Run *job* in a thread; it must not wait for a lock."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(job)
    pool.shutdown(wait=False)
    done.result(timeout=120)


def test_a_sign_in_that_prunes_blocks_only_the_rows_owners_until_its_commit(
    row_locking_host: Host,
) -> None:
    host = row_locking_host
    users = [host.add_user(name, id=name) for name in ("a", "b", "m", "z")]
    with freeze_time(NOON):
        old = host.issue("b")
        for user in users:
            host.issue(user, lifetime=timedelta(days=400))
    host.add_user("new", id="c")

    with (
        freeze_time(LONG_AFTER),
        held_before_its_commit(host, "m") as go_on,
        ThreadPoolExecutor(1) as pool,
    ):
        for neighbour in ("a", "z", "c"):
            in_time(partial(host.issue, neighbour))
            in_time(partial(host.force_logout, neighbour))
        owner = pool.submit(host.force_logout, "b")
        with suppress(TimeoutError):
            owner.result(timeout=0.3)
        go_on.set()
        assert owner.result(timeout=60).sessions_ended == 1

    assert old.jti not in {row["jti"] for row in host.rows("xgen_sessions")}


def test_a_sign_in_skips_old_rows_of_locked_owners(row_locking_host: Host) -> None:
    host = row_locking_host
    with freeze_time(NOON):
        tokens = {
            name: host.issue(host.add_user(name, id=name)) for name in ("alice", "ALICE", "busy")
        }

    host.add_user("new", id="new")
    logins = host.db.metadata.tables["xgen_user_logins"]
    with host.app.app_context():
        engine = host.db.engine
    with freeze_time(LONG_AFTER), engine.connect() as connection:
        for busy in ("ALICE", "busy"):
            row = sa.select(logins).where(logins.c.user_id == busy)
            connection.execute(row.with_for_update())

        in_time(partial(host.issue, "new"))

    left = {row["jti"] for row in host.rows("xgen_sessions")}
    assert {name for name, token in tokens.items() if token.jti in left} == {"ALICE", "busy"}


def test_prune_skips_locked_owners(row_locking_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host = row_locking_host
    monkeypatch.setattr(pruning, "PRUNE_BATCH", 3)  # the locked user's rows fill the first batch
    with freeze_time(NOON) as clock:
        busy = host.add_user("busy", id="busy")
        for _ in range(5):
            host.issue(busy)
        clock.tick(timedelta(hours=1))
        free = {host.issue(host.add_user(name, id=name)).jti for name in ("alice", "bob")}

    logins = host.db.metadata.tables["xgen_user_logins"]
    with host.app.app_context():
        engine = host.db.engine
    with freeze_time(LONG_AFTER), engine.connect() as connection:
        row = sa.select(logins).where(logins.c.user_id == busy)
        connection.execute(row.with_for_update())
        with host.app.app_context():
            assert host.sessions.prune() == 2

    left = {row["jti"] for row in host.rows("xgen_sessions")}
    assert len(left) == 5
    assert left.isdisjoint(free)


def test_the_hosts_transaction_blocks_no_owner_before_its_commit(
    row_locking_host: Host,
) -> None:
    host = row_locking_host
    with freeze_time(NOON):
        host.issue(host.add_user("old", id="old"))
    host.add_user("new", id="new")

    with freeze_time(LONG_AFTER), host.app.app_context():
        host.sessions.issue("new", commit=False)

        in_time(partial(host.force_logout, "old"))

        host.db.session.commit()
