"""Pruning: rows past the retention are deleted, and refused tokens stay refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.store import pruning
from xgen_flask_sessions.store.pruning import PRUNE_BATCH

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
RETENTION = timedelta(days=30)


def prune(host: Host) -> int:
    with host.app.app_context():
        return host.sessions.prune()


def kept(host: Host, *tokens: IssuedToken) -> list[bool]:
    jtis = {row["jti"] for row in host.rows("xgen_sessions")}
    return [token.jti in jtis for token in tokens]


def test_ended_sessions_are_deleted_after_the_retention_and_not_before(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        ended, open_one = host.issue(user), host.issue(user, lifetime=timedelta(days=365))
        host.end_session(ended.session_id)

        clock.move_to(NOON + RETENTION)
        assert prune(host) == 0

        clock.tick(timedelta(milliseconds=1))
        assert prune(host) == 2  # the session's row, and the record of its end
        assert kept(host, ended, open_one) == [False, True]
        assert prune(host) == 0


def test_expired_sessions_are_deleted_after_the_retention_and_not_before(host: Host) -> None:
    with freeze_time(NOON) as clock:
        token = host.issue(host.add_user(), lifetime=60)

        clock.move_to(NOON + timedelta(seconds=60) + RETENTION)
        assert prune(host) == 0

        clock.tick(timedelta(milliseconds=1))
        assert prune(host) == 1
        assert kept(host, token) == [False]


def test_a_token_whose_row_is_deleted_stays_refused(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON):
        token = host.issue(user)
        host.end_session(token.session_id)
    with freeze_time(NOON + RETENTION + timedelta(days=1)):
        prune(host)

    with freeze_time(NOON):  # on a machine whose clock is a month behind
        assert host.status(token) == 401


def test_force_logouts_stay_on_record_and_in_force(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        host.end_session(host.issue(user).session_id)
        host.issue(user)
        host.force_logout(user)
        with host.app.app_context():
            host.sessions.force_logout_everyone()
        cut = host.login_row(user)["invalid_before_us"]
        clock.move_to(NOON + timedelta(days=400))

        prune(host)

    kinds = {record["kind"] for record in host.rows("xgen_revocations")}
    assert kinds == {"user", "everyone"}
    assert host.rows("xgen_sessions") == []
    assert host.login_row(user)["invalid_before_us"] == cut


def test_the_retention_is_a_setting(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, XGEN_SESSIONS_RETENTION=timedelta(hours=1))
    with freeze_time(NOON) as clock:
        host.end_session(host.issue(host.add_user(), lifetime=600).session_id)
        clock.tick(timedelta(hours=1, seconds=1))

        assert prune(host) == 2


def test_many_rows_are_deleted_in_batches_with_progress_reports(host: Host) -> None:
    rows = [
        {
            "jti": f"{number:032}",
            "session_id": f"{number:032}",
            "user_id": "1",
            "issued_us": number,
            "signed_in_us": number,
            "expires_us": number,
        }
        for number in range(2 * PRUNE_BATCH + 1)
    ]
    told: list[int] = []
    with host.app.app_context():
        host.db.session.execute(sa.insert(host.db.metadata.tables["xgen_sessions"]), rows)
        host.db.session.commit()
        total = host.sessions.prune(progress=told.append)

    assert total == len(rows)
    assert told == [PRUNE_BATCH, PRUNE_BATCH, 1]


def test_prune_sleeps_after_each_batch(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PRUNE_BATCH", 2)
    user = host.add_user()
    with freeze_time(NOON) as clock:
        for _ in range(2 * pruning.BATCHES_AT_A_LOOK + 3):
            host.issue(user)
        clock.tick(RETENTION + timedelta(days=2))
    steps: list[str] = []

    with host.app.app_context(), monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: steps.append("rest" if seconds > 0 else "none"))
        with freeze_time(NOON + RETENTION + timedelta(days=2), auto_tick_seconds=1):
            host.sessions.prune(progress=lambda _: steps.append("batch"))

    assert steps == ["batch", "rest"] * (pruning.BATCHES_AT_A_LOOK + 2)
    assert host.rows("xgen_sessions") == []


def test_batches_before_a_failure_stay_deleted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PRUNE_BATCH", 1)
    user = host.add_user()
    with freeze_time(NOON) as clock:
        host.end_session(host.issue(user).session_id)
        clock.tick(RETENTION + timedelta(days=1))

        def fail(_: int) -> None:
            raise KeyboardInterrupt

        with host.app.app_context(), pytest.raises(KeyboardInterrupt):
            host.sessions.prune(progress=fail)

    assert host.rows("xgen_sessions") == []
    assert len(host.rows("xgen_revocations")) == 1


def test_rows_of_a_user_whose_login_was_deleted_by_hand_are_deleted(host: Host) -> None:
    user = host.add_user()
    logins = host.db.metadata.tables["xgen_user_logins"]
    with freeze_time(NOON) as clock:
        host.end_session(host.issue(user).session_id)
        with host.app.app_context():
            host.db.session.execute(sa.delete(logins).where(logins.c.user_id == user))
            host.db.session.commit()
        clock.tick(RETENTION + timedelta(days=1))

        assert prune(host) == 2
        assert prune(host) == 0


@pytest.mark.parametrize("kind", ["postgresql_url", "mariadb_url"])
def test_rows_of_a_locked_user_are_left_for_the_next_call(
    make_host: MakeHost, request: pytest.FixtureRequest, kind: str
) -> None:
    host = make_host(request.getfixturevalue(kind))
    busy, idle = host.add_user("busy"), host.add_user("idle")
    with freeze_time(NOON) as clock:
        tokens = [host.issue(user) for user in (busy, idle)]
        clock.tick(RETENTION + timedelta(days=2))
        with host.app.app_context():
            host.sessions.force_logout(busy, commit=False)

            with host.app.app_context():
                assert host.sessions.prune() == 1
            assert kept(host, *tokens) == [True, False]
            host.db.session.rollback()

        assert prune(host) == 1


@pytest.mark.parametrize("piggyback", [False, True])
def test_an_ended_row_stays_until_its_token_has_expired_too(
    make_host: MakeHost, database_url: str, piggyback: bool
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_RETENTION=timedelta(days=1))

    def clear() -> None:
        host.issue(user) if piggyback else prune(host)

    user = host.add_user()
    with freeze_time(NOON) as clock:
        short, long = host.issue(user), host.issue(user, lifetime=timedelta(days=10))
        host.force_logout(user)

        clock.move_to(NOON + timedelta(days=9))
        clear()
        assert kept(host, short, long) == [False, True]

        clock.move_to(NOON + timedelta(days=10, minutes=10))
        clear()
        assert kept(host, short, long) == [False, True]

        clock.tick(timedelta(seconds=1))
        clear()
        assert kept(host, short, long) == [False, False]
