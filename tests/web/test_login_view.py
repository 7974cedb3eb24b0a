"""Flask-Login's ``login_view``: any that names no page is a 401 and a line in the log, no 500."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Blueprint, Flask

from tests.support.databases import MakeHost
from tests.support.doctor import examine
from tests.support.hosts import Host, bearer
from tests.support.screen import SCREEN, with_screen
from tests.support.standalone import PAGE

WRONG: list[Any] = ["sing_in", "login.html", "auth.login", "with_argument", "https://[", len, 5]
URLS = {
    "sign_in": "/sign-in",
    "auth.page": "/auth/in",
    "/login": "/login",
    "/login?from=app": "/login?from=app",
    "https://id.example.com/login": "https://id.example.com/login",
}


def with_login_view(make_host: MakeHost, url: str, login_view: Any) -> Host:
    def extras(app: Flask) -> Any:
        auth = Blueprint("auth", __name__, url_prefix="/auth")
        auth.add_url_rule("/in", "page", lambda: "sign in")
        app.register_blueprint(auth)
        app.add_url_rule("/in/<language>", "with_argument", lambda **_: "sign in")
        return with_screen(app)

    host = make_host(url, extras=extras)
    host.login_manager.login_view = login_view
    return host


@pytest.mark.parametrize("login_view", WRONG, ids=str)
def test_a_wrong_one_is_a_401_on_every_page_and_is_logged_once(
    make_host: MakeHost, sqlite_url: str, login_view: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host = with_login_view(make_host, sqlite_url, login_view)
    token = host.issue(host.add_user("admin", is_superuser=True))

    for path in ("/page", "/api/user", "/api/token", SCREEN, f"{SCREEN}confirm"):
        assert host.client().get(path, headers=PAGE).status_code == 401, path
    assert host.client().post(f"{SCREEN}force-logout", headers=PAGE).status_code == 401
    assert host.client().get(SCREEN, headers=bearer(token)).status_code == 200

    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [repr(login_view) in each.getMessage() for each in errors] == [True]
    assert "Set login_view to the endpoint" in errors[0].getMessage()


@pytest.mark.parametrize("login_view", WRONG, ids=str)
def test_a_wrong_one_of_a_blueprint_too(
    make_host: MakeHost, sqlite_url: str, login_view: Any
) -> None:
    host = with_login_view(make_host, sqlite_url, "sign_in")
    host.login_manager.blueprint_login_views = {"admin-active-sessions": login_view}

    assert host.client().get(SCREEN, headers=PAGE).status_code == 401
    assert host.client().get("/page", headers=PAGE).location == "/sign-in?next=%2Fpage"


@pytest.mark.parametrize("login_view", WRONG, ids=str)
def test_doctor_finds_it(make_host: MakeHost, sqlite_url: str, login_view: Any) -> None:
    host = with_login_view(make_host, sqlite_url, login_view)

    found = examine(host, ends_with=1)["login-view-unknown"]

    assert found["level"] == "problem"
    assert str(login_view)[:8] in found["meaning"]


@pytest.mark.parametrize(("login_view", "location"), URLS.items())
def test_endpoints_paths_and_urls_are_pages(
    make_host: MakeHost,
    sqlite_url: str,
    login_view: str,
    location: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = with_login_view(make_host, sqlite_url, login_view)

    sent_to = host.client().get("/api/token", headers=PAGE).location

    assert sent_to == location + ("&" if "?" in location else "?") + "next=%2Fapi%2Ftoken"
    assert "login_view" not in caplog.text
    assert "login-view-unknown" not in examine(host)
