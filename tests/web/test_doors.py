"""The routes that need a token: the tokens that they accept, and the answers to all others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask, Request, Response, jsonify, request, session
from flask_admin import Admin
from flask_login import LoginManager, current_user, login_required
from freezegun import freeze_time

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import BROWSER, Host, bearer
from xgen_flask_sessions import (
    ConfigurationError,
    SessionRevoked,
    TokenExpired,
    TokenInvalid,
    XgenSessionsError,
    current_token,
    token_rejected,
    token_required,
)
from xgen_flask_sessions.web import host_extensions

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def with_login(prepare: Callable[[LoginManager], object]) -> Callable[[Flask], dict[str, Any]]:
    """Return ``extras`` that let *prepare* change the login manager before ``init_app``."""

    def extras(app: Flask) -> dict[str, Any]:
        prepare(app.login_manager)  # type: ignore[attr-defined]
        return {}

    return extras


def challenge(answer: Any) -> str | None:
    value: str | None = answer.headers.get("WWW-Authenticate")
    return value


# --- Accepted tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/token", "/api/user", "/page", "/sessions/"])
@pytest.mark.parametrize("place", ["header", "cookie"])
def test_a_valid_token_is_accepted(host: Host, path: str, place: str) -> None:
    token = host.issue(host.add_user())

    if place == "header":
        answer = host.client().get(path, headers=bearer(token))
    else:
        answer = host.cookie_client(token).get(path)

    assert answer.status_code == 200


def test_a_browser_is_signed_in_by_the_cookie_of_its_sign_in(host: Host) -> None:
    user = host.add_user()
    browser = host.client()

    browser.post("/sign-in", data={"user_id": user})

    assert browser.get("/api/user").get_json() == {"user_id": user, "username": "alice"}


def test_the_current_token_has_the_user_and_the_session(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)

    answer = host.client().get("/api/token", headers=bearer(token))

    assert answer.get_json() == {"user_id": user, "session_id": token.session_id}


def test_without_a_token_the_current_token_is_false(host: Host) -> None:
    @host.app.route("/maybe")
    def maybe() -> Response:
        return jsonify(signed_in=bool(current_token))

    token = host.issue(host.add_user())

    assert host.client().get("/maybe").get_json() == {"signed_in": False}
    assert host.client().get("/maybe", headers=bearer(token)).get_json() == {"signed_in": True}
    assert not current_token


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_s_case_does_not_matter(host: Host, scheme: str) -> None:
    token = host.issue(host.add_user())

    answer = host.client().get("/api/token", headers={"Authorization": f"{scheme} {token.token}"})

    assert answer.status_code == 200


def test_each_request_is_checked(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    client = host.cookie_client(token)
    assert client.get("/api/token").status_code == 200

    host.force_logout(user)

    assert client.get("/api/token").status_code == 401


def test_an_async_view_is_guarded_too(host: Host) -> None:
    @host.app.route("/async")
    @token_required
    async def view() -> Response:
        return jsonify(user_id=current_token.user_id)

    user = host.add_user()

    assert host.client().get("/async").status_code == 401
    answer = host.client().get("/async", headers=bearer(host.issue(user)))
    assert answer.get_json() == {"user_id": user}


def test_a_guarded_view_keeps_its_name_and_arguments(host: Host) -> None:
    @host.app.route("/items/<int:number>")
    @token_required
    def item(number: int) -> Response:
        """One item."""
        return jsonify(number=number)

    token = host.issue(host.add_user())

    assert (item.__name__, item.__doc__) == ("item", "One item.")
    assert host.client().get("/items/7", headers=bearer(token)).get_json() == {"number": 7}


# --- Refusals: problem details and challenges ------------------------------------------------


@pytest.mark.parametrize("path", ["/api/token", "/api/user", "/sessions/", "/sessions/users"])
def test_a_call_without_a_token_is_answered_with_a_challenge_without_an_error(
    host: Host, path: str
) -> None:
    answer = host.client().get(path)

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert challenge(answer) == 'Bearer realm="xgen"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.get_json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "This call needs a token.",
        "code": "token_missing",
    }


@pytest.mark.parametrize("path", ["/api/token", "/api/user", "/sessions/", "/sessions/users"])
def test_a_revoked_token_is_answered_with_the_reason(host: Host, path: str) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.force_logout(user)

    answer = host.client().get(path, headers=bearer(token))

    assert answer.status_code == 401
    assert challenge(answer) == (
        'Bearer realm="xgen", error="invalid_token", '
        'error_description="An administrator ended the session."'
    )
    assert answer.get_json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "An administrator ended the session.",
        "code": "session_revoked",
        "forced": True,
        "account_changed": False,
    }


def test_each_refusal_has_an_error_code_and_the_oauth_error(host: Host) -> None:
    user, gone = host.add_user("alice"), host.add_user("bob")
    with freeze_time(NOON):
        expired = host.issue(user, lifetime=1)
    ended, lost = host.issue(user), host.issue(gone)
    host.end_session(ended.session_id)
    host.delete_user(gone)

    for token, code in (
        ("nonsense", "token_invalid"),
        (expired.token, "token_expired"),
        (ended.token, "session_revoked"),
        (lost.token, "user_inactive"),
    ):
        answer = host.client().get("/api/user", headers=bearer(token))
        assert answer.status_code == 401
        assert answer.get_json()["code"] == code
        assert 'error="invalid_token"' in (challenge(answer) or "")


def test_a_token_in_the_header_and_in_the_cookie_is_refused(host: Host) -> None:
    token = host.issue(host.add_user())

    for path in ("/api/token", "/api/user", "/page", "/sessions/"):
        answer = host.cookie_client(token).get(path, headers=bearer(token) | PAGE)
        assert answer.status_code == 400
        assert answer.get_json()["code"] == "token_ambiguous"
        assert 'error="invalid_request"' in (challenge(answer) or "")


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Bearer a b", "bearer\ttoken", "Bearer\xa0x"]
)
def test_a_bearer_header_without_a_valid_token_is_refused(host: Host, value: str) -> None:
    answer = host.client().get("/api/token", headers={"Authorization": value})

    assert (answer.status_code, answer.get_json()["code"]) == (401, "token_invalid")


@pytest.mark.parametrize("value", ["Basic YTpi", "Token abc", "Bearerabc", ""])
def test_a_header_with_another_scheme_is_ignored(host: Host, value: str) -> None:
    token = host.issue(host.add_user())

    answer = host.client().get("/api/token", headers={"Authorization": value})
    with_cookie = host.cookie_client(token).get("/api/token", headers={"Authorization": value})

    assert answer.get_json()["code"] == "token_missing"
    assert with_cookie.status_code == 200


@pytest.mark.parametrize(("locations", "header", "cookie"), [
    (["headers"], 200, 401),
    (["cookies"], 401, 200),
    (["headers", "cookies"], 200, 200),
])  # fmt: skip
def test_only_tokens_in_the_configured_locations_are_accepted(
    make_host: MakeHost, database_url: str, locations: list[str], header: int, cookie: int
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_TOKEN_LOCATIONS=locations)
    token = host.issue(host.add_user())

    assert host.status(token) == header
    assert host.cookie_client(token).get("/api/token").status_code == cookie


def test_errors_raised_in_a_view_are_answered_like_refusals(host: Host) -> None:
    @host.app.route("/raises")
    def raises() -> Response:
        raise TokenExpired

    @host.app.route("/odd")
    def odd() -> Response:
        raise TokenInvalid('한국어 "quoted" \\ and\r\nX-Injected: yes')

    answer = host.client().get("/raises")
    assert answer.status_code == 401
    assert answer.get_json()["code"] == "token_expired"
    page = host.client().get("/raises", headers=PAGE)
    assert page.status_code == 302

    strange = host.client().get("/odd")
    assert strange.status_code == 401
    assert "X-Injected" not in strange.headers
    assert strange.get_json()["detail"].startswith('한국어 "quoted"')
    described = (challenge(strange) or "").partition("error_description=")[2]
    # RFC 6750, section 3: %x20-21 / %x23-5B / %x5D-7E.
    assert all(" " <= char <= "~" and char not in '"\\' for char in described.strip('"'))


def test_a_signal_reports_why_a_token_was_refused(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.force_logout(user)
    heard: list[XgenSessionsError] = []

    def listen(sender: object, error: XgenSessionsError) -> None:
        assert sender is host.app
        heard.append(error)

    with token_rejected.connected_to(listen):
        host.client().get("/api/user")
        assert heard == []
        host.status(token)
        host.status(token, "/api/user")

    assert [error.code for error in heard] == ["session_revoked", "session_revoked"]


# --- Refusals: pages -------------------------------------------------------------------------


def test_a_page_navigation_is_redirected_to_the_sign_in_page(host: Host) -> None:
    answer = host.client().get("/page?tab=2&q=%26", headers=PAGE)

    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert (target.scheme, target.netloc, target.path) == ("", "", "/sign-in")
    assert parse_qs(target.query) == {"next": ["/page?tab=2&q=%26"]}
    assert answer.headers["Cache-Control"] == "no-store"


def test_next_is_exactly_the_address_of_the_page(host: Host) -> None:
    @host.app.route("/docs/<path:name>")
    @token_required
    def doc(name: str) -> str:
        return name

    token = host.issue(host.add_user())
    path = "/docs/100%25%20%3F%23/a%2Bb+c/%ED%95%9C?x=%20&y"

    answer = host.client().get(path, headers=PAGE)

    (back,) = parse_qs(urlsplit(answer.headers["Location"]).query)["next"]
    there = host.cookie_client(token).get(back)
    assert there.get_data(as_text=True) == "100% ?#/a+b+c/한"
    assert there.request.query_string == b"x=%20&y"


@pytest.mark.parametrize("path", ["/page", "/sessions/"])
def test_a_page_navigation_with_a_revoked_token_is_redirected(host: Host, path: str) -> None:
    user = host.add_user()
    client = host.cookie_client(host.issue(user))
    host.force_logout(user)

    assert client.get(path, headers=PAGE).status_code == 302


@on_sqlite
@pytest.mark.parametrize(
    ("method", "headers", "redirected"),
    [
        ("GET", {"Sec-Fetch-Mode": "navigate", "Accept": "*/*"}, True),
        ("HEAD", PAGE, True),
        ("GET", PAGE | {"Sec-Fetch-Mode": "navigate"}, True),
        ("GET", PAGE | {"Sec-Fetch-Mode": "cors"}, False),
        ("GET", PAGE | {"Sec-Fetch-Mode": "same-origin"}, False),
        ("GET", PAGE | {"Sec-Fetch-Mode": "no-cors"}, False),
        ("GET", PAGE | {"X-Requested-With": "XMLHttpRequest"}, False),
        ("GET", {"Accept": "application/json"}, False),
        ("GET", {"Accept": "*/*"}, False),
        ("GET", {}, False),
        ("POST", PAGE | {"Sec-Fetch-Mode": "navigate"}, False),
        ("DELETE", PAGE, False),
        ("GET", PAGE | {"Authorization": "Bearer nonsense"}, False),
        ("GET", PAGE | {"Authorization": "bearer nonsense"}, False),
        ("GET", PAGE | {"Authorization": "Basic YWRhOng="}, True),
    ],
)
def test_only_page_navigations_are_redirected(
    host: Host, method: str, headers: dict[str, str], redirected: bool
) -> None:
    answer = host.client().open("/api/token", method=method, headers=headers)

    assert answer.status_code == (302 if redirected else 401)


def test_a_host_without_a_sign_in_page_answers_pages_with_401(
    make_host: MakeHost, database_url: str
) -> None:
    def no_page(manager: LoginManager) -> None:
        manager.login_view = None

    host = make_host(database_url, extras=with_login(no_page))

    assert host.client().get("/page", headers=PAGE).status_code == 401


def test_the_sign_in_page_may_be_on_another_site(make_host: MakeHost, database_url: str) -> None:
    def elsewhere(manager: LoginManager) -> None:
        manager.login_view = "https://id.example.com/login?lang=ko"

    host = make_host(database_url, extras=with_login(elsewhere))

    answer = host.client().get("/api/token", headers=PAGE)

    assert answer.headers["Location"] == "https://id.example.com/login?lang=ko&next=%2Fapi%2Ftoken"


def test_a_sign_in_page_can_read_that_an_administrator_ended_the_session(host: Host) -> None:
    @host.app.route("/why")
    def why() -> Response:
        error = host.sessions.rejection()
        return jsonify(forced=isinstance(error, SessionRevoked) and error.forced)

    user = host.add_user()
    client = host.cookie_client(host.issue(user))
    assert client.get("/why").get_json() == {"forced": False}

    host.force_logout(user)

    assert client.get("/why").get_json() == {"forced": True}


# --- Users -----------------------------------------------------------------------------------


def test_an_inactive_user_s_token_is_refused_by_routes_that_load_the_user(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.change_user(user, is_active=False)

    answer = host.client().get("/api/user", headers=bearer(token))

    assert answer.get_json()["code"] == "user_inactive"
    assert host.client().get("/open", headers=bearer(token)).get_json() == {"user_id": None}
    host.change_user(user, is_active=True)
    assert host.status(token, "/api/user") == 200


def test_for_a_user_forced_out_and_inactive_the_reason_is_the_inactive_account(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.force_logout(user)
    host.change_user(user, is_active=False)

    answer = host.client().get("/api/user", headers=bearer(token))

    assert answer.get_json()["code"] == "user_inactive"


def test_a_deleted_user_s_token_is_refused_by_routes_that_load_the_user(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.delete_user(user)

    assert host.status(token, "/api/user") == 401
    assert host.status(token, "/api/token") == 200  # no user row is read


def test_the_host_s_user_loader_is_used_if_there_is_one(
    make_host: MakeHost, database_url: str
) -> None:
    loaded: list[str] = []

    def prepare(manager: LoginManager) -> None:
        @manager.user_loader  # type: ignore[untyped-decorator]
        def load(user_id: str) -> Any:
            loaded.append(user_id)
            return made.find_user(user_id)

    made = make_host(database_url, extras=with_login(prepare))
    user = made.add_user()

    assert made.status(made.issue(user), "/api/user") == 200
    assert loaded == [user]


def test_tokens_are_refused_while_the_user_table_cannot_be_read(host: Host) -> None:
    token = host.issue(host.add_user())
    with host.app.app_context(), host.db.engine.begin() as connection:
        connection.execute(sa.schema.DropTable(host.model.__table__))

    answer = host.client().get("/api/user", headers=bearer(token))

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


# --- Other sites -----------------------------------------------------------------------------

OWN = "http://localhost"


@on_sqlite
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "Same-Origin"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": OWN}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "http://localhost:8080"}, False),
        ({"Origin": "http://evil.example@localhost"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://["}, False),
        ({"Origin": OWN, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://app.example.com", "Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "https://app.example.com"}, True),
        ({"Origin": "http://app.example.com", "Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://app.example.com.evil.example"}, False),
    ],
)
def test_an_unsafe_call_with_the_cookie_must_come_from_this_site_or_a_trusted_one(
    make_host: MakeHost, database_url: str, headers: dict[str, str], allowed: bool
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_TRUSTED_ORIGINS=["https://app.example.com"])
    token = host.issue(host.add_user())
    browser = host.cookie_client(token)

    answers = [
        browser.open(path, method=method, headers=headers)
        for path in ("/api/token", "/api/user")
        for method in ("POST", "PUT", "PATCH", "DELETE")
        if path == "/api/token" or method == "POST"
    ]

    assert {answer.status_code for answer in answers} == {200 if allowed else 403}
    if not allowed:
        assert {answer.get_json()["code"] for answer in answers} == {"cross_site"}
        assert {challenge(answer) for answer in answers} == {None}
    with_header = host.client().post("/api/token", headers=headers | bearer(token))
    assert with_header.status_code == 200
    assert browser.get("/api/token", headers=headers).status_code == 200


# --- Hosts with their own handlers and settings of Flask-Login -------------------------------


@pytest.fixture
def own_ways(make_host: MakeHost, database_url: str) -> Host:
    """Return a host with an ``unauthorized_handler`` and a ``request_loader``."""

    def prepare(manager: LoginManager) -> None:
        @manager.unauthorized_handler  # type: ignore[untyped-decorator]
        def turn_away() -> tuple[str, int]:
            return "The host's own page", 401

        @manager.request_loader  # type: ignore[untyped-decorator]
        def by_api_key(request: Request) -> Any:
            user_id = request.headers.get("X-Api-Key")
            return made.find_user(user_id) if user_id else None

    made = make_host(database_url, extras=with_login(prepare))
    return made


def test_the_host_s_own_handler_answers_for_the_host_s_pages(own_ways: Host) -> None:
    user = own_ways.add_user()
    token = own_ways.issue(user)
    own_ways.force_logout(user)

    for headers in ({}, PAGE, bearer(token)):
        answer = own_ways.client().get("/api/user", headers=headers)
        assert answer.get_data(as_text=True) == "The host's own page"
    ours = own_ways.client().get("/api/token")
    assert ours.get_json()["code"] == "token_missing"


def test_the_plugin_answers_errors_other_than_401_itself(own_ways: Host) -> None:
    token = own_ways.issue(own_ways.add_user())
    browser = own_ways.cookie_client(token)

    assert browser.get("/api/user", headers=bearer(token)).status_code == 400
    assert browser.post("/api/user", headers={"Origin": "null"}).status_code == 403
    with own_ways.app.app_context():
        own_ways.db.drop_all()
    answer = browser.get("/api/user")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


def test_the_host_s_request_loader_is_called_only_without_a_token(own_ways: Host) -> None:
    alice, bob = own_ways.add_user("alice"), own_ways.add_user("bob")
    by_key = {"X-Api-Key": bob}

    assert own_ways.client().get("/api/user", headers=by_key).get_json()["user_id"] == bob
    token = own_ways.issue(alice)
    answer = own_ways.client().get("/api/user", headers=by_key | bearer(token))
    assert answer.get_json()["user_id"] == alice


@pytest.mark.parametrize("protection", ["basic", "strong", None])
def test_tokens_are_accepted_beside_data_in_the_flask_session(
    make_host: MakeHost, database_url: str, protection: str | None
) -> None:
    host = make_host(database_url, SESSION_PROTECTION=protection)

    @host.app.route("/remember")
    @login_required  # type: ignore[untyped-decorator]
    def remember() -> str:
        session["theme"] = "dark"
        return str(current_user.username)

    client = host.cookie_client(host.issue(host.add_user()))

    for agent in (BROWSER, "another browser", BROWSER):
        assert client.get("/remember", headers={"User-Agent": agent}).status_code == 200


def test_token_required_works_without_flask_login(make_host: MakeHost, database_url: str) -> None:
    app = make_host(database_url, extras=lambda _: {"login_manager": None})
    token = app.issue(app.add_user())

    assert app.status(token) == 200
    assert app.client().get("/api/token").status_code == 401
    assert app.status(token, "/sessions/") == 200


def test_a_second_init_app_is_a_configuration_error(host: Host) -> None:
    with pytest.raises(ConfigurationError, match="already been registered"):
        host.sessions.init_app(
            host.app, db=host.db, user_model=host.model, login_manager=host.login_manager
        )


def test_an_application_called_by_another_one_checks_tokens_itself(
    make_host: MakeHost, database_url: str
) -> None:
    outer = make_host(database_url)
    inner = make_host(
        database_url, XGEN_SESSIONS_SECRET_KEY="the inner one's own secret, long enough"
    )

    @outer.app.route("/inner")
    @token_required
    def forward() -> Any:
        return Response.from_app(inner.app, request.environ | {"PATH_INFO": "/api/token"})

    user = outer.add_user()

    assert outer.status(outer.issue(user), "/inner") == 401
    assert outer.status(inner.issue(user), "/inner") == 401


def test_token_required_without_init_app_is_a_configuration_error() -> None:
    app = Flask("bare")

    @app.route("/")
    @token_required
    def view() -> str:
        return "in"

    app.testing = True
    with pytest.raises(ConfigurationError, match="init_app"):
        app.test_client().get("/")


# --- The cookie ------------------------------------------------------------------------------


def set_cookie_of(answer: Any) -> tuple[str, dict[str, str]]:
    first, *rest = answer.headers["Set-Cookie"].split("; ")
    attributes = {part.partition("=")[0]: part.partition("=")[2] for part in rest}
    return first.partition("=")[0], attributes


def test_the_cookie_is_hidden_from_scripts_and_other_sites(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON):
        answer = host.client().post("/sign-in", data={"user_id": user})

    name, attributes = set_cookie_of(answer)
    assert name == "xgen_token"
    assert attributes == {
        "Secure": "",
        "HttpOnly": "",
        "SameSite": "Lax",
        "Path": "/",
        "Max-Age": "86400",
        "Expires": "Tue, 26 May 2026 12:00:00 GMT",
    }


def test_the_cookie_s_attributes_can_be_configured(make_host: MakeHost, database_url: str) -> None:
    host = make_host(
        database_url,
        XGEN_SESSIONS_COOKIE_NAME="mine",
        XGEN_SESSIONS_COOKIE_SECURE=False,
        XGEN_SESSIONS_COOKIE_SAMESITE="Strict",
        XGEN_SESSIONS_LIFETIME=60,
    )
    user = host.add_user()
    client = host.client()

    name, attributes = set_cookie_of(client.post("/sign-in", data={"user_id": user}))

    assert name == "mine"
    assert "Secure" not in attributes
    assert attributes["SameSite"] == "Strict"
    assert int(attributes["Max-Age"]) <= 60
    assert client.get("/api/user").status_code == 200


def test_unset_cookie_deletes_the_cookie_and_ends_no_session(host: Host) -> None:
    @host.app.route("/forget", methods=["POST"])
    def forget() -> Response:
        response = Response()
        host.sessions.unset_cookie(response)
        return response

    token = host.issue(host.add_user())
    client = host.cookie_client(token)

    name, attributes = set_cookie_of(client.post("/forget"))

    assert (name, attributes["Path"], attributes["Max-Age"]) == ("xgen_token", "/", "0")
    assert client.get("/api/token").status_code == 401
    assert host.status(token) == 200


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_host_s_request_loader_cannot_accept_a_refused_token(
    make_host: MakeHost, database_url: str, moment: str
) -> None:
    def trusting(app: Flask) -> Mapping[str, Any]:
        app.login_manager.request_loader(  # type: ignore[attr-defined]
            lambda request: app.extensions["xgen_sessions"].users.get("1")
        )
        return {}

    if moment == "before":
        host = make_host(database_url, extras=trusting)
    else:
        host = make_host(database_url)
        trusting(host.app)
    token = host.issue(host.add_user("alice"))
    other = host.issue(host.add_user("bora"))
    accepted = host.client().get("/api/user", headers=bearer(other)).get_json()["username"]
    without = host.client().get("/api/user").get_json()["username"]

    host.force_logout("1")

    assert (accepted, without) == ("bora", "alice")
    for refused in (token.token, token.token + "=", "x.y.z", ""):
        assert host.status(refused, "/api/user") == 401, refused
    by_tab = {"Authorization": f"Bearer\t{token.token}"}
    assert host.client().get("/api/user", headers=by_tab).status_code == 401


def test_a_handler_set_after_init_app_does_not_answer_errors_other_than_401(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)
    host.login_manager.unauthorized_handler(lambda: ("the host's own page", 401))
    token = host.issue(host.add_user("alice"))
    browser = host.cookie_client(token)

    ambiguous = browser.get("/api/user", headers=bearer(token))
    with host.app.app_context():
        host.db.metadata.tables["xgen_sessions"].drop(host.db.engine)
    unavailable = browser.get("/api/user")

    assert host.client().get("/api/user").text == "the host's own page"
    assert (ambiguous.status_code, unavailable.status_code) == (400, 503)


def test_a_context_held_open_does_not_keep_a_user_signed_in(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)
    alice = host.add_user("alice")
    token = host.issue(alice)

    # A test should not do this, but a server may: here, g outlives the first request.
    with host.app.app_context():
        before = host.status(token, "/api/user")
        host.sessions.force_logout(alice)
        after = host.status(token, "/api/user")

    assert (before, after) == (200, 401)


def test_one_refusal_sends_one_signal(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url)
    alice = host.add_user("alice")
    token = host.issue(alice)
    host.force_logout(alice)
    host.change_user(alice, is_active=False)
    told: list[str] = []

    def listen(_: Flask, error: XgenSessionsError) -> None:
        told.append(error.code)

    with token_rejected.connected_to(listen, host.app):
        answer = host.client().get("/api/user", headers=bearer(token)).get_json()

    assert answer["code"] == "user_inactive"
    assert told == ["session_revoked"]


def test_concurrent_first_requests_wait_until_the_set_up_is_complete(
    make_host: MakeHost, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, finish = threading.Event(), threading.Event()

    def slowly(app: Flask) -> None:
        entered.set()
        assert finish.wait(10)
        coexistence_set_up(app)

    coexistence_set_up = host_extensions._set_up_flask_babel
    monkeypatch.setattr(host_extensions, "_set_up_flask_babel", slowly)
    host = make_host(database_url, extras=lambda app: {"admin": Admin(app)})

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: host.client().get("/admin/").status_code)
        assert entered.wait(10)
        second = pool.submit(lambda: host.client().get("/admin/").status_code)
        finish.set()
        assert (first.result(10), second.result(10)) == (200, 200)


def test_one_login_manager_may_serve_several_applications(
    tmp_path: Path, make_host: MakeHost
) -> None:
    shared = LoginManager()
    hosts = [
        make_host(f"sqlite:///{tmp_path / name}.db", login_manager=shared) for name in ("a", "b")
    ]
    tokens = [host.issue(host.add_user(f"user of {n}")) for n, host in enumerate(hosts)]

    for _ in range(2):
        for host, token in zip(hosts, tokens, strict=True):
            assert host.client().get("/api/user").status_code == 401
            assert host.status(token, "/api/user") == 200
            assert host.client().get("/open").status_code == 200


def test_a_host_may_wrap_the_plugin_s_request_loader(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)
    loader = host.login_manager.request_callback
    host.login_manager.request_loader(lambda request: loader(request))
    token = host.issue(host.add_user("alice"))

    assert host.status(token, "/api/user") == 200
    answer = host.client().get("/api/user")
    assert (answer.status_code, answer.get_json()["code"]) == (401, "token_missing")
