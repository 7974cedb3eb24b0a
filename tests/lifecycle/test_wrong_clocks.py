"""After a clock that was a year ahead: the stamp orders, and what people read is right again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET, Host, bearer
from xgen_flask_sessions import IssuedToken, RateLimited

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
SECOND_US = 1_000_000
AHEAD = NOON + timedelta(days=365)
DAY_S = 86_400


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url)


@pytest.fixture
def user(host: Host) -> str:
    """Return a user that signed in, and was forced out, on a machine with such a clock."""
    user = host.add_user("alice", is_superuser=True)
    with freeze_time(AHEAD):
        host.issue(user)
        host.force_logout(user)
        host.issue(user)
    return user


def claims_of(token: IssuedToken) -> dict[str, Any]:
    """Read a token as any service does; PyJWT refuses an ``iat`` that lies ahead."""
    claims: dict[str, Any] = jwt.decode(token.token, SECRET, algorithms=["HS256"])
    return claims


def test_the_times_of_a_sign_in_are_those_of_its_machine(host: Host, user: str) -> None:
    with freeze_time(NOON):
        token = host.issue(user)
        claims = claims_of(token)
        listed: Any = host.client().get("/sessions/users", headers=bearer(token)).get_json()
        own: Any = host.client().get("/sessions/", headers=bearer(token)).get_json()

    assert token.issued_us > NOON_US + 364 * DAY_S * SECOND_US  # the order is kept
    assert claims["iat_us"] == token.issued_us
    assert (claims["iat"], claims["exp"]) == (NOON_US // SECOND_US, NOON_US // SECOND_US + DAY_S)
    assert host.login_row(user)["last_login_us"] == NOON_US
    assert listed["users"][0]["last_login"] == "2026-05-25T12:00:00.000000Z"
    signed_in = [each["signed_in"] for each in own["sessions"] if each["current"]]
    assert signed_in == ["2026-05-25T12:00:00.000000Z"]
    with freeze_time(NOON + timedelta(seconds=1)):
        assert host.verify(token).made_us == NOON_US


def test_a_renewed_token_keeps_its_lifetime_and_has_the_time_of_the_renewal(
    host: Host, user: str
) -> None:
    with freeze_time(NOON) as clock:
        token = host.issue(user, lifetime=600)
        for minutes in (5, 10, 15):
            clock.move_to(NOON + timedelta(minutes=minutes))
            token = host.renew(token)
            claims = claims_of(token)
            assert claims["iat"] == NOON_US // SECOND_US + minutes * 60
            assert claims["exp"] == claims["iat"] + 600
        (row,) = [row for row in host.rows("xgen_sessions") if row["jti"] == token.jti]
        assert row["signed_in_us"] == NOON_US


@pytest.mark.parametrize("lifetime", [600, 10 * DAY_S])
def test_a_token_of_the_fast_clock_keeps_its_lifetime(host: Host, lifetime: int) -> None:
    user = host.add_user("bob")
    with freeze_time(AHEAD):
        token = host.issue(user, lifetime=lifetime)

    with freeze_time(NOON):
        claims = claims_of(host.renew(token))

    assert claims["exp"] == claims["iat"] + lifetime == NOON_US // SECOND_US + lifetime


@pytest.mark.parametrize("everyone", [False, True])
def test_the_times_after_a_force_logout_by_the_fast_clock(host: Host, everyone: bool) -> None:
    user = host.add_user("bob")
    with freeze_time(AHEAD), host.app.app_context():
        if everyone:
            host.sessions.force_logout_everyone()
        else:
            host.sessions.force_logout(user)

    with freeze_time(NOON):
        token = host.issue(user)
        assert claims_of(token)["iat"] == NOON_US // SECOND_US
        assert host.login_row(user)["last_login_us"] == NOON_US
        assert host.status(token) == 200
        assert host.force_logout(user).revoked_us == NOON_US
        assert host.status(token) == 401


def test_a_renewal_by_the_fast_clock_ends_the_old_token(host: Host) -> None:
    user = host.add_user("bob")
    with freeze_time(NOON):
        old = host.issue(user, lifetime=timedelta(days=400))
    with freeze_time(AHEAD):
        new = host.renew(old)
        assert [host.status(old), host.status(new)] == [200, 200]  # its own minute

    with freeze_time(NOON + timedelta(minutes=1)):
        assert [host.status(old), host.status(new)] == [401, 200]


def test_failed_sign_ins_of_the_fast_clock_lock_nobody_out(make_host: MakeHost) -> None:
    host = make_host("sqlite://", XGEN_SESSIONS_SIGN_IN_LIMIT="2 per minute")
    with freeze_time(AHEAD):
        for _ in range(3):
            fail_to_sign_in(host)
        assert is_limited(host)

    with freeze_time(NOON):
        assert not is_limited(host)
        for _ in range(2):
            fail_to_sign_in(host)
        assert is_limited(host)


def fail_to_sign_in(host: Host) -> None:
    with host.app.test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.7"}):
        host.sessions.count_failed_sign_in("alice")


def is_limited(host: Host) -> bool:
    with host.app.test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.7"}):
        try:
            host.sessions.check_sign_in_rate("alice")
        except RateLimited:
            return True
    return False
