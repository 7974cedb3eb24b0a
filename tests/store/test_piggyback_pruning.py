"""Rows past the retention are deleted by sign-ins and renewals, a few by each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host, NamedUser
from xgen_flask_sessions import IssuedToken, LedgerUnavailable, TokenError
from xgen_flask_sessions.store.pruning import PIGGYBACK_ROWS

pytestmark = pytest.mark.slow

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
RETENTION = timedelta(days=30)
LONG_AFTER = NOON + RETENTION + timedelta(days=2)
ODD_IDS = ["alice", "ALICE", "alic\u00e9", "alice\u0301", "alice ", "\U0001f600", "x" * 255]


def in_us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def recorded(host: Host, *tokens: IssuedToken) -> list[bool]:
    jtis = {row["jti"] for row in host.rows("xgen_sessions")}
    return [token.jti in jtis for token in tokens]


def passes(host: Host, token: IssuedToken) -> bool:
    try:
        host.verify(token)
    except TokenError:
        return False
    return True


# --- The number of rows ----------------------------------------------------------------------


def live_a_day(host: Host, users: list[str], choose: random.Random) -> None:
    """Sign some users in, and let some renew, sign out, or be forced out."""
    for user in choose.sample(users, 2):
        token = host.issue(user)
        if choose.random() < 0.5:
            token = host.renew(token)
        match choose.randrange(6):
            case 0 | 1:
                host.end_session(token.session_id, actor=user)
            case 2:
                host.force_logout(user)
            case _:
                pass


@pytest.mark.unmeasured
def test_the_number_of_rows_over_a_year_depends_on_the_retention_only(
    make_host: MakeHost, database_url: str
) -> None:
    retention, lifetime, pause = timedelta(days=14), timedelta(days=1), timedelta(days=2)
    host = make_host(
        database_url, XGEN_SESSIONS_RETENTION=retention, XGEN_SESSIONS_LIFETIME=lifetime
    )
    span = timedelta(days=365 if host.dialect == "sqlite" else 100)
    users = [host.add_user(f"user{number}") for number in range(5)]
    choose = random.Random(8)
    sizes = []

    with freeze_time(NOON) as clock:
        while (now := clock.time_to_freeze.replace(tzinfo=UTC)) < NOON + span:
            live_a_day(host, users, choose)

            kept_from = in_us(now - retention)
            sessions = host.rows("xgen_sessions")
            ends = [
                record for record in host.rows("xgen_revocations") if record["kind"] == "session"
            ]
            assert all((row["ended_us"] or row["expires_us"]) >= kept_from for row in sessions)
            assert all(record["revoked_us"] >= kept_from for record in ends)
            sizes.append(len(sessions) + len(ends))
            clock.tick(pause)

    days_kept = (retention + lifetime) // pause + 1
    assert (
        max(sizes) <= days_kept * 2 * 3
    )  # per day: two sign-ins, each with a renewal and a sign-out
    assert len(sizes) == -(-span // pause)
    forced = [row for row in host.rows("xgen_revocations") if row["kind"] == "user"]
    assert min(row["revoked_us"] for row in forced) < in_us(NOON + timedelta(days=30))


def test_a_sign_in_deletes_a_few_of_many(host: Host) -> None:
    user, other = host.add_user("user"), host.add_user("other")
    with freeze_time(NOON) as clock:
        for _ in range(2 * PIGGYBACK_ROWS + 3):
            host.issue(other)
        clock.move_to(LONG_AFTER)
        left = []

        for _ in range(4):
            token = host.issue(user)
            left.append(len(host.rows("xgen_sessions")))

        assert left == [PIGGYBACK_ROWS + 4, 5, 3, 4]
        assert passes(host, token)


def test_a_renewal_deletes_old_rows_too(host: Host) -> None:
    with freeze_time(NOON) as clock:
        old = host.issue(host.add_user("old"))
        clock.move_to(LONG_AFTER - timedelta(days=3))
        token = host.issue(host.add_user(), lifetime=timedelta(days=10))
        assert recorded(host, old) == [True]
        clock.move_to(LONG_AFTER)

        host.renew(token)

        assert recorded(host, old, token) == [False, True]


@pytest.mark.parametrize("user_id", ODD_IDS, ids=ascii)
def test_old_rows_of_any_user_id_are_deleted(
    make_host: MakeHost, database_url: str, user_id: str
) -> None:
    host = make_host(database_url, model=NamedUser)
    for number, each in enumerate([*ODD_IDS, "somebody"]):
        host.add_user(f"user{number}", id=each)
    with freeze_time(NOON) as clock:
        token = host.issue(user_id)
        host.end_session(token.session_id)
        clock.move_to(LONG_AFTER)

        host.issue("somebody")

    assert recorded(host, token) == [False]
    assert host.rows("xgen_revocations") == []


# --- Rows that are still needed --------------------------------------------------------------


def test_a_token_within_the_leeway_stays_even_without_a_retention(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_RETENTION=0, XGEN_SESSIONS_LEEWAY=300)
    user, other = host.add_user("user"), host.add_user("other")
    expiry = NOON + timedelta(seconds=60)
    with freeze_time(NOON):
        token = host.issue(user, lifetime=60)

    with freeze_time(expiry + timedelta(seconds=600)):  # a clock that is five minutes ahead
        host.issue(other)
    with freeze_time(expiry + timedelta(seconds=299)):
        assert passes(host, token)

    with freeze_time(expiry + timedelta(seconds=601)):
        host.issue(other)
    assert recorded(host, token) == [False]


@pytest.mark.parametrize("seconds", [1, 5, 240])
def test_a_token_that_a_slower_clock_accepts_stays(
    make_host: MakeHost, database_url: str, seconds: int
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_RETENTION=0)
    user, other = host.add_user("user"), host.add_user("other")
    with freeze_time(NOON):
        token = host.issue(user, lifetime=60)
    here = NOON + timedelta(seconds=59)

    with freeze_time(here + timedelta(seconds=seconds)):
        host.issue(other)
        with host.app.app_context():
            host.sessions.prune()

    with freeze_time(here):
        assert passes(host, token)


def test_a_renewed_token_stays_for_its_grace(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, XGEN_SESSIONS_RETENTION=0)
    user, other = host.add_user("user"), host.add_user("other")
    with freeze_time(NOON):
        old = host.issue(user, lifetime=60)
        host.renew(old)

    with freeze_time(NOON + timedelta(seconds=60 + 600)):  # a clock that is ahead
        host.issue(other)
    with freeze_time(NOON + timedelta(seconds=59)):
        assert passes(host, old)

    with freeze_time(NOON + timedelta(seconds=60 + 601)):
        host.issue(other)
    assert recorded(host, old) == [False]


def test_an_active_session_stays_at_any_age(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, XGEN_SESSIONS_RETENTION=0)
    with freeze_time(NOON) as clock:
        token = host.issue(host.add_user("user"), lifetime=timedelta(days=365))
        clock.tick(timedelta(days=364))

        host.issue(host.add_user("other"))

        assert passes(host, token)


# --- Within the host's transaction -----------------------------------------------------------


@contextmanager
def collecting(host: Host, sent: list[str]) -> Iterator[None]:
    """Add each statement that is sent to the database to *sent*."""

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    with host.calling_before_statements(look):
        yield


def with_an_old_row(host: Host) -> tuple[IssuedToken, str]:
    """Return a token whose row is past the retention at ``LONG_AFTER``, and another user."""
    with freeze_time(NOON):
        return host.issue(host.add_user("old")), host.add_user("new")


def test_rows_are_deleted_at_the_hosts_commit(host: Host) -> None:
    token, user = with_an_old_row(host)

    with freeze_time(LONG_AFTER), host.app.app_context():
        host.sessions.issue(user, commit=False)
        with host.db.session.begin_nested():
            pass
        jtis = host.db.session.scalars(
            sa.select(host.db.metadata.tables["xgen_sessions"].c.jti)
        ).all()
        assert token.jti in jtis
        host.db.session.commit()

    assert recorded(host, token) == [False]


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_rows_are_not_deleted_without_a_commit(host: Host, end: str) -> None:
    token, user = with_an_old_row(host)

    with freeze_time(LONG_AFTER), host.app.app_context():
        host.sessions.issue(user, commit=False)
        getattr(host.db.session(), end)()
        host.db.session.execute(sa.select(host.model))
        host.db.session.commit()

    assert recorded(host, token) == [True]
    assert host.rows("xgen_sessions") == [
        row for row in host.rows("xgen_sessions") if row["jti"] == token.jti
    ]


def test_the_hosts_changes_are_written_before_the_deletion(host: Host) -> None:
    token, user = with_an_old_row(host)
    sent: list[str] = []

    with freeze_time(LONG_AFTER), collecting(host, sent), host.app.app_context():
        host.sessions.issue(user, commit=False)
        host.find_user(user).department = "changed"
        host.db.session.commit()

    writes = [line.partition(" SET")[0] for line in sent if line.startswith(("UPDATE", "DELETE"))]
    assert writes[-2] == "UPDATE users"
    assert writes[-1].startswith("DELETE")
    assert recorded(host, token) == [False]


# --- Failures --------------------------------------------------------------------------------

FORBID: dict[str, list[str]] = {
    "sqlite": [
        """CREATE TRIGGER keep BEFORE DELETE ON xgen_sessions
        BEGIN SELECT RAISE(ABORT, 'rows are kept here'); END"""
    ],
    "postgresql": [
        """CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'rows are kept here'; END $$""",
        "CREATE TRIGGER keep BEFORE DELETE ON xgen_sessions FOR EACH ROW EXECUTE FUNCTION keep()",
    ],
    "mysql": [
        """CREATE TRIGGER keep BEFORE DELETE ON xgen_sessions FOR EACH ROW
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'rows are kept here'"""
    ],
}
ALLOW = {
    "sqlite": "DROP TRIGGER keep",
    "postgresql": "DROP TRIGGER keep ON xgen_sessions",
    "mysql": "DROP TRIGGER keep",
}


@pytest.mark.parametrize("commit", [True, False])
def test_users_can_sign_in_on_a_database_that_forbids_the_deletion(
    host: Host, caplog: pytest.LogCaptureFixture, commit: bool
) -> None:
    old, user = with_an_old_row(host)
    host.execute(*FORBID[host.dialect])

    with freeze_time(LONG_AFTER):
        with host.app.app_context():
            host.find_user(user).department = "changed"
            token = host.sessions.issue(user, commit=commit)
            host.db.session.commit()
        assert passes(host, token)
        assert recorded(host, old) == [True]
        with host.app.app_context():
            assert host.find_user(user).department == "changed"
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "rows are kept here" in record.message

        host.execute(ALLOW[host.dialect])
        host.issue(user)
    assert recorded(host, old) == [False]


@contextmanager
def before_deleting(host: Host, do: Callable[[Any], None]) -> Iterator[None]:
    """Call *do* with the cursor that is about to delete sessions."""

    def look(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if statement.startswith("DELETE"):
            do(cursor)

    with host.calling_before_statements(look):
        yield


@pytest.mark.parametrize("kind", ["postgresql_url", "mariadb_url"])
def test_a_database_that_is_lost_during_the_deletion_fails_the_sign_in(
    make_host: MakeHost, request: pytest.FixtureRequest, kind: str
) -> None:
    url = request.getfixturevalue(kind)
    host = make_host(url)
    old, user = with_an_old_row(host)
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def cut_off(cursor: Any) -> None:
        postgresql = server.dialect.name == "postgresql"
        cursor.execute("SELECT pg_backend_pid()" if postgresql else "SELECT CONNECTION_ID()")
        (own,) = cursor.fetchone()
        kill = f"SELECT pg_terminate_backend({own})" if postgresql else f"KILL {own}"
        with server.connect() as connection:
            connection.exec_driver_sql(kill)

    with (
        freeze_time(LONG_AFTER),
        before_deleting(host, cut_off),
        pytest.raises(LedgerUnavailable),
    ):
        host.issue(user)

    assert recorded(host, old) == [True]
    assert len(host.rows("xgen_sessions")) == 1


def test_a_deadlock_that_rolls_back_the_whole_transaction_fails_the_sign_in(
    make_host: MakeHost, mariadb_url: str
) -> None:
    host = make_host(mariadb_url)
    old, user = with_an_old_row(host)

    def fail(cursor: Any) -> None:
        cursor.execute("ROLLBACK")  # as the server does
        deadlock = pymysql.err.OperationalError(1213, "Deadlock found")
        raise sa.exc.OperationalError("DELETE", {}, deadlock)

    with freeze_time(LONG_AFTER), before_deleting(host, fail), pytest.raises(LedgerUnavailable):
        host.issue(user)

    assert recorded(host, old) == [True]
    assert len(host.rows("xgen_sessions")) == 1
