"""Renewal: a new token for the same session, and a minute's grace for the old token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import BROWSER, Host
from xgen_flask_sessions import (
    SessionRevoked,
    UserInactive,
    VerifiedToken,
    session_issued,
)
from xgen_flask_sessions.store import sign_ins
from xgen_flask_sessions.store.sign_ins import UNKNOWN, Identity

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000


def active_sessions(host: Host) -> list[str]:
    """Return the session ids of the tokens that were neither ended nor renewed."""
    return [row["session_id"] for row in host.rows("xgen_sessions") if row["ended_us"] is None]


def test_the_new_token_belongs_to_the_same_session(host: Host) -> None:
    user = host.add_user()
    old = host.issue(user, claims={"tenant": 7})

    new = host.renew(old)

    assert (new.session_id, new.jti != old.jti) == (old.session_id, True)
    assert new.issued_us > old.issued_us
    verified = host.verify(new)
    assert (verified.user_id, verified.session_id) == (user, old.session_id)
    assert verified.claims == {"tenant": 7}
    assert active_sessions(host) == [old.session_id]


def test_the_old_token_works_for_sixty_seconds_and_no_longer(host: Host) -> None:
    old = host.issue(host.add_user())

    with freeze_time(NOON) as clock:
        old = host.issue(host.add_user("bob"))
        clock.tick(10)
        new = host.renew(old)
        clock.tick(timedelta(seconds=59, milliseconds=999))
        assert host.status(old) == 200
        clock.tick(timedelta(milliseconds=1))
        assert host.status(old) == 401
        assert host.status(new) == 200


def test_the_end_of_the_old_token_is_not_reported_as_a_force_logout(
    host: Host,
) -> None:
    with freeze_time(NOON) as clock:
        old = host.issue(host.add_user())
        host.renew(old)
        clock.tick(61)

        with pytest.raises(SessionRevoked) as caught:
            host.verify(old)

    assert caught.value.forced is False


def test_the_new_token_lives_as_long_as_the_old_one_did(host: Host) -> None:
    user = host.add_user()

    with freeze_time(NOON) as clock:
        old = host.issue(user, lifetime=600)
        clock.tick(500)
        new = host.renew(old)

    assert new.expires_us == NOON_US + 1100 * 1_000_000
    assert host.login_row(user)["active_until_us"] == new.expires_us


def test_a_sign_in_by_a_clock_that_is_ahead_shortens_no_renewed_token(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON + timedelta(hours=20)):
        host.issue(user)

    with freeze_time(NOON) as clock:
        token = host.issue(user)
        for hours in (4, 8, 12):
            clock.move_to(NOON + timedelta(hours=hours))
            token = host.renew(token)

            assert token.expires_us == NOON_US + (hours + 24) * 3600 * 1_000_000


def test_a_renewal_keeps_the_time_and_place_of_the_sign_in(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        token = host.client().post(
            "/sign-in",
            data={"user_id": user},
            headers={"User-Agent": BROWSER},
            environ_base={"REMOTE_ADDR": "192.0.2.7"},
        )
        old = token.get_json()["token"]
        clock.tick(3600)
        with host.app.app_context():
            new = host.sessions.renew(host.sessions.verify(old))

    (row,) = [row for row in host.rows("xgen_sessions") if row["jti"] == new.jti]
    assert (row["signed_in_us"], row["issued_us"]) == (NOON_US, NOON_US + 3600 * 1_000_000)
    assert (row["ip"], row["user_agent"]) == ("192.0.2.7", BROWSER)


def test_a_token_renewed_twice_leaves_one_session_open(host: Host) -> None:
    old = host.issue(host.add_user())

    first = host.renew(old)
    second = host.renew(old)

    assert host.status(second) == 200
    assert active_sessions(host) == [old.session_id]
    rows = {row["jti"]: row["end_reason"] for row in host.rows("xgen_sessions")}
    assert rows == {old.jti: "renewed", first.jti: "renewed", second.jti: None}


def test_the_grace_of_each_token_counts_from_its_own_renewal(host: Host) -> None:
    with freeze_time(NOON) as clock:
        first = host.issue(host.add_user())
        second = host.renew(first)
        clock.tick(59)
        third = host.renew(second)
        clock.tick(1)
        assert [host.status(token) for token in (first, second, third)] == [401, 200, 200]


def test_renewing_at_the_same_time_leaves_one_session_open(host: Host) -> None:
    old = host.issue(host.add_user())

    with ThreadPoolExecutor(6) as pool:
        renewed = list(pool.map(host.renew, [old] * 6))

    assert all(host.status(token) == 200 for token in renewed)
    assert active_sessions(host) == [old.session_id]
    assert len({token.issued_us for token in renewed}) == 6


def test_a_session_that_was_ended_cannot_be_renewed(host: Host) -> None:
    user = host.add_user()

    def renew_after_the_end(*, forced: bool) -> bool:
        token = host.issue(user)
        verified = host.verify(token)
        if forced:
            host.force_logout(user)
        else:
            host.end_session(token.session_id)
        with host.app.app_context(), pytest.raises(SessionRevoked) as caught:
            host.sessions.renew(verified)
        return caught.value.forced

    assert renew_after_the_end(forced=False) is False
    assert renew_after_the_end(forced=True) is True
    assert active_sessions(host) == []
    assert host.login_row(user)["active_until_us"] == 0


def test_a_session_ended_for_everyone_cannot_be_renewed(host: Host) -> None:
    verified = host.verify(host.issue(host.add_user()))
    with host.app.app_context():
        host.sessions.force_logout_everyone()

    with host.app.app_context(), pytest.raises(SessionRevoked) as caught:
        host.sessions.renew(verified)

    assert caught.value.forced is True


@pytest.mark.parametrize("everyone", [False, True])
def test_a_token_in_its_grace_cannot_renew_a_forced_out_session(host: Host, everyone: bool) -> None:
    user = host.add_user()
    old = host.issue(user)
    verified = host.verify(old)
    host.renew(old)
    with host.app.app_context():
        if everyone:
            host.sessions.force_logout_everyone()
        else:
            host.sessions.force_logout(user)

    with host.app.app_context(), pytest.raises(SessionRevoked) as caught:
        host.sessions.renew(verified)

    assert caught.value.forced is True
    assert active_sessions(host) == []


def test_a_renewed_token_cannot_be_renewed_after_its_minute(host: Host) -> None:
    with freeze_time(NOON) as clock:
        old = host.issue(host.add_user())
        verified = host.verify(old)
        host.renew(old)
        clock.tick(60)

        with host.app.app_context(), pytest.raises(SessionRevoked):
            host.sessions.renew(verified)


def test_an_inactive_or_deleted_user_cannot_renew(host: Host) -> None:
    inactive, deleted = host.add_user("alice"), host.add_user("bob")
    tokens = [host.issue(inactive), host.issue(deleted)]
    host.change_user(inactive, is_active=False)
    host.delete_user(deleted)

    for token in tokens:
        with pytest.raises(UserInactive):
            host.renew(token)

    assert len(host.rows("xgen_sessions")) == 2
    assert len(active_sessions(host)) == 2


def test_a_token_that_was_never_recorded_cannot_be_renewed(host: Host) -> None:
    stranger = VerifiedToken("1", "none", "none", 1, 2, {})

    with host.app.app_context(), pytest.raises(SessionRevoked):
        host.sessions.renew(stranger)


def test_a_renewal_takes_part_in_the_host_s_transaction(host: Host) -> None:
    old = host.issue(host.add_user())

    with host.app.app_context():
        undone = host.sessions.renew(host.sessions.verify(old.token), commit=False)
        host.db.session.rollback()

    assert host.status(undone) == 401
    assert host.status(old) == 200
    (row,) = host.rows("xgen_sessions")
    assert row["ended_us"] is None


def test_a_renewal_sends_session_issued(host: Host) -> None:
    old = host.issue(host.add_user())
    heard: list[object] = []

    def listen(sender: object, issued: object, **_: object) -> None:
        heard.append(issued)

    with session_issued.connected_to(listen):
        new = host.renew(old)

    assert heard == [new]


def test_a_token_from_the_cookie_is_renewed_in_the_cookie_only(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_TOKEN_LOCATIONS=["cookies"])
    browser = host.cookie_client(host.issue(host.add_user("alice")))

    answer = browser.post("/sessions/renew", headers={"Authorization": "Bearer whatever"})

    assert "access_token" not in answer.get_json()
    assert answer.headers["Set-Cookie"].startswith("xgen_token=")


def test_a_token_whose_row_is_deleted_during_its_renewal_is_not_renewed(host: Host) -> None:
    token = host.issue(host.add_user())
    rows = host.db.metadata.tables["xgen_sessions"]

    with host.app.app_context():
        session = host.db.session()

        def delete(_: str) -> Identity:
            session.execute(sa.delete(rows).where(rows.c.jti == token.jti))
            return UNKNOWN

        with pytest.raises(SessionRevoked):
            sign_ins.renew(session, token.jti, lifetime_us=1, identify=delete)
        session.rollback()

    assert host.verify(token)
