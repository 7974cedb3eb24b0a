"""The acts of administrators over HTTP: one session, old ones, several users, leavers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from freezegun import freeze_time
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import bulk, session_ended, user_forced_out

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)


def with_roles(app: Flask) -> Mapping[str, Any]:
    """Say that the department is a user's role."""
    return {"revoke_roles": lambda user: [user.department]}


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=with_roles)


class Admin:
    """A SuperUser's calls."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.id = host.add_user("admin", is_superuser=True, department="IT")

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
        """Send a call with a JSON body, or with *body* as it is if it is bytes."""
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        return self.host.client().open(
            f"/sessions{path}",
            method=method,
            data=data,
            headers=bearer(self.host.issue(self.id)),
            **more,
        )


@pytest.fixture
def admin(host: Host) -> Admin:
    return Admin(host)


def test_one_session_ends(host: Host, admin: Admin) -> None:
    user = host.add_user()
    tokens = [host.issue(user) for _ in range(3)]
    path = f"/users/{user}/sessions"

    first = admin.call("DELETE", f"{path}/{tokens[0].session_id}", {"reason": "public PC"})
    second = admin.call("DELETE", f"{path}/{tokens[1].session_id}?reason=lost+phone")
    again = admin.call("DELETE", f"{path}/{tokens[0].session_id}")

    assert [first.status_code, second.status_code, again.status_code] == [204, 204, 404]
    assert again.get_json()["detail"] == "This session has ended already."
    assert [host.status(token) for token in tokens] == [401, 401, 200]
    records = {row["session_id"]: row for row in host.rows("xgen_revocations")}
    assert records[tokens[0].session_id]["reason"] == "public PC"
    assert records[tokens[1].session_id]["reason"] == "lost phone"
    assert {row["actor"] for row in records.values()} == {admin.id}


def test_a_session_of_another_user_is_not_found(host: Host, admin: Admin) -> None:
    user, other = host.add_user("alice"), host.add_user("bob")
    token = host.issue(other)

    answers = [
        admin.call("DELETE", f"/users/{user}/sessions/{token.session_id}"),
        admin.call("DELETE", f"/users/{user}/sessions/unknown"),
        admin.call("DELETE", f"/users/999/sessions/{token.session_id}"),
    ]

    assert [each.status_code for each in answers] == [404] * 3
    assert [each.get_json()["code"] for each in answers] == ["not_found"] * 3
    assert host.status(token) == 200


def test_old_sessions_end(host: Host, admin: Admin) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        tokens = []
        for _ in range(3):
            tokens.append(host.issue(user))
            clock.tick(3600)
        path = f"/users/{user}/end-sessions"

        old = admin.call("POST", path, {"older_than": "2h", "reason": "pile-up"})
        rest = admin.call("POST", path, {"keep_newest": True})

        assert old.get_json() == {
            "user_id": user,
            "sessions_ended": 1,
            "session_ids": [tokens[0].session_id],
        }
        assert rest.get_json()["session_ids"] == [tokens[1].session_id]
        assert [host.status(token) for token in tokens] == [401, 401, 200]


def test_several_users_are_forced_out(host: Host, admin: Admin) -> None:
    users = [host.add_user(name) for name in ("alice", "bob")]
    tokens = [host.issue(user) for user in users]

    answer = admin.call("POST", "/force-logout", {"user_ids": [*users, "x", users[0]]})

    body = answer.get_json()
    assert answer.status_code == 200
    assert {each["user_id"]: each["sessions_ended"] for each in body["done"]} == dict.fromkeys(
        users, 1
    )
    assert body["refused"] == [
        {"user_id": "x", "code": "not_found", "detail": "There is no such user."}
    ]
    assert (body["failed"], body["unknown"], body["not_reached"]) == ([], [], [])
    assert [host.status(token) for token in tokens] == [401, 401]


def test_an_act_that_stops_tells_how_far_it_came(
    host: Host, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    users = [host.add_user(name) for name in ("alice", "bob", "carol")]
    statement = f"UPDATE users SET is_active = {'FALSE' if host.dialect == 'postgresql' else 0}"

    def make_inactive(*_: object, **__: object) -> None:
        with host.app.app_context(), host.db.engine.begin() as other:
            other.exec_driver_sql(f"{statement} WHERE id = {admin.id}")

    with user_forced_out.connected_to(make_inactive):
        answer = admin.call("POST", "/force-logout", {"user_ids": users})

    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (403, "forbidden")
    assert answer.content_type == "application/problem+json"
    assert [each["user_id"] for each in body["account"]["done"]] == users[:1]
    assert body["account"]["not_reached"] == users[1:]


def test_old_sessions_that_ended_are_told_if_the_act_stops(
    host: Host, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 1)
    user = host.add_user()
    with freeze_time(NOON) as clock:
        tokens = []
        for _ in range(3):
            tokens.append(host.issue(user))
            clock.tick(3600)
        path = f"/users/{user}/end-sessions"

        def make_inactive(*_: object, **__: object) -> None:
            host.change_user(admin.id, is_active=False)

        with session_ended.connected_to(make_inactive):
            answer = admin.call("POST", path, {"keep_newest": True})

    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (403, "forbidden")
    assert body["account"] == {
        "user_id": user,
        "sessions_ended": 1,
        "session_ids": [tokens[0].session_id],
    }


def test_everyone_is_forced_out(host: Host, admin: Admin) -> None:
    token = host.issue(host.add_user())

    answer = admin.call("POST", "/force-logout", {"everyone": True, "reason": "incident"})

    assert answer.status_code == 200
    assert answer.get_json()["user_id"] is None
    assert answer.get_json()["sessions_ended"] == 2
    assert host.status(token) == 401


def test_a_leaver_loses_sessions_account_and_roles(host: Host, admin: Admin) -> None:
    user = host.add_user(department="Sales")
    token = host.issue(user)

    answer = admin.call("POST", f"/users/{user}/leaver", {"reason": "leaves"})

    body = answer.get_json()
    assert answer.status_code == 200
    assert (body["sessions_ended"], body["deactivated"], body["roles"]) == (1, True, ["Sales"])
    assert host.status(token) == 401
    assert admin.call("POST", f"/users/{admin.id}/leaver").status_code == 400


@on_sqlite
def test_a_step_of_the_application_that_fails_is_a_problem(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, extras=lambda app: {"revoke_roles": lambda user: 1 // 0})
    user = host.add_user()

    answer = Admin(host).call("POST", f"/users/{user}/leaver")

    assert (answer.status_code, answer.get_json()["code"]) == (500, "hook_failed")


WRONG = {
    "force-logout": [
        b"",
        b"{",
        b"[]",
        {},
        {"user_ids": []},
        {"user_ids": "7"},
        {"user_ids": [7]},
        {"user_ids": ["7"], "everyone": True},
        {"user_ids": ["7"], "everyone": False},
        {"user_ids": ["7"], "resaon": "x"},
        {"user_ids": ["7"], "reason": 7},
        {"user_ids": ["7"], "reason": "x" * 501},
        {"user_ids": [str(number) for number in range(1001)]},
        {"everyone": False},
        {"everyone": 1},
        {"reason": "x"},
    ],
    "users/1/end-sessions": [
        b"",
        {},
        {"keep_newest": False},
        {"keep_newest": True, "older_than": "7d"},
        {"older_than": 7},
        {"older_than": "soon"},
        {"older_than": "-1"},
        {"keep_newest": True, "more": 1},
        {"keep_newest": True, "reason": []},
    ],
    "users/1/leaver": [b"{", [], {"reason": 1}],
}


@on_sqlite
@pytest.mark.parametrize(
    ("path", "body"), [(path, body) for path, bodies in WRONG.items() for body in bodies]
)
def test_a_wrong_body_is_refused(admin: Admin, path: str, body: Any) -> None:
    answer = admin.call("POST", f"/{path}", body)

    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_request")
    assert admin.host.rows("xgen_revocations") == []


@on_sqlite
def test_a_wrong_reason_of_a_deletion_is_refused(host: Host, admin: Admin) -> None:
    user = host.add_user()
    token = host.issue(user)
    path = f"/users/{user}/sessions/{token.session_id}"

    assert admin.call("DELETE", f"{path}?reason={'x' * 501}").status_code == 400
    assert admin.call("DELETE", path, b"{").status_code == 400
    assert host.status(token) == 200


@on_sqlite
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "force-logout"),
        ("POST", "users/1/end-sessions"),
        ("POST", "users/1/leaver"),
        ("DELETE", "users/1/sessions/x"),
    ],
)
def test_only_administrators_and_no_other_site(host: Host, method: str, path: str) -> None:
    user = host.add_user()
    admin = host.cookie_client(host.issue(host.add_user("admin", is_superuser=True)))

    by_user = host.client().open(
        f"/sessions/{path}", method=method, headers=bearer(host.issue(user))
    )
    anonymous = host.client().open(f"/sessions/{path}", method=method)
    from_elsewhere = admin.open(
        f"/sessions/{path}", method=method, headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert [by_user.status_code, anonymous.status_code] == [403, 401]
    assert (from_elsewhere.status_code, from_elsewhere.get_json()["code"]) == (403, "cross_site")


@on_sqlite
def test_a_long_list_of_long_ids_fits(admin: Admin) -> None:
    ids = [f"{number:04}" + "\N{HANGUL SYLLABLE HAN}" * 81 for number in range(1000)]

    answer = admin.call("POST", "/force-logout", {"user_ids": ids})

    assert answer.status_code == 200
    assert len(answer.get_json()["refused"]) == 1000
    too_long = admin.call("POST", "/force-logout", b"x" * 3_000_000)
    assert too_long.status_code == 413
