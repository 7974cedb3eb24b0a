"""The poll of an open list: its tags, its answers, and the rows that it leads to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient
from freezegun import freeze_time
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import SCREEN, page_of, sign_in, with_screen
from xgen_flask_sessions import clock

POLL = SCREEN + "poll"
ROWS = SCREEN + "rows"
BY_SCRIPT = {"X-Requested-With": "XMLHttpRequest", "Accept": "*/*"}


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=with_screen)


@pytest.fixture
def one_host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host on SQLite, for tests whose result does not depend on the database."""
    return make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_TIMEZONE="Asia/Seoul")


def admin_of(host: Host) -> FlaskClient:
    return sign_in(host, host.add_user("admin", is_superuser=True))


def poll(client: FlaskClient, query: str = "", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(POLL + query, headers=BY_SCRIPT | named)


def freshness_of(page: BeautifulSoup) -> dict[str, Any]:
    """Return the attributes of the list's age."""
    root = page.select_one("[data-xs-poll]")
    assert root is not None
    return dict(root.attrs)


def ask_rows(
    client: FlaskClient, page: BeautifulSoup, shown: list[str], query: str = "", **changed: Any
) -> TestResponse:
    token = page.select_one("#xs-acts [name=csrf_token]")
    assert token is not None
    form: dict[str, Any] = {
        "csrf_token": token["value"],
        "loaded_us": freshness_of(page)["data-xs-loaded"],
        "recent": freshness_of(page)["data-xs-recent"],
        "shown": shown,
    }
    return client.post(ROWS + query, data=form | changed, headers=BY_SCRIPT)


def statements(host: Host, client: FlaskClient, **headers: str) -> list[str]:
    made: list[str] = []

    def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
        made.append(statement)

    with host.calling_before_statements(keep):
        poll(client, **headers)
    return made


def test_the_tag_of_the_page_is_that_of_the_poll(host: Host) -> None:
    admin = admin_of(host)

    tag = freshness_of(page_of(admin))["data-xs-tag"]
    answer = poll(admin, If_None_Match=tag)

    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == tag
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_change_is_answered_with_the_cards_and_a_new_tag(host: Host) -> None:
    admin = admin_of(host)
    tag = freshness_of(page_of(admin))["data-xs-tag"]

    host.issue(host.add_user("bora"))
    answer = poll(admin, If_None_Match=tag)

    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag
    assert answer.json is not None
    assert answer.json["summary"] == {
        "active_users": "2", "active_sessions": "2", "superusers": "1",
    }  # fmt: skip
    assert poll(admin, If_None_Match=answer.headers["ETag"]).status_code == 304


def test_nothing_is_counted_for_a_304(host: Host) -> None:
    admin = admin_of(host)
    tag = freshness_of(page_of(admin))["data-xs-tag"]
    host.issue(host.add_user("bora"))
    page_of(admin)

    for_200 = statements(host, admin, If_None_Match=tag)
    tag = poll(admin).headers["ETag"]
    for_304 = statements(host, admin, If_None_Match=tag)

    assert not [statement for statement in for_304 if "count(" in statement.lower()]
    assert [statement for statement in for_200 if "count(" in statement.lower()]
    assert len(for_304) <= 5


def test_any_list_fits_a_star_and_none_is_read_for_it(one_host: Host) -> None:
    admin = admin_of(one_host)

    made = statements(one_host, admin, If_None_Match="*")

    assert poll(admin, If_None_Match="*").status_code == 304
    assert not [statement for statement in made if "xgen_feed_head" in statement]


def test_forms_of_the_tag(one_host: Host) -> None:
    admin = admin_of(one_host)
    tag = poll(admin).headers["ETag"]
    assert tag.startswith('W/"')

    for fits in (tag, tag.removeprefix("W/"), f'"another", {tag}', f'W/"another",{tag}'):
        assert poll(admin, If_None_Match=fits).status_code == 304, fits
    for differs in ('"another"', 'W/"another", "third"', "", tag.strip('W/"')[:-1], '"'):
        assert poll(admin, If_None_Match=differs).status_code == 200, differs


def test_the_tag_depends_on_the_viewer_the_language_and_the_list(one_host: Host) -> None:
    admin = admin_of(one_host)
    other = sign_in(one_host, one_host.add_user("root", is_superuser=True))
    tag = poll(admin).headers["ETag"]

    others = [
        poll(other),
        poll(admin, X_Language="ko"),
        poll(admin, "?q=bora"),
        poll(admin, "?sort=username"),
        poll(admin, "?sort=username&order=desc"),
    ]

    assert poll(admin).headers["ETag"] == tag
    assert len({tag, *(each.headers["ETag"] for each in others)}) == 6


@pytest.mark.parametrize("path", [POLL, ROWS])
def test_only_administrators_get_an_answer(one_host: Host, path: str) -> None:
    bora = sign_in(one_host, one_host.add_user("bora"))
    method = bora.get if path == POLL else bora.post

    answer = method(path, headers=BY_SCRIPT | {"If-None-Match": "*"})

    assert answer.status_code == 403


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}])
def test_an_administrator_who_was_forced_out_gets_the_challenge(
    one_host: Host, headers: dict[str, str]
) -> None:
    admin_id = one_host.add_user("admin", is_superuser=True)
    admin = sign_in(one_host, admin_id)
    one_host.force_logout(admin_id)

    for answer in (
        admin.get(POLL, headers=BY_SCRIPT | headers),
        admin.head(POLL, headers=BY_SCRIPT | headers),
    ):
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_the_time_is_that_before_the_list_was_read(one_host: Host) -> None:
    with freeze_time("2026-05-25 04:36:49.5"):
        admin = admin_of(one_host)
        page = page_of(admin)
        answer = poll(admin)
        korean = page_of(admin, **{"X-Language": "ko"})

    assert answer.json is not None
    assert answer.json["as_of"] == "2026-05-25T04:36:49.500000Z"
    assert answer.json["offset_s"] == 9 * 3600
    times = [each.select_one(".xs-as-of") for each in (page, korean)]
    assert [time.text for time in times if time] == ["As of 13:36:49", "13시 36분 49초 기준"]
    assert all(time and time["datetime"] == "2026-05-25T04:36:49Z" for time in times)
    assert "Korean Standard Time (UTC+09:00)" in page.text


def test_rows_are_as_they_are_now_and_users_without_sessions_have_none(host: Host) -> None:
    admin = admin_of(host)
    bora, jwm = host.add_user("bora"), host.add_user("jwm")
    host.issue(bora)
    host.issue(jwm)
    page = page_of(admin)

    host.issue(bora)
    host.force_logout(jwm)
    answer = ask_rows(admin, page, [bora, jwm, "unknown", "", "x" * 300])

    assert answer.status_code == 200
    assert answer.json is not None
    rows = BeautifulSoup(answer.json["rows"], "html.parser").select("tr[data-xs-user]")
    assert [row["data-xs-user"] for row in rows] == [bora]
    (count,) = rows[0].select(".xs-count")
    assert count.text == "2"


def test_newcomers_are_the_users_that_signed_in_since_and_are_not_shown(host: Host) -> None:
    admin_id = host.add_user("admin", is_superuser=True)
    ids = [host.add_user(f"user {number}") for number in range(4)]
    with freeze_time("2026-05-25 04:00:00"):
        host.issue(ids[0])
    with freeze_time("2026-05-25 04:36:00"):
        admin = sign_in(host, admin_id)
        page = page_of(admin)
    with freeze_time("2026-05-25 04:36:05"):
        for each in ids[1:]:
            host.issue(each)
        three = ask_rows(admin, page, [admin_id, ids[0]])
        one = ask_rows(admin, page, [admin_id, ids[0], *ids[1:3]], query="?sort=username")
        none = ask_rows(admin, page, [admin_id, *ids])
        filtered = ask_rows(admin, page, [admin_id], query="?q=user+3")

    told = [each.json["newcomers"] for each in (three, one, none, filtered) if each.json]
    assert [each["count"] for each in told] == [3, 1, 0, 1]
    assert [each["text"] for each in told[:2]] == ["3 new sign-ins", "1 new sign-in"]


def test_a_user_who_moves_up_to_the_page_is_no_newcomer(one_host: Host) -> None:
    """The page is full; after a force logout, the 51st user comes first on the next."""
    with freeze_time("2026-05-25 04:00:00"):
        ids = [one_host.add_user(f"user {number}") for number in range(52)]
        for each in ids:
            one_host.issue(each)
    with freeze_time("2026-05-25 04:36:00"):
        admin_id = one_host.add_user("admin", is_superuser=True)
        admin = sign_in(one_host, admin_id)
        page = page_of(admin)
        shown = [str(row["data-xs-user"]) for row in page.select("tr[data-xs-user]")]
        assert len(shown) == 50
        one_host.force_logout(shown[-1])
        answer = ask_rows(admin, page, shown)

    assert answer.json is not None
    assert answer.json["newcomers"]["count"] == 0


def test_more_newcomers_than_a_page_are_not_counted(one_host: Host) -> None:
    admin = admin_of(one_host)
    page = page_of(admin)
    for number in range(51):
        one_host.issue(one_host.add_user(f"user {number}"))

    answer = ask_rows(admin, page, [])

    assert answer.json is not None
    assert answer.json["newcomers"]["text"] == "50+ new sign-ins"


def test_a_sign_in_that_was_committed_late_is_a_newcomer(one_host: Host) -> None:
    """A sign-in takes its time first: the page may be read before the commit."""
    admin_id = one_host.add_user("admin", is_superuser=True)
    with freeze_time("2026-05-25 04:36:00"):
        admin = sign_in(one_host, admin_id)
        page = page_of(admin)
    with freeze_time("2026-05-25 04:35:59"):
        one_host.issue(one_host.add_user("bora"))
    with freeze_time("2026-05-25 04:36:10"):
        answer = ask_rows(admin, page, [admin_id])

    assert answer.json is not None
    assert answer.json["newcomers"]["count"] == 1


def test_a_sign_in_just_before_the_page_is_no_newcomer_on_another_page(host: Host) -> None:
    admin_id = host.add_user("admin", is_superuser=True)
    bora, jwm = host.add_user("bora"), host.add_user("jwm")
    with freeze_time("2026-05-25 04:35:55") as time:
        admin = sign_in(host, admin_id)
        host.issue(bora)
        time.tick(5)
        page = page_of(admin, f"{SCREEN}?sort=username&page=2")
        time.tick(5)
        host.issue(jwm)
        one = ask_rows(admin, page, [admin_id], query="?sort=username&page=2")
        host.issue(bora)
        two = ask_rows(admin, page, [admin_id], query="?sort=username&page=2")

    assert [each.json["newcomers"]["count"] for each in (one, two) if each.json] == [1, 2]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"recent": "x"}, 200),
        ({"csrf_token": "wrong"}, 403),
        ({"loaded_us": "yesterday"}, 400),
        ({"loaded_us": "9" * 19}, 400),
        ({"loaded_us": ""}, 400),
    ],
)
def test_wrong_requests_for_rows(one_host: Host, changed: dict[str, Any], status: int) -> None:
    admin = admin_of(one_host)
    page = page_of(admin)

    assert ask_rows(admin, page, [], **changed).status_code == status


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ([f"{number}" for number in range(201)], 400),
        ([f"{number}" for number in range(200)], 200),
        (["a\0b", "*", "x" * 256, ""], 200),
    ],
)
def test_no_more_rows_than_two_hundred(host: Host, shown: list[str], status: int) -> None:
    admin = admin_of(host)
    page = page_of(admin)

    assert ask_rows(admin, page, shown).status_code == status


def test_the_row_for_everyone_is_no_user(host: Host) -> None:
    admin = admin_of(host)
    page = page_of(admin)

    answer = ask_rows(admin, page, ["*"])

    assert json.loads(answer.text)["rows"].strip() == ""


def test_refresh_keeps_open_rows_without_scripts(one_host: Host) -> None:
    admin_id, bora = one_host.add_user("admin", is_superuser=True), one_host.add_user("bora")
    one_host.issue(bora)
    admin = sign_in(one_host, admin_id)

    page = page_of(admin, f"{SCREEN}?expand={bora}&expand={admin_id}")

    refresh = page.select("form[data-xs-refresh] [name=expand]")
    assert {field["value"] for field in refresh} == {bora, admin_id}
    assert len(page.select("tr.xs-detail:not([hidden])")) == 2


def test_times_say_how_long_ago_they_were(one_host: Host) -> None:
    bora = one_host.add_user("bora")
    with freeze_time("2026-05-25 04:00:00"):
        one_host.issue(bora)
    with freeze_time("2026-05-25 04:36:49"):
        page = page_of(admin_of(one_host))
        now = clock.now_us() // 1000

    agos = [each.text for each in page.select("time[datetime] + .xs-ago")]
    assert agos == ["just now", "36 minutes ago"]
    script = page.select_one("script[src$='relative-times.js']")
    assert script is not None
    assert (script["data-language"], script["data-now"]) == ("en", str(now))
