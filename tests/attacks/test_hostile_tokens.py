"""Hostile tokens: all are refused alike, and they cause no connection, file access or change."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time
from werkzeug.http import parse_cookie
from werkzeug.test import TestResponse

from tests.support.hostile_tokens import CRAFTED, KID, NOW, PAYLOAD, RECORDED, bent, forged
from tests.support.hosts import Host, bearer, make_app
from tests.support.screen import SCREEN, with_screen
from xgen_flask_sessions import IssuedToken, clock

ENDPOINTS = [
    ("GET", "/api/token"),
    ("GET", "/api/user"),
    ("GET", "/sessions/"),
    ("DELETE", f"/sessions/{RECORDED}"),
    ("POST", "/sessions/renew"),
    ("POST", "/sessions/sign-out"),
    ("GET", "/sessions/users"),
    ("GET", "/sessions/users/1"),
    ("POST", "/sessions/users/1/force-logout"),
]
CHALLENGE = r'Bearer realm="xgen", error="invalid_token", error_description="[ !#-\[\]-~]+"'


class AuditHook:
    """An audit hook that records access to connections, DNS, files and other processes."""

    EVENTS = ("socket.", "subprocess.", "os.system", "urllib.", "http.client.", "open")

    def __init__(self) -> None:
        self.recorded: list[str] | None = None
        sys.addaudithook(self._record)  # an audit hook cannot be removed

    def _record(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.recorded is not None and event.startswith(self.EVENTS):
            self.recorded.append(f"{event} {arguments}")


AUDIT_HOOK = AuditHook()


@pytest.fixture
def audit_events() -> Iterator[list[str]]:
    """Yield the audit events of the test, a list that grows."""
    recorded: list[str] = []
    AUDIT_HOOK.recorded = recorded
    yield recorded
    AUDIT_HOOK.recorded = None


@contextmanager
def host_with_recorded_token(url: str) -> Iterator[Host]:
    """Yield a host whose database has a record of the token that the forgeries imitate."""
    sa.create_engine(url).dispose()  # load the driver before the time is frozen
    with freeze_time(NOW):
        host = make_app(url, extras=with_screen)
        for name in ("alice", "bora"):
            host.add_user(name, is_superuser=True)
        host.issue("1")
        with host.app.app_context(), host.db.engine.begin() as connection:
            table = host.db.metadata.tables["xgen_sessions"]
            recorded = {"jti": RECORDED, "session_id": RECORDED}
            expires_us = PAYLOAD["exp"] * clock.SECOND_US
            connection.execute(sa.update(table).values(**recorded, expires_us=expires_us))
        for _, path in ENDPOINTS:  # open files and connections now, not during a test
            host.client().get(path)
        yield host
    host.dispose()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Yield a host with the recorded token, on SQLite."""
    with host_with_recorded_token(
        f"sqlite:///{tmp_path_factory.mktemp('host') / 'test.db'}"
    ) as host:
        yield host


@pytest.fixture
def genuine(host: Host) -> IssuedToken:
    return host.issue("2")


def send(host: Host, method: str, path: str, place: str, token: str, **headers: str) -> Any:
    """Send a token unchanged: werkzeug's client refuses newlines and keeps cookies."""
    value = token.encode("utf-8", "surrogatepass").decode("latin-1")
    sent = {
        "header": {"HTTP_AUTHORIZATION": f"Bearer {value}"},
        "cookie": {"HTTP_COOKIE": f"xgen_token={value}"},
    }
    client = host.app.test_client(use_cookies=False)
    headers = {"Accept": "application/json", **headers}
    return client.open(path, method=method, headers=headers, environ_overrides=sent[place])


def rows(host: Host) -> list[Any]:
    tables = ("xgen_sessions", "xgen_revocations", "xgen_user_logins", "xgen_feed", "users")
    return [host.rows(table) for table in tables]


def token_in(place: str, token: str) -> str | None:
    """Return the token that the application reads: Werkzeug parses cookies before."""
    if place == "header":
        return token
    value = token.encode("utf-8", "surrogatepass").decode("latin-1")
    return parse_cookie(f"xgen_token={value}").get("xgen_token")


def assert_refused(answer: TestResponse, token: str, place: str) -> None:
    """Check the status, the challenge and the document, and that they do not echo the token."""
    assert answer.status_code == 401, answer.text
    assert answer.content_type == "application/problem+json"
    code = answer.get_json()["code"]
    if token_in(place, token):
        assert code in ("token_invalid", "token_expired")
        assert re.fullmatch(CHALLENGE, answer.headers["WWW-Authenticate"])
    else:
        assert code == "token_missing"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="xgen"'
    assert_not_echoed(answer, token)


def assert_not_echoed(answer: TestResponse, token: str) -> None:
    # The claims in its segments must not be echoed either.
    for part in {token, *token.split("."), RECORDED, KID}:
        if len(part) > 12:
            assert part not in answer.text
            assert part not in str(answer.headers)


def test_there_are_at_least_350_hostile_tokens(host: Host, genuine: IssuedToken) -> None:
    assert len({*CRAFTED.values(), *bent(genuine.token).values()}) >= 350


@pytest.mark.parametrize("place", ["header", "cookie"])
def test_a_forged_token_without_a_fault_is_accepted(host: Host, place: str) -> None:
    """Hostile tokens are therefore refused for their faults alone."""
    for method, path in ENDPOINTS:
        if method == "GET":
            assert send(host, method, path, place, forged()).status_code == 200, path


def test_the_audit_hook_records_connections_and_files(audit_events: list[str]) -> None:
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen("http://127.0.0.1:9/keys")
    assert any(each.startswith("socket.getaddrinfo") for each in audit_events)
    assert any(each.startswith("socket.connect") for each in audit_events)
    Path("/dev/null").read_bytes()
    assert any("/dev/null" in each for each in audit_events)


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_tokens_are_refused(host: Host, name: str, audit_events: list[str]) -> None:
    token = CRAFTED[name]
    before = rows(host)
    audit_events.clear()

    for method, path in ENDPOINTS:
        for place in ("header", "cookie"):
            assert_refused(send(host, method, path, place, token), token, place)

    assert audit_events == []
    assert rows(host) == before


def test_tampered_tokens_are_refused(
    host: Host, genuine: IssuedToken, audit_events: list[str]
) -> None:
    before = rows(host)
    audit_events.clear()
    for name, token in bent(genuine.token).items():
        assert token != genuine.token, name
        for method, path in ENDPOINTS:
            for place in ("header", "cookie"):
                # Werkzeug 3.1.6 strips the white space around a cookie.
                if token_in(place, token) != genuine.token:
                    assert_refused(send(host, method, path, place, token), token, place)
    assert audit_events == []
    assert rows(host) == before
    assert host.status(genuine) == 200


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_hostile_tokens_are_refused_on_a_database_server(
    request: pytest.FixtureRequest, database: str
) -> None:
    url: str = request.getfixturevalue(f"{database}_url")
    with host_with_recorded_token(url) as host:
        genuine = host.issue("2").token
        bad = [*CRAFTED.values(), *bent(genuine).values()][::3]
        before = rows(host)
        for number, token in enumerate(bad):
            method, path = ENDPOINTS[number % len(ENDPOINTS)]
            for place in ("header", "cookie"):
                if token_in(place, token) != genuine:
                    assert_refused(send(host, method, path, place, token), token, place)

        assert rows(host) == before
        assert send(host, "GET", "/api/user", "header", forged()).status_code == 200


@pytest.mark.parametrize("name", [*CRAFTED][::9])
def test_the_screen_refuses_hostile_tokens(host: Host, name: str) -> None:
    token = CRAFTED[name]
    before = rows(host)
    for place in ("header", "cookie"):
        for path in (SCREEN, f"{SCREEN}sessions?user_id=1"):
            assert_refused(send(host, "GET", path, place, token), token, place)
        page = send(host, "GET", SCREEN, place, token, **{"Sec-Fetch-Mode": "navigate"})
        form = send(host, "POST", f"{SCREEN}force-logout", place, token)
        # A browser, which sends a cookie, is redirected to the sign-in page.
        assert page.status_code == (401 if place == "header" else 302)
        assert form.status_code in (302, 303, 401)
        for answer in (page, form):
            assert_not_echoed(answer, token)
    assert rows(host) == before


@pytest.mark.parametrize("name", ["well signed, not on record", "a megabyte", "text 'x'"])
def test_a_request_with_two_tokens_is_refused(host: Host, genuine: IssuedToken, name: str) -> None:
    for token in (genuine.token, CRAFTED[name]):
        answer = host.cookie_client(genuine).get("/api/token", headers=bearer(token))

        assert answer.status_code == 400
        assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]
        assert_not_echoed(answer, token)
