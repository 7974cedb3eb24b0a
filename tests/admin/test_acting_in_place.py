"""Acts from the list: the answers to a script, the rows that stay, and the results from records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from freezegun import freeze_time
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import (
    FORCE_LOGOUT,
    SCREEN,
    form_for,
    page_of,
    parse,
    results,
    rows,
    sign_in,
    with_screen,
)
from xgen_flask_sessions import XgenSessions
from xgen_flask_sessions.admin import kept_rows

BY_SCRIPT = {"X-Requested-With": "XMLHttpRequest", "Sec-Fetch-Mode": "cors"}


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str) -> Host:
    return make_host(sqlite_url, extras=with_screen)


@pytest.fixture
def admin(host: Host) -> FlaskClient:
    return sign_in(host, host.add_user("admin", is_superuser=True))


def post(admin: FlaskClient, form: dict[str, str], **headers: str) -> TestResponse:
    return admin.post(FORCE_LOGOUT, data=form, headers=BY_SCRIPT | headers)


def end_session(admin: FlaskClient, form: dict[str, str], session_id: str) -> TestResponse:
    data = form | {"session_id": session_id}
    address = f"{SCREEN}end-session?user_id={data.pop('user_id')}"
    return admin.post(address, data=data, headers=BY_SCRIPT)


def test_a_script_gets_the_row_and_a_sentence(host: Host, admin: FlaskClient) -> None:
    token = host.issue(host.add_user("bora"))
    host.issue(host.add_user("jwm"))

    answer = post(admin, form_for(page_of(admin), "bora")).get_json()

    row = parse(f"<table>{answer['row']}</table>")
    assert (answer["status"], answer["message"]) == (
        "done",
        "bora was signed out: 1 session ended.",
    )
    assert results(row) == {"bora": "✓ Signed out 1 session"}
    assert len(row.select(".xs-user")) == 1
    assert not row.select("button, a[data-xs-ask]")
    assert host.status(token) == 401


def test_a_stale_row_says_that_no_session_was_left(host: Host, admin: FlaskClient) -> None:
    bora = host.add_user("bora")
    session = host.issue(bora)
    form = form_for(page_of(admin), "bora")
    host.end_session(session.session_id)

    by_script = post(admin, form).get_json()
    by_form = page_of(admin, admin.post(FORCE_LOGOUT, data=form).location)

    assert (by_script["status"], by_script["message"]) == (
        "stale", "bora had no active session any more.",
    )  # fmt: skip
    assert results(by_form) == {"bora": "No active session"}
    assert not by_form.select(".xs-done")


def test_a_second_click_while_the_first_one_is_on_its_way_shows_the_result_of_the_first(
    host: Host, admin: FlaskClient
) -> None:
    bora = host.add_user("bora")
    for _ in range(3):
        host.issue(bora)
    form = form_for(page_of(admin), "bora")

    admin.post(FORCE_LOGOUT, data=form)
    shown = page_of(admin, admin.post(FORCE_LOGOUT, data=form).location)

    assert results(shown) == {"bora": "✓ Signed out 3 sessions"}


def test_the_rows_stay_in_their_places_and_newcomers_are_left_out(
    host: Host, admin: FlaskClient
) -> None:
    for name in ("one", "two", "three"):
        host.issue(host.add_user(name))
    page = page_of(admin)
    host.issue(host.add_user("newcomer"))

    after = admin.post(FORCE_LOGOUT, data=form_for(page, "two"))
    shown = page_of(admin, after.location)

    names = [row[0] for row in rows(page)]
    assert [row[0] for row in rows(shown)] == names
    place = 1 + names.index("two")
    assert after.location.endswith(f"#user-{place}")
    (row,) = shown.select(f"#user-{place}")
    assert row["data-xs-name"] == "two"
    assert results(shown) == {"two": "✓ Signed out 1 session"}
    again = page_of(admin, admin.post(FORCE_LOGOUT, data=form_for(shown, "one")).location)
    assert results(again) == {
        "one": "✓ Signed out 1 session", "two": "✓ Signed out 1 session",
    }  # fmt: skip
    assert [row[0] for row in rows(again)] == names
    refreshed = page_of(admin)
    assert sorted(row[0] for row in rows(refreshed)) == ["admin SUPER you", "newcomer", "three"]


def test_a_user_who_has_signed_in_again_is_active_again(host: Host, admin: FlaskClient) -> None:
    bora = host.add_user("bora")
    host.issue(bora)
    with freeze_time("2026-05-25 08:00:00") as clock:
        admin = sign_in(host, host.add_user("root", is_superuser=True))
        after = admin.post(FORCE_LOGOUT, data=form_for(page_of(admin), "bora")).location
        host.issue(bora)
        at_once = results(page_of(admin, after))
        clock.tick(20)
        later = page_of(admin, after)

    assert at_once == {"bora": "✓ Signed out 1 session · signed in again"}
    assert results(later) == {}
    assert form_for(later, "bora")["user_id"] == bora


@pytest.mark.parametrize(
    "text", ["x", "====", "A" * 5000, "eJyLjgUAARUAuQ", kept_rows.pack(["4711", "nobody"])]
)
def test_made_up_rows_are_ignored(host: Host, admin: FlaskClient, text: str) -> None:
    assert len(rows(page_of(admin, f"{SCREEN}?kept={text}"))) == 1


def test_packed_rows_fit_into_an_address_and_keep_those_next_to_the_acted_one() -> None:
    ids = [f"{number:03}{'x' * 40}{number * 7919 % 10007}" for number in range(100)]
    long = [
        "".join(chr(33 + (number * 31 + at * 17) % 90) for at in range(250))
        for number in range(100)
    ]

    assert kept_rows.unpack(kept_rows.pack(ids)) == ids
    assert kept_rows.unpack(kept_rows.pack(ids, ids[50])) == ids
    for around in (long[0], long[50], long[99]):
        packed = kept_rows.pack(long, around)
        assert len(packed) <= kept_rows.MAX_LENGTH
        assert around in kept_rows.unpack(packed)
    assert kept_rows.unpack(kept_rows.pack(["1"] * 3)) == ["1"]


def test_a_bomb_is_not_inflated() -> None:
    import base64
    import json
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(json.dumps(["1" * 200_000]).encode(), 9)).decode()

    assert len(bomb) < kept_rows.MAX_LENGTH
    assert kept_rows.unpack(bomb) == []


def test_oneself_is_led_to_a_page_that_says_who_it_was(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def with_reason(app: Flask) -> Mapping[str, Any]:
        @app.get("/why")
        def why() -> dict[str, Any]:
            record: Any = XgenSessions().revocation()
            return {"kind": record.kind, "by_oneself": record.actor == record.user_id}

        return with_screen(app)

    host = make_host(sqlite_url, extras=with_reason)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    other = sign_in(host, host.add_user("other", is_superuser=True))

    own = post(admin, form_for(page_of(admin), "admin")).get_json()
    page = page_of(sign_in(host, host.add_user("third", is_superuser=True)))
    assert form_for(page, "other")
    host.force_logout(str(form_for(page, "other")["user_id"]), actor="a command")

    assert own == {"status": "done", "sign_in": "/sign-in"}
    assert admin.get("/why").get_json() == {"kind": "user", "by_oneself": True}
    assert other.get("/why").get_json() == {"kind": "user", "by_oneself": False}


def test_ending_one_session_from_the_expanded_row(host: Host, admin: FlaskClient) -> None:
    bora = host.add_user("bora")
    one, two = host.issue(bora), host.issue(bora)
    page = page_of(admin, f"{SCREEN}?expand={bora}")
    (button,) = page.select(f"button[name=session_id][value='{one.session_id}']")
    form = form_for(page, "bora") | {"session_id": one.session_id}
    del form["user_id"]

    by_form = admin.post(str(button["formaction"]), data=form)
    again = admin.post(str(button["formaction"]), data=form, headers=BY_SCRIPT).get_json()

    assert by_form.status_code == 303
    shown = page_of(admin, by_form.location)
    assert len(shown.select(".xs-sessions tbody tr")) == 1
    assert (host.status(one), host.status(two)) == (401, 200)
    assert (again["status"], again["text"]) == ("stale", "Already ended")
    (record,) = host.rows("xgen_revocations")
    assert (record["kind"], record["sessions_ended"]) == ("session", 1)


def test_a_reason_is_recorded_and_a_long_one_is_refused(host: Host, admin: FlaskClient) -> None:
    host.issue(host.add_user("bora"))
    form = form_for(page_of(admin), "bora")

    refused = post(admin, form | {"reason": "x" * 501})
    lines = "x" * 249 + "\r\n" + "x" * 250  # 500 characters in the browser
    done = post(admin, form | {"reason": f" {lines} "})

    assert (refused.status_code, refused.get_json()["status"]) == (400, "failed")
    assert done.status_code == 200
    (record,) = host.rows("xgen_revocations")
    assert record["reason"] == lines.replace("\r\n", " "), "one line"


def test_refusals_have_their_reason_in_the_row(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute")
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    host.issue(host.add_user("bora"))
    form = form_for(page_of(admin), "bora")
    post(admin, form)

    limited = post(admin, form)
    unknown = post(admin, form | {"user_id": "4711"})
    old = post(admin, {**form, "csrf_token": "x"})
    no_session = end_session(admin, form, "4711")
    host.force_logout(str(form_for(page_of(admin), "admin")["user_id"]))
    ended = post(admin, form)

    assert (limited.status_code, limited.get_json()["status"]) == (429, "failed")
    assert "Try again in" in limited.get_json()["message"]
    assert limited.headers["Retry-After"]
    assert (unknown.status_code, unknown.get_json()["message"]) == (
        404, "There is no such user. Nobody was signed out.",
    )  # fmt: skip
    assert (no_session.status_code, no_session.get_json()["message"]) == (
        404, "This user has no session by this id. Nobody was signed out.",
    )  # fmt: skip
    answers = (limited, unknown, no_session, old)
    assert [each.get_json()["retry"] for each in answers] == [True, False, False, False]
    assert (old.status_code, "out of date" in old.get_json()["message"]) == (403, True)
    assert (ended.status_code, "invalid_token" in ended.headers["WWW-Authenticate"]) == (401, True)


@pytest.mark.parametrize(
    ("statement", "status", "message"),
    [
        ("UPDATE", "failed", "The database did not answer. Nobody was signed out."),
        ("COMMIT", "unknown", "It is not known whether bora was signed out."),
    ],
)
def test_a_failure_says_whether_the_user_may_be_signed_out(
    host: Host, admin: FlaskClient, statement: str, status: str, message: str
) -> None:
    session = host.issue(host.add_user("bora"))
    form = form_for(page_of(admin), "bora")

    def fail(*arguments: Any) -> None:
        if statement == "COMMIT" or statement in arguments[2]:
            raise sa.exc.OperationalError(statement, {}, Exception("the server went away"))

    with host.app.app_context():
        engine = host.db.engine
    event = "commit" if statement == "COMMIT" else "before_cursor_execute"
    sa.event.listen(engine, event, fail)
    try:
        answer, end = post(admin, form), end_session(admin, form, session.session_id)
    finally:
        sa.event.remove(engine, event, fail)

    assert (answer.status_code, end.status_code) == (503, 503)
    assert (answer.get_json()["status"], answer.get_json()["message"]) == (status, message)
    assert end.get_json()["status"] == status
    assert end.get_json()["message"] == message.replace("bora was signed out", "the session ended")
    assert answer.get_json()["retry"] is end.get_json()["retry"] is True


def test_without_a_script_a_session_that_had_ended_is_said_to_have_ended(
    host: Host, admin: FlaskClient
) -> None:
    bora = host.add_user("bora")
    gone, left = host.issue(bora), host.issue(bora)
    form = {**form_for(page_of(admin), "bora"), "session_id": gone.session_id}
    host.end_session(gone.session_id)

    answer = admin.post(f"{SCREEN}end-session?user_id={bora}", data=form)

    page = parse(answer.text)
    notice = page.select_one("[role=alert]")
    assert (answer.status_code, notice is not None) == (200, True)
    assert notice is not None
    assert "The session had already ended." in notice.text
    assert left.session_id in answer.text, "the row is open"
    assert host.status(left) == 200


def test_a_reason_that_is_too_long_is_shown_again(host: Host, admin: FlaskClient) -> None:
    bora = host.add_user("bora")
    token = host.issue(bora)
    form = form_for(page_of(admin, f"{SCREEN}?q=bora"), "bora")
    reason = "A laptop was left on a train. " * 20

    answer = admin.post(f"{SCREEN}force-logout", data=form | {"reason": reason, "q": "bora"})
    unknown = admin.post(f"{SCREEN}force-logout", data=form | {"reason": reason, "user_id": "99"})

    page = parse(answer.text)
    assert answer.status_code == 400
    field, alert = page.select_one("textarea"), page.select_one("[role=alert]")
    assert field is not None
    assert alert is not None
    assert field.text == reason
    assert alert.text == "A reason has at most 500 characters."
    again = page.select_one("form[action$=force-logout]")
    assert again is not None
    sent = {str(each["name"]): str(each["value"]) for each in again.select("[type=hidden]")}
    assert (sent["user_id"], sent["q"]) == (bora, "bora")
    assert unknown.status_code == 404
    assert host.status(token) == 200


def test_a_confirm_page_of_an_unknown_user_says_so(host: Host, admin: FlaskClient) -> None:
    asleep = host.add_user("asleep")
    host.end_session(host.issue(asleep).session_id)

    unknown = admin.get(f"{SCREEN}confirm?user_id=4711")

    assert (unknown.status_code, "does not exist" in unknown.text) == (404, True)
    shown = page_of(admin, f"{SCREEN}confirm?user_id={asleep}")
    assert "asleep has no active session." in shown.text
    assert not shown.select("main form, .xs-panel form")
