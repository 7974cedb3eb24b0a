"""Flask-Login's own answers stay where no token was sent; its settings keep their meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, get_flashed_messages, jsonify, redirect, request, session
from flask.testing import FlaskClient
from flask_login import (
    AnonymousUserMixin,
    LoginManager,
    UserMixin,
    current_user,
    fresh_login_required,
    login_required,
    login_user,
    logout_user,
    user_unauthorized,
)

from tests.support.databases import MakeHost
from tests.support.hosts import BROWSER, SECRET, Host, User, bearer
from xgen_flask_sessions import token_required

JSON = {"Accept": "application/json"}
PAGE = {"Accept": "text/html"}
UNSPOKEN = [{}, {"Accept": "*/*"}, PAGE, {"Sec-Fetch-Mode": "navigate"}]
"""The headers of requests that do not ask for JSON."""
PROGRAMS: list[dict[str, str]] = [
    JSON,
    {"Accept": "application/json, text/plain, */*"},
    {"Accept": "application/problem+json"},
    {"X-Requested-With": "XMLHttpRequest"},
    {"Sec-Fetch-Mode": "cors", "Accept": "*/*"},
    {"Sec-Fetch-Mode": "same-origin", "Accept": "text/html"},
]


def view() -> str:
    return "in"


def plain(host: Host) -> FlaskClient:
    """Return a client without an ``Accept`` header."""
    return host.app.test_client()


def prepared(
    make_host: MakeHost, url: str, prepare: Callable[[LoginManager, Flask], object], **config: Any
) -> Host:
    """Return a host whose login manager *prepare* changed before ``init_app``."""

    def extras(app: Flask) -> dict[str, Any]:
        prepare(app.login_manager, app)  # type: ignore[attr-defined]
        return {}

    return make_host(url, extras=extras, **config)


def add_flashes(app: Flask) -> None:
    @app.get("/flashes")
    def flashes() -> Any:
        return jsonify(get_flashed_messages(with_categories=True))


# --- No token --------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", UNSPOKEN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_asks_for_nothing_is_redirected_with_a_message(
    sqlite_host: Host, method: str, headers: dict[str, str]
) -> None:
    add_flashes(sqlite_host.app)
    client = plain(sqlite_host)

    answer = client.open("/api/user?a=1", method=method, headers=headers)

    assert (answer.status_code, answer.location) == (302, "/sign-in?next=%2Fapi%2Fuser%3Fa%3D1")
    assert client.get("/flashes").get_json() == [["message", "Please log in to access this page."]]


@pytest.mark.parametrize("headers", UNSPOKEN)
def test_a_session_from_before_the_plugin_is_answered_as_no_session(
    sqlite_host: Host, headers: dict[str, str]
) -> None:
    add_flashes(sqlite_host.app)
    client = plain(sqlite_host)
    with client.session_transaction() as kept:
        kept["_user_id"], kept["_fresh"] = sqlite_host.add_user(), True

    answer = client.get("/api/user?a=1", headers=headers)

    assert (answer.status_code, answer.location) == (302, "/sign-in?next=%2Fapi%2Fuser%3Fa%3D1")
    assert client.get("/flashes").get_json() == [["message", "Please log in to access this page."]]


@pytest.mark.parametrize("headers", PROGRAMS)
def test_a_program_is_answered_with_401(sqlite_host: Host, headers: dict[str, str]) -> None:
    add_flashes(sqlite_host.app)
    client = plain(sqlite_host)

    answer = client.get("/api/user", headers=headers)

    assert (answer.status_code, answer.get_json()["code"]) == (401, "token_missing")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="xgen"'
    assert client.get("/flashes").get_json() == []


def test_the_message_and_its_category_are_the_host_s(make_host: MakeHost, sqlite_url: str) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        manager.login_message, manager.login_message_category = "Sign in first", "warning"
        manager.localize_callback = str.upper
        add_flashes(app)

    client = plain(prepared(make_host, sqlite_url, prepare))
    client.get("/page")

    assert client.get("/flashes").get_json() == [["warning", "SIGN IN FIRST"]]


@pytest.mark.parametrize("headers", [{}, PAGE, JSON, {"Authorization": "Bearer nonsense"}])
def test_an_error_handler_may_answer_as_flask_login_does(
    make_host: MakeHost, sqlite_url: str, headers: dict[str, str]
) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        @app.get("/forbidden")
        def forbidden() -> str:
            abort(403)

        @app.errorhandler(403)
        def answer(_: Exception) -> Any:
            return manager.unauthorized()

    host = prepared(make_host, sqlite_url, prepare, TESTING=False)

    answer = plain(host).get("/forbidden", headers=headers)

    expected = 302 if headers in UNSPOKEN else 401
    assert answer.status_code == expected, answer.text


def test_no_message_is_flashed_without_one(make_host: MakeHost, sqlite_url: str) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        manager.login_message = None
        add_flashes(app)

    client = plain(prepared(make_host, sqlite_url, prepare))

    assert client.get("/page").status_code == 302
    assert client.get("/flashes").get_json() == []


def test_next_can_be_kept_in_the_session(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, USE_SESSION_FOR_NEXT=True)

    @host.app.get("/next")
    def kept() -> Any:
        return jsonify(session.get("next"))

    user = host.add_user()
    token = host.issue(user)
    host.force_logout(user)

    for path, client in (
        ("/page?a=1", plain(host)),
        ("/page?a=1", host.cookie_client(token)),
        ("/api/token?a=1", plain(host)),
    ):
        answer = client.get(path, headers=PAGE)
        assert (answer.status_code, answer.location) == (302, "/sign-in")
        assert client.get("/next").get_json() == path


def test_each_blueprint_can_have_its_own_sign_in_page(make_host: MakeHost, sqlite_url: str) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        shop = Blueprint("shop", __name__)
        shop.add_url_rule("/shop", "home", login_required(view))
        shop.add_url_rule("/api/shop", "api", token_required(view))
        manager.blueprint_login_views = {"shop": "/shop/sign-in"}
        app.register_blueprint(shop)

    client = plain(prepared(make_host, sqlite_url, prepare))

    assert client.get("/shop").location == "/shop/sign-in?next=%2Fshop"
    assert client.get("/api/shop", headers=PAGE).location == "/shop/sign-in?next=%2Fapi%2Fshop"
    assert client.get("/page").location == "/sign-in?next=%2Fpage"


def test_a_sign_in_page_elsewhere_gets_the_whole_address(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        manager.login_view = "https://id.example.com/login"

    client = plain(prepared(make_host, sqlite_url, prepare))

    location = client.get("/page").location
    assert location == "https://id.example.com/login?next=http%3A%2F%2Flocalhost%2Fpage"


@pytest.mark.parametrize("headers", UNSPOKEN + PROGRAMS)
def test_without_a_sign_in_page_the_answer_is_401(
    make_host: MakeHost, sqlite_url: str, headers: dict[str, str]
) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        manager.login_view = None

    answer = plain(prepared(make_host, sqlite_url, prepare)).get("/page", headers=headers)

    assert (answer.status_code, answer.get_json()["code"]) == (401, "token_missing")


@pytest.mark.parametrize("headers", [*UNSPOKEN, JSON])
def test_the_signal_is_sent_once(sqlite_host: Host, headers: dict[str, str]) -> None:
    sent: list[Flask] = []
    user = sqlite_host.add_user()
    token = sqlite_host.issue(user)
    sqlite_host.force_logout(user)

    with user_unauthorized.connected_to(sent.append):
        plain(sqlite_host).get("/page", headers=headers)
        sqlite_host.cookie_client(token).get("/page", headers=headers)

    assert sent == [sqlite_host.app] * 2


def test_a_host_may_set_its_handler_at_any_time(sqlite_host: Host) -> None:
    client = plain(sqlite_host)
    assert client.get("/page").status_code == 302

    sqlite_host.login_manager.unauthorized_handler(lambda: ({"own": "way"}, 403))
    answer = client.get("/page", headers=JSON)

    assert (answer.status_code, answer.get_json()) == (403, {"own": "way"})


def test_a_host_may_call_unauthorized_itself(sqlite_host: Host) -> None:
    @sqlite_host.app.get("/by-hand")
    def by_hand() -> Any:
        if not current_user.is_authenticated:
            return sqlite_host.login_manager.unauthorized()
        return "in"

    assert plain(sqlite_host).get("/by-hand").location == "/sign-in?next=%2Fby-hand"


def test_a_login_manager_of_the_host_s_own_class_answers(
    make_host: MakeHost, sqlite_url: str
) -> None:
    class Own(LoginManager):  # type: ignore[misc]
        def unauthorized(self) -> Any:
            return redirect("/own")

    client = plain(make_host(sqlite_url, login_manager=Own()))

    assert client.get("/page").location == "/own"


@pytest.mark.parametrize("setting", [{"TRAP_HTTP_EXCEPTIONS": True}, {"DEBUG": True}])
def test_settings_for_debugging_do_not_change_the_redirect(
    make_host: MakeHost, sqlite_url: str, setting: dict[str, Any]
) -> None:
    assert plain(make_host(sqlite_url, **setting)).get("/page").status_code == 302


def test_a_preflight_of_login_required_needs_no_token(sqlite_host: Host) -> None:
    @sqlite_host.app.route("/cross", methods=["GET", "OPTIONS"])
    @login_required  # type: ignore[untyped-decorator]
    def cross() -> str:
        return "in"

    assert plain(sqlite_host).options("/cross").status_code == 200


def test_a_header_loader_of_the_host_is_called_without_a_token(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        with pytest.warns(DeprecationWarning, match="header_loader"):
            manager.header_loader(lambda value: users.find_user(value))
        app.config["AUTH_HEADER_NAME"] = "X-Api-Key"

    users = prepared(make_host, sqlite_url, prepare)
    alice, bob = users.add_user(), users.add_user("bob")
    by_key = {"X-Api-Key": bob}

    assert plain(users).get("/open", headers=by_key).get_json() == {"user_id": bob}
    both = plain(users).get("/open", headers=by_key | bearer(users.issue(alice)))
    assert both.get_json() == {"user_id": alice}
    refused = plain(users).get("/open", headers=by_key | bearer("nonsense"))
    assert refused.get_json() == {"user_id": None}


def test_the_anonymous_user_is_the_host_s(make_host: MakeHost, sqlite_url: str) -> None:
    class Guest(AnonymousUserMixin):  # type: ignore[misc]
        def get_id(self) -> str:
            return "guest"

    def prepare(manager: LoginManager, app: Flask) -> None:
        manager.anonymous_user = Guest

    client = plain(prepared(make_host, sqlite_url, prepare))

    assert client.get("/open").get_json() == {"user_id": "guest"}
    assert client.get("/page").status_code == 302


# --- A proxy's Authorization header ----------------------------------------------------------


@pytest.mark.parametrize("value", ["Basic YTpi", "Negotiate YII=", "Bearer of-the-proxy", "Bearer"])
def test_where_only_cookies_are_read_the_header_belongs_to_a_proxy(
    make_host: MakeHost, sqlite_url: str, value: str
) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_TOKEN_LOCATIONS=["cookies"])
    proxied = {"Authorization": value}
    token = host.issue(host.add_user())

    for path in ("/page", "/api/token"):
        page = plain(host).get(path, headers=proxied | PAGE)
        assert (page.status_code, page.location[:8]) == (302, "/sign-in")
        assert host.cookie_client(token).get(path, headers=proxied).status_code == 200
    assert plain(host).get("/page", headers=proxied).status_code == 302
    assert plain(host).get("/api/token", headers=proxied | JSON).status_code == 401


# --- Fresh sign-ins --------------------------------------------------------------------------


def add_fresh_page(app: Flask) -> None:
    @app.get("/fresh")
    @fresh_login_required  # type: ignore[untyped-decorator]
    def fresh() -> str:
        return "in"

    @app.post("/login-page")
    def login_page() -> str:
        user = find(request.form["user_id"])
        login_user(user, remember=True, fresh="stale" not in request.form)
        return "in"

    def find(user_id: str) -> Any:
        return app.extensions["xgen_sessions"].users.get(user_id)

    app.login_manager.user_loader(find)  # type: ignore[attr-defined]


def test_the_session_of_a_token_is_fresh(sqlite_host: Host) -> None:
    add_fresh_page(sqlite_host.app)
    sqlite_host.login_manager.refresh_view = "sign_in"
    token = sqlite_host.issue(sqlite_host.add_user())
    browser = sqlite_host.cookie_client(token)

    assert browser.get("/fresh").get_data() == b"in"
    assert browser.get_cookie("session") is None
    assert plain(sqlite_host).get("/fresh", headers=bearer(token)).get_data() == b"in"
    assert plain(sqlite_host).get("/fresh").location == "/sign-in?next=%2Ffresh"
    sqlite_host.force_logout("1")
    assert plain(sqlite_host).get("/fresh", headers=bearer(token)).status_code == 401


def test_a_session_from_the_remember_cookie_is_not_fresh(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = prepared(make_host, sqlite_url, lambda manager, app: add_fresh_page(app))
    host.login_manager.refresh_view = "sign_in"
    user = host.add_user()
    client = plain(host)
    client.post("/login-page", data={"user_id": user})
    assert client.get("/fresh").status_code == 200

    client.delete_cookie("session")

    assert client.get("/fresh").location == "/sign-in?next=%2Ffresh"
    assert client.get("/api/user").status_code == 200
    client.post("/login-page", data={"user_id": user, "stale": "1"})
    assert client.get("/fresh").status_code == 302
    client.post("/login-page", data={"user_id": user})
    assert client.get("/fresh").status_code == 200


# --- Session protection ----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["config", "manager"])
def test_strong_protection_refuses_a_session_from_another_browser(
    make_host: MakeHost, sqlite_url: str, where: str
) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        add_fresh_page(app)
        if where == "manager":
            manager.session_protection = "strong"

    config = {"SESSION_PROTECTION": "strong"} if where == "config" else {}
    host = prepared(make_host, sqlite_url, prepare, **config)
    user = host.add_user()
    client = plain(host)
    own, other = {"User-Agent": BROWSER}, {"User-Agent": "another browser"}
    client.post("/login-page", data={"user_id": user}, headers=own)
    stolen = client.get_cookie("session")
    assert stolen is not None

    assert [client.get(path, headers=own).status_code for path in ("/api/user", "/api/token")] == [
        200, 200,
    ]  # fmt: skip
    for path in ("/api/token", "/api/user", "/api/token"):
        thief = plain(host)
        thief.set_cookie("session", stolen.value)
        answers = [thief.get(path, headers=other | JSON) for _ in range(2)]
        assert [each.status_code for each in answers] == [401, 401]
        assert thief.get(path, headers=other | PAGE).status_code == 302
        assert thief.get(path, headers=other | JSON).status_code == 401
    assert client.get("/api/token", headers=own).status_code == 200


def test_strong_protection_accepts_tokens_beside_other_data_in_the_session(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, SESSION_PROTECTION="strong")

    @host.app.get("/remember")
    @login_required  # type: ignore[untyped-decorator]
    def remember() -> str:
        session["theme"] = "dark"
        return "in"

    token = host.issue(host.add_user())
    browser = host.cookie_client(token)

    for agent in (BROWSER, "another browser", BROWSER):
        assert browser.get("/remember", headers={"User-Agent": agent}).status_code == 200
    assert plain(host).get("/page").status_code == 302
    host.force_logout("1")
    assert browser.get("/remember").status_code == 401


# --- Another method than get_id() ------------------------------------------------------------


def test_the_method_for_the_login_id_is_the_host_s(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(manager: LoginManager, app: Flask) -> None:
        add_fresh_page(app)
        manager.id_attribute = "get_login_name"
        manager.user_loader(lambda name: find_by_name(name))

    def find_by_name(name: str) -> Any:
        return host.app.extensions["xgen_sessions"].users.get(name.removeprefix("user:"))

    monkeypatch.setattr(User, "get_login_name", lambda user: f"user:{user.id}", raising=False)
    host = prepared(make_host, sqlite_url, prepare)
    user = host.add_user()
    client = plain(host)

    client.post("/login-page", data={"user_id": user})
    own = {path: client.get(path).status_code for path in ("/api/user", "/api/token", "/fresh")}
    client.delete_cookie("session")
    remembered = client.get("/api/user", headers=JSON).status_code
    by_token = host.status(host.issue(user), "/api/user")
    host.force_logout(user)

    assert set(own.values()) == {200}
    assert (remembered, by_token) == (200, 200)
    assert client.get("/api/user", headers=JSON).get_json()["code"] == "session_revoked"


def test_the_answer_of_a_subclass_of_the_login_manager_stays(
    make_host: MakeHost, sqlite_url: str
) -> None:
    class Own(LoginManager):  # type: ignore[misc]
        def unauthorized(self) -> Any:
            return jsonify(own=True), 418

    host = make_host(sqlite_url, login_manager=Own())
    user = host.add_user()
    browser = host.cookie_client(host.issue(user))
    host.force_logout(user)

    for client in (host.client(), browser):
        for headers in (JSON, PAGE):
            answer = client.get("/api/user", headers=headers)
            assert (answer.status_code, answer.get_json()) == (418, {"own": True})
    assert host.client().get("/api/token").status_code == 401


# --- A user loader that returns no row of the user table --------------------------------------


@pytest.fixture
def with_objects(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host whose user loader returns objects of its own."""

    class Person(UserMixin):  # type: ignore[misc]
        def __init__(self, row: Any) -> None:
            self.id, self.username = row.id, row.username

    host = make_host(sqlite_url)

    @host.login_manager.user_loader  # type: ignore[untyped-decorator]
    def load(user_id: str) -> Person | None:
        row = host.find_user(user_id)
        return None if row is None else Person(row)

    @host.app.post("/in")
    def enter() -> str:
        login_user(load("1"))
        return "in"

    return host


def signed_in(host: Host, user: str, way: str) -> FlaskClient:
    if way == "token":
        return host.cookie_client(host.issue(user))
    client = host.client()
    client.post("/in")
    return client


@pytest.mark.parametrize("way", ["token", "login_user"])
def test_an_inactive_account_is_refused_whatever_object_the_loader_returns(
    with_objects: Host, way: str
) -> None:
    user = with_objects.add_user()
    client = signed_in(with_objects, user, way)
    assert client.get("/page").text == "<h1>alice</h1>"
    with_objects.change_user(user, username="renamed")
    assert client.get("/page").text == "<h1>renamed</h1>"

    with_objects.change_user(user, is_active=False)

    assert client.get("/api/user").get_json()["code"] == "user_inactive"


@pytest.mark.parametrize("way", ["token", "login_user"])
def test_an_id_given_out_again_is_refused_whatever_object_the_loader_returns(
    with_objects: Host, way: str
) -> None:
    user = with_objects.add_user()
    client = signed_in(with_objects, user, way)

    with_objects.execute(  # as another program does: no session ends
        "DELETE FROM users",
        "INSERT INTO users (id, username, password, is_superuser, is_active) "
        "VALUES (1, 'mallory', '', 1, 1)",
    )

    assert client.get("/api/user").status_code == 401


# --- No SECRET_KEY ---------------------------------------------------------------------------


@pytest.fixture
def secretless(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host without a session of Flask's: tokens have a key of their own."""
    host = make_host(sqlite_url, SECRET_KEY=None, XGEN_SESSIONS_SECRET_KEY=SECRET)

    @host.app.post("/out")
    def out() -> str:
        logout_user()
        return "out"

    host.app.add_url_rule("/fresh", "fresh", fresh_login_required(view))
    return host


def test_without_a_secret_a_sign_out_ends_the_session_of_the_cookie(secretless: Host) -> None:
    client = secretless.cookie_client(secretless.issue(secretless.add_user()))

    assert client.get("/fresh").status_code == 200
    answer = client.post("/out")
    assert (answer.status_code, answer.text) == (200, "out")
    assert client.post("/out").status_code == 200
    assert [row["end_reason"] for row in secretless.rows("xgen_sessions")] == ["signed out"]


def test_without_a_secret_a_page_leads_to_the_sign_in_page(secretless: Host) -> None:
    answer = plain(secretless).get("/page", headers=PAGE)

    assert (answer.status_code, answer.location) == (302, "/sign-in?next=%2Fpage")


def test_without_a_secret_a_remember_cookie_of_another_application_does_not_matter(
    secretless: Host,
) -> None:
    client = secretless.cookie_client(secretless.issue(secretless.add_user()))
    client.set_cookie("remember_token", "1|0123")

    assert client.get("/api/user").status_code == 200
    assert client.post("/out").status_code == 200
