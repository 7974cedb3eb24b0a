"""A rotation of ``SECRET_KEY`` as Flask documents it signs no user out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, request
from flask.testing import FlaskClient
from flask_login import login_user

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.pems import pems
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, with_screen
from xgen_flask_sessions import ConfigurationError

OLD = "the old secret of the application, 32 bytes"
NEW = "the new secret of the application, 32 bytes"
PRIVATE_KEY, _ = pems(ec.generate_private_key(ec.SECP256R1()))
ROTATED = {"SECRET_KEY": NEW, "SECRET_KEY_FALLBACKS": [OLD]}


def with_pages(app: Flask) -> Mapping[str, Any]:
    def find(user_id: str) -> Any:
        return app.extensions["xgen_sessions"].users.get(user_id)

    @app.post("/login-page")
    def login_page() -> str:
        login_user(find(request.form["user_id"]), remember=True)
        return "in"

    app.login_manager.user_loader(find)  # type: ignore[attr-defined]
    return with_screen(app)


@pytest.fixture
def old(make_host: MakeHost, sqlite_url: str) -> Host:
    return make_host(sqlite_url, extras=with_pages, SECRET_KEY=OLD)


def rotated(make_host: MakeHost, url: str, **config: Any) -> Host:
    """Return the application after a restart with the new secret."""
    return make_host(url, create_all=False, extras=with_pages, **{**ROTATED, **config})


def moved(client: FlaskClient, host: Host, *names: str) -> FlaskClient:
    """Return a browser with cookies of the old application."""
    other = host.client()
    for name in names:
        cookie = client.get_cookie(name)
        assert cookie is not None
        other.set_cookie(name, cookie.value)
    return other


def test_tokens_of_the_old_secret_stay_valid(
    old: Host, make_host: MakeHost, sqlite_url: str
) -> None:
    user = old.add_user()
    token = old.issue(user)

    new = rotated(make_host, sqlite_url)

    assert new.status(token) == 200
    renewed = new.renew(token)
    assert old.status(renewed) == 401  # signed with the new secret
    new.force_logout(user)
    assert new.client().get("/api/token", headers=bearer(token)).get_json()["code"] == (
        "session_revoked"
    )
    without = rotated(make_host, sqlite_url, SECRET_KEY_FALLBACKS=None)
    assert without.status(old.issue(user)) == 401


def test_sessions_and_remember_cookies_of_the_old_secret_stay_valid(
    old: Host, make_host: MakeHost, sqlite_url: str
) -> None:
    user = old.add_user()
    client = old.client()
    client.post("/login-page", data={"user_id": user})
    kept = ("remember_token", "remember_token_session")
    new = rotated(make_host, sqlite_url)

    assert moved(client, new, "session").get("/api/user").status_code == 200
    remembered = moved(client, new, *kept)
    assert remembered.get("/api/user").status_code == 200
    without = rotated(make_host, sqlite_url, SECRET_KEY_FALLBACKS=None)
    assert moved(remembered, without, *kept).get("/api/user").status_code == 401
    assert moved(client, without, *kept).get("/api/user").status_code == 401
    # The cookie was signed anew; the token in the other one is still the old secret's.
    own = remembered.get_cookie("remember_token")
    assert own is not None
    assert own.value != client.get_cookie("remember_token").value  # type: ignore[union-attr]

    new.force_logout(user)
    assert moved(client, new, *kept).get("/api/user").status_code == 401


def test_a_form_of_the_old_secret_can_be_sent(
    old: Host, make_host: MakeHost, sqlite_url: str
) -> None:
    boss, user = old.add_user("boss", is_superuser=True), old.add_user()
    old.issue(user)
    browser = old.cookie_client(old.issue(boss))
    form = form_for(page_of(browser), "alice")

    new = rotated(make_host, sqlite_url)

    cookie = {"Cookie": f"xgen_token={browser.get_cookie('xgen_token').value}"}  # type: ignore[union-attr]
    answer = new.app.test_client(use_cookies=False).post(FORCE_LOGOUT, data=form, headers=cookie)
    assert (answer.status_code, answer.location.startswith(SCREEN)) == (303, True)
    assert [row["user_id"] for row in new.rows("xgen_revocations")] == [user]


@pytest.mark.parametrize("fallbacks", [NEW, [7], {NEW}])
def test_a_fallback_that_cannot_be_a_key_stops_the_start(
    make_host: MakeHost, sqlite_url: str, fallbacks: Any
) -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY_FALLBACKS"):
        make_host(sqlite_url, SECRET_KEY_FALLBACKS=fallbacks)


@pytest.mark.parametrize("fallbacks", [["short", OLD], [OLD, b"x" * 31]])
def test_a_fallback_that_is_too_short_for_tokens_serves_flask_only(
    old: Host, make_host: MakeHost, sqlite_url: str, fallbacks: list[str | bytes]
) -> None:
    token = old.issue(old.add_user())

    new = rotated(make_host, sqlite_url, SECRET_KEY_FALLBACKS=fallbacks)

    assert new.status(token) == 200
    kept = new.app.extensions["xgen_sessions"].settings.previous_keys
    assert kept == (OLD.encode(),)


@pytest.mark.parametrize("fallbacks", [None, [], (), [OLD], [OLD.encode()]])
def test_a_host_without_earlier_secrets_starts(
    make_host: MakeHost, sqlite_url: str, fallbacks: Any
) -> None:
    host = make_host(sqlite_url, SECRET_KEY_FALLBACKS=fallbacks)

    assert host.status(host.issue(host.add_user())) == 200


@pytest.mark.parametrize(
    "own",
    [
        {"XGEN_SESSIONS_SECRET_KEY": "the secret for tokens alone, 32 bytes long"},
        {"XGEN_SESSIONS_ALGORITHM": "ES256", "XGEN_SESSIONS_PRIVATE_KEY": PRIVATE_KEY},
    ],
)
def test_an_application_s_earlier_secret_verifies_no_tokens_of_another_key(
    old: Host, make_host: MakeHost, sqlite_url: str, own: dict[str, Any]
) -> None:
    token = old.issue(old.add_user())

    new = rotated(make_host, sqlite_url, SECRET_KEY_FALLBACKS=["short", OLD], **own)

    assert new.status(token) == 401
    assert new.status(new.issue("1")) == 200
