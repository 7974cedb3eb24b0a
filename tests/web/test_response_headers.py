"""Security and cache headers: every answer has them, including refusals and redirects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, with_screen
from tests.support.screen import sign_in as sign_in_at_host
from tests.support.standalone import PAGE, Center, MakeCenter

VALUES: dict[str, Any] = {
    "user_id": 1, "session_id": "x" * 32, "filename": "icon.svg", "part": "profile", "path": "x",
}  # fmt: skip
"""The values for the variables in routes."""


def assert_has_headers(answer: TestResponse, *, cached: bool = False) -> None:
    """Check the security and cache headers of one answer."""
    where = f"{answer.request.method} {answer.request.path} → {answer.status}"
    is_page = answer.mimetype == "text/html" and not 300 <= answer.status_code < 400
    policy = answer.headers.get_all("Content-Security-Policy")
    assert len(policy) == 1, where
    parts = policy[0].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(parts), where
    assert "unsafe" not in policy[0], where
    assert "form-action" not in policy[0], f"{where}: a sign-in page may be on another site"
    assert ("script-src 'self'" in parts) == is_page, where
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"], where
    assert answer.headers.get_all("Referrer-Policy") == ["same-origin"], where
    no_store = answer.headers.get_all("Cache-Control") == ["no-store"]
    assert no_store != cached, where
    answer.close()


def addresses(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and endpoint of every route, and also with PATCH, which is not allowed."""
    adapter = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        values = {
            name: VALUES[name] for name in rule.arguments if name not in (rule.defaults or {})
        }
        if rule.endpoint == "static":
            values["filename"] = "standalone.css"
        if rule.endpoint.startswith("admin") and rule.endpoint.endswith(".static"):
            values["filename"] = "admin/css/bootstrap4/admin.css"
        url = adapter.build(rule.endpoint, values)
        for method in sorted(_methods(rule)):
            yield method, url, rule.endpoint
        yield "PATCH", url, rule.endpoint


def _methods(rule: Rule) -> set[str]:
    return set(rule.methods or ())


@pytest.mark.parametrize(
    ("database_url", "who", "headers"),
    [
        *(("sqlite", who, headers) for who in ("admin", "bora", None) for headers in (PAGE, {})),
        *((server, "admin", PAGE) for server in ("postgresql", "mariadb")),
        *((server, "bora", {}) for server in ("postgresql", "mariadb")),
    ],
    indirect=["database_url"],
    ids=lambda value: ("browser" if value else "program") if isinstance(value, dict) else None,
)
def test_every_route_of_the_admin_center_has_the_headers(
    center: Center, who: str | None, headers: dict[str, str]
) -> None:
    center.add_user("bora")
    seen: set[int] = set()

    for method, url, endpoint in addresses(center.app):
        browser = center.browser(who)
        answer = browser.open(url, method=method, headers=headers)
        seen.add(answer.status_code)
        is_file = endpoint.endswith("static") and answer.status_code == 200
        assert_has_headers(answer, cached=is_file)

    assert {200, 403 if who == "bora" else 405} <= seen


@contextmanager
def _failing(center: Center, error: Exception) -> Iterator[None]:
    with center.app.app_context():
        engine = center.app.extensions["sqlalchemy"].engine

    def fail(*_: object) -> None:
        raise error

    sa.event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", fail)


@pytest.mark.parametrize("headers", [PAGE, {}], ids=["browser", "program"])
def test_every_error_of_the_admin_center_has_the_headers(
    make: MakeCenter, headers: dict[str, str]
) -> None:
    center = make(
        PROPAGATE_EXCEPTIONS=False,
        XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute",
        XGEN_SESSIONS_SIGN_IN_LIMIT="1/minute",
    )
    admin, stranger = center.browser("admin"), center.browser()
    form = form_for(page_of(admin), "admin")
    user_id = center.add_user("bora")
    wrong = {"username": "bora", "password": "wrong one"}
    answers = [
        admin.get("/nowhere", headers=headers),
        admin.get("//nowhere//", headers=headers),
        admin.post("/", headers=headers),
        admin.post(FORCE_LOGOUT, data={"user_id": "1"}, headers=headers),
        admin.post(FORCE_LOGOUT, data=form | {"user_id": "4711"}, headers=headers),
        admin.post(FORCE_LOGOUT, data=form, headers=headers | {"Sec-Fetch-Site": "cross-site"}),
        admin.post("/login", data={"username": "x" * 70_000}, headers=headers),
        admin.post("/api/login", data="no JSON", headers=headers),
        admin.get("/sessions/users?page=x", headers=headers),
        admin.get("/sessions/users/4711", headers=headers),
        admin.get("/sessions/", headers=headers | bearer("x")),
        stranger.get("/sessions/", headers=headers),
        stranger.get("/sessions/", headers=headers | bearer("x.y.z")),
        stranger.post("/login", data=wrong, headers=headers),
        stranger.post("/login", data=wrong, headers=headers),
        stranger.post("/api/login", json=wrong, headers=headers),
        admin.post(FORCE_LOGOUT, data=form | {"user_id": str(user_id)}, headers=headers),
        admin.post(FORCE_LOGOUT, data=form | {"user_id": str(user_id)}, headers=headers),
        admin.post(f"/sessions/users/{user_id}/force-logout", headers=headers),
    ]
    outage = sa.exc.OperationalError("statement", {}, Exception("the server went away"))
    for error in (outage, RuntimeError("a fault")):
        with _failing(center, error):
            answers += [
                admin.get("/", headers=headers),
                admin.get(SCREEN, headers=headers),
                admin.get("/sessions/users", headers=headers),
                stranger.post("/login", data=wrong | {"username": "jwm"}, headers=headers),
            ]

    for answer in answers:
        assert_has_headers(answer)
    seen = {answer.status_code for answer in answers}
    assert {303, 308, 400, 401, 403, 404, 405, 413, 429, 500, 503} <= seen
    assert seen - {302} == {303, 308, 400, 401, 403, 404, 405, 413, 429, 500, 503}


def test_the_plugin_s_answers_in_a_host_have_the_headers(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host: Host = make_host(
        sqlite_url, extras=with_screen, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute"
    )
    admin = sign_in_at_host(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))
    form = form_for(page_of(admin), "bora")
    ours = [
        (method, url, endpoint)
        for method, url, endpoint in addresses(host.app)
        if endpoint.startswith(("xgen_sessions.", "admin-active-sessions."))
        and endpoint != "admin-active-sessions.static"
        and method not in ("PATCH", "OPTIONS")  # answered by the host's routing
    ]
    assert len(ours) > 15

    for method, url, endpoint in ours:
        for client in (host.client(), host.cookie_client(bora)):
            answer = client.open(url, method=method)
            cached = (
                endpoint.endswith(("static", ".openapi_document")) and answer.status_code == 200
            )
            assert_has_headers(answer, cached=cached)
    for answer in (
        admin.get("/page", headers=bearer("x.y.z")),  # a route of the host, refused by the plugin
        host.client().get("/page", headers=PAGE),
        host.client().get("/api/token"),
        admin.post(FORCE_LOGOUT, data=form),
        admin.post(FORCE_LOGOUT, data=form),
    ):
        assert_has_headers(answer)


def test_the_host_s_answers_are_not_changed(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_screen)

    for path in ("/open", "/sign-in", "/nowhere"):
        headers = host.client().get(path).headers
        assert "Content-Security-Policy" not in headers
        assert "Cache-Control" not in headers
