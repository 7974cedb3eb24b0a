"""A user's sessions come in pages: in the JSON API, on the screen, in the command."""

from __future__ import annotations

import json
import re

import pytest
from bs4 import BeautifulSoup

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import sign_in, with_screen
from xgen_flask_sessions import PastSignIn, clock
from xgen_flask_sessions.admin.list_page import SESSIONS_SHOWN
from xgen_flask_sessions.api.views import DEFAULT_PER_PAGE, MAX_PER_PAGE
from xgen_flask_sessions.roster.roster import PAGE_SIZE

SCREEN = "/admin/admin-active-sessions/"
MANY = 2 * MAX_PER_PAGE + 30


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    """Return a host with an administrator, and the user bora with many sessions."""
    host = make_host(database_url, extras=with_screen)
    host.add_user("admin", is_superuser=True)
    bora = host.add_user("bora")
    now = clock.now_us()
    with host.app.app_context():
        host.sessions.record_past_sign_ins(
            PastSignIn(
                user_id=bora,
                signed_in_us=now - number * 1_000_000 - 1_000_000,
                expires_us=now + 3_600_000_000,
                ip=None,
                user_agent=None,
                login=True,
            )
            for number in range(MANY)
        )
    return host


def get(host: Host, token: str, path: str) -> tuple[int, dict[str, object]]:
    answer = host.client().get(f"/sessions/{path}", headers=bearer(token))
    return answer.status_code, answer.get_json()


def test_the_api_answers_in_pages(host: Host) -> None:
    token, bora = host.issue("1").token, host.issue("2").token
    found: list[str] = []
    for number in (1, 2, 3, 4):
        status, body = get(host, token, f"users/2?per_page={MAX_PER_PAGE}&page={number}")
        sessions = body["sessions"]
        assert isinstance(sessions, list)
        found += [each["session_id"] for each in sessions]
        assert (status, body["page"], body["pages"], body["total"]) == (200, number, 3, MANY + 1)

    assert len(found) == len(set(found)) == MANY + 1
    for path in ("users/2", ""):
        _, first = get(host, token if path else bora, path)
        assert isinstance(first["sessions"], list)
        assert [each["session_id"] for each in first["sessions"]] == found[:DEFAULT_PER_PAGE]
        assert (first["page"], first["pages"], first["total"]) == (1, 5, MANY + 1)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=x", "page=-1", "per_page=0", "per_page=x", "per_page=201", "per_page="],
)
def test_the_api_refuses_pages_that_are_none(host: Host, query: str) -> None:
    token = host.issue("1").token

    for path in ("", "users/2"):
        status, body = get(host, token, f"{path}?{query}")
        assert (status, body["code"]) == (400, "bad_request")


def test_an_expanded_row_shows_the_newest_sessions_and_the_number_of_all(host: Host) -> None:
    admin = sign_in(host, "1")

    shown = BeautifulSoup(admin.get(f"{SCREEN}?expand=2&sort=username").text, "html.parser")
    part = BeautifulSoup(admin.get(f"{SCREEN}sessions?user_id=2").text, "html.parser")

    (detail,) = shown.select("tr.xs-detail:not([hidden])")
    for found in (detail, part):
        assert len(found.select(".xs-sessions tbody tr")) == SESSIONS_SHOWN
        assert f"{MANY}" in found.select(".xs-all")[0].text


def test_the_question_before_a_force_logout_has_the_number_of_all(host: Host) -> None:
    answer = sign_in(host, "1").get(f"{SCREEN}confirm?user_id=2")

    assert f"End {MANY} sessions of bora?" in answer.text


def test_the_command_shows_one_page(host: Host) -> None:
    def run(*arguments: str) -> str:
        result = host.app.test_cli_runner().invoke(args=["xgen-sessions", "show", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    pages = -(-MANY // PAGE_SIZE)
    first, last = run("bora"), run("bora", "--page", "999999")
    document = json.loads(run("bora", "--page", "2", "--json"))

    assert f"{MANY} active sessions of bora. Page 1 of {pages}. Times are UTC." in first
    assert f"Page {pages} of {pages}." in last
    assert len(re.findall(r" UTC|[A-Za-z0-9_-]{22,36}$", last, re.MULTILINE)) >= MANY % PAGE_SIZE
    assert (document["page"], document["pages"], document["total"]) == (2, pages, MANY)
    assert len(document["sessions"]) == PAGE_SIZE


def test_a_host_can_read_a_part(host: Host) -> None:
    with host.app.app_context():
        everything = host.sessions.active_sessions("2")
        part = host.sessions.active_sessions("2", limit=7, offset=5)

    assert len(everything) == MANY
    assert part == everything[5:12]


def test_a_past_sign_in_before_the_force_logout_of_everyone_is_recorded_as_ended(
    host: Host,
) -> None:
    user_id = host.add_user("minsu")
    with host.app.app_context():
        host.sessions.force_logout_everyone()
        now = clock.now_us()
        host.sessions.record_past_sign_ins(
            PastSignIn(user_id=user_id, signed_in_us=now - ago, expires_us=now + 3_600_000_000)
            for ago in (60_000_000, 0)
        )

    ended = [row["end_reason"] for row in host.rows("xgen_sessions") if row["user_id"] == user_id]
    assert sorted(ended, key=str) == [None, "force logout"]
