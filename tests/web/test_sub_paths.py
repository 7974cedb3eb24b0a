"""Applications below a path of their site: links, redirects, forms, cookies and the API."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask import Flask, redirect
from flask.testing import FlaskClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import SCREEN, form_for, with_screen
from tests.support.standalone import ADMIN_PASSWORD, PAGE, MakeCenter

Mount = Callable[[Any], tuple[Any, dict[str, Any]]]


def by_script_name(app: Any) -> tuple[Any, dict[str, Any]]:
    """A server that sets ``SCRIPT_NAME``, such as gunicorn or mod_wsgi."""
    return app, {"environ_overrides": {"SCRIPT_NAME": "/app"}}


def by_dispatcher(app: Any) -> tuple[Any, dict[str, Any]]:
    return DispatcherMiddleware(lambda *_: [b"elsewhere"], {"/app": app}), {"below": "/app"}


def by_prefix_header(app: Any) -> tuple[Any, dict[str, Any]]:
    """A proxy that takes the prefix off, and sends it in a header."""
    return ProxyFix(app, x_prefix=1), {"headers": {"X-Forwarded-Prefix": "/app"}}


def by_own_proxy_fix(app: Any) -> tuple[Any, dict[str, Any]]:
    """The same, for an application that has a ``ProxyFix``."""
    return app, {"headers": {"X-Forwarded-Prefix": "/app"}}


MOUNTS = [by_script_name, by_dispatcher, by_prefix_header]


class Visitor:
    """A browser at an application that is mounted at ``/app``."""

    def __init__(self, app: Any, mount: Mount) -> None:
        mounted, self._options = mount(app)
        self._below = self._options.pop("below", "")
        self._client = Client(mounted)

    def open(self, url: str, method: str = "GET", **options: Any) -> Any:
        """Open a URL as the browser sees it."""
        assert url.startswith("/app/"), url
        path = self._below + url.removeprefix("/app")
        headers = {**self._options.get("headers", {}), **options.pop("headers", {})}
        environ = self._options.get("environ_overrides")
        return self._client.open(
            path, method=method, headers=headers, environ_overrides=environ, **options
        )


def links(page: BeautifulSoup) -> list[str]:
    """Return the URLs in a page's attributes."""
    names = (
        "href", "src", "action", "formaction", "data-sign-in", "data-check", "data-xs-expand",
        "data-xs-poll", "data-xs-rows", "data-me", "data-sessions",
    )  # fmt: skip
    for texts in page.select("#xs-selection"):
        del texts["data-sessions"]  # a number in words
    found = [str(tag[name]) for name in names for tag in page.select(f"[{name}]")]
    return [url for url in found if not url.startswith("#")]


def make(make_host: MakeHost, url: str, **config: Any) -> Host:
    host = make_host(url, extras=with_screen, XGEN_SESSIONS_COOKIE_SECURE=False, **config)

    @host.app.get("/go-on")
    def go_on() -> Any:
        return redirect(host.sessions.next_path())

    return host


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_host_below_a_path(make_host: MakeHost, sqlite_url: str, mount: Mount) -> None:
    host = make(make_host, sqlite_url)
    user_id = host.add_user("admin", is_superuser=True)
    bora = host.issue(host.add_user("bora"))
    visitor = Visitor(host.app, mount)

    refused = visitor.open("/app/page?a=1", headers=PAGE)
    assert refused.location == "/app/sign-in?next=%2Fapp%2Fpage%3Fa%3D1"
    refused = visitor.open(f"/app{SCREEN}", headers=PAGE)
    assert refused.location == "/app/sign-in?next=%2Fapp%2Fadmin%2Fadmin-active-sessions%2F"

    assert visitor.open("/app/sign-in", "POST", data={"user_id": user_id}).status_code == 200
    assert visitor.open("/app/go-on").location == "/app/"
    assert visitor.open("/app/go-on?next=/app/page").location == "/app/page"

    page = BeautifulSoup(visitor.open(f"/app{SCREEN}").text, "html.parser")
    urls = links(page)
    assert len(urls) > 10
    assert [url for url in urls if not url.startswith("/app/")] == []
    files = [url for url in urls if "/static/" in url]
    for url in files:
        with visitor.open(url) as file:
            assert file.status_code == 200
    expanded = page.select("[data-xs-expand]")[0]["data-xs-expand"]
    assert visitor.open(str(expanded)).status_code == 200
    servers = visitor.open("/app/sessions/openapi.json").json["servers"]
    assert servers == [{"url": "/app/sessions"}]
    program, token = Visitor(host.app, mount), bearer(bora)
    assert len(program.open("/app/sessions/", headers=token).json["sessions"]) == 1

    forced = visitor.open(f"/app{SCREEN}force-logout", "POST", data=form_for(page, "bora"))
    assert forced.location.startswith(f"/app{SCREEN}?kept=")
    assert program.open("/app/sessions/", headers=token).status_code == 401
    own = visitor.open(f"/app{SCREEN}force-logout", "POST", data=form_for(page, "admin"))
    assert own.location == "/app/sign-in"


@pytest.mark.parametrize("mount", [by_script_name, by_dispatcher, by_own_proxy_fix])
def test_the_admin_center_below_a_path(make: MakeCenter, mount: Mount) -> None:
    center = make(TRUSTED_PROXIES=1 if mount is by_own_proxy_fix else 0)
    visitor = Visitor(center.app.wsgi_app, mount)

    assert visitor.open("/app/", headers=PAGE).location == "/app/login?next=%2Fapp%2F"
    signed_in = visitor.open(
        "/app/login", "POST", data={"username": "admin", "password": ADMIN_PASSWORD}
    )
    assert signed_in.location == "/app/"
    for path in ("", "admin/", "admin/admin-users/", "admin/admin-active-sessions/", "missing"):
        page = BeautifulSoup(visitor.open(f"/app/{path}", headers=PAGE).text, "html.parser")
        urls = links(page)
        assert urls
        assert [url for url in urls if not url.startswith("/app/")] == [], path
    out = visitor.open("/app/logout", "POST")
    assert out.location == "/app/login"


@pytest.mark.parametrize(
    ("config", "domain", "path"),
    [
        ({}, "localhost", "/"),
        ({"APPLICATION_ROOT": "/app"}, "localhost", "/app"),
        ({"SESSION_COOKIE_PATH": "/app/x"}, "localhost", "/app/x"),
        ({"SESSION_COOKIE_DOMAIN": "localhost"}, "localhost", "/"),
    ],
)
def test_the_cookie_has_domain_and_path_of_flasks_session_cookie(
    make_host: MakeHost, sqlite_url: str, config: dict[str, str], domain: str, path: str
) -> None:
    host = make(make_host, sqlite_url, **config)
    user_id = host.add_user()
    client: FlaskClient = host.client()

    answer = client.post(
        "/sign-in",
        base_url=f"http://localhost{config.get('APPLICATION_ROOT', '')}",
        data={"user_id": user_id},
    )

    (sent,) = answer.headers.getlist("Set-Cookie")
    assert f"Path={path}" in sent.split("; ")
    assert ("Domain=localhost" in sent.split("; ")) == ("SESSION_COOKIE_DOMAIN" in config)
    cookie = client.get_cookie("xgen_token", domain, path)
    assert cookie is not None


def test_two_applications_of_one_site_keep_their_cookies(
    make_host: MakeHost, tmp_path: Any
) -> None:
    one, two = (
        make(make_host, f"sqlite:///{tmp_path / name}.db", APPLICATION_ROOT=f"/{name}")
        for name in ("one", "two")
    )
    site = Client(DispatcherMiddleware(Flask("site"), {"/one": one.app, "/two": two.app}))

    for name, host in (("one", one), ("two", two)):
        site.post(f"/{name}/sign-in", data={"user_id": host.add_user(name)})

    names = [site.get(f"/{name}/api/user").json for name in ("one", "two")]
    assert [each and each["username"] for each in names] == ["one", "two"]
    one.force_logout("1")
    assert [site.get(f"/{name}/api/user").status_code for name in ("one", "two")] == [401, 200]


def test_the_session_guard_reads_the_sign_in_page_from_its_tag(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make(make_host, sqlite_url)

    with host.app.test_request_context("/", environ_overrides={"SCRIPT_NAME": "/app"}):
        tag = host.app.jinja_env.from_string("{{ xgen_session_guard() }}").render()

    assert re.findall(r'(?:src|data-sign-in)="(.*?)"', tag) == [
        "/app/sessions/static/session-guard.js", "/app/sign-in",
    ]  # fmt: skip
