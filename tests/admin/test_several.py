"""A force logout of several users and of everyone: previews, results, refusals and failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import (
    FORCE_LOGOUT,
    SCREEN,
    form_for,
    page_of,
    parse,
    results,
    sign_in,
    with_screen,
)
from xgen_flask_sessions import bulk, user_forced_out

SEVERAL = f"{SCREEN}several"
EVERYONE = f"{SCREEN}everyone"
BY_SCRIPT = {"X-Requested-With": "XMLHttpRequest", "Sec-Fetch-Mode": "cors"}


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str) -> Host:
    return make_host(sqlite_url, extras=with_screen)


@pytest.fixture
def admin(host: Host) -> FlaskClient:
    return sign_in(host, host.add_user("admin", is_superuser=True))


@pytest.fixture
def ids(host: Host) -> dict[str, str]:
    """Sign in bora twice and jwm once."""
    found = {name: host.add_user(name) for name in ("bora", "jwm")}
    for name in ("bora", "bora", "jwm"):
        host.issue(found[name])
    return found


def fields_of(page: BeautifulSoup, action: str) -> dict[str, Any]:
    """Return the hidden fields of the page's form with this action, as lists."""
    (form,) = page.select(f"form[action='{action}']")
    sent: dict[str, Any] = {}
    for each in form.select("input[type=hidden]"):
        sent.setdefault(str(each["name"]), []).append(str(each["value"]))
    return sent


def token_of(admin: FlaskClient) -> dict[str, str]:
    return {"csrf_token": fields_of(page_of(admin), FORCE_LOGOUT)["csrf_token"][0]}


def act(admin: FlaskClient, users: list[str], **more: str) -> Any:
    data = {**token_of(admin), "act": "1", "users": users, **more}
    return admin.post(SEVERAL, data=data, headers=BY_SCRIPT)


def notice(page: BeautifulSoup) -> str:
    (found,) = page.select(".xs-notice")
    return " ".join(found.get_text(" ").split())


@contextmanager
def failing(host: Host, statement: str) -> Iterator[None]:
    """Let the server go away at a statement, or at the commit."""

    def fail(*arguments: Any) -> None:
        if statement == "COMMIT" or arguments[2].startswith(statement):
            raise sa.exc.OperationalError(statement, {}, Exception("the server went away"))

    with host.app.app_context():
        engine = host.db.engine
    event = "commit" if statement == "COMMIT" else "before_cursor_execute"
    sa.event.listen(engine, event, fail)
    try:
        yield
    finally:
        sa.event.remove(engine, event, fail)


def test_without_a_script_a_preview_comes_first_and_then_the_result(
    host: Host, admin: FlaskClient, ids: dict[str, str]
) -> None:
    form = fields_of(page_of(admin, f"{SCREEN}?q=o"), FORCE_LOGOUT)

    chosen = admin.post(SEVERAL, data=form | {"users": list(ids.values())})
    preview = page_of(admin, chosen.location)
    before = host.rows("xgen_revocations")
    fields = fields_of(preview, SEVERAL)
    done = admin.post(SEVERAL, data=fields | {"reason": " Public PCs "})
    shown = page_of(admin, done.location)

    assert (chosen.status_code, before) == (303, [])
    assert preview.select(".xs-several h2")[0].text == "2 users · 3 sessions"
    assert "Force Logout · 2 users" in preview.text
    assert {each["href"] for each in preview.select(".xs-panel a")} == {f"{SCREEN}?q=o"}
    assert done.status_code == 303
    assert notice(shown) == "2 users signed out, 3 sessions ended."
    assert "csrf_token" not in done.location
    assert {record["reason"] for record in host.rows("xgen_revocations")} == {"Public PCs"}
    for page, name in ((preview, "Selected users"), (shown, "Result")):
        (table,) = page.select("table[role=table]")  # on a phone, it is displayed as blocks
        assert table["aria-label"] == name
        assert not table.select(":is(thead, tbody, tr, th, td):not([role])")


def test_a_second_press_shows_the_first_result_and_an_address_alone_shows_none(
    admin: FlaskClient, ids: dict[str, str]
) -> None:
    address = f"{SEVERAL}?users={ids['bora']}&users={ids['jwm']}"
    made_up = page_of(admin, f"{address}&after=1")
    fields = fields_of(page_of(admin, address), SEVERAL)

    admin.post(SEVERAL, data=fields)
    again = page_of(admin, admin.post(SEVERAL, data=fields).location)

    assert notice(made_up) == "2 users were not signed out: bora, jwm."
    assert notice(again) == "2 users signed out, 3 sessions ended."
    assert not again.select("form button.xs-force")


def test_a_script_gets_each_row_and_a_summary(
    host: Host, admin: FlaskClient, ids: dict[str, str]
) -> None:
    asleep = host.add_user("asleep")
    host.end_session(host.issue(asleep).session_id)

    answer = act(admin, [ids["bora"], ids["jwm"], asleep, ids["bora"], "4711"])

    found = answer.get_json()
    assert (answer.status_code, found["status"]) == (200, "done")
    assert found["message"] == (
        "2 users signed out, 3 sessions ended. 1 user had no active session any more. "
        "1 refused: 4711. There is no such user."
    )
    rows = parse(f"<table>{found['rows']}</table>")
    assert results(rows) == {
        "bora": "✓ Signed out 2 sessions", "jwm": "✓ Signed out 1 session",
        "asleep": "No active session",
    }  # fmt: skip
    assert len(rows.select(".xs-done")) == 2
    assert {each: line["status"] for each, line in found["users"].items()} == {
        ids["bora"]: "done", ids["jwm"]: "done", asleep: "stale", "4711": "refused",
    }  # fmt: skip


def test_what_is_refused_is_named_with_its_reason(make_host: MakeHost, sqlite_url: str) -> None:
    def with_helpdesk(app: Flask) -> Mapping[str, Any]:
        return {**with_screen(app), "can_view": lambda user: True}

    host = make_host(sqlite_url, extras=with_helpdesk)
    root = host.add_user("root", is_superuser=True)
    bora = host.add_user("bora")
    for each in (root, bora):
        host.issue(each)
    helpdesk = sign_in(host, host.add_user("helpdesk"))

    preview = page_of(helpdesk, f"{SEVERAL}?users={root}&users={bora}")
    answer = act(helpdesk, [root, bora]).get_json()
    result = page_of(helpdesk, f"{SEVERAL}?users={root}&users={bora}&after=1")
    nobody = page_of(helpdesk, f"{SEVERAL}?users={root}")

    why = "Only a SuperUser may force out a SuperUser."
    assert [" ".join(each.text.split()) for each in preview.select(".xs-refused li")] == [
        f"root SUPER {why}"
    ]
    said = f"1 user signed out, 1 session ended. 1 refused: root. {why}"
    assert answer["message"] == said
    assert answer["users"][root] == {"status": "refused", "text": why, "retry": False}
    assert notice(result) == said
    assert "xs-calm" in result.select(".xs-notice")[0]["class"]
    assert "None of these users can be forced out." in nobody.text
    assert not nobody.select(".xs-panel form")
    page = page_of(helpdesk)
    assert "Sign out everyone" not in page.text
    assert helpdesk.get(EVERYONE).status_code == 403
    assert (
        helpdesk.post(EVERYONE, data={**token_of(helpdesk), "word": "EVERYONE"}).status_code == 403
    )
    assert {row["user_id"] for row in host.rows("xgen_revocations")} == {bora}


def test_oneself_among_them_goes_to_the_sign_in_page(
    host: Host, admin: FlaskClient, ids: dict[str, str]
) -> None:
    own = str(form_for(page_of(admin), "admin")["user_id"])

    preview = page_of(admin, f"{SEVERAL}?users={own}&users={ids['bora']}")
    answer = act(admin, [own, ids["bora"]])

    assert "You are among them: you will have to sign in again." in preview.text
    assert answer.get_json() == {"status": "done", "sign_in": "/sign-in"}
    assert len(host.rows("xgen_revocations")) == 2


@pytest.mark.parametrize(
    ("users", "text"),
    [
        ([], "Choose at least one user."),
        ([str(number) for number in range(1001)], "Choose at most 1,000 users at once."),
    ],
)
def test_no_user_and_too_many_are_refused_on_the_list(
    host: Host, admin: FlaskClient, ids: dict[str, str], users: list[str], text: str
) -> None:
    form = fields_of(page_of(admin), FORCE_LOGOUT)

    by_form = admin.post(SEVERAL, data=form | {"users": users})
    by_script = act(admin, users)

    page = parse(by_form.text)
    assert (by_form.status_code, notice(page)) == (400, text)
    assert len(page.select(".xs-user")) == 1 + len(ids)
    assert (by_script.status_code, by_script.get_json()["message"]) == (400, text)
    assert host.rows("xgen_revocations") == []


def test_many_users_with_long_ids_fit_into_no_address(host: Host, admin: FlaskClient) -> None:
    users = [f"{number}{'x' * 200}" for number in range(30)]

    preview = admin.post(SEVERAL, data={**token_of(admin), "users": users})

    assert preview.status_code == 200
    assert len(parse(preview.text).select(".xs-refused li")) == 30


def test_the_limit_the_token_and_a_long_reason(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute")
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.add_user("bora")
    host.issue(bora)
    fields = fields_of(page_of(admin, f"{SEVERAL}?users={bora}"), SEVERAL)

    long = admin.post(SEVERAL, data=fields | {"reason": "x" * 501})
    alien = admin.post(SEVERAL, data=fields | {"csrf_token": "x"})
    by_script = admin.post(SEVERAL, data=fields | {"csrf_token": "x"}, headers=BY_SCRIPT)
    before = host.rows("xgen_revocations")
    admin.post(SEVERAL, data=fields)
    limited = admin.post(SEVERAL, data=fields | {"reason": "again"})

    page = parse(long.text)
    assert (long.status_code, notice(page)) == (400, "A reason has at most 500 characters.")
    assert page.select("textarea")[0].text == "x" * 501
    assert (alien.status_code, by_script.status_code, before) == (403, 403, [])
    assert "out of date" in by_script.get_json()["message"]
    assert (limited.status_code, "Try again in" in notice(parse(limited.text))) == (429, True)
    assert limited.headers["Retry-After"]
    assert parse(limited.text).select("textarea")[0].text == "again"


@pytest.mark.parametrize(
    ("statement", "status", "text", "line"),
    [
        (
            "UPDATE", "failed",
            "2 users were not signed out: bora, jwm. The database did not answer.",
            "Not signed out.",
        ),
        (
            "COMMIT", "unknown",
            "It is not known whether 2 users were signed out: bora, jwm.",
            "It is not known whether the user was signed out.",
        ),
    ],
)  # fmt: skip
def test_a_failure_says_what_is_certain_and_offers_a_retry(
    host: Host, admin: FlaskClient, ids: dict[str, str], statement: str, status: str,
    text: str, line: str,
) -> None:  # fmt: skip
    users = list(ids.values())
    fields = fields_of(page_of(admin, f"{SEVERAL}?users={users[0]}&users={users[1]}"), SEVERAL)
    calls = 0

    def fail(*arguments: Any) -> None:
        nonlocal calls
        if statement == "COMMIT":
            calls += 1
            if calls % 2:  # the end of the reads before the act
                return
        elif not arguments[2].startswith(statement):
            return
        raise sa.exc.OperationalError(statement, {}, Exception("the server went away"))

    with host.app.app_context():
        engine = host.db.engine
    event = "commit" if statement == "COMMIT" else "before_cursor_execute"
    sa.event.listen(engine, event, fail)
    try:
        by_form = admin.post(SEVERAL, data=fields | {"reason": "why"})
        calls = 0
        by_script = admin.post(SEVERAL, data=fields, headers=BY_SCRIPT)
    finally:
        sa.event.remove(engine, event, fail)

    page = parse(by_form.text)
    assert (by_form.status_code, notice(page)) == (503, text)
    again = fields_of(page, SEVERAL)
    assert (again["users"], again["reason"]) == (users, ["why"])
    found = by_script.get_json()
    assert (by_script.status_code, found["status"], found["message"]) == (503, status, text)
    assert found["users"][users[0]]["text"] == line
    assert found["users"][users[0]]["retry"] is True


def test_everyone_takes_a_word(host: Host, admin: FlaskClient, ids: dict[str, str]) -> None:
    page = page_of(admin, EVERYONE)
    form = fields_of(page, EVERYONE) | {"reason": "An incident"}

    wrong = admin.post(EVERYONE, data=form | {"word": "everybody"})
    before = host.rows("xgen_revocations")
    done = admin.post(EVERYONE, data=form | {"word": " EVERYONE "})

    assert page.select(".xs-several h2")[0].text == "3 users · 4 sessions"
    assert "You are among them" in page.text
    assert (wrong.status_code, before) == (400, [])
    refused = parse(wrong.text)
    assert refused.select("[role=alert]")[0].text == "This is not the word. Nobody was signed out."
    assert refused.select("textarea")[0].text == "An incident"
    assert (done.status_code, done.location) == (303, "/sign-in")
    (record,) = host.rows("xgen_revocations")
    assert (record["kind"], record["sessions_ended"], record["reason"]) == (
        "everyone", 4, "An incident",
    )  # fmt: skip
    assert admin.get(SCREEN).status_code in (302, 303, 401)


def test_the_results_are_korean_on_a_korean_page(admin: FlaskClient, ids: dict[str, str]) -> None:
    data = {**token_of(admin), "act": "1", "users": [*ids.values(), "4711"]}

    answer = admin.post(SEVERAL, data=data, headers=BY_SCRIPT | {"X-Language": "ko"})

    assert answer.get_json()["message"] == (
        "사용자 2명을 로그아웃하고 세션 3개를 종료했습니다. "
        "1명은 거부되었습니다: 4711. 존재하지 않는 사용자입니다."
    )


def test_the_word_is_korean_on_a_korean_page(admin: FlaskClient, ids: dict[str, str]) -> None:
    korean = {"X-Language": "ko"}
    form = fields_of(page_of(admin, EVERYONE, **korean), EVERYONE)

    english = admin.post(EVERYONE, data=form | {"word": "EVERYONE"}, headers=korean)
    done = admin.post(EVERYONE, data=form | {"word": "모두"}, headers=korean)

    assert (english.status_code, done.status_code) == (400, 303)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE", "The database did not answer. Nobody was signed out."),
        ("COMMIT", "It is not known whether everyone was signed out."),
    ],
)
def test_a_failure_of_everyone_keeps_what_was_typed(
    host: Host, admin: FlaskClient, ids: dict[str, str], statement: str, text: str
) -> None:
    form = fields_of(page_of(admin, EVERYONE), EVERYONE) | {"reason": "why", "word": "EVERYONE"}
    calls = 0

    def fail(*arguments: Any) -> None:
        nonlocal calls
        if statement == "COMMIT":
            calls += 1
            if calls == 1:  # the end of the reads before the act
                return
        elif not arguments[2].startswith(statement):
            return
        raise sa.exc.OperationalError(statement, {}, Exception("the server went away"))

    with host.app.app_context():
        engine = host.db.engine
    event = "commit" if statement == "COMMIT" else "before_cursor_execute"
    sa.event.listen(engine, event, fail)
    try:
        answer = admin.post(EVERYONE, data=form)
    finally:
        sa.event.remove(engine, event, fail)

    page = parse(answer.text)
    assert (answer.status_code, notice(page)) == (503, text)
    assert page.select("textarea")[0].text == "why"
    assert page.select("#xs-word")[0]["value"] == "EVERYONE"
    assert page.select("button.xs-force")[0].text == "Retry"


def test_a_failure_without_a_script_is_shown_on_the_list_with_a_retry(
    host: Host, admin: FlaskClient, ids: dict[str, str]
) -> None:
    form = form_for(page_of(admin), "bora") | {"reason": "why"}

    with failing(host, "UPDATE"):
        answer = admin.post(FORCE_LOGOUT, data=form)
    page = parse(answer.text)
    retry = {str(each["name"]): str(each["value"]) for each in page.select(".xs-retry input")}
    done = admin.post(FORCE_LOGOUT, data=retry)

    assert answer.status_code == 503
    assert notice(page) == "The database did not answer. Nobody was signed out. Retry"
    assert len(page.select(".xs-user")) == 3
    assert retry | {"csrf_token": ""} == form | {"csrf_token": ""}
    assert results(page_of(admin, done.location)) == {"bora": "✓ Signed out 2 sessions"}


def test_a_failing_function_of_the_host_is_told_with_how_far_the_act_came(
    host: Host, admin: FlaskClient, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    users = list(ids.values())

    def break_down(*_: object, **__: object) -> None:
        monkeypatch.setattr("xgen_flask_sessions.web.bulk_acts.recheck_token", {}.popitem)

    with user_forced_out.connected_to(break_down):
        answer = act(admin, users)

    found = answer.get_json()
    assert (answer.status_code, found["users"][users[0]]["status"]) == (500, "done")
    assert found["message"].endswith("A function of this application failed. The log says why.")
    assert len(host.rows("xgen_revocations")) == 1


def test_an_end_without_a_script_says_so_from_the_record(
    host: Host, admin: FlaskClient, ids: dict[str, str]
) -> None:
    page = page_of(admin, f"{SCREEN}?expand={ids['bora']}")
    (button,) = page.select("button[name=session_id]")[:1]
    form = fields_of(page, FORCE_LOGOUT) | {"session_id": button["value"]}

    shown = page_of(admin, admin.post(str(button["formaction"]), data=form).location)
    again = page_of(admin, admin.post(str(button["formaction"]), data=form).location)

    said = [page.select(".xs-ended-note")[0].text for page in (shown, again)]
    assert said == ["One session of bora ended."] * 2


def test_the_first_button_of_the_list_forces_out_nobody(
    admin: FlaskClient, ids: dict[str, str]
) -> None:
    """Enter at a check box presses it (HTML, "implicit submission")."""
    (form,) = page_of(admin).select("#xs-acts")
    (first,) = form.select("button")[:1]

    assert (first["formaction"], first.get("name")) == (SEVERAL, None)
    assert len(form.select("input[type=checkbox][name=users]")) == 3


def test_a_confirmation_is_asked_by_the_preview(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_CONFIRM_FORCE_LOGOUT=True)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    (bar,) = page_of(admin).select("#xs-selection")

    assert bar.has_attr("data-confirm")
    assert [each.text for each in bar.select("[data-xs-selecting] button")] == [
        "Force Logout…", "Clear",
    ]  # fmt: skip
