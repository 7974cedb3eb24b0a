"""Hostile strings from users and proxies are harmless in the screen, the API and the terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from playwright.sync_api import Browser
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server

from tests.support.hosts import Host, NamedUser, bearer, make_app
from tests.support.naughty_strings import LONE_SURROGATES, NAUGHTY
from tests.support.screen import SCREEN, with_screen
from xgen_flask_sessions.roster.devices import clean_address
from xgen_flask_sessions.text import clean_text, visible

pytestmark = pytest.mark.slow

REASONS = [text[:500] for text in (*NAUGHTY, *LONE_SURROGATES)]
BIDI_CONTROLS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def as_header(text: str) -> str:
    """Return *text* as a WSGI server passes it on, without characters that servers refuse."""
    return text.translate({0: None, 10: None, 13: None}).encode().decode("latin-1")


def behind_a_proxy(app: Flask) -> dict[str, Any]:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return dict(with_screen(app))


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of database."""
    return str(request.param)


@pytest.fixture(scope="module")
def names(kind: str) -> list[str]:
    """Return the strings that the database can store as a name."""
    storable = [text for text in NAUGHTY if kind == "sqlite" or "\0" not in text]
    return list(dict.fromkeys(text[:255] for text in storable))


@pytest.fixture(scope="module")
def host(
    kind: str, names: list[str], server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """Yield a host where each string is a username, a name, a department and a user agent."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('naughty') / 'test.db'}"
    else:
        server(kind).empty()
        url = server(kind).url
    host = make_app(
        url,
        model=NamedUser,
        extras=behind_a_proxy,
        XGEN_SESSIONS_COOKIE_SECURE=False,
        XGEN_SESSIONS_FORCE_LOGOUT_LIMIT=None,
    )
    with host.app.app_context():
        host.db.session.add_all(
            NamedUser(id=f"u{n}", username=text, display_name=text[:80], department=text[-80:])
            for n, text in enumerate(names)
        )
        host.db.session.add(NamedUser(id="boss", username="the boss", is_superuser=True))
        host.db.session.commit()
    for number, text in enumerate(names):
        header = as_header(text)
        answer = host.client().post(
            "/sign-in",
            data={"user_id": f"u{number}"},
            environ_overrides={"HTTP_USER_AGENT": header, "HTTP_X_FORWARDED_FOR": header},
        )
        assert answer.status_code == 200
    host.issue("boss")
    yield host
    host.dispose()


def sample(texts: list[str], kind: str) -> list[tuple[int, str]]:
    """Return the strings with their numbers: all for SQLite, an eighth for the servers."""
    return [*enumerate(texts)][:: 1 if kind == "sqlite" else 8]


def pages(host: Host, names: list[str]) -> range:
    return range(1, (len(names) + 1) // 50 + 2)


def as_shown(name: str | None) -> str:
    """Return a name as a page must show it; a blank name is shown as ``-``."""
    return visible((name or "").strip()) or "-"


def test_there_are_at_least_150_strings() -> None:
    assert len({*NAUGHTY, *LONE_SURROGATES}) >= 150


def test_the_screen_shows_strings_as_text(host: Host, names: list[str]) -> None:
    admin = host.cookie_client(host.issue("boss"))
    plain = BeautifulSoup(admin.get(SCREEN).text, "html.parser")
    tags = {tag.name for tag in plain.find_all(True)}
    seen = {}
    for number in pages(host, names):
        answer = admin.get(f"{SCREEN}?page={number}")
        page = BeautifulSoup(answer.text, "html.parser")
        assert not BIDI_CONTROLS & set(answer.text)
        assert not any(ord(char) < 32 and char != "\n" for char in answer.text)
        assert {tag.name for tag in page.find_all(True)} <= tags | {"nav", "time", "wbr"}
        for tag in page.find_all(True):
            assert not any(name.startswith("on") for name in tag.attrs), tag
            assert tag.attrs.keys() <= ALLOWED, tag
        for row in page.select(".xs-table > tbody > tr:not(.xs-detail)"):
            field = row.select_one("[name=user_id]")
            (name,), clips = row.select(".xs-username"), row.select("td > .xs-clip")
            assert field is not None
            seen[field["value"]] = [name.text, *(clip.text for clip in clips)]
            assert name["title"] == name.text
    for number, text in enumerate(names):
        username = visible(text) or f"u{number}"  # an empty one is shown by the id
        expected = [username, as_shown(text[:80]), as_shown(text[-80:])]
        assert seen[f"u{number}"] == expected


ALLOWED = {
    "action", "aria-current", "aria-describedby", "aria-expanded", "aria-hidden", "aria-label",
    "aria-labelledby", "aria-live", "aria-pressed", "aria-sort", "autocomplete", "charset", "class",
    "cols", "colspan", "content", "cx", "cy", "d", "data-busy", "data-check", "data-close",
    "data-confirm", "data-just-now", "data-label", "data-language", "data-many", "data-moved",
    "data-nobody", "data-none", "data-now", "data-one", "data-retry", "data-session",
    "data-sessions", "data-several", "data-show", "data-sign-in", "data-soon", "data-title",
    "data-unchanged", "data-unknown", "data-unknown-end", "data-xs-act", "data-xs-again",
    "data-xs-all", "data-xs-as-of", "data-xs-ask", "data-xs-clear", "data-xs-clock",
    "data-xs-close", "data-xs-count", "data-xs-detail", "data-xs-expand", "data-xs-finished",
    "data-xs-focus", "data-xs-length", "data-xs-loaded", "data-xs-name", "data-xs-no-session",
    "data-xs-offset", "data-xs-poll", "data-xs-preview", "data-xs-recent", "data-xs-refresh",
    "data-xs-rows", "data-xs-selecting", "data-xs-session", "data-xs-sessions",
    "data-xs-signed-out", "data-xs-stale", "data-xs-summary", "data-xs-tag", "data-xs-total",
    "data-xs-user", "data-xs-users", "data-xs-with-reason", "data-xs-without-script", "datetime",
    "defer", "disabled", "focusable", "for", "form", "formaction", "height", "hidden", "href", "id",
    "label", "lang", "maxlength", "method", "name", "open", "placeholder", "r", "rel", "role",
    "rows", "rx", "scope", "selected", "src", "tabindex", "title", "type", "value", "viewbox",
    "width", "x", "y",
}  # fmt: skip


def test_the_api_returns_strings_unchanged(host: Host, names: list[str]) -> None:
    admin = bearer(host.issue("boss"))
    users: dict[str, Any] = {}
    for number in pages(host, names):
        answer = host.client().get(f"/sessions/users?page={number}", headers=admin)
        assert answer.text.isascii()
        users |= {user["user_id"]: user for user in json.loads(answer.text)["users"]}

    for number, text in enumerate(names):
        user = users[f"u{number}"]
        assert user["username"] == (text or f"u{number}")
        assert user["name"] == (text[:80].strip() or None)
        assert user["last_ip"] is None or user["last_ip"] == clean_address(user["last_ip"])
        if text == "198.51.100.7, 10.0.0.1":
            assert user["last_ip"] == "10.0.0.1"
        sessions = host.client().get(f"/sessions/users/u{number}", headers=admin).get_json()
        (session,) = sessions["sessions"]
        assert all(part is None or part.isprintable() for part in session.values() if part != 0)


def test_the_terminal_shows_no_control_characters(host: Host, names: list[str], kind: str) -> None:
    runner = host.app.test_cli_runner()
    lines = 0
    for number in pages(host, names):
        result = runner.invoke(args=["xgen-sessions", "list", "--page", str(number)])
        assert result.exit_code == 0
        assert_harmless(result.output)
        lines += len(result.output.splitlines()) - 4  # without header, blank line, footer
    assert lines == len(names) + len(["the boss"])
    for number, text in sample(names, kind):
        for arguments in (["show", "--id", f"u{number}"], ["show", "--id", "--json", f"u{number}"],
                          ["show", "--", text]):  # fmt: skip
            result = runner.invoke(args=["xgen-sessions", *arguments])
            assert result.exit_code in (0, 1), result.output
            assert_harmless(result.output)


def assert_harmless(output: str) -> None:
    assert all(char.isprintable() or char == "\n" for char in output)
    assert not BIDI_CONTROLS & set(output)


def test_reasons_are_stored_printable(host: Host, kind: str) -> None:
    admin = bearer(host.issue("boss"))
    host.add_user("boss2", id="boss2")
    reasons = [reason for _, reason in sample(REASONS, kind)]
    for reason in reasons:
        answer = host.client().post(
            "/sessions/users/boss2/force-logout", json={"reason": reason}, headers=admin
        )
        assert answer.status_code == 200, reason

    kept = [row["reason"] for row in host.rows("xgen_revocations")]
    lines = [" ".join(text.splitlines()) for text in reasons]
    assert sorted(map(str, kept)) == sorted(str(clean_text(text, 500)) for text in lines)
    assert all(reason is None or reason.isprintable() for reason in kept)


def test_strings_inject_no_header(host: Host) -> None:
    """A line break in a user agent, an address or ``next`` does not split the answer."""
    for text in NAUGHTY:
        answer = host.client().get(
            "/page", query_string={"next": text}, headers={"Sec-Fetch-Mode": "navigate"},
            environ_overrides={"HTTP_USER_AGENT": as_header(text)},
        )  # fmt: skip
        assert answer.status_code == 302
        assert "Naughty" not in answer.headers
        # An unsafe ``next`` is left out.
        location = answer.headers["Location"]
        assert location == "/sign-in" or location.startswith("/sign-in?next=%2Fpage")
        # Flask's session has Flask-Login's message.
        assert [cookie.partition("=")[0] for cookie in answer.headers.getlist("Set-Cookie")] == [
            "session"
        ]


@pytest.fixture
def served(host: Host) -> Iterator[str]:
    """Yield the address of *host*, served by threads of this process."""
    server = make_server("127.0.0.1", 0, host.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_no_script_in_a_string_runs_in_a_browser(
    host: Host, served: str, names: list[str], browser: Browser
) -> None:
    context = browser.new_context(base_url=served)
    token = host.issue("boss").token
    context.add_cookies([{"name": "xgen_token", "value": token, "url": served}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    shown = []

    for number in pages(host, names):
        page.goto(f"{SCREEN}?page={number}")
        shown += page.locator(".xs-username").all_text_contents()
        for link in page.locator(".xs-count").all()[::10]:
            link.click()
            link.locator("xpath=../../following-sibling::tr[1]//table").wait_for()
            link.hover()
        assert page.evaluate("window.naughty") is None
    context.close()

    usernames = (visible(text) or f"u{number}" for number, text in enumerate(names))
    assert sorted(shown) == sorted(["the boss", *usernames])
    assert complaints == []
    assert all(url.startswith(served) for url in asked)
