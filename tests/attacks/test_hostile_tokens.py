"""Tokens from people who wish us ill: all refused, in the same plain way, and nothing happens."""

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

DOORS = [
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


class Ear:
    """Hears what this process opens: connections, look-ups of names, files, other processes."""

    EVENTS = ("socket.", "subprocess.", "os.system", "urllib.", "http.client.", "open")

    def __init__(self) -> None:
        self.heard: list[str] | None = None
        sys.addaudithook(self._hear)  # it cannot be taken away again

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.heard is not None and event.startswith(self.EVENTS):
            self.heard.append(f"{event} {arguments}")


EAR = Ear()


@pytest.fixture
def ear() -> Iterator[list[str]]:
    """Give what is opened during the test, as it is heard."""
    heard: list[str] = []
    EAR.heard = heard
    yield heard
    EAR.heard = None


@contextmanager
def hostile_host(url: str) -> Iterator[Host]:
    """Lend a host where the token that all forgeries are cut by is on record."""
    sa.create_engine(url).dispose()  # a driver is not to be loaded while time stands still
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
        for _, path in DOORS:  # nothing is to be opened for the first time later
            host.client().get(path)
        yield host
    host.dispose()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Give such a host on SQLite."""
    with hostile_host(f"sqlite:///{tmp_path_factory.mktemp('host') / 'test.db'}") as host:
        yield host


@pytest.fixture
def genuine(host: Host) -> IssuedToken:
    return host.issue("2")


def send(host: Host, method: str, path: str, place: str, token: str, **headers: str) -> Any:
    """Send a token as it is: werkzeug's own client takes no newlines, and keeps cookies."""
    value = token.encode("utf-8", "surrogatepass").decode("latin-1")
    sent = {
        "header": {"HTTP_AUTHORIZATION": f"Bearer {value}"},
        "cookie": {"HTTP_COOKIE": f"xgen_token={value}"},
    }
    client = host.app.test_client(use_cookies=False)
    return client.open(path, method=method, headers=headers, environ_overrides=sent[place])


def rows(host: Host) -> list[Any]:
    tables = ("xgen_sessions", "xgen_revocations", "xgen_user_logins", "xgen_feed", "users")
    return [host.rows(table) for table in tables]


def arrives(token: str, place: str) -> bool:
    """Say whether anything of *token* is left once the header was parsed."""
    value = token.encode("utf-8", "surrogatepass").decode("latin-1")
    return place == "header" or bool(parse_cookie(f"xgen_token={value}").get("xgen_token"))


def assert_refused(answer: TestResponse, token: str, place: str) -> None:
    """Make sure of the status, the challenge, the document; and that nothing is echoed."""
    assert answer.status_code == 401, answer.text
    assert answer.content_type == "application/problem+json"
    code = answer.get_json()["code"]
    if arrives(token, place):
        assert code in ("token_invalid", "token_expired")
        assert re.fullmatch(CHALLENGE, answer.headers["WWW-Authenticate"])
    else:
        assert code == "token_missing"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="xgen"'
    assert_silent(answer, token)


def assert_silent(answer: TestResponse, token: str) -> None:
    # What the segments hold when decoded is not to be echoed either.
    for part in {token, *token.split("."), RECORDED, KID}:
        if len(part) > 12:
            assert part not in answer.text
            assert part not in str(answer.headers)


def test_there_are_enough_of_them(host: Host, genuine: IssuedToken) -> None:
    assert len({*CRAFTED.values(), *bent(genuine.token).values()}) >= 350


@pytest.mark.parametrize("place", ["header", "cookie"])
def test_without_a_fault_they_would_pass(host: Host, place: str) -> None:
    """What is refused is refused for its fault, and not for its form or its way."""
    for method, path in DOORS:
        if method == "GET":
            assert send(host, method, path, place, forged()).status_code == 200, path


def test_what_is_opened_would_be_heard(ear: list[str]) -> None:
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen("http://127.0.0.1:9/keys")
    assert any(each.startswith("socket.getaddrinfo") for each in ear)
    assert any(each.startswith("socket.connect") for each in ear)
    Path("/dev/null").read_bytes()
    assert any("/dev/null" in each for each in ear)


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_tokens_are_refused(host: Host, name: str, ear: list[str]) -> None:
    token = CRAFTED[name]
    before = rows(host)
    ear.clear()

    for method, path in DOORS:
        for place in ("header", "cookie"):
            assert_refused(send(host, method, path, place, token), token, place)

    assert ear == []
    assert rows(host) == before


def test_bent_tokens_are_refused(host: Host, genuine: IssuedToken, ear: list[str]) -> None:
    before = rows(host)
    ear.clear()
    for name, token in bent(genuine.token).items():
        assert token != genuine.token, name
        for method, path in DOORS:
            for place in ("header", "cookie"):
                assert_refused(send(host, method, path, place, token), token, place)
    assert ear == []
    assert rows(host) == before
    assert host.status(genuine) == 200


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_server_behind_it_makes_no_difference(
    request: pytest.FixtureRequest, database: str
) -> None:
    url: str = request.getfixturevalue(f"{database}_url")
    with hostile_host(url) as host:
        bad = [*CRAFTED.values(), *bent(host.issue("2").token).values()][::3]
        before = rows(host)
        for number, token in enumerate(bad):
            method, path = DOORS[number % len(DOORS)]
            for place in ("header", "cookie"):
                assert_refused(send(host, method, path, place, token), token, place)

        assert rows(host) == before
        assert send(host, "GET", "/api/user", "header", forged()).status_code == 200


@pytest.mark.parametrize("name", [*CRAFTED][::9])
def test_the_screen_lets_none_of_them_in(host: Host, name: str) -> None:
    token = CRAFTED[name]
    before = rows(host)
    for place in ("header", "cookie"):
        for path in (SCREEN, f"{SCREEN}sessions?user_id=1"):
            assert_refused(send(host, "GET", path, place, token), token, place)
        page = send(host, "GET", SCREEN, place, token, **{"Sec-Fetch-Mode": "navigate"})
        form = send(host, "POST", f"{SCREEN}force-logout", place, token)
        # A browser goes to the sign-in page; a bearer token is no browser's.
        assert page.status_code == (401 if place == "header" else 302)
        assert form.status_code in (302, 303, 401)
        for answer in (page, form):
            assert_silent(answer, token)
    assert rows(host) == before


@pytest.mark.parametrize("name", ["well signed, not on record", "a megabyte", "text 'x'"])
def test_two_tokens_are_one_too_many(host: Host, genuine: IssuedToken, name: str) -> None:
    for token in (genuine.token, CRAFTED[name]):
        answer = host.cookie_client(genuine).get("/api/token", headers=bearer(token))

        assert answer.status_code == 400
        assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]
        assert_silent(answer, token)
