"""The end of one session: by sign-out, or by an administrator."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import (
    Forbidden,
    Revocation,
    SessionRevoked,
    session_ended,
)

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000


def test_one_session_ends_and_the_others_go_on(host: Host) -> None:
    alice, bob = host.add_user("alice"), host.add_user("bob")
    ended, kept, other = host.issue(alice), host.issue(alice), host.issue(bob)

    revocation = host.end_session(ended.session_id)

    assert [host.status(token) for token in (ended, kept, other)] == [401, 200, 200]
    assert revocation is not None
    assert (revocation.kind, revocation.sessions_ended) == ("session", 1)
    assert (revocation.user_id, revocation.session_id) == (alice, ended.session_id)
    assert revocation.invalid_before_us is None


def test_every_token_of_the_session_ends_at_once(host: Host) -> None:
    first = host.issue(host.add_user())
    second = host.renew(first)
    third = host.renew(second)

    revocation = host.end_session(first.session_id)

    assert [host.status(token) for token in (first, second, third)] == [401, 401, 401]
    assert revocation is not None
    assert revocation.sessions_ended == 1


def test_a_session_ends_though_its_first_row_is_gone(host: Host) -> None:
    first = host.issue(host.add_user())
    second = host.renew(first)
    host.execute(f"DELETE FROM xgen_sessions WHERE jti = '{first.jti}'")

    assert host.end_session(first.session_id)

    assert host.status(second) == 401


def test_the_jti_of_a_renewed_token_is_no_session_id(host: Host) -> None:
    token = host.renew(host.issue(host.add_user()))

    assert host.end_session(token.jti) is None

    assert host.status(token) == 200


@pytest.mark.parametrize("hours", [-5, 5])
def test_an_end_holds_on_a_machine_whose_clock_is_hours_off(host: Host, hours: int) -> None:
    with freeze_time(NOON) as clock:
        first = host.issue(host.add_user())
        second = host.renew(first)
        clock.move_to(datetime(2026, 5, 25, 12 + hours, tzinfo=UTC))
        host.end_session(first.session_id)
        clock.move_to(NOON)

        assert [host.status(token) for token in (first, second)] == [401, 401]


def test_the_record_has_the_actor_and_the_reason(host: Host) -> None:
    alice, admin = host.add_user("alice"), host.add_user("admin", is_superuser=True)
    own, taken, by_command = (host.issue(alice) for _ in range(3))

    with freeze_time(NOON):
        host.end_session(own.session_id, actor=alice)
        host.end_session(taken.session_id, actor=admin, reason="Lost phone")
        host.end_session(by_command.session_id, actor="command line")

    rows = {row["jti"]: row for row in host.rows("xgen_sessions")}
    assert rows[own.jti]["end_reason"] == "signed out"
    assert rows[taken.jti]["end_reason"] == "ended"
    assert rows[by_command.jti]["end_reason"] == "ended"
    assert {row["ended_us"] for row in rows.values()} == {NOON_US}
    records = {record["session_id"]: record for record in host.rows("xgen_revocations")}
    assert records[own.session_id]["actor"] == alice
    assert records[taken.session_id]["actor"] == admin
    assert records[taken.session_id]["reason"] == "Lost phone"
    assert records[taken.session_id]["kind"] == "session"


def test_the_end_of_a_session_is_not_reported_as_a_force_logout(host: Host) -> None:
    token = host.issue(host.add_user())
    host.end_session(token.session_id)

    with pytest.raises(SessionRevoked) as caught:
        host.verify(token)

    assert caught.value.forced is False
    assert host.client().get("/api/token", headers=bearer(token)).get_json()["forced"] is False


def test_ending_it_again_changes_nothing(host: Host) -> None:
    token = host.issue(host.add_user())
    host.end_session(token.session_id)
    before = host.rows("xgen_sessions")

    assert host.end_session(token.session_id) is None

    assert host.rows("xgen_sessions") == before
    assert len(host.rows("xgen_revocations")) == 1


@pytest.mark.parametrize("session_id", ["", "none", "x" * 300, "a'b", "한", "a\x00b"])
def test_the_end_of_an_unknown_session_changes_nothing(host: Host, session_id: str) -> None:
    assert host.end_session(session_id) is None

    assert host.rows("xgen_revocations") == []


def test_a_force_logout_is_not_overwritten_by_a_sign_out(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.force_logout(user)

    assert host.end_session(token.session_id) is None

    (row,) = host.rows("xgen_sessions")
    assert row["end_reason"] == "force logout"


def test_the_user_stays_active_until_the_last_session_s_expiry(host: Host) -> None:
    user = host.add_user()
    short, long = host.issue(user, lifetime=60), host.issue(user, lifetime=600)

    host.end_session(long.session_id)
    assert host.login_row(user)["active_until_us"] == short.expires_us

    host.end_session(short.session_id)
    assert host.login_row(user)["active_until_us"] == 0


def test_the_end_takes_part_in_the_hosts_transaction(host: Host) -> None:
    token = host.issue(host.add_user())
    told: list[Revocation] = []

    def listen(sender: object, revocation: Revocation) -> None:
        told.append(revocation)

    with session_ended.connected_to(listen), host.app.app_context():
        host.sessions.end_session(token.session_id, commit=False)
        host.db.session.rollback()
        assert host.sessions.verify(token.token)
        revocation = host.sessions.end_session(token.session_id, commit=False)
        assert told == []
        host.db.session.commit()

    assert told == [revocation]
    assert host.status(token) == 401


def test_only_a_superuser_ends_a_superusers_session_in_its_leeway(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_LEEWAY=300)
    root, helper = host.add_user("root", is_superuser=True), host.add_user("helper")
    with freeze_time("2026-05-25 08:00:00") as clock:
        token = host.issue(root, lifetime=60)
        clock.tick(90)
        with host.app.app_context(), pytest.raises(Forbidden):
            host.sessions.end_session(token.session_id, actor=host.find_user(helper))
        assert host.status(token) == 200
