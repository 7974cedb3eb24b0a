"""The screen's Content-Security-Policy where its files come from another origin."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask_admin import Admin
from flask_admin.theme import Bootstrap4Theme

from tests.support import hosts
from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import SCREEN

CDN = "https://cdn.example.com"
LAYOUTS = ["admin/base.html", "xgen_sessions/admin_center.html"]


def page_and_sources(
    host: Host, base_url: str, path: str = SCREEN
) -> tuple[BeautifulSoup, dict[str, list[str]]]:
    """Return the screen, and the sources of each directive of its policy."""
    token = host.issue(host.add_user("admin", is_superuser=True))
    answer = host.client().get(path, base_url=base_url, headers=bearer(token))
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    parts = (part.split(" ") for part in policy.split("; "))
    return BeautifulSoup(answer.text, "html.parser"), {name: each for name, *each in parts}


def assert_allows_files(
    page: BeautifulSoup, sources: dict[str, list[str]], base_url: str
) -> set[str]:
    """Check that the policy allows every file of the page; return the origins of the files."""
    origins = set()
    for kind, tag, attribute in (("style-src", "link", "href"), ("script-src", "script", "src")):
        for url in (str(each[attribute]) for each in page.find_all(tag)):
            found = re.match(r"((?:https?:)?//[^/]+)/", url)
            origin = found[1] if found else base_url
            if origin.startswith("//"):
                origin = f"{base_url.partition(':')[0]}:{origin}"
            origins.add(origin)
            assert (origin if origin != base_url else "'self'") in sources[kind], url
    assert "unsafe-inline" not in str(sources)
    return origins


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subdomain_loads_its_files_from_the_domain(
    make_host: MakeHost, sqlite_url: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "Flask", lambda name: Flask(name, subdomain_matching=True))

    def extras(app: Flask) -> Any:
        theme = Bootstrap4Theme(base_template=layout)
        return {"admin": Admin(app, subdomain="admin", theme=theme)}

    host = make_host(sqlite_url, extras=extras, SERVER_NAME="xgen.test")

    page, sources = page_and_sources(host, "http://admin.xgen.test")

    origins = assert_allows_files(page, sources, "http://admin.xgen.test")
    assert "http://xgen.test" in origins
    refused = host.client().get(
        SCREEN, base_url="http://admin.xgen.test", headers={"Accept": "text/html"}
    )
    assert refused.location == "http://xgen.test/sign-in", "there, the path is another page's"


def test_a_url_for_that_reads_the_file_gets_one_that_exists(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def extras(app: Flask) -> Any:
        make: Any = app.jinja_env.globals["url_for"]

        def with_time(endpoint: str, **values: Any) -> str:
            if endpoint.endswith(".static"):
                folder = app.blueprints[endpoint.rpartition(".")[0]].static_folder
                values["v"] = int((Path(str(folder)) / values["filename"]).stat().st_mtime)
            return f"{CDN}{make(endpoint, **values)}"

        app.jinja_env.globals["url_for"] = with_time
        return {"admin": Admin(app)}

    host = make_host(sqlite_url, extras=extras)

    _, sources = page_and_sources(host, "http://xgen.test")

    assert CDN in sources["script-src"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("admin_host", ["admin.xgen.test", "*"])
def test_an_application_that_matches_hosts_has_the_files_and_the_api_on_each(
    make_host: MakeHost,
    sqlite_url: str,
    layout: str,
    admin_host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Callable[[str], Flask] = lambda name: Flask(  # noqa: E731
        name, host_matching=True, static_host="xgen.test"
    )
    monkeypatch.setattr(hosts, "Flask", made)

    def extras(app: Flask) -> Any:
        theme = Bootstrap4Theme(base_template=layout)
        return {"admin": Admin(app, host=admin_host, theme=theme)}

    host = make_host(sqlite_url, extras=extras)
    base_url = "http://admin.xgen.test"

    page, sources = page_and_sources(host, base_url)

    assert_allows_files(page, sources, base_url)
    for path in ("xgen-sessions.css", "session-guard.js"):
        with host.client().get(f"/sessions/static/{path}", base_url=base_url) as file:
            assert file.status_code == 200
    token = bearer(host.issue(host.add_user()))
    for each in (base_url, "http://xgen.test:8080"):
        own = host.client().get("/sessions/", base_url=each, headers=token)
        assert len(own.get_json()["sessions"]) == 1
        document = host.client().get("/sessions/openapi.json", base_url=each)
        assert document.get_json()["servers"] == [{"url": "/sessions"}]


@pytest.mark.parametrize("cdn", [CDN, "//cdn.example.com"])
def test_files_on_a_cdn(make_host: MakeHost, sqlite_url: str, cdn: str) -> None:
    """As Flask-CDN and Flask-S3 do it: by another ``url_for`` of the templates."""

    def url_for(endpoint: str, **values: Any) -> str:
        url = flask.url_for(endpoint, **values)
        return cdn + url if endpoint.endswith("static") else url

    def extras(app: Flask) -> Any:
        app.jinja_env.globals["url_for"] = url_for
        return {"admin": Admin(app)}

    page, sources = page_and_sources(make_host(sqlite_url, extras=extras), "https://xgen.test")

    assert CDN in assert_allows_files(page, sources, "https://xgen.test")


def test_files_on_a_cdn_by_another_url_for_of_the_application(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnCdn(Flask):
        def url_for(self, endpoint: str, **values: Any) -> str:
            url = super().url_for(endpoint, **values)
            return CDN + url if endpoint.endswith("static") else url

    monkeypatch.setattr(hosts, "Flask", OnCdn)
    host = make_host(sqlite_url, extras=lambda app: {"admin": Admin(app)})

    page, sources = page_and_sources(host, "https://xgen.test")

    assert assert_allows_files(page, sources, "https://xgen.test") == {CDN}


def test_a_layout_of_the_hosts_may_name_origins_and_carry_a_nonce(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def extras(app: Flask) -> Any:
        return {"admin": Admin(app, csp_nonce_generator=lambda: "c29tZQ==")}

    host = make_host(sqlite_url, extras=extras, XGEN_SESSIONS_PAGE_ORIGINS=[CDN])

    _, sources = page_and_sources(host, "https://xgen.test")

    for kind in ("script-src", "style-src"):
        assert sources[kind] == ["'self'", CDN, "'nonce-c29tZQ=='"]
    assert sources["font-src"] == ["'self'", CDN]
    assert sources["connect-src"] == ["'self'"]


@pytest.mark.parametrize("nonce", ["a; script-src *", "a' 'unsafe-inline", "", "a\r\nX: y"])
def test_a_nonce_that_is_none_is_left_out(make_host: MakeHost, sqlite_url: str, nonce: str) -> None:
    host = make_host(
        sqlite_url, extras=lambda app: {"admin": Admin(app, csp_nonce_generator=lambda: nonce)}
    )

    _, sources = page_and_sources(host, "https://xgen.test")

    assert sources["script-src"] == ["'self'"]


@pytest.mark.parametrize("arguments", [{"url": "/x"}, {"url": "/"}, {"static_url_path": "/files"}])
def test_other_places_of_flask_admin(
    make_host: MakeHost, sqlite_url: str, arguments: dict[str, str]
) -> None:
    host = make_host(sqlite_url, extras=lambda app: {"admin": Admin(app, **arguments)})
    path = f"{arguments.get('url', '/admin').rstrip('/')}/admin-active-sessions/"

    page, sources = page_and_sources(host, "https://xgen.test", path)

    assert_allows_files(page, sources, "https://xgen.test")
    for url in (str(each["href"]) for each in page.find_all("link")):
        with host.client().get(url) as file:
            assert file.status_code == 200, url
