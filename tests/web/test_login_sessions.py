"""Flask-Login's sessions: a sign-in on the host's page is recorded and revoked like a token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response, jsonify, redirect, request, session
from flask.testing import FlaskClient
from flask_login import LoginManager, current_user, login_user, logout_user
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import BROWSER, Host, User, bearer
from xgen_flask_sessions import (
    XgenSessionsError,
    session_ended,
    session_issued,
    token_rejected,
)
from xgen_flask_sessions.web import login_browser

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
PAGE = {"Accept": "text/html"}


def add_pages(app: Flask) -> Mapping[str, Any]:
    """Add sign-in and sign-out pages with plain Flask-Login, as before the plugin was added."""
    manager: LoginManager = app.login_manager  # type: ignore[attr-defined]
    db = app.extensions["sqlalchemy"]

    def find(user_id: str) -> Any:
        return db.session.get(User, int(user_id))

    @manager.user_loader  # type: ignore[untyped-decorator]
    def load_user(user_id: str) -> Any:
        return find(user_id)

    @app.post("/login-page")
    def login_page() -> Any:
        user = find(request.form["user_id"])
        if "rename" in request.form:
            user.display_name = request.form["rename"]
            db.session.flush()
        days = request.form.get("days")
        signed_in = login_user(
            user,
            remember="remember" in request.form,
            duration=timedelta(days=int(days)) if days else None,
            force="force" in request.form,
        )
        if "commit" in request.form:
            db.session.commit()
        return redirect("/page") if signed_in else ("inactive", 401)

    @app.post("/logout-page")
    def logout_page() -> str:
        logout_user()
        return "out"

    @app.get("/who")
    def who() -> Response:
        return jsonify(user_id=current_user.get_id(), keys=sorted(session))

    return {}


@pytest.fixture
def old(make_host: MakeHost, database_url: str) -> Host:
    """Return a host with plain Flask-Login pages."""
    return make_host(database_url, extras=add_pages)


def sign_in(
    host: Host, user_id: str, client: FlaskClient | None = None, **form: str
) -> FlaskClient:
    """Sign a browser in on the host's sign-in page."""
    client = client or host.client()
    answer = client.post(
        "/login-page",
        data={"user_id": user_id, **form},
        headers={"User-Agent": BROWSER},
        environ_base={"REMOTE_ADDR": "203.0.113.9"},
    )
    assert answer.status_code == 302, answer.text
    return client


def status(client: FlaskClient, path: str = "/api/user") -> int:
    return client.get(path).status_code


def replay(host: Host, client: FlaskClient, *names: str) -> FlaskClient:
    """Return another browser with copies of the named cookies, as an attacker might have kept."""
    other = host.client()
    for name in names:
        cookie = client.get_cookie(name)
        assert cookie is not None, name
        other.set_cookie(name, cookie.value)
    return other


# --- Signing in ------------------------------------------------------------------------------


def test_a_sign_in_on_the_hosts_page_is_recorded(old: Host) -> None:
    user = old.add_user()

    with freeze_time(NOON):
        client = sign_in(old, user)
        assert status(client) == 200

    (row,) = old.rows("xgen_sessions")
    assert (row["user_id"], row["ip"], row["user_agent"]) == (user, "203.0.113.9", BROWSER)
    assert row["signed_in_us"] == int(NOON.timestamp()) * 1_000_000
    assert old.login_row(user)["last_ip"] == "203.0.113.9"


def test_sessions_of_flask_login_are_listed_and_counted(old: Host) -> None:
    user, boss = old.add_user(), old.add_user("boss", is_superuser=True)
    sign_in(old, user)
    sign_in(old, user)
    administrator = sign_in(old, boss)

    answer = administrator.get("/sessions/users").get_json()

    assert answer["summary"] == {"active_users": 2, "active_sessions": 3, "superusers": 1}
    own = administrator.get("/sessions/").get_json()["sessions"]
    assert [each["current"] for each in own] == [True]


@pytest.mark.parametrize("path", ["/api/user", "/api/token", "/page", "/sessions/"])
def test_a_session_of_flask_login_is_accepted_like_a_token(old: Host, path: str) -> None:
    assert status(sign_in(old, old.add_user()), path) == 200


def test_signals_report_sign_in_and_sign_out(old: Host) -> None:
    user = old.add_user()
    told: list[str] = []
    note_issue = lambda app, **news: told.append(f"in {news['user_id']}")  # noqa: E731
    note_end = lambda app, **news: told.append(f"out {news['revocation'].user_id}")  # noqa: E731

    with session_issued.connected_to(note_issue), session_ended.connected_to(note_end):
        sign_in(old, user).post("/logout-page")

    assert told == [f"in {user}", f"out {user}"]


def test_an_inactive_user_is_refused_even_with_force(old: Host) -> None:
    user = old.add_user(is_active=False)
    client = old.client()

    answer = client.post("/login-page", data={"user_id": user, "force": "1"})

    assert answer.status_code == 401
    assert answer.get_json()["code"] == "user_inactive"
    assert status(client) == 401
    assert old.rows("xgen_sessions") == []


def test_a_sign_in_that_cannot_be_recorded_fails(old: Host) -> None:
    user = old.add_user()
    with old.app.app_context(), old.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE xgen_sessions RENAME TO away")
    client = old.client()

    answer = client.post("/login-page", data={"user_id": user, "remember": "1"})

    assert answer.status_code == 503
    assert answer.get_json()["detail"].endswith("Nothing was done.")
    assert client.get_cookie("remember_token") is None
    with old.app.app_context(), old.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO xgen_sessions")
    assert client.get("/who").get_json() == {"user_id": None, "keys": []}
    assert old.rows("xgen_sessions") == []


def test_a_sign_in_does_not_commit_the_host_s_changes(old: Host) -> None:
    if old.app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
        pytest.skip("SQLite allows only one writer: see the next test")
    user = old.add_user()

    client = sign_in(old, user, rename="half a change")

    assert status(client) == 200
    with old.app.app_context():
        assert old.find_user(user).display_name is None


def test_a_host_can_write_and_commit_on_its_sign_in_page(old: Host) -> None:
    user = old.add_user()

    client = sign_in(old, user, rename="Alice", commit="1")

    assert status(client) == 200
    with old.app.app_context():
        assert old.find_user(user).display_name == "Alice"


def test_a_host_can_write_and_commit_after_the_request(
    make_host: MakeHost, database_url: str
) -> None:
    old = make_host(database_url, extras=add_pages)
    db = old.db

    @old.app.teardown_request
    def commit(_: BaseException | None) -> None:
        db.session.commit()

    user = old.add_user()

    client = sign_in(old, user, rename="Alice")

    assert status(client) == 200
    with old.app.app_context():
        assert old.find_user(user).display_name == "Alice"


def test_a_new_sign_in_ends_the_previous_session_of_the_browser(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user)
    before = replay(old, client, "session")

    sign_in(old, user, client)

    assert status(client) == 200
    assert status(before) == 401
    assert [row["ended_us"] is None for row in old.rows("xgen_sessions")].count(True) == 1


@pytest.mark.parametrize("end", ["user", "everyone"])
def test_a_force_logout_between_the_password_and_the_record_refuses_the_sign_in(
    old: Host, end: str
) -> None:
    user = old.add_user()

    @old.app.post("/slow-login")
    def slow_login() -> str:
        login_user(old.find_user(user))
        elsewhere = threading.Thread(target=force_out_meanwhile)
        elsewhere.start()
        elsewhere.join()
        return "in"

    def force_out_meanwhile() -> None:
        with old.app.app_context():
            if end == "user":
                old.sessions.force_logout(user)
            else:
                old.sessions.force_logout_everyone()

    client = old.client()

    assert client.post("/slow-login").status_code == 401
    assert status(client) == 401
    assert old.rows("xgen_sessions") == []
    assert status(sign_in(old, user, client)) == 200


def test_current_user_is_the_user_in_the_rest_of_the_sign_in_request(old: Host) -> None:
    user = old.add_user()

    @old.app.post("/login-and-look")
    def login_and_look() -> Response:
        login_user(old.find_user(user))
        with old.app.app_context():  # for example to render a mail
            inner = current_user.get_id()
        return jsonify(inner=inner, outer=current_user.get_id())

    client = old.client()

    assert client.post("/login-and-look").get_json() == {"inner": user, "outer": user}
    assert status(client) == 200


def test_a_sign_in_revokes_and_removes_the_token_in_the_cookie(old: Host) -> None:
    user = old.add_user()
    token = old.issue(user)
    client = old.cookie_client(token)

    sign_in(old, user, client)

    assert client.get_cookie("xgen_token") is None
    assert old.status(token) == 401
    assert status(client, "/api/token") == 200


def test_a_host_with_one_connection_can_sign_users_in(
    make_host: MakeHost, database_url: str
) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    old = make_host(database_url, extras=add_pages, SQLALCHEMY_ENGINE_OPTIONS=options)

    assert status(sign_in(old, old.add_user())) == 200


def test_a_host_that_begins_sqlite_transactions_explicitly_can_sign_users_in(
    make_host: MakeHost, sqlite_url: str
) -> None:
    old = make_host(sqlite_url, extras=add_pages)
    with old.app.app_context():
        engine = old.db.engine

    @sa.event.listens_for(engine, "connect")
    def disable_the_driver_s_transactions(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    user = old.add_user()
    client = sign_in(old, user)

    assert status(client) == 200
    assert client.post("/logout-page").status_code == 200
    (row,) = old.rows("xgen_sessions")
    assert row["end_reason"] == "signed out"


# --- Ending ----------------------------------------------------------------------------------


def force_logout(host: Host, user: str) -> None:
    host.force_logout(user)


def force_logout_everyone(host: Host, user: str) -> None:
    with host.app.app_context():
        host.sessions.force_logout_everyone()


def end_session(host: Host, user: str) -> None:
    (row,) = host.rows("xgen_sessions")
    host.end_session(row["session_id"])


@pytest.mark.parametrize("end", [force_logout, force_logout_everyone, end_session])
def test_a_session_of_flask_login_can_be_revoked(
    old: Host, end: Callable[[Host, str], None]
) -> None:
    user = old.add_user()
    client = sign_in(old, user)
    before, kept = (replay(old, client, "session") for _ in range(2))
    assert status(client) == 200

    end(old, user)

    for each in (client, before):
        answer = each.get("/api/user")
        assert answer.status_code == 401
        assert answer.get_json()["code"] == "session_revoked"
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert each.get("/page", headers=PAGE).location == "/sign-in?next=%2Fpage"
    assert status(sign_in(old, user, client)) == 200
    # A copy of the old cookie stays refused.
    assert status(kept, "/api/token") == 401
    assert status(kept) == 401


def test_a_remember_cookie_is_refused_after_a_force_logout(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user, remember="1")
    kept = ("remember_token", "remember_token_session")
    assert status(replay(old, client, *kept)) == 200

    old.force_logout(user)

    for names in (kept, kept[:1], ("session", *kept)):
        other = replay(old, client, *names)
        assert status(other) == 401
        assert other.get_cookie("remember_token") is None
    sign_in(old, user)
    assert status(replay(old, client, *kept)) == 401


def test_a_remember_cookie_continues_the_same_session(old: Host) -> None:
    user = old.add_user()
    with freeze_time(NOON) as clock:
        client = sign_in(old, user, remember="1", days="30")
        clock.tick(timedelta(days=29))
        later = replay(old, client, "remember_token", "remember_token_session")

        assert status(later) == 200
        assert status(replay(old, later, "session")) == 200
        assert len(old.rows("xgen_sessions")) == 1

        clock.tick(timedelta(days=2))
        assert status(later) == 401
        assert status(client) == 401


def test_a_remember_cookie_that_can_be_read_costs_no_copy_of_the_cookies(
    old: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in(old, old.add_user(), remember="1")

    monkeypatch.setattr(login_browser, "MultiDict", None)

    assert status(client) == 200


def test_a_remember_cookie_without_the_cookie_beside_it_is_refused(old: Host) -> None:
    client = sign_in(old, old.add_user(), remember="1")

    assert status(replay(old, client, "remember_token")) == 401


def test_a_remember_cookie_with_the_cookie_of_another_user_beside_it_is_refused(old: Host) -> None:
    alice = sign_in(old, old.add_user("alice"), remember="1")
    bob = sign_in(old, old.add_user("bob"), remember="1")
    mixed = replay(old, alice, "remember_token")
    mixed.set_cookie("remember_token_session", bob.get_cookie("remember_token_session").value)  # type: ignore[union-attr]

    assert mixed.get("/who").get_json()["user_id"] != "1"


def test_a_sign_in_without_remember_removes_an_earlier_remember_cookie(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user, remember="1")
    kept = replay(old, client, "remember_token", "remember_token_session")

    sign_in(old, user, client)

    assert client.get_cookie("remember_token_session") is None
    assert status(client) == 200
    assert status(kept) == 401


def test_a_sign_out_ends_the_session_on_the_server(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user, remember="1")
    before = replay(old, client, "session")
    remembered = replay(old, client, "remember_token", "remember_token_session")

    assert client.post("/logout-page").status_code == 200

    assert [status(each) for each in (client, before, remembered)] == [401] * 3
    (row,) = old.rows("xgen_sessions")
    assert row["end_reason"] == "signed out"
    assert client.get_cookie("remember_token_session") is None


def test_a_sign_out_that_cannot_be_recorded_reports_an_error(old: Host) -> None:
    client = sign_in(old, old.add_user())
    with old.app.app_context(), old.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE xgen_revocations RENAME TO away")

    answer = client.post("/logout-page")

    assert answer.status_code == 503
    assert "in this browser" in answer.get_json()["detail"]


def test_a_session_of_flask_login_expires_like_a_token(old: Host) -> None:
    user = old.add_user()
    with freeze_time(NOON) as clock:
        client = sign_in(old, user)
        clock.tick(timedelta(hours=23))
        assert status(client) == 200
        clock.tick(timedelta(hours=2))
        assert client.get("/api/user").get_json()["code"] == "token_expired"


def test_a_user_made_inactive_is_refused(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user)

    old.change_user(user, is_active=False)

    assert client.get("/api/user").get_json()["code"] == "user_inactive"


def test_the_cookie_beside_the_remember_cookie_is_refused_alone(old: Host) -> None:
    client = sign_in(old, old.add_user(), remember="1")

    alone = replay(old, client, "remember_token_session")

    assert [status(alone, path) for path in ("/api/user", "/api/token")] == [401, 401]


def test_the_remember_cookies_of_an_ended_session_are_removed(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user, remember="1")
    old.force_logout(user)

    assert status(client) == 401

    assert client.get_cookie("remember_token_session") is None
    assert client.get_cookie("remember_token") is None


def test_a_sign_out_ends_the_session_of_a_token_too(old: Host) -> None:
    token = old.issue(old.add_user())
    client = old.cookie_client(token)

    client.post("/logout-page")

    assert client.get_cookie("xgen_token") is None
    assert old.status(token) == 401


def test_a_sign_out_is_recorded_while_the_host_has_uncommitted_changes(old: Host) -> None:
    user = old.add_user()

    @old.app.post("/write-and-log-out")
    def write_and_log_out() -> str:
        old.find_user(user).display_name = "never committed"
        old.db.session.flush()
        logout_user()
        return "out"

    client = sign_in(old, user)
    kept = replay(old, client, "session")

    client.post("/write-and-log-out").close()

    assert status(kept) == 401
    with old.app.app_context():
        assert old.find_user(user).display_name is None


def test_an_application_without_the_plugin_can_share_the_login_manager(
    make_host: MakeHost, sqlite_url: str
) -> None:
    old = make_host(sqlite_url, extras=add_pages)
    other = Flask("other")
    other.secret_key = "the other one"
    old.login_manager.init_app(other)

    @other.get("/who")
    def who() -> Response:
        return jsonify(anonymous=current_user.is_anonymous)

    assert status(sign_in(old, old.add_user())) == 200
    assert other.test_client().get("/who").get_json() == {"anonymous": True}


# --- Renewal and the API ---------------------------------------------------------------------


def test_a_renewed_session_stays_in_the_cookies_of_flask_login(old: Host) -> None:
    user = old.add_user()
    with freeze_time(NOON) as clock:
        client = sign_in(old, user, remember="1")
        answer = client.post("/sessions/renew")
        assert "access_token" not in answer.get_json()
        clock.tick(timedelta(seconds=90))

        assert status(client) == 200
        assert status(replay(old, client, "remember_token", "remember_token_session")) == 200
        assert client.get_cookie("xgen_token") is None


@pytest.mark.parametrize("how", ["sign-out", "delete"])
def test_the_api_can_end_a_session_of_flask_login(old: Host, how: str) -> None:
    client = sign_in(old, old.add_user(), remember="1")
    before = replay(old, client, "session", "remember_token", "remember_token_session")

    if how == "sign-out":
        assert client.post("/sessions/sign-out").status_code == 204
    else:
        (own,) = client.get("/sessions/").get_json()["sessions"]
        assert client.delete(f"/sessions/{own['session_id']}").status_code == 204

    assert client.get("/who").get_json() == {"user_id": None, "keys": []}
    assert status(before) == 401


def test_the_api_refuses_a_session_cookie_in_a_cross_site_request(old: Host) -> None:
    client = sign_in(old, old.add_user())

    answer = client.post("/sessions/sign-out", headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert status(client) == 200


# --- Together with tokens, and with invalid cookies ------------------------------------------


def test_a_session_that_was_never_recorded_is_refused(old: Host) -> None:
    user = old.add_user()
    client = old.client()
    with client.session_transaction() as kept:
        kept["_user_id"], kept["_fresh"] = user, True
        kept["theme"] = "dark"

    answer = client.get("/api/user")

    assert answer.status_code == 401
    assert answer.get_json()["code"] == "token_invalid"
    who = client.get("/who").get_json()
    assert who["user_id"] is None
    assert "theme" in who["keys"]
    assert "_user_id" not in who["keys"]


def test_a_session_with_the_token_of_another_user_is_refused(old: Host) -> None:
    alice, bob = old.add_user("alice"), old.add_user("bob")
    client = sign_in(old, bob)
    with client.session_transaction() as kept:
        kept["_user_id"] = alice

    assert client.get("/who").get_json()["user_id"] != alice
    assert status(client) == 401


def test_a_valid_token_is_accepted_beside_an_ended_session(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user, remember="1")
    old.force_logout(user)
    token = old.issue(user)

    assert client.get("/api/user", headers=bearer(token)).status_code == 200
    assert client.get("/api/token", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("token", ["garbage", "", "revoked"])
def test_a_refused_token_in_the_header_is_refused_despite_a_valid_session(
    old: Host, token: str
) -> None:
    user = old.add_user()
    revoked = old.issue(user)
    old.force_logout(user)
    client = sign_in(old, user)
    headers = bearer(revoked if token == "revoked" else token)

    for path in ("/api/user", "/api/token"):
        assert client.get(path, headers=headers).status_code == 401
    assert status(client) == 200


def test_a_token_in_the_header_of_another_user_than_the_session_s_is_refused(old: Host) -> None:
    alice, bora = old.add_user("alice"), old.add_user("bora")
    client = sign_in(old, alice)

    answer = client.get("/api/user", headers=bearer(old.issue(bora)))

    assert answer.status_code == 400
    assert answer.get_json()["code"] == "token_ambiguous"
    assert client.get("/api/user", headers=bearer(old.issue(alice))).status_code == 200
    assert status(client) == 200


@pytest.mark.parametrize("remember", ["", "1"])
def test_a_cookie_of_another_user_than_the_session_s_is_refused(old: Host, remember: str) -> None:
    alice, bora = old.add_user("alice"), old.add_user("bora")
    client = sign_in(old, alice, remember=remember)
    token = old.issue(bora)
    client.set_cookie("xgen_token", token.token)

    for path in ("/api/user", "/api/token"):
        answer = client.get(path)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "token_ambiguous"), path
    page = client.get("/api/user", headers={"Accept": "text/html"})
    assert (page.status_code, page.location) == (302, "/sign-in?next=%2Fapi%2Fuser")
    old.force_logout(alice)  # now the session is none
    for path in ("/api/token", "/api/user"):
        assert client.get(path).get_json()["user_id"] == bora, path
    client.set_cookie("xgen_token", old.issue(alice).token)
    assert status(client) == 200


def test_a_refused_session_sends_one_signal(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user)
    old.force_logout(user)
    told: list[XgenSessionsError] = []

    with token_rejected.connected_to(lambda app, error: told.append(error)):
        assert status(client) == 401

    assert [error.code for error in told] == ["session_revoked"]


@pytest.mark.parametrize("path", ["/api/user", "/api/token", "/page"])
def test_a_session_of_flask_login_is_refused_while_the_database_is_unavailable(
    old: Host, path: str
) -> None:
    client = sign_in(old, old.add_user())
    with old.app.app_context(), old.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE xgen_sessions RENAME TO away")

    assert status(client, path) == 503

    with old.app.app_context(), old.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO xgen_sessions")
    assert status(client, path) == 200


def test_every_request_of_an_ended_session_gets_the_reason(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user, remember="1")
    old.force_logout(user)

    def told() -> tuple[int, str, bool]:
        answer = client.get("/api/user")
        challenge = answer.headers["WWW-Authenticate"]
        return answer.status_code, answer.get_json()["code"], "invalid_token" in challenge

    assert [told() for _ in range(2)] == [(401, "session_revoked", True)] * 2
    assert client.get("/page", headers=PAGE).location == "/sign-in?next=%2Fpage"
    assert told() == (401, "session_revoked", True)
    assert status(client, "/api/token") == 401
    client.post("/logout-page")
    assert client.get("/api/user").get_json()["code"] == "token_missing"


def test_a_refused_session_stays_refused_when_the_user_is_active_again(old: Host) -> None:
    user = old.add_user()
    client = sign_in(old, user)
    old.change_user(user, is_active=False)
    assert client.get("/api/user").get_json()["code"] == "user_inactive"

    old.change_user(user, is_active=True)

    assert [status(client, path) for path in ("/api/user", "/api/token")] == [401, 401]
    assert status(sign_in(old, user, client)) == 200


@pytest.mark.parametrize("cookie", ["x", "1|ab", "1|é", ""])
def test_an_invalid_remember_cookie_does_not_affect_a_token(old: Host, cookie: str) -> None:
    token = old.issue(old.add_user())
    client = old.cookie_client(token)
    client.set_cookie("remember_token", cookie)
    other = old.client()
    other.set_cookie("remember_token", cookie)

    assert status(client) == 200
    assert client.get_cookie("remember_token") is None
    assert other.get("/api/user", headers=bearer(token)).status_code == 200
    assert status(other) == 401


def test_before_request_functions_of_the_host_never_see_a_revoked_user(
    make_host: MakeHost, database_url: str
) -> None:
    def gate() -> Any:
        if request.path == "/gated" and current_user.is_authenticated:
            return jsonify(user_id=current_user.get_id())
        return None

    def with_gate(app: Flask) -> Mapping[str, Any]:
        app.before_request(gate)  # before the plugin, and the loader after it
        app.add_url_rule("/gated", "gated", lambda: ("not signed in", 401))
        return {}

    host = make_host(database_url, extras=with_gate)
    add_pages(host.app)
    user = host.add_user()
    client = sign_in(host, user)
    assert status(client, "/gated") == 200
    late = make_host(database_url, create_all=False, extras=with_gate)
    add_pages(late.app)
    host.force_logout(user)

    other = replay(host, client, "session")
    kept = other.get_cookie("session")
    assert kept is not None
    again = late.client()
    again.set_cookie("session", kept.value)

    assert [status(each, "/gated") for each in (client, again, again)] == [401, 401, 401]
