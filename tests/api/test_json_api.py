"""The JSON API: the caller's own sessions, and every user's sessions for administrators."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from freezegun import freeze_time

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import BROWSER, Host, NamedUser, bearer
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.roster.roster import PAGE_SIZE

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def call(
    host: Host, token: IssuedToken | str | None, method: str, path: str, **options: Any
) -> Any:
    """Call the API with *token* in the header."""
    headers = {} if token is None else bearer(token)
    return host.client().open(f"/sessions/{path}", method=method, headers=headers, **options)


def add_admin(host: Host) -> IssuedToken:
    """Add a SuperUser, sign in, and return the token."""
    return host.issue(host.add_user("admin", is_superuser=True, display_name="Admin"))


def is_secret(answer: Any) -> bool:
    return bool(answer.headers["Cache-Control"] == "no-store")


# --- The caller's own sessions ---------------------------------------------------------------


def test_own_sessions_have_their_device_address_and_times(host: Host) -> None:
    user = host.add_user()
    other = host.issue(host.add_user("bob"))
    with freeze_time(NOON) as clock:
        token = (
            host.client()
            .post(
                "/sign-in",
                data={"user_id": user},
                headers={"User-Agent": BROWSER},
                environ_base={"REMOTE_ADDR": "192.0.2.7"},
            )
            .get_json()
        )
        clock.tick(timedelta(seconds=1))
        newer = host.issue(user)
        host.end_session(host.issue(user).session_id)

        answer = call(host, token["token"], "GET", "")

    assert answer.status_code == 200
    assert is_secret(answer)
    assert answer.get_json() == {
        "sessions": [
            {
                "session_id": newer.session_id,
                "browser": None,
                "device": None,
                "signed_in": "2026-05-25T12:00:01.000000Z",
                "expires": "2026-05-26T12:00:01.000000Z",
                "ip": None,
                "current": False,
            },
            {
                "session_id": token["session_id"],
                "browser": "Chrome 125",
                "device": "Windows",
                "signed_in": "2026-05-25T12:00:00.000000Z",
                "expires": "2026-05-26T12:00:00.000000Z",
                "ip": "192.0.2.7",
                "current": True,
            },
        ],
        "page": 1,
        "pages": 1,
        "total": 2,
    }
    assert other.session_id not in answer.get_data(as_text=True)


def test_a_renewed_session_is_one_session(host: Host) -> None:
    old = host.issue(host.add_user())
    new = host.renew(old)

    for token in (old, new):
        (session,) = call(host, token, "GET", "").get_json()["sessions"]
        assert (session["session_id"], session["current"]) == (old.session_id, True)


def test_a_user_can_end_one_of_their_sessions(host: Host) -> None:
    user = host.add_user()
    token, other = host.issue(user), host.issue(user)

    answer = call(host, token, "DELETE", other.session_id)

    assert (answer.status_code, answer.data) == (204, b"")
    assert is_secret(answer)
    assert [host.status(token), host.status(other)] == [200, 401]
    (record,) = host.rows("xgen_revocations")
    assert (record["actor"], record["session_id"]) == (user, other.session_id)


def test_ending_the_current_session_deletes_the_cookie(host: Host) -> None:
    user = host.add_user()
    other, token = host.issue(user), host.issue(user)
    browser = host.cookie_client(token)

    assert "Set-Cookie" not in browser.delete(f"/sessions/{other.session_id}").headers
    answer = browser.delete(f"/sessions/{token.session_id}")

    assert answer.status_code == 204
    assert "xgen_token=;" in answer.headers["Set-Cookie"]
    assert browser.get("/sessions/").get_json()["code"] == "token_missing"


def test_only_an_active_session_of_the_caller_can_be_ended(host: Host) -> None:
    alice, admin = host.issue(host.add_user("alice")), add_admin(host)
    ended = host.issue(host.add_user("bob"))
    host.end_session(ended.session_id)

    for session_id in (alice.session_id, ended.session_id, "none", "%00", "한", "x" * 300, "renew"):
        answer = call(host, admin, "DELETE", session_id)
        assert answer.status_code == 404, session_id
        assert answer.get_json()["code"] == "not_found"
        assert answer.content_type == "application/problem+json"
    assert host.status(alice) == 200


def test_renewing_by_header_returns_the_token(host: Host) -> None:
    with freeze_time(NOON) as clock:
        old = host.issue(host.add_user(), lifetime=600)
        clock.tick(100)

        answer = call(host, old, "POST", "renew")

        assert answer.status_code == 200
        assert is_secret(answer)
        assert "Set-Cookie" not in answer.headers
        body = answer.get_json()
        assert (body["session_id"], body["expires_in"]) == (old.session_id, 600)
        assert body["token_type"] == "Bearer"
        assert body.keys() == {"access_token", "token_type", "expires_in", "session_id"}
        clock.tick(60)
        assert [host.status(old), host.status(body["access_token"])] == [401, 200]


def test_renewing_by_cookie_renews_the_cookie_and_shows_no_token(host: Host) -> None:
    with freeze_time(NOON) as clock:
        old = host.issue(host.add_user())
        browser = host.cookie_client(old)

        answer = browser.post("/sessions/renew", headers={"Sec-Fetch-Site": "same-origin"})

        assert answer.get_json() == {"session_id": old.session_id, "expires_in": 86400}
        assert answer.headers["Set-Cookie"].startswith("xgen_token=ey")
        clock.tick(61)
        assert browser.get("/api/user").status_code == 200


def test_signing_out_ends_the_session_and_deletes_the_cookie(host: Host) -> None:
    user = host.add_user()
    by_header, by_cookie, other = (host.issue(user) for _ in range(3))
    browser = host.cookie_client(by_cookie)

    answers = [call(host, by_header, "POST", "sign-out"), browser.post("/sessions/sign-out")]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert "xgen_token=;" in answers[1].headers["Set-Cookie"]
    assert [host.status(token) for token in (by_header, by_cookie, other)] == [401, 401, 200]
    reasons = {row["jti"]: row["end_reason"] for row in host.rows("xgen_sessions")}
    assert reasons[by_cookie.jti] == "signed out"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "renew"), ("POST", "sign-out"), ("DELETE", "{session_id}")]
)
def test_a_cross_site_request_changes_nothing(host: Host, method: str, path: str) -> None:
    token = host.issue(host.add_user())
    browser = host.cookie_client(token)

    answer = browser.open(
        f"/sessions/{path.format(session_id=token.session_id)}",
        method=method,
        headers={"Sec-Fetch-Site": "cross-site"},
    )

    assert (answer.status_code, answer.get_json()["code"]) == (403, "cross_site")
    (row,) = host.rows("xgen_sessions")
    assert row["ended_us"] is None


def test_an_inactive_user_can_end_a_session_but_not_renew_it(
    host: Host,
) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.change_user(user, is_active=False)

    renewed = call(host, token, "POST", "renew")

    assert (renewed.status_code, renewed.get_json()["code"]) == (401, "user_inactive")
    assert call(host, token, "POST", "sign-out").status_code == 204


# --- Every user's sessions, for administrators -----------------------------------------------


def test_the_list_has_the_cards_and_a_row_for_each_user_signed_in(host: Host) -> None:
    with freeze_time(NOON) as clock:
        admin = add_admin(host)
        alice = host.add_user("alice", display_name="앨리스", department="영업")
        host.add_user("carol", is_superuser=True)
        gone = host.add_user("dave")
        host.issue(gone)
        clock.tick(60)
        host.client().post(
            "/sign-in", data={"user_id": alice}, environ_base={"REMOTE_ADDR": "192.0.2.7"}
        )
        host.issue(alice)
        out = host.add_user("erin")
        host.issue(out)
        host.force_logout(out)
        host.delete_user(gone)

        answer = call(host, admin, "GET", "users")

    assert answer.status_code == 200
    assert is_secret(answer)
    body = answer.get_json()
    assert body["summary"] == {"active_users": 3, "active_sessions": 4, "superusers": 1}
    assert (body["page"], body["pages"]) == (1, 1)
    first, *others = body["users"]
    assert first == {
        "user_id": alice,
        "username": "alice",
        "name": "앨리스",
        "department": "영업",
        "superuser": False,
        "active_sessions": 2,
        "last_login": "2026-05-25T12:01:00.000000Z",
        "last_ip": "192.0.2.7",
    }
    assert sorted(user["username"] for user in others) == sorted(["admin", gone])
    (row,) = [user for user in others if user["username"] == "admin"]
    assert (row["superuser"], row["department"], row["last_ip"]) == (True, None, None)


def test_expired_sessions_are_not_in_the_list(host: Host) -> None:
    with freeze_time(NOON) as clock:
        user = host.add_user()
        host.issue(user, lifetime=60)
        admin = add_admin(host)
        clock.tick(59)
        assert call(host, admin, "GET", "users").get_json()["summary"]["active_users"] == 2
        clock.tick(1)

        body = call(host, admin, "GET", "users").get_json()

        assert body["summary"] == {"active_users": 1, "active_sessions": 1, "superusers": 1}
        assert [row["username"] for row in body["users"]] == ["admin"]
        sessions = call(host, admin, "GET", f"users/{user}").get_json()["sessions"]
        assert sessions == []


def test_the_list_has_pages(host: Host) -> None:
    admin = add_admin(host)
    with host.app.app_context():
        users = [host.model(username=f"user{number}") for number in range(PAGE_SIZE)]
        host.db.session.add_all(users)
        host.db.session.flush()
        for user in users:
            host.sessions.issue(user, commit=False)
        host.db.session.commit()

    pages = [call(host, admin, "GET", f"users?page={n}").get_json() for n in (1, 2, 3, 999999999)]

    names = [[row["username"] for row in page["users"]] for page in pages]
    assert [len(page) for page in names] == [PAGE_SIZE, 1, 0, 0]
    assert names[0] + names[1] == [f"user{n}" for n in reversed(range(PAGE_SIZE))] + ["admin"]
    assert {page["pages"] for page in pages} == {2}
    assert [page["page"] for page in pages] == [1, 2, 3, 999999999]


@on_sqlite
@pytest.mark.parametrize("page", ["0", "-1", "x", "", "1.5", "1e3", "٣", "9" * 10, "+1", " 1"])
def test_an_invalid_page_number_is_a_bad_request(host: Host, page: str) -> None:
    admin = add_admin(host)

    answer = host.client().get(
        "/sessions/users", query_string={"page": page}, headers=bearer(admin)
    )

    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_request")


def test_a_user_s_sessions_are_listed(host: Host) -> None:
    admin, user = add_admin(host), host.add_user()
    tokens = [host.issue(user) for _ in range(2)]

    answer = call(host, admin, "GET", f"users/{user}")

    assert answer.status_code == 200
    assert is_secret(answer)
    body = answer.get_json()
    assert body["user_id"] == user
    assert [each["session_id"] for each in body["sessions"]] == [
        token.session_id for token in reversed(tokens)
    ]
    for each in body["sessions"]:
        assert RFC_3339.fullmatch(each["signed_in"])
        assert RFC_3339.fullmatch(each["expires"])
        assert each["current"] is False


def test_an_administrator_s_own_current_session_is_marked(host: Host) -> None:
    admin = add_admin(host)
    host.issue(host.verify(admin).user_id)

    body = call(host, admin, "GET", f"users/{host.verify(admin).user_id}").get_json()

    assert [each["current"] for each in body["sessions"]] == [False, True]


def test_a_force_logout_ends_every_session_and_returns_their_number(host: Host) -> None:
    admin, user = add_admin(host), host.add_user()
    tokens = [host.issue(user) for _ in range(3)]

    answer = call(
        host, admin, "POST", f"users/{user}/force-logout", json={"reason": "분실한 노트북"}
    )

    assert answer.status_code == 200
    assert is_secret(answer)
    body = answer.get_json()
    assert (body["user_id"], body["sessions_ended"]) == (user, 3)
    assert RFC_3339.fullmatch(body["invalid_before"])
    assert body.keys() == {"user_id", "sessions_ended", "invalid_before"}
    assert {host.status(token) for token in tokens} == {401}
    assert host.status(admin) == 200
    (record,) = host.rows("xgen_revocations")
    assert (record["reason"], record["actor_ip"]) == ("분실한 노트북", "127.0.0.1")
    assert record["actor"] == host.verify(admin).user_id


def test_administrators_can_force_out_themselves(host: Host) -> None:
    admin = add_admin(host)
    user = host.verify(admin).user_id

    assert call(host, admin, "POST", f"users/{user}/force-logout").status_code == 200

    assert host.status(admin) == 401


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": null}', b'{"more": 1}', b" {} "])
def test_a_reason_is_optional(host: Host, body: bytes) -> None:
    admin, user = add_admin(host), host.add_user()

    answer = call(host, admin, "POST", f"users/{user}/force-logout", data=body)

    assert answer.status_code == 200
    (record,) = host.rows("xgen_revocations")
    assert record["reason"] is None


@on_sqlite
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"reason=x", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"null", 400),
        (b'{"reason": 1}', 400),
        (b'{"reason": ["x"]}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 5000, 400),
        (json.dumps({"reason": "x" * 501}).encode(), 400),
        (json.dumps({"more": "x" * 17_000}).encode(), 413),
    ],
)
def test_an_invalid_body_changes_nothing(host: Host, body: bytes, status: int) -> None:
    admin, user = add_admin(host), host.add_user()
    token = host.issue(user)

    answer = call(host, admin, "POST", f"users/{user}/force-logout", data=body)

    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert host.status(token) == 200


class Endless:
    """A body that never ends."""

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        return b" " * size


def test_a_body_of_unknown_length_is_not_read_to_its_end(host: Host) -> None:
    admin, user = add_admin(host), host.add_user()
    chunked = {
        "wsgi.input": Endless(),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
    }

    answer = call(host, admin, "POST", f"users/{user}/force-logout", environ_overrides=chunked)

    assert answer.status_code in (400, 413)


@pytest.mark.parametrize(
    "user_id", ["4711", "nobody", "*", "%00", "%0Aa", "a%0Ab", "a%0A", "%F0%9F%92%A9", "x" * 300]
)
def test_an_unknown_user_is_not_found(host: Host, user_id: str) -> None:
    admin = add_admin(host)

    for method, path in (("GET", f"users/{user_id}"), ("POST", f"users/{user_id}/force-logout")):
        answer = call(host, admin, method, path)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert host.rows("xgen_revocations") == []


def test_a_deleted_users_sessions_can_be_listed_and_ended(host: Host) -> None:
    admin, user = add_admin(host), host.add_user()
    token = host.issue(user)
    host.delete_user(user)

    assert len(call(host, admin, "GET", f"users/{user}").get_json()["sessions"]) == 1
    answer = call(host, admin, "POST", f"users/{user}/force-logout")

    assert answer.get_json()["sessions_ended"] == 1
    assert host.status(token) == 401


@pytest.mark.parametrize(
    "user_id",
    ["a/b", "a b", "한", "a?b", "a#b", "a%b", "force-logout", "/a", "a//b", "a/", "a/force-logout"],
)
def test_any_id_can_be_addressed(make_host: MakeHost, database_url: str, user_id: str) -> None:
    host = make_host(database_url, model=NamedUser)
    host.add_user("admin", id="admin", is_superuser=True)
    host.add_user(user_id, id=user_id)
    admin, token = host.issue("admin"), host.issue(user_id)
    encoded = "".join(f"%{byte:02X}" for byte in user_id.encode())

    assert call(host, admin, "GET", f"users/{encoded}").get_json()["user_id"] == user_id
    answer = call(host, admin, "POST", f"users/{encoded}/force-logout")

    assert answer.get_json()["user_id"] == user_id
    assert host.status(token) == 401


ADMINISTRATORS_ONLY = [
    ("GET", "users"),
    ("GET", "users/1"),
    ("POST", "users/1/force-logout"),
]


@pytest.mark.parametrize(("method", "path"), ADMINISTRATORS_ONLY)
def test_administrator_operations_are_refused_to_other_callers(
    host: Host, method: str, path: str
) -> None:
    admin = add_admin(host)
    user = host.issue(host.add_user())
    boss = host.add_user("boss", is_superuser=True)
    retired, revoked = host.issue(boss), add_token_of_a_forced_out_superuser(host)
    host.change_user(boss, is_active=False)

    answers = [call(host, token, method, path) for token in (None, user, retired, revoked)]

    assert [(answer.status_code, answer.get_json()["code"]) for answer in answers] == [
        (401, "token_missing"),
        (403, "forbidden"),
        (401, "user_inactive"),
        (401, "session_revoked"),
    ]
    assert host.status(admin) == 200


def add_token_of_a_forced_out_superuser(host: Host) -> IssuedToken:
    user = host.add_user("out", is_superuser=True)
    token = host.issue(user)
    host.force_logout(user)
    return token


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}])
def test_a_cross_site_force_logout_is_refused(host: Host, headers: dict[str, str]) -> None:
    browser, user = host.cookie_client(add_admin(host)), host.add_user()
    token = host.issue(user)

    answer = browser.post(f"/sessions/users/{user}/force-logout", headers=headers)

    assert (answer.status_code, answer.get_json()["code"]) == (403, "cross_site")
    assert host.status(token) == 200
    assert browser.post(f"/sessions/users/{user}/force-logout").status_code == 200


def test_the_host_decides_who_can_view_and_force_out(
    make_host: MakeHost, database_url: str
) -> None:
    def extras(_: object) -> dict[str, Any]:
        return {
            "can_view": lambda user: user.department == "Support",
            "can_force_logout": lambda user: user.username == "lead",
        }

    host = make_host(database_url, extras=extras)
    boss = host.add_user("boss", is_superuser=True)
    user = host.add_user("user")
    helper = host.issue(host.add_user("helper", department="Support"))
    lead = host.issue(host.add_user("lead", department="Support"))
    path = "users/{}/force-logout".format

    assert call(host, host.issue(boss), "GET", "users").status_code == 403
    assert call(host, helper, "GET", "users").status_code == 200
    assert call(host, helper, "POST", path(user)).status_code == 403
    assert call(host, lead, "POST", path(user)).status_code == 200
    assert call(host, lead, "POST", path(boss)).status_code == 403
    assert host.rows("xgen_revocations")[0]["user_id"] == user


def test_without_flask_login_an_administrator_is_identified_by_the_token(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, extras=lambda _: {"login_manager": None})
    del host.app.login_manager  # type: ignore[attr-defined]
    admin, user = add_admin(host), host.issue(host.add_user())
    lost, retired = host.add_user("lost"), host.add_user("retired", is_superuser=True)
    path = f"users/{lost}/force-logout"

    assert call(host, None, "POST", path).status_code == 401
    assert call(host, user, "POST", path).status_code == 403
    assert call(host, admin, "POST", path).status_code == 200
    tokens = [host.issue(lost), host.issue(retired)]
    host.delete_user(lost)
    host.change_user(retired, is_active=False)
    assert [call(host, token, "POST", path).status_code for token in tokens] == [401, 401]


# --- All operations --------------------------------------------------------------------------


def test_the_host_sets_the_url_prefix(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, XGEN_SESSIONS_URL_PREFIX="/api/v1/logins")
    token = host.issue(host.add_user())

    assert host.status(token, "/api/v1/logins/") == 200
    assert host.status(token, "/sessions/") == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", "x"),
        ("POST", "renew"),
        ("POST", "sign-out"),
        *ADMINISTRATORS_ONLY,
    ],
)
def test_every_operation_answers_503_while_the_denylist_cannot_be_read(
    host: Host, method: str, path: str
) -> None:
    admin = add_admin(host)
    with host.app.app_context():
        host.db.drop_all()

    answer = call(host, admin, method, path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.get_json()["code"] == "denylist_unavailable"
    assert is_secret(answer)


def test_a_page_navigation_to_the_api_goes_to_the_sign_in_page(host: Host) -> None:
    client: FlaskClient = host.client()

    answer = client.get("/sessions/", headers={"Sec-Fetch-Mode": "navigate"})

    assert answer.status_code == 302
    assert answer.headers["Location"] == "/sign-in?next=%2Fsessions%2F"


def test_the_script_for_pages_may_be_cached(host: Host) -> None:
    answer = host.client().get("/sessions/static/session-guard.js")

    assert answer.status_code == 200
    assert "no-store" not in answer.headers.get("Cache-Control", "")
    answer.close()
