"""Title, language and main landmark of the plugin's pages, in layouts that lack them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_admin import Admin
from flask_admin.theme import Bootstrap4Theme
from flask_babel import Babel

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.ports import free_port
from tests.support.screen import SCREEN, page_of, sign_in
from tests.support.serving import serving
from xgen_flask_sessions.admin.page_parts import ROOT, complete

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LAYOUTS = ["admin/base.html", "xgen_sessions/admin_center.html"]


def host_with(make_host: MakeHost, url: str, layout: str = LAYOUTS[0], **config: Any) -> Host:
    """Return a host in Korean, with one of Flask-Admin's base templates."""

    def extras(app: Flask) -> Mapping[str, Any]:
        Babel(app, default_locale="ko")
        return {"admin": Admin(app, name="XGEN", theme=Bootstrap4Theme(base_template=layout))}

    return make_host(url, extras=extras, **config)


@contextmanager
def opened(browser: Browser, host: Host, username: str = "admin") -> Iterator[tuple[Page, str]]:
    """Serve a host, and yield a page of its browser that is signed in, with the host's address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    token = host.issue(host.add_user(username, is_superuser=True)).token
    with serving(host.app, port):
        context = browser.new_context()
        context.add_cookies([{"name": "xgen_token", "value": token, "url": url}])
        try:
            yield context.new_page(), url
        finally:
            context.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_page_has_a_title_a_language_and_one_main_landmark(
    make_host: MakeHost, sqlite_url: str, layout: str
) -> None:
    host = host_with(make_host, sqlite_url, layout)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    page = page_of(admin)

    assert page.title is not None
    assert page.title.text == "로그인 관리 · XGEN"
    assert page.html is not None
    assert page.html["lang"] == "ko"
    (root,) = page.select(".xs[lang]")
    assert root["lang"] == "ko"
    (main,) = page.select("main, [role=main]")
    assert [each.text for each in main.select("h1")] == ["로그인 관리"]
    assert main.select_one(".xs-table") is not None
    assert ROOT not in str(page)


def test_the_host_s_own_views_are_as_before(make_host: MakeHost, sqlite_url: str) -> None:
    host = host_with(make_host, sqlite_url)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    page = page_of(admin, "/admin/")

    assert page.html is not None
    assert "lang" not in page.html.attrs
    assert page.select("main, [role=main], .xs, script[src*=flask-admin-menu]") == []
    assert page.title is not None
    assert page.title.text == "홈 - XGEN"


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("<HTML><b{0}></b>", '<html lang="ko"><b role="main"></b>'),
        ("<html class=x><b{0}></b>", '<html lang="ko" class=x><b role="main"></b>'),
        ("<html lang=fr><main><b{0}></b></main>", "<html lang=fr><main><b></b></main>"),
        ("<html xml:lang='fr'><b role=main{0}></b>", "<html xml:lang='fr'><b role=main></b>"),
        ("<b{0}></b>", '<b role="main"></b>'),
        ("<i>&lt;main</i>", "<i>&lt;main</i>"),
    ],
)
def test_a_layout_keeps_what_it_has(layout: str, expected: str) -> None:
    assert complete(layout.format(ROOT), "ko") == expected


@pytest.mark.slow
def test_the_menu_of_flask_admin_opens_without_an_error(
    make_host: MakeHost, sqlite_url: str, browser: Browser
) -> None:
    host = host_with(make_host, sqlite_url)
    with opened(browser, host) as (page, url):
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page.goto(url + SCREEN)

        page.click("a.dropdown-toggle")
        opened_by_mouse = page.locator(".dropdown-menu.show").count()
        page.click("a.dropdown-toggle")
        page.focus("a.dropdown-toggle")
        page.keyboard.press("Enter")
        opened_by_key = page.locator(".dropdown-menu.show").count()
        page.click(".dropdown-menu.show a")
        page.wait_for_load_state("networkidle")  # the server's files are closed

        assert (opened_by_mouse, opened_by_key) == (1, 1)
        assert page.url == url + SCREEN
        assert complaints == []


def test_the_menu_s_script_is_only_in_layouts_with_such_a_menu(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = host_with(make_host, sqlite_url, LAYOUTS[1])
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    assert "flask-admin-menu.js" not in str(page_of(admin))
