"""Sign-in: permission, recorded data, and the identity of users."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import BROWSER, Host, LooseUser, NamedUser, UuidUser, bearer
from xgen_flask_sessions import (
    LedgerUnavailable,
    UserInactive,
    session_issued,
)

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
DAY_US = 24 * 3600 * 1_000_000


# --- The record ------------------------------------------------------------------------------


def test_a_sign_in_is_a_row_and_a_login(host: Host) -> None:
    user = host.add_user()

    with freeze_time(NOON):
        issued = host.issue(user)

    (row,) = host.rows("xgen_sessions")
    assert row == {
        "jti": issued.jti,
        "session_id": issued.session_id,
        "user_id": user,
        "issued_us": NOON_US,
        "signed_in_us": NOON_US,
        "expires_us": NOON_US + DAY_US,
        "ended_us": None,
        "end_reason": None,
        "ip": None,
        "user_agent": None,
        "login_id": None,
        "ip_key": "",
    }
    assert issued.jti == issued.session_id
    assert (issued.issued_us, issued.expires_us) == (NOON_US, NOON_US + DAY_US)
    login = dict(host.login_row(user))
    assert len(login.pop("account_mark")) == 32
    assert login == {
        "user_id": user,
        "last_issued_us": NOON_US,
        "invalid_before_us": 0,
        "last_login_us": NOON_US,
        "last_ip": None,
        "last_ip_key": None,
        "active_until_us": NOON_US + DAY_US,
    }


def test_last_login_and_last_ip_are_the_newest_ones(host: Host) -> None:
    user = host.add_user()

    for minutes, address in ((0, "192.0.2.1"), (1, "2001:db8::1"), (2, "not an address")):
        with freeze_time(NOON + timedelta(minutes=minutes)):
            host.client().post(
                "/sign-in", data={"user_id": user}, environ_base={"REMOTE_ADDR": address}
            )

    login = host.login_row(user)
    assert login["last_login_us"] == NOON_US + 2 * 60 * 1_000_000
    assert login["last_ip"] == "2001:db8::1"


def test_a_renewal_is_no_login(host: Host) -> None:
    user = host.add_user()

    with freeze_time(NOON) as clock:
        token = host.issue(user)
        clock.tick(60)
        host.renew(token)

    assert host.login_row(user)["last_login_us"] == NOON_US


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:DB8:0:0::9", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("unknown", None),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("203.0.113.256", None),
        ("<script>alert(1)</script>", None),
        ("x" * 100_000, None),
    ],
)
def test_only_valid_addresses_are_kept(host: Host, address: str, kept: str | None) -> None:
    user = host.add_user()

    host.client().post("/sign-in", data={"user_id": user}, environ_base={"REMOTE_ADDR": address})

    (row,) = host.rows("xgen_sessions")
    assert row["ip"] == host.login_row(user)["last_ip"] == kept


def test_a_user_agent_is_cut_and_cleaned_on_every_database(host: Host) -> None:
    user = host.add_user()
    agents = [
        BROWSER,
        "x" * 512,
        "y" * 10_000,
        "caf\xe9 \x7f tab\there",
        "  ",
        "",
    ]

    for agent in agents:
        answer = host.client().post(
            "/sign-in", data={"user_id": user}, headers={"User-Agent": agent}
        )
        assert answer.status_code == 200

    rows = sorted(host.rows("xgen_sessions"), key=lambda row: row["issued_us"])
    assert [row["user_agent"] for row in rows] == [
        BROWSER,
        "x" * 512,
        "y" * 512,
        "caf\xe9 � tab�here",
        None,
        None,
    ]


def test_a_sign_in_outside_of_a_request_has_no_address(host: Host) -> None:
    host.issue(host.add_user())

    (row,) = host.rows("xgen_sessions")
    assert row["ip"] is None


# --- Claims and lifetime ---------------------------------------------------------------------


def test_extra_claims_are_returned_at_verification(host: Host) -> None:

    issued = host.issue(host.add_user(), claims={"roles": ["ops"], "tenant": 7})

    assert host.verify(issued).claims == {"roles": ["ops"], "tenant": 7}
    assert host.verify(host.issue(host.add_user("bob"))).claims == {}


def test_invalid_extra_claims_leave_no_record(host: Host) -> None:
    user = host.add_user()

    for claims in ({"sub": "1"}, {"x": float("nan")}, {"x": "y" * 5000}):
        with pytest.raises(ValueError, match=r"claim|Claim"):
            host.issue(user, claims=claims)

    assert host.rows("xgen_sessions") == []


@pytest.mark.parametrize("lifetime", [90, timedelta(seconds=90)])
def test_a_lifetime_is_seconds_or_a_timedelta(host: Host, lifetime: int | timedelta) -> None:

    with freeze_time(NOON) as clock:
        issued = host.issue(host.add_user(), lifetime=lifetime)
        clock.tick(89)
        assert host.status(issued) == 200
        clock.tick(1)
        assert host.status(issued) == 401

    assert issued.expires_us == NOON_US + 90 * 1_000_000


def test_the_lifetime_counts_from_iat_so_that_exp_is_exact(
    host: Host,
) -> None:

    with freeze_time(NOON + timedelta(milliseconds=250)):
        issued = host.issue(host.add_user(), lifetime=10)

        assert issued.expires_us == NOON_US + 10 * 1_000_000
        assert host.verify(issued).expires_us == issued.expires_us


@pytest.mark.parametrize(
    "lifetime", [0, -1, timedelta(milliseconds=999), timedelta(days=3651), 10**12]
)
def test_a_lifetime_out_of_bounds_is_refused(host: Host, lifetime: int | timedelta) -> None:
    user = host.add_user()

    with pytest.raises((ValueError, OverflowError)):
        host.issue(user, lifetime=lifetime)


def test_the_configured_lifetime_is_the_default(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, XGEN_SESSIONS_LIFETIME=3600)

    with freeze_time(NOON):
        issued = host.issue(host.add_user())

    assert issued.expires_us == NOON_US + 3600 * 1_000_000


def test_the_repr_of_an_issued_token_hides_the_token(host: Host) -> None:
    issued = host.issue(host.add_user())

    assert issued.token not in repr(issued)


# --- Permission ------------------------------------------------------------------------------


def test_an_inactive_user_cannot_sign_in(host: Host) -> None:
    user = host.add_user(is_active=False)

    with pytest.raises(UserInactive):
        host.issue(user)

    assert host.rows("xgen_sessions") == []


def test_a_user_that_does_not_exist_cannot_sign_in(host: Host) -> None:
    gone = host.add_user()
    host.delete_user(gone)

    for user in (gone, "4711", "alice", "01", "-1", "9" * 40, "1.0", "", "*"):
        with pytest.raises((UserInactive, ValueError)):
            host.issue(user)

    assert host.rows("xgen_sessions") == []


def test_a_user_deactivated_elsewhere_after_being_loaded_cannot_sign_in(host: Host) -> None:
    user_id = host.add_user()

    with host.app.app_context():
        user = host.find_user(user_id)
        assert user.is_active
        with host.db.engine.begin() as elsewhere:
            users = host.model.__table__
            elsewhere.execute(users.update().values(is_active=False))
        with pytest.raises(UserInactive):
            host.sessions.issue(user)


def test_a_sign_in_waits_for_a_deactivation_under_way(host: Host) -> None:
    user = host.add_user()

    with ThreadPoolExecutor(1) as pool:
        with host.app.app_context(), host.db.engine.begin() as elsewhere:
            elsewhere.execute(host.model.__table__.update().values(is_active=False))
            sign_in = pool.submit(host.issue, user)
            with pytest.raises(TimeoutError):
                sign_in.result(timeout=0.3)

        with pytest.raises(UserInactive):
            sign_in.result(timeout=10)


def test_a_user_deleted_elsewhere_after_being_loaded_cannot_sign_in(host: Host) -> None:
    user_id = host.add_user()

    with host.app.app_context():
        user = host.find_user(user_id)
        with host.db.engine.begin() as elsewhere:
            elsewhere.execute(host.model.__table__.delete())
        with pytest.raises(UserInactive):
            host.sessions.issue(user)


def test_a_sign_in_takes_part_in_the_host_s_transaction(host: Host) -> None:
    user = host.add_user()

    with host.app.app_context():
        undone = host.sessions.issue(user, commit=False)
        host.db.session.rollback()
        done = host.sessions.issue(user, commit=False)
        host.db.session.commit()

    assert host.status(undone) == 401
    assert host.status(done) == 200


def test_a_user_made_in_the_same_transaction_can_sign_in(host: Host) -> None:
    with host.app.app_context():
        user = host.model(username="new")
        host.db.session.add(user)
        host.db.session.flush()
        issued = host.sessions.issue(user)

    assert host.status(issued, "/api/user") == 200


def test_a_sign_in_sends_session_issued(host: Host) -> None:
    user = host.add_user()
    heard: list[tuple[object, object, object]] = []

    def listen(sender: object, issued: object, user_id: object) -> None:
        heard.append((sender, issued, user_id))

    with session_issued.connected_to(listen):
        issued = host.issue(user)

    assert heard == [(host.app, issued, user)]


def test_a_sign_in_fails_without_the_tables(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url)
    user = host.add_user()
    with host.app.app_context(), host.db.engine.begin() as connection:
        connection.execute(sa.schema.DropTable(host.db.metadata.tables["xgen_sessions"]))

    with pytest.raises(LedgerUnavailable):
        host.issue(user)
    answer = host.client().post("/sign-in", data={"user_id": user})

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.get_json()["code"] == "ledger_unavailable"


def test_every_change_fails_while_the_database_is_unreachable(make_host: MakeHost) -> None:
    host = make_host("postgresql+psycopg://postgres@127.0.0.1:9/none", create_all=False)

    with pytest.raises(LedgerUnavailable):
        host.force_logout("1")
    with pytest.raises(LedgerUnavailable):
        host.issue("1")
    with pytest.raises(LedgerUnavailable):
        host.end_session("a" * 32)


# --- The identity of users -------------------------------------------------------------------


ODD_IDS = [
    "alice", "ALICE", "alic\u00e9", "alice\u0301", "alice ", " alice", "al\u0131ce", "\uff41lice",
    "\U0001f600", "\U0001f600" * 255, "x" * 255, "x" * 254 + "X",
]  # fmt: skip
"""Ids that some databases treat as equal, or cannot hold."""


def test_names_that_look_alike_are_different_users(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, model=NamedUser)
    for name in ODD_IDS:
        host.add_user(name, id=name)
    tokens = {name: host.issue(name) for name in ODD_IDS}
    assert [host.verify(tokens[name]).user_id for name in ODD_IDS] == ODD_IDS
    assert listed(host) == set(ODD_IDS)

    for number, name in enumerate(ODD_IDS, 1):
        assert host.force_logout(name).sessions_ended == 1

        left = ODD_IDS[number:]
        assert [each for each in ODD_IDS if host.status(tokens[each], "/api/user") == 200] == left
        assert listed(host) == set(left)
    assert {row["user_id"] for row in host.rows("xgen_user_logins")} == {"*", *ODD_IDS}


def listed(host: Host) -> set[str]:
    """Return the ids of the users in the list, and assert that each one has one active session."""
    state = host.app.extensions["xgen_sessions"]
    with host.app.app_context():
        users = state.roster.page(host.db.session(), 1).users
    assert all(user.active_sessions == 1 for user in users)
    return {user.profile.user_id for user in users}


def test_a_case_insensitive_host_has_no_user_of_another_case(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, model=LooseUser)
    host.add_user("alice", id="alice")

    host.issue("alice")

    for name in ("ALICE", "alicé", "alice "):
        with pytest.raises(UserInactive):
            host.issue(name)
    assert {row["user_id"] for row in host.rows("xgen_sessions")} == {"alice"}


@pytest.mark.parametrize("char", ["x", "한", "\U0001f600"])
def test_an_id_may_be_255_characters_long(
    make_host: MakeHost, database_url: str, char: str
) -> None:
    host = make_host(database_url, model=NamedUser)
    name = char * 255
    host.add_user(name, id=name)

    token = host.issue(name)

    assert host.verify(token).user_id == name
    assert host.status(token, "/api/user") == 200
    assert host.force_logout(name).sessions_ended == 1


def test_ids_may_be_uuids(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, model=UuidUser)
    user = host.add_user()

    token = host.issue(user)

    assert host.verify(token).user_id == str(uuid.UUID(user))
    assert host.client().get("/api/user", headers=bearer(token)).get_json()["user_id"] == user
    for other in (user.upper(), user.replace("-", ""), f"{{{user}}}"):
        with pytest.raises(UserInactive):
            host.issue(other)


def test_star_is_everyone_and_no_user(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, model=NamedUser)
    host.add_user("star", id="*")

    with pytest.raises(ValueError, match="everyone"):
        host.issue("*")


def test_a_username_that_no_database_can_hold_is_not_found(host: Host) -> None:
    users = host.app.extensions["xgen_sessions"].users

    with host.app.app_context():
        for username in ("a\x00b", "\ud800", "alice"):
            assert users.named(username) == []


@on_sqlite
@pytest.mark.parametrize("lifetime", [0, -1, 1.5, "1", True, 10**30, float("nan")])
def test_an_invalid_lifetime_is_a_value_error(host: Host, lifetime: Any) -> None:
    alice = host.add_user()

    with host.app.app_context(), pytest.raises(ValueError, match="lifetime"):
        host.sessions.issue(alice, lifetime=lifetime)


def test_changes_that_the_host_has_not_flushed_are_kept(host: Host) -> None:
    alice = host.add_user()

    with host.app.app_context(), host.db.session.no_autoflush:
        user = host.find_user(alice)
        user.department = "Research"
        host.sessions.issue(user)

    with host.app.app_context():
        assert host.find_user(alice).department == "Research"
