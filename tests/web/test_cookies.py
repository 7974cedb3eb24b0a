"""The token's cookie: its size, its prefix, and several cookies of its name."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from flask import Flask, Response, redirect, session
from flask_login import login_user

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.standalone import ADMIN_PASSWORD
from xgen_flask_sessions import ConfigurationError, IssuedToken
from xgen_flask_sessions.standalone.config import from_environment

LIMIT = 4096


def get(host: Host, *cookies: str | IssuedToken, path: str = "/api/token") -> Any:
    """Call with cookies of one name, in this order."""
    texts = [each if isinstance(each, str) else each.token for each in cookies]
    header = "; ".join(f"xgen_token={text}" for text in texts)
    return host.app.test_client(use_cookies=False).get(
        path, headers={"Cookie": header, "Accept": "application/json"}
    )


# --- Several cookies -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/token", "/api/user"])
@pytest.mark.parametrize("first", [True, False])
def test_a_tossed_cookie_neither_signs_in_nor_locks_out(
    sqlite_host: Host, path: str, first: bool
) -> None:
    user = sqlite_host.add_user()
    own, ended = sqlite_host.issue(user), sqlite_host.issue(sqlite_host.add_user("mallory"))
    sqlite_host.end_session(ended.session_id)

    for tossed in ("", "nonsense", "x.y.z", ended.token, own.token):
        cookies = (tossed, own) if first else (own, tossed)
        answer = get(sqlite_host, *cookies, path=path)
        assert (answer.status_code, answer.get_json()["user_id"]) == (200, user), tossed


@pytest.mark.parametrize("path", ["/api/token", "/api/user", "/page"])
def test_cookies_of_several_users_are_refused(sqlite_host: Host, path: str) -> None:
    own = sqlite_host.issue(sqlite_host.add_user())
    tossed = sqlite_host.issue(sqlite_host.add_user("mallory"))

    for cookies in ((own, tossed), (tossed, own)):
        answer = get(sqlite_host, *cookies, path=path)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "token_ambiguous")


def test_of_two_sessions_of_a_user_the_newer_one_counts(sqlite_host: Host) -> None:
    user = sqlite_host.add_user()
    old, new = sqlite_host.issue(user), sqlite_host.issue(user)

    for cookies in ((old, new), (new, old)):
        assert get(sqlite_host, *cookies).get_json()["session_id"] == new.session_id


def test_a_revoked_token_among_cookies_is_refused_with_the_reason(sqlite_host: Host) -> None:
    user = sqlite_host.add_user()
    token = sqlite_host.issue(user)
    sqlite_host.force_logout(user)

    for cookies in ((token, "nonsense"), ("nonsense", token)):
        assert get(sqlite_host, *cookies).get_json()["code"] == "session_revoked"


def test_not_every_cookie_costs_a_query(sqlite_host: Host) -> None:
    own = sqlite_host.issue(sqlite_host.add_user())

    answer = get(sqlite_host, own, *(f"x.y.{n}" for n in range(50)))

    assert (answer.status_code, answer.get_json()["code"]) == (400, "token_ambiguous")


def test_without_the_database_no_cookie_counts(sqlite_host: Host) -> None:
    own = sqlite_host.issue(sqlite_host.add_user())
    sqlite_host.execute("ALTER TABLE xgen_sessions RENAME TO away")

    assert get(sqlite_host, "nonsense", own).status_code == 503


# --- The size --------------------------------------------------------------------------------


def claims_for(host: Host, user: str, size: int) -> dict[str, Any]:
    """Return claims that make a cookie of about *size* bytes."""
    short = len("xgen_token") + len(host.issue(user, claims={"x": ""}).token)
    return {"x": "y" * ((size - short) * 3 // 4)}


def test_a_cookie_that_browsers_drop_is_refused_before_it_is_recorded(host: Host) -> None:
    user = host.add_user()
    fits, too_long = claims_for(host, user, LIMIT), claims_for(host, user, LIMIT + 4)
    before = host.rows("xgen_sessions"), host.login_row(user)

    with pytest.raises(ValueError, match=r"a cookie of 4(09[7-9]|10\d) bytes; browsers keep 4096"):
        host.issue(user, claims=too_long)
    with host.app.app_context():
        with pytest.raises(ValueError, match="browsers keep 4096"):
            host.sessions.issue(user, claims=too_long, commit=False)
        host.db.session.commit()

    assert (host.rows("xgen_sessions"), host.login_row(user)) == before
    token = host.issue(user, claims=fits)
    assert len("xgen_token") + len(token.token) > LIMIT - 4
    assert get(host, token).status_code == 200


def test_a_long_token_for_the_header_is_no_cookie(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_TOKEN_LOCATIONS=["headers"])
    user = host.add_user()
    token = host.issue(user, claims=claims_for(host, user, 5000))

    assert host.client().get("/api/token", headers=bearer(token)).status_code == 200
    with host.app.app_context(), pytest.raises(ValueError, match="browsers keep 4096"):
        host.sessions.set_cookie(Response(), token)


def add_login(app: Flask) -> dict[str, Any]:
    @app.post("/login-page/<int:size>")
    def login_page(size: int) -> Any:
        session["basket"] = secrets.token_urlsafe(size)  # cannot be compressed
        login_user(app.extensions["xgen_sessions"].users.get("1"))
        return redirect("/page")

    app.login_manager.user_loader(  # type: ignore[attr-defined]
        lambda user_id: app.extensions["xgen_sessions"].users.get(user_id)
    )
    return {}


def test_a_session_cookie_that_browsers_drop_is_reported(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, extras=add_login)
    host.add_user()
    client = host.client()

    assert client.post("/login-page/1000").status_code == 302
    assert client.get("/api/user").status_code == 200
    recorded = host.rows("xgen_sessions")
    with pytest.raises(ValueError, match=r"session cookie would have \d+ bytes"):
        host.client().post("/login-page/4000")
    assert host.rows("xgen_sessions") == recorded


# --- Prefixes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["__Host-xgen_token", "__Secure-xgen_token", "__host-t"])
def test_a_prefix_is_supported(make_host: MakeHost, sqlite_url: str, name: str) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_COOKIE_NAME=name)
    user = host.add_user()
    browser = host.client()

    answer = browser.post("/sign-in", base_url="https://localhost", data={"user_id": user})

    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{name}=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert browser.get("/api/user", base_url="https://localhost").status_code == 200


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("__Host-t", {"XGEN_SESSIONS_COOKIE_SECURE": False}),
        ("__HOST-t", {"XGEN_SESSIONS_COOKIE_SECURE": False}),
        ("__Secure-t", {"XGEN_SESSIONS_COOKIE_SECURE": False}),
        ("__Host-t", {"SESSION_COOKIE_DOMAIN": "example.com"}),
        ("__Host-t", {"SESSION_COOKIE_PATH": "/app"}),
        ("__Host-t", {"APPLICATION_ROOT": "/app"}),
    ],
)
def test_a_prefix_whose_rules_are_broken_stops_the_start(
    make_host: MakeHost, sqlite_url: str, name: str, config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_COOKIE_NAME can begin with"):
        make_host(sqlite_url, XGEN_SESSIONS_COOKIE_NAME=name, **config)


def test_the_cookie_is_partitioned_as_flask_s_is(make_host: MakeHost, sqlite_url: str) -> None:
    """Browsers drop other cookies of a page that another site embeds."""
    host = make_host(sqlite_url, SESSION_COOKIE_PARTITIONED=True, XGEN_SESSIONS_COOKIE_SECURE=True)
    token = host.issue(host.add_user())

    with host.app.test_request_context():
        response = Response()
        host.sessions.set_cookie(response, token)
        host.sessions.unset_cookie(response)

    cookies = response.headers.getlist("Set-Cookie")
    assert ["Partitioned" in cookie for cookie in cookies] == [True, True]


def test_the_admin_center_over_https_uses_the_prefix(tmp_path: Any) -> None:
    def name(**environ: str) -> Any:
        environ = {"XGEN_ADMIN_PASSWORD": ADMIN_PASSWORD, **environ}
        return from_environment(tmp_path, environ).get("XGEN_SESSIONS_COOKIE_NAME")

    assert name() is None
    assert name(XGEN_SESSIONS_COOKIE_SECURE="true") == "__Host-xgen_token"
    secure = {"XGEN_SESSIONS_COOKIE_SECURE": "true"}
    assert name(**secure, XGEN_SESSIONS_COOKIE_NAME='"mine"') == "mine"
