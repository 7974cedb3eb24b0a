"""Pruning: rows past the retention go, and nothing is revived by that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.conftest import MakeHost
from tests.hosts import Host
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.ledger import PRUNE_BATCH

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
RETENTION = timedelta(days=30)


def prune(host: Host) -> int:
    with host.app.app_context():
        counted = host.sessions.count_prunable()
        pruned = host.sessions.prune()
    assert counted == pruned
    return pruned


def kept(host: Host, *tokens: IssuedToken) -> list[bool]:
    jtis = {row["jti"] for row in host.rows("xgen_sessions")}
    return [token.jti in jtis for token in tokens]


def test_ended_sessions_go_after_the_retention_and_not_before(host: Host) -> None:
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


def test_expired_sessions_go_after_the_retention_and_not_before(host: Host) -> None:
    with freeze_time(NOON) as clock:
        token = host.issue(host.add_user(), lifetime=60)

        clock.move_to(NOON + timedelta(seconds=60) + RETENTION)
        assert prune(host) == 0

        clock.tick(timedelta(milliseconds=1))
        assert prune(host) == 1
        assert kept(host, token) == [False]


def test_a_pruned_token_is_not_revived(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        token = host.issue(user, lifetime=timedelta(days=365))
        forced = host.issue(user, lifetime=timedelta(days=365))
        host.end_session(token.session_id)
        host.force_logout(user)
        clock.move_to(NOON + RETENTION + timedelta(days=1))

        prune(host)

        assert kept(host, token, forced) == [False, False]
        assert [host.status(each) for each in (token, forced)] == [401, 401]


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


def test_the_retention_is_a_setting(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_RETENTION=timedelta(hours=1))
    with freeze_time(NOON) as clock:
        host.end_session(host.issue(host.add_user()).session_id)
        clock.tick(timedelta(hours=1, seconds=1))

        assert prune(host) == 2


def test_many_rows_go_in_batches_each_of_which_is_told(host: Host) -> None:
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


def test_what_was_deleted_before_a_failure_stays_deleted(sqlite_host: Host) -> None:
    host = sqlite_host
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
