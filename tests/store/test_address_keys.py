"""Keys of addresses: written by each sign-in, and filled in for rows of earlier releases."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import SCREEN, page_of, sign_in, with_screen
from xgen_flask_sessions import DatabaseUnavailable, PastSignIn, clock
from xgen_flask_sessions.roster import filtered
from xgen_flask_sessions.roster.listing import Listing
from xgen_flask_sessions.store import address_keys
from xgen_flask_sessions.store.address_keys import key_of

HOUR_US = 3600 * clock.SECOND_US


def record(host: Host, user: str, ip: str | None) -> None:
    """Record a sign-in from an address."""
    past = PastSignIn(
        user_id=user, signed_in_us=clock.now_us(), expires_us=clock.now_us() + HOUR_US, ip=ip
    )
    with host.app.app_context():
        host.sessions.record_past_sign_ins([past])


def keys(host: Host, table: str, column: str) -> dict[str, str | None]:
    rows = [row for row in host.rows(table) if row["user_id"] != "*"]
    return {row["user_id"]: row[column] for row in rows}


def found(host: Host, **listing: Any) -> list[str]:
    with host.app.app_context():
        page = host.app.extensions["xgen_sessions"].roster.page(
            host.db.session(), 1, Listing(**listing)
        )
    return [user.profile.user_id for user in page.users]


def test_sign_ins_renewals_and_past_ones_write_the_key(host: Host) -> None:
    users = [host.add_user(f"user{number}") for number in range(3)]
    host.client().post(
        "/sign-in", data={"user_id": users[0]}, environ_base={"REMOTE_ADDR": "2001:db8::1"}
    )
    record(host, users[1], "203.0.113.7")
    record(host, users[2], None)
    expected = dict(zip(users, [key_of("2001:db8::1"), "4cb007107", ""], strict=True))

    assert keys(host, "xgen_sessions", "ip_key") == expected
    assert keys(host, "xgen_user_logins", "last_ip_key") == {
        user: key or None for user, key in expected.items()
    }
    token = host.issue(users[1])
    host.renew(token)
    renewed = [row for row in host.rows("xgen_sessions") if row["session_id"] == token.session_id]
    assert {row["ip_key"] for row in renewed} == {key_of(row["ip"]) for row in renewed}


def test_rows_of_an_earlier_release_are_found_at_once_and_get_their_keys(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_keys, "BATCH", 2)
    users = [host.add_user(f"user{number}") for number in range(5)]
    for number, user in enumerate(users):
        record(host, user, f"203.0.113.{number}" if number else None)
    host.execute("UPDATE xgen_sessions SET ip_key = NULL")
    host.execute("UPDATE xgen_user_logins SET last_ip_key = NULL")
    last = f"UPDATE xgen_user_logins SET last_ip_key = '4ffffffff' WHERE user_id = '{users[4]}'"
    host.execute(last)

    for filters in ({"address": "203.0.113.2"}, {"text": "203.0.113.2"}):
        assert found(host, **filters) == [users[2]]
    assert sorted(found(host, sort="last_ip")) == sorted(users)
    with host.app.app_context():
        host.sessions.prune()

    assert keys(host, "xgen_sessions", "ip_key") == {
        user: f"4cb0071{number:02x}" if number else "" for number, user in enumerate(users)
    }
    assert found(host, address="203.0.113.2") == [users[2]]
    assert found(host, sort="last_ip", descending=False) == [*users[1:], users[0]]


def test_too_many_addresses_without_a_key_are_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtered, "_UNKEYED", 1)
    for number in range(2):
        record(host, host.add_user(f"user{number}"), f"203.0.113.{number}")
    host.execute("UPDATE xgen_sessions SET ip_key = NULL")

    with pytest.raises(DatabaseUnavailable, match="xgen-sessions upgrade"):
        found(host, address="203.0.113.")
    with host.app.app_context():
        host.sessions.prune()

    assert len(found(host, address="203.0.113.")) == 2


def test_the_screen_and_the_api_name_the_command_that_makes_keys(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtered, "_UNKEYED", 0)
    host = make_host(sqlite_url, extras=with_screen)
    admin = sign_in(host, host.add_user("admin", is_superuser=True), ip="203.0.113.7")
    host.execute("UPDATE xgen_sessions SET ip_key = NULL")

    shown = page_of(admin, f"{SCREEN}?address=203.0.113.")
    korean = page_of(admin, f"{SCREEN}?address=203.0.113.", **{"X-Language": "ko"})
    answer = admin.get("/sessions/users?address=203.0.113.")

    assert [each.select("tbody tr[id]") for each in (shown, korean)] == [[], []]
    alerts = [each.select_one("[role=alert]") for each in (shown, korean)]
    assert all(alert is not None and "xgen-sessions upgrade" in alert.text for alert in alerts)
    assert [alert is not None and alert.text.isascii() for alert in alerts] == [True, False]
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, False)
    assert "xgen-sessions upgrade" in answer.get_json()["detail"]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_users_who_are_locked_are_skipped(
    kind: str, request: pytest.FixtureRequest, make_host: Any
) -> None:
    host = make_host(request.getfixturevalue(f"{kind}_url"))
    users = [host.add_user(f"user{number}") for number in range(2)]
    for user in users:
        record(host, user, "203.0.113.7")
    host.execute("UPDATE xgen_sessions SET ip_key = NULL")
    host.execute("UPDATE xgen_user_logins SET last_ip_key = NULL")
    with host.app.app_context():
        engine = host.db.engine
    lock = sa.text("SELECT user_id FROM xgen_user_logins WHERE user_id = :user FOR UPDATE")
    with engine.connect() as other:
        other.execute(lock, {"user": users[0]})
        with host.app.app_context():
            host.sessions.prune()

        assert keys(host, "xgen_sessions", "ip_key") == {users[0]: None, users[1]: "4cb007107"}
    with host.app.app_context():
        host.sessions.prune()
    assert set(keys(host, "xgen_sessions", "ip_key").values()) == {"4cb007107"}
    assert set(keys(host, "xgen_user_logins", "last_ip_key").values()) == {"4cb007107"}


def test_an_address_that_is_none_has_the_key_of_none() -> None:
    assert [key_of(ip) for ip in (None, "", "x", "10.0.0.1")] == ["", "", "", "40a000001"]
