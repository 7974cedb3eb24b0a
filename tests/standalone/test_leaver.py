"""The leaver in the Admin Center: sessions, account and roles; the last SuperUser stays."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from bs4 import BeautifulSoup
from werkzeug.test import TestResponse

from tests.support.hosts import bearer
from tests.support.standalone import PAGE, Center
from tests.support.threads import in_threads
from xgen_flask_sessions import Forbidden
from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.rules import LAST_SUPERUSER, AccountError, Profile
from xgen_flask_sessions.state import get_state
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.web import acts, leaver
from xgen_flask_sessions.web.user_urls import url_of_user

ROUNDS = 5


def process(center: Center, token: str, user_id: int) -> TestResponse:
    """Process a leaver by the JSON API."""
    body = {"reason": "leaves"}
    url = f"/sessions/users/{user_id}/leaver"
    return center.browser().post(url, json=body, headers=bearer(token))


def process_by_command(center: Center, user_id: int) -> None:
    """Process a leaver as the command ``leaver`` does."""
    with center.app.app_context():
        authority = get_state().authority

        def authorize(session: Any) -> Any:
            return authority.check_leaver(session, "cli", str(user_id))

        leaver.process(str(user_id), Cause(actor="cli"), authorize=authorize)


def active_superusers(center: Center) -> list[str]:
    rows = center.rows("users")
    return [row["username"] for row in rows if row["is_superuser"] and row["is_active"]]


def test_a_leaver_loses_sessions_account_and_roles_with_one_record(center: Center) -> None:
    user_id = center.add_user("bora", roles="editor, analyst")
    center.add_user("dan", roles="editor")
    admin, tokens = center.token("admin"), [center.token("bora") for _ in range(2)]
    browser = center.browser("bora")

    answer = process(center, admin, user_id)

    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (body["sessions_ended"], body["deactivated"]) == (3, True)
    assert body["roles"] == ["analyst", "editor"]
    assert [center.status(token) for token in tokens] == [401, 401]
    assert browser.get("/admin/admin-users/", headers=PAGE).status_code == 302
    row = center.user("bora")
    assert (row["is_active"], row["roles"]) == (False, [])
    assert center.user("dan")["roles"] == ["editor"]
    (record,) = center.rows("xgen_revocations")
    assert (record["kind"], record["user_id"], record["reason"]) == ("user", str(user_id), "leaves")
    assert center.status(admin) == 200

    again = process(center, admin, user_id).get_json()

    assert (again["sessions_ended"], again["deactivated"], again["roles"]) == (0, False, [])


def test_the_screen_processes_a_leaver(center: Center) -> None:
    user_id = center.add_user("bora", roles="editor, analyst")
    token, browser = center.token("bora"), center.browser("admin")
    screen = "/admin/admin-active-sessions"
    page = browser.get(f"{screen}/user", query_string={"user_id": user_id}, headers=PAGE)
    form = BeautifulSoup(page.text, "html.parser").select_one(f'form[action="{screen}/leaver"]')
    assert form is not None
    fields = {str(each["name"]): str(each.get("value", "")) for each in form.select("input")}

    answer = browser.post(f"{screen}/leaver", data=fields | {"reason": "leaves"}, headers=PAGE)

    assert answer.status_code == 303, answer.text
    assert center.status(token) == 401
    row = center.user("bora")
    assert (row["is_active"], row["roles"]) == (False, [])
    (record,) = center.rows("xgen_revocations")
    assert (record["sessions_ended"], record["reason"]) == (1, "leaves")
    shown = BeautifulSoup(browser.get(answer.location, headers=PAGE).text, "html.parser")
    assert shown.select_one(f'a[href="/admin/admin-users/{user_id}"]')
    without = browser.post(f"{screen}/leaver", data={"user_id": "1"}, headers=PAGE)
    assert without.status_code == 403


def test_another_superuser_may_leave(center: Center) -> None:
    user_id = center.add_user("bora", superuser=True)

    answer = process(center, center.token("admin"), user_id)

    assert answer.get_json()["roles"] == ["SuperUser"]
    assert active_superusers(center) == ["admin"]
    center.change_user("bora", is_active=True)
    assert active_superusers(center) == ["admin"], "the rank went with the roles"


def test_the_last_superuser_stays_and_nothing_changes(center: Center) -> None:
    token = center.token("admin")
    center.add_user("bora", superuser=True)
    center.change_user("bora", is_active=False)
    admin_id = center.user("admin")["id"]
    with center.app.app_context():
        accounts.change_profile(admin_id, Profile.parse("Ann", "", "editor"), actor="test")
    before = center.user("admin")

    with pytest.raises(Forbidden, match=LAST_SUPERUSER):
        process_by_command(center, admin_id)

    assert center.user("admin") == before
    assert center.status(token) == 200
    assert center.rows("xgen_revocations") == []
    result = center.app.test_cli_runner().invoke(args=["xgen-sessions", "leaver", "admin"])
    assert result.exit_code == 1
    assert LAST_SUPERUSER in result.stderr


@pytest.mark.slow
def test_of_two_superusers_who_leave_at_once_one_stays(center: Center) -> None:
    center.add_user("bora", superuser=True)
    ids = [center.user(name)["id"] for name in ("admin", "bora")]
    for _ in range(ROUNDS):
        for name in ("admin", "bora"):
            center.change_user(name, is_active=True, is_superuser=True)
        outcomes: list[str] = []

        def leave(user_id: int, outcomes: list[str]) -> None:
            try:
                process_by_command(center, user_id)
                outcomes.append("done")
            except Forbidden as error:
                outcomes.append(error.detail)

        in_threads([partial(leave, user_id, outcomes) for user_id in ids])

        assert sorted(outcomes) == sorted(["done", LAST_SUPERUSER])
        assert len(active_superusers(center)) == 1


@pytest.mark.slow
def test_a_leaver_races_with_a_deactivation_of_the_other_superuser(center: Center) -> None:
    bora = center.add_user("bora", superuser=True)
    admin = center.user("admin")["id"]
    for _ in range(ROUNDS):
        for name in ("admin", "bora"):
            center.change_user(name, is_active=True)
        token = center.token("admin")
        statuses: list[int] = []
        outcomes: list[str] = []

        def make_inactive(outcomes: list[str]) -> None:
            with center.app.app_context():
                try:
                    accounts.change_access(admin, active=False, superuser=True, actor="test")
                    outcomes.append("done")
                except AccountError as error:
                    outcomes.append(error.message)

        def leave(token: str, statuses: list[int]) -> None:
            statuses.append(process(center, token, bora).status_code)

        in_threads([partial(make_inactive, outcomes), partial(leave, token, statuses)])

        (status,), (outcome,) = statuses, outcomes
        assert (status == 200) is (outcome != "done"), (status, outcome)
        assert status in (200, 401, 403)
        assert active_superusers(center) == (["admin"] if status == 200 else ["bora"])


def test_links_lead_to_the_page_in_user_management(center: Center) -> None:
    admin = center.user("admin")["id"]
    with center.app.test_request_context():
        assert url_of_user(str(admin)) == f"/admin/admin-users/{admin}"
        for other in ("", "x", "-1", "٣", str(2**31), "1" * 255):
            assert url_of_user(other) is None
    page = center.browser("admin").get(f"/admin/admin-users/{admin}")
    assert page.status_code == 200


def test_roles_are_told_before(center: Center) -> None:
    user_id = center.add_user("bora", roles="editor, analyst")
    admin = center.user("admin")["id"]
    with center.app.test_request_context(headers=bearer(center.token("admin"))):
        caller = accounts.find(admin)
        preview = acts.leaver_preview(caller, str(user_id))

    assert preview.will_deactivate
    assert preview.roles == ["analyst", "editor"]
