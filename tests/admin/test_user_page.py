"""The page of one user, without a browser: its contents, its acts and their results."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup, Tag
from flask.testing import FlaskClient
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import IPHONE, SCREEN, page_of, sign_in, with_screen
from xgen_flask_sessions import (
    Forbidden,
    PastSignIn,
    Revocation,
    XgenSessionsError,
    bulk,
    clock,
    session_ended,
)
from xgen_flask_sessions.admin import user_acts
from xgen_flask_sessions.errors import DatabaseUnavailable, HookFailed, LedgerUnavailable
from xgen_flask_sessions.store import bulk as store
from xgen_flask_sessions.web import acts, user_urls

USER = SCREEN + "user"


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host with a SuperUser (1) and the user bora (2)."""
    host = make_host(sqlite_url, extras=with_screen)
    host.add_user("admin", is_superuser=True)
    host.add_user("bora", display_name="Bora Lim", department="Research")
    return host


@pytest.fixture
def admin(host: Host) -> FlaskClient:
    return sign_in(host, "1")


def user_page(client: FlaskClient, user_id: str = "2", **query: Any) -> BeautifulSoup:
    suffix = "".join(f"&{name}={value}" for name, value in query.items())
    return page_of(client, f"{USER}?user_id={user_id}{suffix}")


def text_of(page: BeautifulSoup, selector: str) -> str:
    found = page.select_one(selector)
    assert found is not None, selector
    return " ".join(found.get_text(" ").split())


def rows(page: BeautifulSoup, table: str) -> list[list[str]]:
    """Return the texts of a table's cells."""
    return [
        [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])]
        for row in page.select(f"table[aria-labelledby={table}] > tbody > tr")
    ]


def devices(page: BeautifulSoup) -> list[list[str]]:
    return rows(page, "xs-h-active")


def fields(page: BeautifulSoup, action: str, button: str | None = None) -> dict[str, str]:
    """Return the fields that a form sends.

    :param button: The value of the button that is pressed.
    """
    for form in page.select(f"form[action$='{action}']"):
        pressed = form.find("button", attrs={} if button is None else {"value": button})
        if isinstance(pressed, Tag):
            sent = {str(each["name"]): str(each["value"]) for each in form.select("[type=hidden]")}
            if button is not None:
                sent[str(pressed["name"])] = button
            return sent
    raise AssertionError(f"no form for {action}")


def press(
    client: FlaskClient, page: BeautifulSoup, action: str, button: str | None = None, **typed: str
) -> Any:
    return client.post(f"{SCREEN}{action}", data=fields(page, action, button) | typed)


def press_by_script(
    client: FlaskClient, page: BeautifulSoup, action: str, button: str | None = None, **typed: str
) -> Any:
    return client.post(
        f"{SCREEN}{action}",
        data=fields(page, action, button) | typed,
        headers={"X-Requested-With": "XMLHttpRequest"},
    )


def active(host: Host, user_id: str = "2") -> list[str]:
    with host.app.app_context():
        return [each.session_id for each in host.sessions.active_sessions(user_id)]


def test_the_page_names_the_user(host: Host, admin: FlaskClient) -> None:
    sign_in(host, "2", agent=IPHONE, ip="2001:db8::7f:21")
    page = user_page(admin)

    assert page.title is not None
    assert page.title.text == "bora · Login Management · XGEN"
    assert text_of(page, "h1") == "Bora Lim"
    assert text_of(page, ".xs-about") == "bora Research account active"
    assert text_of(page, ".xs-crumbs") == "Login Management / bora"
    assert text_of(page, "#xs-h-active") == "Active sessions · 1"
    (row,) = devices(page)
    assert [row[0], row[1], row[3], row[5]] == ["Safari 19", "iPhone", "2001:db8::7f:21", "End"]
    assert "2001:db8::7f:21 1\N{MULTIPLICATION SIGN}" in text_of(page, ".xs-seen")


def test_the_own_page_marks_the_own_session(host: Host, admin: FlaskClient) -> None:
    page = user_page(admin, "1")

    assert text_of(page, ".xs-about") == "SUPER you account active"
    assert "this session" in devices(page)[0][0]


@pytest.mark.parametrize("user_id", ["99", "", "\u202e", "x" * 5000])
def test_an_unknown_user_is_a_page_with_a_way_back(admin: FlaskClient, user_id: str) -> None:
    answer = admin.get(USER, query_string={"user_id": user_id})
    page = BeautifulSoup(answer.text, "html.parser")

    assert answer.status_code == 404
    assert text_of(page, "h1") == "User not found"
    assert page.select_one(f".xs-panel a[href='{SCREEN}']") is not None


def test_a_user_without_sessions(host: Host, admin: FlaskClient) -> None:
    page = user_page(admin)

    assert text_of(page, ".xs-nothing") == "No active session."
    assert [button.has_attr("disabled") for button in page.select(".xs-user-acts button")] != []
    assert all(button.has_attr("disabled") for button in page.select(".xs-user-acts button"))
    assert text_of(page, ".xs-seen").startswith("First sign-in - Last Login -")


def test_an_inactive_and_a_deleted_user(host: Host, admin: FlaskClient) -> None:
    host.issue("2")
    host.change_user("2", is_active=False)
    assert text_of(user_page(admin), "[data-xs-account]") == "account inactive"

    host.delete_user("2")
    page = user_page(admin)
    assert text_of(page, "h1") == "2"
    assert text_of(page, "[data-xs-account]") == "account deleted"


def test_a_superuser_seen_by_a_lower_rank(make_host: MakeHost, sqlite_url: str) -> None:
    def extras(app: Any) -> Any:
        return {**with_screen(app), "can_view": lambda user: True}

    host = make_host(sqlite_url, extras=extras)
    host.add_user("admin", is_superuser=True)
    host.add_user("bora")
    sign_in(host, "1")
    page = user_page(sign_in(host, "2"), "1")

    assert text_of(page, ".xs-why") == "Only a SuperUser may end a SuperUser's sessions."
    assert page.select("main form[method=post]:not([action*=sign-out])") == []
    assert page.select_one("h2#xs-h-leaver") is None


def test_one_session_ends_and_keeps_its_place(host: Host, admin: FlaskClient) -> None:
    with freeze_time("2026-05-25 01:00:00") as time:
        admin = sign_in(host, "1")
        for _ in range(3):
            sign_in(host, "2")
            time.tick(60)
        before = user_page(admin)
        second = active(host)[1]

        answer = press(admin, before, "end-session", second)

        assert answer.status_code == 303
        assert answer.location.endswith(f"#s-{second}")
        page = page_of(admin, answer.location)
        assert text_of(page, "[data-xs-result]") == "1 session of bora ended"
        assert [row[5] for row in devices(page)] == ["End", "✓ Ended", "End"]
        assert text_of(page, "#xs-h-active") == "Active sessions · 2"
        assert page.select_one("form.xs-rest[data-xs-act=one]") is not None
        assert [row[5] for row in devices(user_page(admin))] == ["End", "End"]


def test_a_second_click_at_one_place_ends_nothing_more(host: Host, admin: FlaskClient) -> None:
    for _ in range(3):
        sign_in(host, "2")
    before = user_page(admin)
    target = active(host)[1]

    first = press_by_script(admin, before, "end-session", target)
    second = press_by_script(admin, before, "end-session", target)
    third = press(admin, before, "end-session", target)

    assert (first.json["status"], first.json["ended"]) == ("done", [target])
    assert second.json == first.json
    again = page_of(admin, third.location)
    assert text_of(again, "[data-xs-result]") == "1 session of bora ended"
    assert [row[5] for row in devices(again)] == ["End", "✓ Ended", "End"]
    assert len(active(host)) == 2


def test_a_session_that_ended_otherwise_keeps_its_place(host: Host, admin: FlaskClient) -> None:
    for _ in range(3):
        sign_in(host, "2")
    before = user_page(admin)
    target = active(host)[1]
    host.end_session(target)

    by_script = press_by_script(admin, before, "end-session", target)
    shown = BeautifulSoup(press(admin, before, "end-session", target).text, "html.parser")

    assert by_script.json["message"] == "This session had already ended."
    assert by_script.json["ended"] == [target]
    assert text_of(shown, "[data-xs-result]") == "This session had already ended."
    assert [row[5] for row in devices(shown)] == ["End", "✓ Ended", "End"]


def test_a_session_that_a_force_logout_of_everyone_ended_had_ended_before(
    host: Host, admin: FlaskClient
) -> None:
    sign_in(host, "2")
    (target,) = active(host)
    with host.app.app_context():
        host.sessions.force_logout_everyone(actor=host.find_user("1"))
    again = sign_in(host, "1")
    sign_in(host, "2")
    form = fields(user_page(again), "end-session", active(host)[0]) | {"session_id": target}

    by_script = again.post(
        f"{SCREEN}end-session", data=form, headers={"X-Requested-With": "XMLHttpRequest"}
    )
    by_form = again.post(f"{SCREEN}end-session", data=form)

    assert by_script.get_json()["message"] == "This session had already ended."
    assert (by_form.status_code, "This session had already ended." in by_form.text) == (200, True)


def test_the_result_is_the_own_recent_record_of_this_user(host: Host, admin: FlaskClient) -> None:
    sign_in(host, "2")
    answer = press(admin, user_page(admin), "force-logout")
    assert text_of(page_of(admin, answer.location), "[data-xs-result]") == (
        "1 session of bora ended"
    )
    result = answer.location.partition("result=")[2]

    other = host.add_user("second", is_superuser=True)
    assert text_of(user_page(sign_in(host, other), result=result), "[data-xs-result]") == ""
    assert text_of(user_page(admin, "1", result=result), "[data-xs-result]") == ""
    assert text_of(user_page(admin, result="0" * 32), "[data-xs-result]") == ""
    with freeze_time(clock.to_datetime(clock.now_us() + 301_000_000)):
        assert text_of(user_page(admin, result=result), "[data-xs-result]") == ""


def test_a_force_logout_with_a_reason_is_on_record(host: Host, admin: FlaskClient) -> None:
    sign_in(host, "2")
    sign_in(host, "2", agent=IPHONE)
    press(admin, user_page(admin), "force-logout", reason="Left at a public PC")
    page = user_page(admin)

    ((when, what, by, reason),) = rows(page, "xs-h-acts")
    assert when.endswith("just now")
    assert (what, by.split()[0], reason) == (
        "Force logout · 2 sessions",
        "admin",
        "Left at a public PC",
    )
    assert [row[4] for row in rows(page, "xs-h-ended")] == [
        "Force logout · admin Left at a public PC"
    ] * 2
    with host.app.app_context():
        host.sessions.force_logout_everyone()
    assert rows(user_page(sign_in(host, "1")), "xs-h-acts")[0][1] == "Sign out everyone"


def test_all_but_the_newest_and_older_ones_end(host: Host) -> None:
    with freeze_time("2026-05-25 00:00:00") as time:
        for _ in range(4):
            sign_in(host, "2")
            time.tick(3600)
        admin = sign_in(host, "1")
        page = user_page(admin)

        none = press_by_script(admin, page, "end-older", "1d")
        some = press_by_script(admin, page, "end-older", number="150", unit="m", older_than="")
        time.tick(1)
        rest = press(admin, page, "end-older", "1")
        after = page_of(admin, rest.location)
        left = active(host)

    assert none.json["message"] == "No session had to be ended."
    assert (none.json["status"], none.json["ended"]) == ("done", [])
    assert (some.json["message"], len(some.json["ended"])) == ("2 sessions of bora ended", 2)
    assert text_of(after, "[data-xs-result]") == "1 session of bora ended"
    assert len(left) == 1


@pytest.mark.parametrize(
    ("error", "status", "code", "words"),
    [
        (
            LedgerUnavailable(),
            "failed",
            503,
            "The database did not answer. The other sessions go on.",
        ),
        (
            LedgerUnavailable(undone=False),
            "unknown",
            503,
            "The database did not answer. It is not known whether the other sessions ended.",
        ),
        (Forbidden(), "failed", 403, "You may not do this. The other sessions go on."),
        (HookFailed(), "failed", 500, "A function of this application failed. The log says why."),
    ],
)
def test_an_act_that_stops_halfway_says_how_far_it_came(
    host: Host,
    admin: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    error: XgenSessionsError,
    status: str,
    code: int,
    words: str,
) -> None:
    for _ in range(3):
        sign_in(host, "2")
    page = user_page(admin)
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 1)
    end = store.end_sessions

    def end_once(*arguments: Any, **named: Any) -> list[Revocation]:
        if host.rows("xgen_revocations"):
            raise error
        return end(*arguments, **named)

    monkeypatch.setattr(store, "end_sessions", end_once)
    by_form = press(admin, page, "end-older", "1")
    host.execute("DELETE FROM xgen_revocations")
    by_script = press_by_script(admin, page, "end-older", older_than="0")

    assert (by_form.status_code, by_script.status_code) == (code, code)
    assert by_script.json["status"] == status
    assert len(by_script.json["ended"]) == 1
    for text in (by_form.text, by_script.json["message"]):
        assert f"1 session of bora ended · {words}" in text
    shown = BeautifulSoup(by_form.text, "html.parser")
    assert [row[5] for row in devices(shown)] == ["End", "End", "✓ Ended"]


def test_who_is_forced_out_halfway_goes_to_the_sign_in_page(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        sign_in(host, "2")
    page = user_page(admin)
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 1)

    with session_ended.connected_to(lambda *_, **__: host.force_logout("1")):
        answer = press(admin, page, "end-older", "1")

    assert (answer.status_code, answer.location) == (303, "/sign-in")
    assert len(active(host)) == 2


def test_a_reason_that_is_too_long_is_refused_and_ends_nothing(
    host: Host, admin: FlaskClient
) -> None:
    form = fields(user_page(admin), "force-logout") | {"reason": "x" * 501}

    by_script = admin.post(
        f"{SCREEN}force-logout", data=form, headers={"X-Requested-With": "XMLHttpRequest"}
    )
    by_form = admin.post(f"{SCREEN}force-logout", data=form)

    assert (by_script.status_code, by_form.status_code) == (400, 400)
    assert by_script.get_json()["message"] == "A reason has at most 500 characters."
    assert "A reason has at most 500 characters." in by_form.text
    assert host.rows("xgen_revocations") == []


def test_an_act_is_not_denied_if_the_database_fails_after_it(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise DatabaseUnavailable

    form = fields(user_page(admin), "force-logout")
    monkeypatch.setattr(user_acts, "find_person", fail)

    answer = admin.post(
        f"{SCREEN}force-logout", data=form, headers={"X-Requested-With": "XMLHttpRequest"}
    )

    assert (answer.status_code, answer.get_json()["status"]) == (200, "done")
    assert "Nothing was changed" not in answer.get_json()["message"]
    assert len(host.rows("xgen_revocations")) == 1


@pytest.mark.parametrize(
    ("number", "unit"), [("", "h"), ("x", "h"), ("-1", "h"), ("1", "y"), ("40000", "d")]
)
def test_an_age_that_is_none_is_refused_and_ends_nothing(
    host: Host, admin: FlaskClient, number: str, unit: str
) -> None:
    sign_in(host, "2")
    page = user_page(admin)

    answer = press(admin, page, "end-older", number=number, unit=unit)

    assert answer.status_code == 400
    assert "Give the age as a whole number, 36,500 days at most." in answer.text
    assert len(active(host)) == 1


def test_ending_all_of_ones_own_sessions_leads_to_the_sign_in_page(
    host: Host, admin: FlaskClient
) -> None:
    answer = press_by_script(admin, user_page(admin, "1"), "force-logout")
    assert answer.json["message"] == "You ended all your sessions."
    assert answer.json["sign_in"] == "/sign-in"

    again = sign_in(host, "1")
    (own,) = active(host, "1")
    answer = press(again, user_page(again, "1"), "end-session", own)
    assert (answer.status_code, answer.location) == (303, "/sign-in")


def test_a_refusal_says_that_nothing_happened(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute")
    host.add_user("admin", is_superuser=True)
    host.add_user("bora")
    admin = sign_in(host, "1")
    sign_in(host, "2")
    sign_in(host, "2")
    page = user_page(admin)
    press(admin, page, "end-session", active(host)[0])

    by_script = press_by_script(admin, page, "force-logout")
    by_form = press(admin, page, "force-logout")

    assert by_script.status_code == by_form.status_code == 429
    assert by_script.json["status"] == "failed"
    assert int(by_form.headers["Retry-After"]) > 0
    shown = BeautifulSoup(by_form.text, "html.parser")
    assert "No user was signed out." in text_of(shown, ".xs-toast.xs-failed")
    assert shown.select_one(".xs-toast form button") is not None
    assert len(active(host)) == 1


@pytest.mark.parametrize(
    ("undone", "status", "words"),
    [(True, "failed", "Nothing was changed."), (False, "unknown", "It is not known whether")],
)
def test_a_failure_says_what_is_certain(
    host: Host,
    admin: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    undone: bool,
    status: str,
    words: str,
) -> None:
    sign_in(host, "2")
    page = user_page(admin)

    def fail(*_: object) -> None:
        raise LedgerUnavailable(undone=undone)

    monkeypatch.setattr(acts, "force_out", fail)
    by_script = press_by_script(admin, page, "force-logout")
    by_form = press(admin, page, "force-logout")

    assert by_script.status_code == by_form.status_code == 503
    assert (by_script.json["status"], by_script.json["retry"]) == (status, True)
    assert words in by_script.json["message"]
    assert words in text_of(BeautifulSoup(by_form.text, "html.parser"), ".xs-toast.xs-failed")


def test_a_failure_is_logged_with_its_cause(
    host: Host,
    admin: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sign_in(host, "2")
    page = user_page(admin)

    def fail(*_: object) -> None:
        raise LedgerUnavailable from OSError("no space left")

    monkeypatch.setattr(acts, "force_out", fail)
    for send in (press, press_by_script):
        caplog.clear()
        host.app.extensions.pop("xgen_sessions_failures", None)  # logged once a minute
        assert send(admin, page, "force-logout").status_code == 503
        assert "503 ledger_unavailable. OSError: no space left" in caplog.text


def test_a_database_that_is_lost_before_the_act_is_a_result(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(host, "2")
    page = user_page(admin)

    def fail(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("the server went away"))

    monkeypatch.setattr(acts, "force_out", fail)
    by_script = press_by_script(admin, page, "force-logout")
    by_form = press(admin, page, "force-logout")

    assert by_script.status_code == by_form.status_code == 503
    assert (by_script.json["status"], by_script.json["retry"]) == ("failed", True)
    shown = BeautifulSoup(by_form.text, "html.parser")
    assert "Nothing was changed." in text_of(shown, ".xs-toast.xs-failed")


def test_an_error_of_the_hosts_own_rows_stays_the_hosts(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = user_page(admin)

    def fail(*_: object) -> None:
        raise sa.exc.IntegrityError("UPDATE", {}, Exception("UNIQUE constraint failed"))

    monkeypatch.setattr(acts, "force_out", fail)
    host.app.testing = False
    host.app.config["PROPAGATE_EXCEPTIONS"] = False

    assert press(admin, page, "force-logout").status_code == 500


def test_a_second_try_sends_every_field_again(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(host, "2")
    form = fields(user_page(admin), "force-logout") | {"note": ["one", "two"]}

    def fail(*_: object) -> None:
        raise LedgerUnavailable

    monkeypatch.setattr(acts, "force_out", fail)
    page = BeautifulSoup(admin.post(f"{SCREEN}force-logout", data=form).text, "html.parser")

    sent = page.select(".xs-toast form [name=note]")
    assert [each["value"] for each in sent] == ["one", "two"]
    assert len(page.select(".xs-toast form [name=csrf_token]")) == 1


def test_the_reason_of_a_failure_is_told_if_the_page_cannot_be_read_either(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = user_page(admin)
    unknown = "The database went away during the commit. Check whether the change was made."

    def fail(*_: object) -> None:
        raise LedgerUnavailable(unknown, undone=False)

    def fail_again(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("the server went away"))

    monkeypatch.setattr(acts, "force_out", fail)
    monkeypatch.setattr(user_acts, "show", fail_again)
    answer = press(admin, page, "force-logout")

    assert (answer.status_code, unknown in answer.text) == (503, True)


def test_a_page_that_cannot_be_read_after_an_act_without_an_effect_is_503(
    host: Host, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(host, "2")
    page = user_page(admin)

    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(user_acts, "show", fail)

    assert press(admin, page, "end-older", "1d").status_code == 503


@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_change_that_the_database_refused_is_not_tried_again(
    host: Host, admin: FlaskClient, is_read_only: bool
) -> None:
    sign_in(host, "2")
    page = user_page(admin)
    if is_read_only:
        refuse_ends(host)
    form = fields(page, "force-logout") | ({} if is_read_only else {"csrf_token": "x"})
    headers = {"X-Requested-With": "XMLHttpRequest"}
    by_script = admin.post(f"{SCREEN}force-logout", data=form, headers=headers)
    by_form = admin.post(f"{SCREEN}force-logout", data=form)

    cause = "The database refused the change. Nothing was changed."
    if not is_read_only:
        cause = "The page is out of date. Nothing was changed. Reload the page."
    assert by_script.status_code == by_form.status_code == (503 if is_read_only else 403)
    answer = by_script.get_json()
    assert (answer["message"], answer["retry"]) == (cause, False)
    shown = BeautifulSoup(by_form.text, "html.parser")
    assert text_of(shown, ".xs-toast.xs-failed") == cause
    assert shown.select(".xs-toast form") == []


def refuse_ends(host: Host) -> None:
    """Make the database refuse the records of force logouts."""
    host.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON xgen_revocations "
        "BEGIN SELECT RAISE(ABORT, 'not now'); END"
    )


def test_a_form_without_its_token_is_refused(host: Host, admin: FlaskClient) -> None:
    sign_in(host, "2")

    for action in ("force-logout", "end-session", "end-older", "leaver"):
        answer = admin.post(SCREEN + action, data={"user_id": "2", "at": "user"})
        assert answer.status_code == 403
    assert len(active(host)) == 1


def test_who_was_forced_out_is_told_so_by_script(host: Host, admin: FlaskClient) -> None:
    page = user_page(admin)
    host.force_logout("1")

    answer = press_by_script(admin, page, "force-logout")

    assert answer.status_code == 401
    assert host.rows("xgen_revocations")[-1]["user_id"] == "1"


def test_lists_are_paged(host: Host, admin: FlaskClient) -> None:
    now = clock.now_us()
    with host.app.app_context():
        host.sessions.record_past_sign_ins(
            PastSignIn(user_id="2", signed_in_us=now - at * 1_000_000, expires_us=now + 10**10)
            for at in range(1, 46)
        )
    for _ in range(23):
        host.end_session(host.issue("2").session_id)
    pages = [user_page(admin, page=number) for number in (1, 2, 3, 4)]

    assert [len(devices(page)) for page in pages] == [20, 20, 5, 5]
    assert "Page 2 of 3" in pages[1].text
    for table, parameter in (("xs-h-acts", "records"), ("xs-h-ended", "ended")):
        first = pages[0]
        link = first.select_one(f"a[rel=next][href*='{parameter}=']")
        assert link is not None
        second = page_of(admin, str(link["href"]))
        assert (len(rows(first, table)), len(rows(second, table))) == (20, 3)
        assert "Newest" in second.text


@pytest.mark.parametrize("query", ["page=x", "records=x", "ended=1-2", "result=%00", "records=-1"])
def test_an_address_with_wrong_parts_shows_the_first_page(
    host: Host, admin: FlaskClient, query: str
) -> None:
    sign_in(host, "2")

    assert len(devices(page_of(admin, f"{USER}?user_id=2&{query}"))) == 1


def test_the_page_speaks_korean(host: Host, admin: FlaskClient) -> None:
    sign_in(host, "2")
    page = page_of(admin, f"{USER}?user_id=2", **{"X-Language": "ko"})

    assert text_of(page, "[data-xs-account]") == "계정 사용 중"
    assert text_of(page, "#xs-h-active") == "활성 세션 · 1"


def leaver_host(make_host: MakeHost, url: str, **arguments: Any) -> Host:
    """Return a host that passes functions for accounts, with an administrator and bora."""
    host = make_host(url, extras=lambda app: {**with_screen(app), **arguments})
    host.add_user("admin", is_superuser=True)
    host.add_user("bora")
    return host


def test_a_leaver_is_previewed_and_processed(make_host: MakeHost, sqlite_url: str) -> None:
    roles = ["editor", "auditor"]

    def revoke(user: Any) -> list[str]:
        gone = roles[:]
        roles.clear()
        return gone

    host = leaver_host(make_host, sqlite_url, revoke_roles=revoke, roles_of=lambda user: roles)
    sign_in(host, "2")
    admin = sign_in(host, "1")
    page = user_page(admin)
    assert text_of(page, ".xs-steps") == "Force logout Inactive Revoke roles"
    assert "In this order, at once: 1 session, 2 roles." in page.text

    answer = press(admin, page, "leaver", reason="Moved to another company")
    after = page_of(admin, answer.location)

    assert text_of(after, "[data-xs-result]") == (
        "1 session of bora ended · The account is inactive."
    )
    assert text_of(after, "[data-xs-account]") == "account inactive"
    assert "0 sessions, 0 roles. The account is inactive already." in after.text
    assert rows(after, "xs-h-acts")[0][3] == "Moved to another company"
    assert (roles, active(host)) == ([], [])


def test_the_list_leads_those_who_may_process_leavers_to_the_panel(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = leaver_host(make_host, sqlite_url, can_view=lambda user: True)
    readers = {name: sign_in(host, host.add_user(name)) for name in ("helper", "chan")}
    admin = sign_in(host, "1")

    def menu(reader: FlaskClient) -> dict[str, str]:
        links = page_of(reader).select("[data-xs-name=chan] .xs-menu-box > a")
        return {each.text: str(each["href"]) for each in links}

    kept, leaver = "End all but the newest…", "Leaver or transfer…"
    assert list(menu(admin)) == ["With a reason…", kept, leaver]
    assert list(menu(readers["helper"])) == ["With a reason…", kept]
    address, place = menu(admin)[leaver].split("#")
    assert text_of(page_of(admin, address), f"section#{place} > h2") == "Leaver or transfer"


def test_oneself_is_no_leaver(host: Host, admin: FlaskClient) -> None:
    page = user_page(admin, "1")

    assert "You cannot process yourself as a leaver." in page.text
    assert page.select_one("form[action$=leaver]") is None
    sent = fields(user_page(admin, "1"), "force-logout")
    refused = admin.post(SCREEN + "leaver", data=sent)
    assert refused.status_code == 400
    assert len(active(host, "1")) == 1


def test_a_refusal_of_the_host_is_shown_in_its_words(make_host: MakeHost, sqlite_url: str) -> None:
    def deactivate(user: Any) -> None:
        raise Forbidden("Bora is on call until <Monday>.")

    host = leaver_host(make_host, sqlite_url, deactivate=deactivate)
    sign_in(host, "2")
    admin = sign_in(host, "1")

    by_script = press_by_script(admin, user_page(admin), "leaver")
    by_form = press(admin, user_page(admin), "leaver")

    assert (by_script.status_code, by_form.status_code) == (403, 403)
    assert by_script.json["message"] == "Bora is on call until <Monday>. Nothing was changed."
    assert "Bora is on call until &lt;Monday&gt;." in by_form.text
    assert len(active(host)) == 1


def test_a_failing_function_of_the_host_changes_nothing(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def deactivate(user: Any) -> None:
        raise RuntimeError("no")

    host = leaver_host(make_host, sqlite_url, deactivate=deactivate)
    sign_in(host, "2")
    admin = sign_in(host, "1")

    answer = press_by_script(admin, user_page(admin), "leaver")

    assert (answer.json["status"], answer.status_code) == ("failed", 500)
    assert answer.json["message"] == (
        "A function of this application failed. The log says why. Nothing was changed."
    )
    assert len(active(host)) == 1


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/people/2", "/people/2"),
        ("https://people.example/2", "https://people.example/2"),
        ("javascript:alert(1)", None),
        ("https://admin:secret@people.example/2", None),
        ("//evil.example", None),
        (None, None),
        (7, None),
        (ZeroDivisionError(), None),
    ],
)
def test_the_page_links_to_the_hosts_page_of_the_user(
    make_host: MakeHost,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    address: Any,
    shown: str | None,
) -> None:
    monkeypatch.setattr(user_urls, "_reported", set())

    def user_url(user_id: str) -> Any:
        assert user_id == "2"
        if isinstance(address, Exception):
            raise address
        return address

    host = leaver_host(make_host, sqlite_url, user_url=user_url)
    admin = sign_in(host, "1")
    links = [user_page(admin).select_one(".xs-about a") for _ in range(2)]

    assert [None if link is None else link["href"] for link in links] == [shown] * 2
    assert caplog.text.count("user_url= ") == (address != shown)
    assert "secret" not in caplog.text


def test_pages_of_the_host_link_to_the_page(host: Host, make_host: MakeHost) -> None:
    from flask import render_template_string

    with host.app.test_request_context():
        text = render_template_string("{{ xgen_user_sessions_url('a b') }}")
    assert text == f"{USER}?user_id=a+b"
