"""Texts from outside are cut or refused before work that grows with the square of their length."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from flask import Flask, Response, request
from flask.cli import ScriptInfo
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import bearer
from tests.support.standalone import ADMIN_PASSWORD, PAGE, Center, center_maker
from xgen_flask_sessions import XgenSessions
from xgen_flask_sessions.rate_limits import _plain
from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.commands import cli
from xgen_flask_sessions.standalone.rules import Profile

MOST = 1024
"""Characters that may be normalized at once: a few milliseconds at worst."""
MARKS = "\u0301\u0327" * 10_000
"""Combining characters in the wrong order, which normalizing sorts one by one."""
FEW = MARKS[: 9 * 1000]
"""As many as a form may hold, percent-encoded."""

Work = Callable[[], Any]


@pytest.fixture
def normalized(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the lengths of the texts that are normalized."""
    lengths: list[int] = []
    normalize = unicodedata.normalize

    def watch(form: Any, text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text[:MOST])

    monkeypatch.setattr(unicodedata, "normalize", watch)
    return lengths


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    """Yield an Admin Center on SQLite: the work is done before a database is asked."""
    with center_maker(tmp_path / "instance") as make:
        yield make()


def screen(center: Center, path: str) -> tuple[FlaskClient, str]:
    """Return a SuperUser's browser, and the token for forms on a page."""
    client = center.browser("admin")
    page = BeautifulSoup(client.get(path, headers=PAGE).text, "html.parser")
    field = page.select_one("input[name=csrf_token]")
    assert field is not None
    return client, str(field["value"])


@pytest.mark.parametrize("field", ["username", "password", "next"])
@pytest.mark.parametrize("text", [FEW, "x" + FEW, FEW + "x", "가" + FEW], ids=len)
def test_a_form_to_sign_in(center: Center, normalized: list[int], field: str, text: str) -> None:
    data = {"username": "admin", "password": "wrong one", field: text}

    answer = center.browser().post("/login", data=data, headers=PAGE)

    assert answer.status_code == 401
    assert max(normalized) <= MOST


@pytest.mark.parametrize("field", ["username", "password"])
def test_a_call_to_sign_in(center: Center, normalized: list[int], field: str) -> None:
    data = {"username": "admin", "password": "wrong one", field: MARKS}
    body = json.dumps(data, ensure_ascii=False).encode()

    assert center.browser().post("/api/login", data=body).status_code == 401
    assert max(normalized) <= MOST


def with_page(app: Flask) -> dict[str, Any]:
    """Add a sign-in page of the host that limits failures."""

    @app.post("/own")
    def own() -> Response:
        sessions = XgenSessions()
        sessions.check_sign_in_rate(request.get_json()["username"])
        sessions.count_failed_sign_in(request.get_json()["username"])
        return Response("wrong", 401)

    return {}


def test_a_host_s_own_page(make_host: MakeHost, sqlite_url: str, normalized: list[int]) -> None:
    host = make_host(sqlite_url, extras=with_page)

    for text in (MARKS * 20, "\u0327\u0301" + "\U0001d165\U0001d16d" * 250, "\ufdfa" * 512):
        assert host.client().post("/own", json={"username": text}).status_code == 401
    assert max(normalized) <= MOST


def test_names_that_are_too_long_share_one_limit() -> None:
    hidden = "\u200b" * 3000

    assert _plain(f"{hidden}admin") == _plain("ADMIN")
    assert _plain("\u200b" * 5000 + "admin") == _plain("\u200b" * 5001 + "a") == _plain("x" * 600)
    assert _plain("x" * 512) != _plain("x" * 511)


@pytest.mark.parametrize("path", ["/admin/admin-active-sessions/", "/admin/admin-users/"])
def test_a_search(center: Center, normalized: list[int], path: str) -> None:
    client = center.browser("admin")
    normalized.clear()

    assert client.get(path, query_string={"q": FEW[:1500]}, headers=PAGE).status_code == 200
    assert max(normalized) <= MOST


def test_a_search_by_the_api(center: Center, normalized: list[int]) -> None:
    token = center.token("admin")

    answer = center.browser().get(
        "/sessions/users", query_string={"q": FEW[:1500]}, headers=bearer(token)
    )

    assert answer.status_code == 400
    assert max(normalized) <= MOST


@pytest.mark.parametrize("field", ["username", "password", "name", "department", "roles"])
@pytest.mark.parametrize("text", [FEW, ",".join([FEW[:800]] * 10), "," * 5000], ids=len)
def test_a_form_of_user_management(
    center: Center, normalized: list[int], field: str, text: str
) -> None:
    client, token = screen(center, "/admin/admin-users/new")
    data = {"csrf_token": token, "username": "bora", "password": "longenough", field: text}

    answer = send(client, "/admin/admin-users/new", data)

    assert answer.status_code == 400
    assert max(normalized, default=0) <= MOST


def send(client: FlaskClient, path: str, data: dict[str, str]) -> TestResponse:
    return client.post(path, data=data, headers=PAGE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["users", "list", "--search", MARKS],
        ["users", "create", MARKS, "--password", "longenough"],
        ["users", "create", "bora", "--password", "longenough", "--name", MARKS],
        ["users", "create", "bora", "--password", "longenough", "--roles", MARKS],
        ["users", "set-password", MARKS, "--password", "longenough"],
        ["users", "set-password", "admin", "--password", MARKS],
        ["xgen-sessions", "list", "--search", MARKS],
    ],
    ids=lambda arguments: "-".join(each for each in arguments if each != MARKS),
)
def test_an_argument_of_a_command(
    center: Center, normalized: list[int], arguments: list[str]
) -> None:
    info = ScriptInfo(create_app=lambda: center.app)

    result = CliRunner().invoke(cli, arguments, obj=info)

    assert isinstance(result.exception, SystemExit | None)
    assert max(normalized, default=0) <= MOST


def test_names_typed_in_parts_still_fit(center: Center) -> None:
    decomposed = unicodedata.normalize("NFD", "각" * 150)
    with center.app.app_context():
        accounts.create(decomposed, ADMIN_PASSWORD, Profile.parse(decomposed, "", decomposed[:150]))

        found = accounts.find_by_username(decomposed)

    assert found is not None
    assert center.user("각" * 150)["name"] == "각" * 150
