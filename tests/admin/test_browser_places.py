"""In a real browser: an Admin Center below a path, and a screen on a subdomain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_admin import Admin
from flask_admin.theme import Bootstrap4Theme
from jinja2 import ChoiceLoader, DictLoader
from playwright.sync_api import Browser, Page
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.support import hosts
from tests.support.databases import MakeHost
from tests.support.ports import free_port
from tests.support.serving import serving
from tests.support.standalone import ADMIN_PASSWORD, center_maker

pytestmark = pytest.mark.slow

OWN_LAYOUT = "<html><body><nav>Ours</nav>{% block body %}{% endblock %}</body></html>"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page; the test fails if a policy blocks a file, or a script fails."""
    context = browser.new_context()
    opened = context.new_page()
    errors: list[str] = []
    opened.on("console", lambda each: errors.append(each.text))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert [each for each in errors if "Failed to load resource" not in each] == []


def test_an_admin_center_below_a_path(page: Page, tmp_path: Path) -> None:
    port = free_port()
    with center_maker(tmp_path / "instance") as make:
        center = make()
        mounted = DispatcherMiddleware(Flask("site"), {"/xgen": center.app.wsgi_app})
        with serving(mounted, port):
            page.goto(f"http://127.0.0.1:{port}/xgen/")
            page.fill("[name=username]", "admin")
            page.fill("[name=password]", ADMIN_PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_url("**/xgen/")
            page.wait_for_selector("#pulse:not(.xa-silent):visible")
            assert page.locator("#sessions li").count() == 1
            page.click("a:has-text('Admin Center')")
            page.wait_for_url("**/xgen/admin/**")
            page.goto(f"http://127.0.0.1:{port}/xgen/admin/admin-active-sessions/")
            page.click(".xs-count")
            page.wait_for_selector(".xs-sessions")
            other = page.context.new_page()
            other.goto(f"http://127.0.0.1:{port}/xgen/")
            page.click("button[aria-label='Force Logout admin']")
            page.wait_for_url("**/xgen/login*")
            other.wait_for_url("**/xgen/login?next=%2Fxgen%2F")


@pytest.mark.parametrize("layout", ["admin/base.html", "own.html"])
def test_a_screen_on_a_subdomain(
    page: Page,
    make_host: MakeHost,
    sqlite_url: str,
    layout: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "Flask", lambda name: Flask(name, subdomain_matching=True))
    port = free_port()

    def extras(app: Flask) -> Any:
        loader = app.jinja_env.loader
        assert loader is not None
        app.jinja_env.loader = ChoiceLoader([DictLoader({"own.html": OWN_LAYOUT}), loader])
        theme = Bootstrap4Theme(base_template=layout)
        return {"admin": Admin(app, subdomain="admin", theme=theme)}

    host = make_host(
        sqlite_url, extras=extras, SERVER_NAME=f"xgen.localhost:{port}",
        SESSION_COOKIE_DOMAIN="xgen.localhost", XGEN_SESSIONS_COOKIE_SECURE=False,
    )  # fmt: skip
    user_id = host.add_user("admin", is_superuser=True)
    with serving(host.app, port):
        page.goto(f"http://xgen.localhost:{port}/sign-in")
        page.set_content(
            f"<form method=post action=http://xgen.localhost:{port}/sign-in>"
            f"<input name=user_id value={user_id}><button>Go</button></form>"
        )
        page.click("button")
        page.goto(f"http://admin.xgen.localhost:{port}/admin/admin-active-sessions/")

        assert page.locator("h1").inner_text() == "Login Management"
        accent = "getComputedStyle(document.querySelector('.xs')).getPropertyValue('--xs-accent')"
        assert page.evaluate(accent) == "#1f3fae", "the style was loaded"
        page.click(".xs-count")
        page.wait_for_selector(".xs-sessions")
        assert "expand=" not in page.url, "the script expanded the row"

        host.force_logout(user_id)
        page.evaluate("() => fetch(location.href, {redirect: 'error'})")
        page.wait_for_url("**/sign-in*")
        # Its own site has no such path.
        assert page.url == f"http://xgen.localhost:{port}/sign-in"
