"""A malformed ``Host`` header is a bad request, and the site's own origin is known by its host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from flask import Flask, request, url_for
from flask_login import current_user
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import Host, bearer
from tests.support.screen import SCREEN, with_screen
from tests.support.standalone import MakeCenter

MALFORMED = [
    "a..b", ".", "a" * 70 + ".com", "xn--a", "XN--A", "xn--" + "9" * 30, "a..b:80",
    " ", "a b", "a\tb", "@evil", "u@a", "[", "]", "[]", "[::1", "::1", "a:b", "a:-1", "a:123456",
    "a/b", "a\\b", "a?b", "a#b", "<a>", '"', "a, b", "%", "a%0", "http://a", "é",
]  # fmt: skip
ODD = ["my_host", "", "[::1]", "[::1]:80", "*.b", "a:", "a%00b", "a!b", "a.", "-a", "127.0.0.1"]


def call(app: Flask, host: str, path: str, **options: Any) -> tuple[int, str]:
    """Call an application without Werkzeug's test client, which fails at some names itself."""
    environ = EnvironBuilder(path, **options).get_environ()
    environ["HTTP_HOST"] = host
    body, status, _ = run_wsgi_app(app, environ, buffered=True)
    return int(status[:3]), b"".join(body).decode()


@pytest.fixture
def made(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host with the screen, and a function that reads the user before each request."""

    def extras(app: Flask) -> Mapping[str, Any]:
        @app.before_request
        def look() -> None:
            assert [request.url, url_for("static", filename="x"), current_user.is_anonymous]

        return with_screen(app)

    return make_host(sqlite_url, extras=extras, TESTING=False)


PATHS = ("/page", "/api/token", "/api/user", "/sessions/", "/sessions/openapi.json", SCREEN, "/x")


@pytest.mark.parametrize("host", MALFORMED)
def test_a_malformed_host_is_a_bad_request(made: Host, host: str) -> None:
    token = made.issue(made.add_user())
    for path in PATHS:
        for method in ("GET", "POST"):
            for headers in ({}, {"Accept": "text/html"}, bearer(token)):
                found = call(made.app, host, path, method=method, headers=headers)
                assert found[0] == 400, (path, method, headers)


@pytest.mark.parametrize("host", ODD)
def test_no_host_is_a_server_error(made: Host, host: str) -> None:
    for path in PATHS:
        for headers in ({"Accept": "text/html"}, bearer("nonsense"), {"Origin": f"http://{host}"}):
            try:
                status, _ = call(made.app, host, path, headers=headers)
            except UnicodeEncodeError:  # no server passes such a header
                continue
            assert status < 500, (path, headers)


@on_sqlite
@pytest.mark.parametrize("host", [*MALFORMED, "my_host"])
def test_no_host_is_a_server_error_in_the_admin_center(make: MakeCenter, host: str) -> None:
    app = make().app
    app.testing = False
    expected = {400} if host != "my_host" else {200, 302, 303, 401, 403, 404, 405}
    for path in ("/", "/login", "/api/me", "/admin/", "/x"):
        for headers in ({"Accept": "text/html"}, {"Accept": "application/json"}):
            for method in ("GET", "POST"):
                status, _ = call(app, host, path, method=method, headers=headers)
                assert status in expected, (path, headers, method)


def test_a_host_that_is_not_trusted_is_a_bad_request(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, TRUSTED_HOSTS=["good.example"], TESTING=False)

    for path in ("/page", "/api/token", "/sessions/"):
        assert call(host.app, "evil.example", path, headers={"Accept": "text/html"})[0] == 400
    assert call(host.app, "good.example", "/open")[0] == 200


# --- The site's own origin -------------------------------------------------------------------


def posts(
    host: Host, name: str, origins: Iterable[str], *, scheme: str = "http", **headers: str
) -> list[int]:
    """Return the statuses of calls with the cookie, from each origin."""
    cookie = {"Cookie": f"xgen_token={host.issue('1').token}"}
    return [
        call(
            host.app, name, "/api/token", method="POST", base_url=f"{scheme}://localhost",
            headers={"Origin": origin} | cookie | headers,
        )[0]
        for origin in origins
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("my_host", ["http://my_host", "HTTP://My_Host", "http://my_host:80"]),
        ("my_host:5000", ["http://my_host:5000"]),
        ("App.Example.com:80", ["http://app.example.com", "https://app.example.com:80"]),
        ("app.example.com", ["https://app.example.com", "http://app.example.com:80"]),
        ("app.example.com:443", ["https://app.example.com"]),
        ("[::1]:5000", ["http://[::1]:5000", "http://[0:0::1]:5000"]),
        ("xn--bcher-kva.example", ["https://xn--bcher-kva.example"]),
    ],
)
def test_the_origin_of_the_site_itself_is_accepted(
    sqlite_host: Host, name: str, own: list[str]
) -> None:
    sqlite_host.add_user()

    assert posts(sqlite_host, name, own) == [200] * len(own)


@pytest.mark.parametrize("name", ["my_host", "", "a!b", "a:", "localhost"])
def test_an_opaque_origin_is_never_the_site_s_own(sqlite_host: Host, name: str) -> None:
    sqlite_host.add_user()

    assert posts(sqlite_host, name, ["null", "NULL", "", "http://", "file://", "://"]) == [403] * 6


def test_an_insecure_page_is_no_part_of_a_secure_site(sqlite_host: Host) -> None:
    sqlite_host.add_user()
    origins = ["http://app.example.com", "https://app.example.com"]

    assert posts(sqlite_host, "app.example.com", origins, scheme="https") == [403, 200]


@pytest.mark.parametrize(
    "trusted", ["https://App.Example.COM", "https://app.example.com:443", "HTTPS://app.example.com"]
)
def test_the_spelling_of_a_trusted_origin_does_not_matter(
    make_host: MakeHost, sqlite_url: str, trusted: str
) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_TRUSTED_ORIGINS=[trusted])
    host.add_user()
    accepted = ["https://app.example.com", "https://APP.example.com:443"]

    assert posts(host, "localhost", accepted) == [200, 200]
    site = {"Sec-Fetch-Site": "same-site"}
    assert posts(host, "localhost", ["https://app.example.com"], **site) == [200]
    refused = ["http://app.example.com", "https://app.example.com:8443", "https://x.example.com"]
    assert posts(host, "localhost", refused) == [403, 403, 403]


def test_the_handshake_of_a_web_socket_must_come_from_this_site(sqlite_host: Host) -> None:
    token = sqlite_host.issue(sqlite_host.add_user())
    cookie = {"Cookie": f"xgen_token={token.token}", "Upgrade": "WebSocket"}

    def status(**headers: str) -> int:
        return call(sqlite_host.app, "localhost", "/api/token", headers=cookie | headers)[0]

    assert status(Origin="http://localhost") == 200
    assert status() == 200
    assert status(Origin="https://evil.example") == 403
    assert status(Origin="null") == 403
    cross = {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}
    assert status(**cross) == 403
