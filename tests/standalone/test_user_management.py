"""User Management: accounts, profiles, passwords, roles and access."""

from __future__ import annotations

import re
import threading

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.standalone import ADMIN_PASSWORD, PAGE, Center, sign_in
from xgen_flask_sessions.standalone import accounts, rules
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import MAX_NAME, Role, db
from xgen_flask_sessions.standalone.rules import LAST_SUPERUSER, AccountError, Profile
from xgen_flask_sessions.standalone.user_results import AS_CHOSEN, OWN_PASSWORD

URL = "/admin/admin-users/"
SIGN_IN = "/login?next=%2Fadmin%2Fadmin-users%2F"
NEW_PASSWORD = "another good one"


@pytest.fixture
def browser(center: Center) -> FlaskClient:
    """Return the browser of the SuperUser ``admin``."""
    return center.browser("admin")


def post(browser: FlaskClient, path: str, **form: str) -> TestResponse:
    """Send a form with the CSRF token of its page."""
    shown = browser.get(URL + path, headers=PAGE)
    found = re.search(r'name="csrf_token" value="(\w+)"', shown.text)
    assert found is not None, shown.text
    data = {"csrf_token": found[1], **form}
    return browser.post(URL + path, data=data, headers=PAGE)


def edit(
    browser: FlaskClient, user_id: int, form_name: str, **form: str | list[str]
) -> TestResponse:
    """Send one of the forms of a user's page."""
    page = browser.get(f"{URL}{user_id}", headers=PAGE)
    return send(browser, page, f"{user_id}/{form_name}", **form)


def send(
    browser: FlaskClient, page: TestResponse, path: str, **form: str | list[str]
) -> TestResponse:
    """Send the form of *page* by the button to *path*, with its hidden fields unchanged."""
    shown = BeautifulSoup(page.text, "html.parser")
    assert shown.select_one(f'form [formaction="{URL}{path}"], form[action="{URL}{path}"]')
    hidden = shown.select(".xa-forms form input[type=hidden]")
    kept: dict[str, str | list[str]] = {str(each["name"]): str(each["value"]) for each in hidden}
    return browser.post(URL + path, data=kept | form, headers=PAGE)


def said(browser: FlaskClient, answer: TestResponse) -> list[str]:
    """Follow a redirect, and return the results that its page says."""
    assert answer.status_code == 303
    page = BeautifulSoup(browser.get(answer.location, headers=PAGE).text, "html.parser")
    return [each.text for each in page.select('[role="status"].alert, [role="status"].xs-notice')]


def checked_roles(page: TestResponse) -> list[str]:
    found = BeautifulSoup(page.text, "html.parser").select("input[name=role][checked]")
    return [str(each["value"]) for each in found]


def field_value(page: TestResponse, name: str) -> str:
    found = BeautifulSoup(page.text, "html.parser").select_one(f"input[name={name}]")
    assert found is not None
    return str(found["value"])


class TestList:
    def test_shows_each_user(self, center: Center, browser: FlaskClient) -> None:
        center.add_user("bora", name="Bora <b>Lim</b>", roles="editor, analyst")
        center.change_user("bora", is_active=False)

        page = browser.get(URL, headers=PAGE)

        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.text.count('<span class="xs-super">SUPER</span>') == 1
        assert "Bora &lt;b&gt;Lim&lt;/b&gt;" in page.text
        assert "analyst, editor" in page.text
        assert '<span class="xs-tag">Inactive</span>' in page.text
        assert f'href="{URL}{center.user("bora")["id"]}"' in page.text

    def test_replaces_control_and_direction_characters_in_names_and_tooltips(
        self, center: Center, browser: FlaskClient
    ) -> None:
        center.add_user("bora", roles="analyst")
        center.change_user("bora", name="\u202enimda", department="\u2066HR\n")
        with center.app.app_context():
            db.session.execute(sa.update(Role).values(name="\u202etsylana"))
            db.session.commit()

        page = BeautifulSoup(browser.get(URL, headers=PAGE).text, "html.parser")

        row = page.select(".xs-table > tbody > tr")[1]
        clips = row.select("td > .xs-clip")
        assert [clip.text for clip in clips] == ["\ufffdnimda", "\ufffdHR\ufffd", "\ufffdtsylana"]
        assert [clip["title"] for clip in clips] == [clip.text for clip in clips]

    @pytest.mark.parametrize("text", ["bor", "BORA", "lim", " bora "])
    def test_finds_a_part_of_a_username_or_a_name(
        self, center: Center, browser: FlaskClient, text: str
    ) -> None:
        center.add_user("bora", name="B. Lim")

        page = browser.get(URL, query_string={"q": text}, headers=PAGE)

        assert "1 user " in page.text
        assert "B. Lim" in page.text

    @pytest.mark.parametrize("text", ["%", "_", "nobody", "x" * 1000])
    def test_has_no_wildcards_in_a_search(self, browser: FlaskClient, text: str) -> None:
        page = browser.get(URL, query_string={"q": text}, headers=PAGE)

        assert "No user matches" in page.text

    def test_has_fifty_users_on_a_page(self, center: Center, browser: FlaskClient) -> None:
        for number in range(60):
            center.add_user(f"user{number:02}")

        first = browser.get(URL, headers=PAGE).text
        last = browser.get(f"{URL}?page=2", headers=PAGE).text

        assert (first.count('scope="row"'), last.count('scope="row"')) == (50, 11)
        assert "61 users" in first
        assert "Page 2 of 2" in last

    @pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 400, "²"])
    def test_shows_a_page_for_any_page_number(self, browser: FlaskClient, number: str) -> None:
        page = browser.get(URL, query_string={"page": number}, headers=PAGE)

        assert page.status_code == 200
        assert "admin" in page.text

    def test_is_for_superusers(self, center: Center) -> None:
        center.add_user("bora")

        assert center.browser("bora").get(URL, headers=PAGE).status_code == 403
        assert center.browser().get(URL, headers=PAGE).status_code == 302


class TestNewUser:
    def test_is_created(self, center: Center, browser: FlaskClient) -> None:
        answer = post(
            browser,
            "new",
            username="bora",
            password=NEW_PASSWORD,
            name=" Bora Lim ",
            department="Research",
            roles="editor,, analyst , editor",
            superuser="on",
        )

        user = center.user("bora")
        assert (answer.status_code, answer.location) == (303, f"{URL}{user['id']}")
        assert said(browser, answer) == ["The user bora was created."]
        assert (user["name"], user["department"]) == ("Bora Lim", "Research")
        assert user["roles"] == ["analyst", "editor"]
        assert user["is_superuser"]
        assert user["is_active"]
        assert sign_in(center.browser(), "bora", NEW_PASSWORD).status_code == 303

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({"username": "admin"}, "This username is taken."),
            ({"username": ""}, "A username has 1 to 150"),
            ({"username": "x" * 151}, "A username has 1 to 150"),
            ({"username": " bora"}, "A username has 1 to 150"),
            ({"username": "bo\x00ra"}, "A username has 1 to 150"),
            ({"username": "bo\u200bra"}, "A username has 1 to 150"),
            ({"password": "1234567"}, "A password has 8 to 256"),
            ({"password": "x" * 257}, "A password has 8 to 256"),
            ({"name": "x" * (MAX_NAME + 1)}, "A name has at most"),
            ({"department": "a\x07b"}, "A department has at most"),
            ({"roles": "x" * 51}, "At most 20 roles"),
            ({"roles": ",".join(map(str, range(21)))}, "At most 20 roles"),
        ],
    )
    def test_is_refused_with_a_message_and_keeps_the_inputs(
        self, center: Center, browser: FlaskClient, form: dict[str, str], message: str
    ) -> None:
        good = {"username": "bora", "password": NEW_PASSWORD, "department": "Research"}

        answer = post(browser, "new", **(good | form))

        assert answer.status_code == 400
        assert message in answer.text
        assert answer.text.count('aria-invalid="true"') == 1
        if "department" not in form:
            assert 'value="Research"' in answer.text
        assert NEW_PASSWORD not in answer.text
        assert len(center.rows("users")) == 1
        assert center.rows("roles") == []

    @pytest.mark.parametrize("username", ["x" * 150, "홍길동", "a b", "-"])
    def test_may_have_any_printable_username(
        self, center: Center, browser: FlaskClient, username: str
    ) -> None:
        assert post(browser, "new", username=username, password=NEW_PASSWORD).status_code == 303
        assert sign_in(center.browser(), username, NEW_PASSWORD).status_code == 303

    def test_is_refused_if_the_name_or_the_role_was_created_meanwhile(
        self, center: Center, browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        center.add_user("bora", roles="editor")
        taken = iter([None, object(), None, None])
        monkeypatch.setattr(accounts, "find_by_username", lambda _: next(taken))
        monkeypatch.setattr(accounts, "_roles", lambda _, names: [Role(name=n) for n in names])

        by_name = post(browser, "new", username="bora", password=NEW_PASSWORD)
        by_role = post(browser, "new", username="eve", password=NEW_PASSWORD, roles="editor")

        assert (by_name.status_code, by_role.status_code) == (400, 400)
        assert rules.USERNAME_TAKEN in by_name.text
        assert rules.AT_ONCE in by_role.text
        assert len(center.rows("users")) == 2


class TestProfile:
    def test_is_changed(self, center: Center, browser: FlaskClient) -> None:
        user_id = center.add_user("bora", name="B", roles="viewer, editor")

        answer = edit(
            browser, user_id, "profile", name="", department="Sales", role="editor", roles=""
        )

        assert answer.location == f"{URL}{user_id}"
        assert said(browser, answer) == ["The profile of bora was saved."]
        user = center.user("bora")
        assert (user["name"], user["department"], user["roles"]) == (None, "Sales", ["editor"])

    def test_keeps_the_inputs_if_it_is_refused(self, center: Center, browser: FlaskClient) -> None:
        user_id = center.add_user("bora", name="B")

        answer = edit(browser, user_id, "profile", name="C", department="x" * 151, roles="r")

        assert answer.status_code == 400
        assert 'value="C"' in answer.text
        assert center.user("bora")["name"] == "B"

    @pytest.mark.parametrize(
        "change",
        [
            Profile.parse("C", "HR", "viewer, editor"),
            Profile.parse("B", "Sales", "viewer, editor"),
            Profile.parse("B", "HR", "viewer"),
            Profile.parse("B", "HR", "viewer, editor, auditor"),
            Profile.parse("B", "HR", "viewer, auditor"),
        ],
    )
    def test_that_changed_meanwhile_is_shown_and_not_overwritten(
        self, center: Center, browser: FlaskClient, change: Profile
    ) -> None:
        user_id = center.add_user("bora", name="B", department="HR", roles="viewer, editor")
        stale = browser.get(f"{URL}{user_id}", headers=PAGE)
        with center.app.app_context():
            accounts.change_profile(user_id, change)
        before = center.user("bora")

        form: dict[str, str | list[str]] = {
            "name": "B",
            "department": "HR",
            "role": ["editor", "viewer"],
            "roles": "analyst",
        }
        answer = send(browser, stale, f"{user_id}/profile", **form)

        assert answer.status_code == 400
        assert rules.CHANGED_MEANWHILE in answer.text
        assert center.user("bora") == before
        assert field_value(answer, "name") == change.name
        assert field_value(answer, "department") == change.department
        assert checked_roles(answer) == sorted(change.roles)
        assert field_value(answer, "roles") == "analyst"  # as typed
        assert send(browser, answer, f"{user_id}/profile", **form).status_code == 303
        assert center.user("bora")["roles"] == ["analyst", "editor", "viewer"]

    def test_that_changed_meanwhile_is_shown_beside_another_refusal(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora", name="B", roles="viewer")
        stale = browser.get(f"{URL}{user_id}", headers=PAGE)
        with center.app.app_context():
            accounts.change_profile(user_id, Profile.parse("C", "", "auditor, viewer"))

        refused = send(browser, stale, f"{user_id}/profile", name="x" * 151, role=[])

        assert rules.NAME_RULE in refused.text
        assert "Changed meanwhile to: C" in refused.text
        assert 'id="roles-now">Changed meanwhile to: auditor, viewer' in refused.text
        assert '<fieldset class="xa-choice" aria-describedby="roles-now">' in refused.text
        assert center.user("bora")["name"] == "C"
        answer = send(browser, refused, f"{user_id}/profile", name="D")  # having seen both
        assert said(browser, answer) == ["The profile of bora was saved."]

    def test_with_unusual_characters_can_be_changed(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        center.change_user("bora", name="\u202e\"B'<b>\r\n&amp;\U0001f600 ", department="홍\t")

        assert edit(browser, user_id, "profile", name="B").status_code == 303

    def test_is_read_again_under_the_lock_before_the_comparison(self, center: Center) -> None:
        user_id = center.add_user("bora", roles="viewer")
        with center.app.app_context():
            user = accounts.find(user_id)
            assert user is not None
            shown = accounts.shown_profile(user)
            with center.app.app_context():
                accounts.change_profile(user_id, Profile.parse("", "", "editor"))

            with pytest.raises(AccountError):
                accounts.change_profile(user_id, Profile.parse("B", "", ""), shown=shown)

        assert center.user("bora")["roles"] == ["editor"]

    @pytest.mark.parametrize("user_id", ["999", "2147483648", "9" * 30, "x", "-1"])
    def test_of_an_unknown_user_is_not_found(self, browser: FlaskClient, user_id: str) -> None:
        assert browser.get(URL + user_id, headers=PAGE).status_code == 404


class TestPasswordReset:
    def test_ends_all_sessions_in_the_same_transaction(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        tokens = [center.token("bora") for _ in range(3)]

        answer = edit(browser, user_id, "password", password=NEW_PASSWORD, end_sessions="on")

        assert said(browser, answer) == ["The password of bora was reset. 3 sessions ended."]
        assert [center.status(token) for token in tokens] == [401, 401, 401]
        assert sign_in(center.browser(), "bora").status_code == 401
        assert sign_in(center.browser(), "bora", NEW_PASSWORD).status_code == 303
        (record,) = center.rows("xgen_revocations")
        assert (record["actor"], record["reason"]) == ("1", "password reset")

    def test_keeps_the_sessions_if_the_box_is_not_checked(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        token = center.token("bora")

        answer = edit(browser, user_id, "password", password=NEW_PASSWORD)

        assert said(browser, answer) == [
            "The password of bora was reset. The sessions of this user were not ended."
        ]
        assert center.status(token) == 200
        assert sign_in(center.browser(), "bora", NEW_PASSWORD).status_code == 303

    def test_ends_the_sessions_by_default(self, center: Center, browser: FlaskClient) -> None:
        page = browser.get(f"{URL}{center.add_user('bora')}", headers=PAGE)

        assert '<input type="checkbox" name="end_sessions" checked>' in page.text

    def test_changes_nothing_with_an_invalid_password(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        token = center.token("bora")

        answer = edit(browser, user_id, "password", password="short", end_sessions="on")

        assert answer.status_code == 400
        assert "A password has 8 to 256 characters." in answer.text
        assert center.status(token) == 200

    def test_changes_nothing_if_the_sessions_cannot_be_ended(
        self, center: Center, browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user_id = center.add_user("bora")

        def fail(*_: object, **__: object) -> None:
            raise AccountError("", rules.AT_ONCE)

        monkeypatch.setattr(sessions, "force_logout", fail)

        answer = edit(browser, user_id, "password", password=NEW_PASSWORD, end_sessions="on")

        assert answer.status_code == 400
        assert rules.AT_ONCE in answer.text
        assert sign_in(center.browser(), "bora", ADMIN_PASSWORD).status_code == 303

    def test_of_the_own_password_leads_to_the_sign_in_page(
        self, center: Center, browser: FlaskClient
    ) -> None:
        admin_id = center.user("admin")["id"]

        answer = edit(browser, admin_id, "password", password=NEW_PASSWORD, end_sessions="on")

        assert answer.location == "/login"
        assert said(browser, answer) == [OWN_PASSWORD]
        assert sign_in(browser, "admin", NEW_PASSWORD).status_code == 303


class TestAccess:
    def test_of_a_user_made_inactive_ends_together_with_the_sessions(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        token = center.token("bora")

        answer = edit(browser, user_id, "access", status="inactive")

        assert said(browser, answer) == ["bora was set to Inactive. 1 session ended."]
        assert center.status(token) == 401
        assert "Your account is inactive." in sign_in(center.browser(), "bora").text
        (record,) = center.rows("xgen_revocations")
        assert (record["sessions_ended"], record["reason"]) == (1, "made inactive")

    def test_can_be_restored(self, center: Center, browser: FlaskClient) -> None:
        user_id = center.add_user("bora")
        token = center.token("bora")
        edit(browser, user_id, "access", status="inactive")

        answer = edit(browser, user_id, "access", status="active")

        assert said(browser, answer) == ["bora was set to Active."]
        assert sign_in(center.browser(), "bora").status_code == 303
        assert center.status(token) == 401

    def test_superuser_rights_are_granted_and_withdrawn(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        other = center.browser("bora")

        edit(browser, user_id, "access", status="active", superuser="on")
        allowed = other.get(URL, headers=PAGE).status_code
        edit(browser, user_id, "access", status="active")

        assert allowed == 200
        assert other.get(URL, headers=PAGE).status_code == 403
        assert center.rows("xgen_revocations") == []

    @pytest.mark.parametrize("form", [{"status": "active"}, {"status": "inactive"}, {}])
    def test_of_the_last_superuser_cannot_be_withdrawn(
        self, center: Center, browser: FlaskClient, form: dict[str, str]
    ) -> None:
        center.add_user("bora", superuser=True)
        center.change_user("bora", is_active=False)

        answer = edit(browser, center.user("admin")["id"], "access", **form)

        assert answer.status_code == 400
        assert LAST_SUPERUSER in answer.text
        assert center.user("admin")["is_superuser"]
        assert center.user("admin")["is_active"]
        assert browser.get(URL, headers=PAGE).status_code == 200

    @pytest.mark.parametrize(
        ("form", "result", "where"),
        [
            ({"status": "active"}, "You gave up your SuperUser rights.", "/"),
            (
                {"status": "inactive"},
                "You set your own account to Inactive. 1 session ended.",
                "/login",
            ),
        ],
    )
    def test_of_the_own_account_changes_after_a_question_only(
        self, center: Center, browser: FlaskClient, form: dict[str, str], result: str, where: str
    ) -> None:
        center.add_user("bora", superuser=True)
        admin_id = center.user("admin")["id"]
        before = center.user("admin")

        asked = edit(browser, admin_id, "access", **form, name="Typed", password=NEW_PASSWORD)

        assert (asked.status_code, center.user("admin")) == (200, before)
        assert NEW_PASSWORD not in asked.text
        answer = send(browser, asked, f"{admin_id}/access")
        assert answer.location == where
        assert said(browser, answer) == [result]
        assert said(browser, answer) == []

    def test_of_the_own_account_stays_if_the_question_is_answered_with_no(
        self, center: Center, browser: FlaskClient
    ) -> None:
        center.add_user("bora", superuser=True)
        admin_id = center.user("admin")["id"]
        before = center.user("admin")

        asked = edit(browser, admin_id, "access", status="inactive", superuser="on", name="Typed")
        page = send(browser, asked, f"{admin_id}/typed")

        assert (page.status_code, center.user("admin")) == (200, before)
        assert field_value(page, "name") == "Typed"

    def test_that_is_sent_again_after_it_was_saved_is_no_error(
        self, center: Center, browser: FlaskClient
    ) -> None:
        user_id = center.add_user("bora")
        page = browser.get(f"{URL}{user_id}", headers=PAGE)
        send(browser, page, f"{user_id}/access", status="inactive")

        again = send(browser, page, f"{user_id}/access", status="inactive")

        assert said(browser, again)[-1] == AS_CHOSEN

    @pytest.mark.parametrize(
        ("columns", "form"),
        [
            ({"is_active": False}, {"status": "active", "superuser": "on"}),
            ({"is_superuser": True}, {"status": "inactive"}),
        ],
    )
    def test_that_changed_meanwhile_is_shown_and_not_overwritten(
        self, center: Center, browser: FlaskClient, columns: dict[str, bool], form: dict[str, str]
    ) -> None:
        user_id = center.add_user("bora")
        stale = browser.get(f"{URL}{user_id}", headers=PAGE)
        center.change_user("bora", **columns)
        before = center.user("bora")

        answer = send(browser, stale, f"{user_id}/access", **form)

        assert answer.status_code == 400
        assert rules.CHANGED_MEANWHILE in answer.text
        assert center.user("bora") == before
        now = BeautifulSoup(answer.text, "html.parser")
        chosen = [str(field["value"]) for field in now.select("[name=status][checked]")]
        assert chosen == ["inactive"]  # the new value, or the typed one
        assert now.select("[name=superuser][checked]")
        assert send(browser, answer, f"{user_id}/access", **form).status_code == 303
        assert center.user("bora")["is_active"] == (form["status"] == "active")

    def test_remains_with_one_of_two_superusers_who_demote_each_other(self, center: Center) -> None:
        center.add_user("bora", superuser=True)
        ids = [center.user(name)["id"] for name in ("admin", "bora")]
        outcomes: list[str] = []

        def demote(user_id: int, start: threading.Barrier) -> None:
            with center.app.app_context():
                start.wait()
                try:
                    accounts.change_access(user_id, active=True, superuser=False, actor="test")
                    outcomes.append("done")
                except AccountError as error:
                    outcomes.append(error.message)

        for _ in range(10):
            outcomes.clear()
            center.change_user("admin", is_superuser=True)
            center.change_user("bora", is_superuser=True)
            start = threading.Barrier(2)
            threads = [threading.Thread(target=demote, args=(each, start)) for each in ids]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert sorted(outcomes) == sorted(["done", LAST_SUPERUSER])
            assert sum(row["is_superuser"] for row in center.rows("users")) == 1


class TestForms:
    @pytest.mark.parametrize("path", ["new", "1/profile", "1/password", "1/access"])
    def test_need_the_token_of_this_session(
        self, center: Center, browser: FlaskClient, path: str
    ) -> None:
        form = {"username": "eve", "password": NEW_PASSWORD, "status": "inactive", "name": "Eve"}

        without = browser.post(URL + path, data=form, headers=PAGE)
        from_afar = browser.post(
            URL + path, data=form, headers={**PAGE, "Sec-Fetch-Site": "cross-site"}
        )

        assert without.status_code == 403
        assert from_afar.status_code == 403
        assert [row["username"] for row in center.rows("users")] == ["admin"]
        assert center.user("admin")["name"] is None
        assert center.user("admin")["is_active"]

    @pytest.mark.parametrize("path", ["new", "1/profile", "1/password", "1/access"])
    def test_are_for_superusers(self, center: Center, path: str) -> None:
        center.add_user("bora")

        assert center.browser("bora").post(URL + path, headers=PAGE).status_code == 403
        assert center.browser().post(URL + path, headers=PAGE).location == SIGN_IN

    @pytest.mark.parametrize("form", ["profile", "access"])
    def test_without_the_values_that_were_shown_change_nothing(
        self, center: Center, browser: FlaskClient, form: str
    ) -> None:
        user_id = center.add_user("bora")
        before = center.user("bora")

        typed = {"profile": {"name": "C"}, "access": {"status": "inactive"}}[form]
        answer = edit(browser, user_id, form, **typed, **{f"shown_{form}": ""})

        assert answer.status_code == 400
        assert rules.CHANGED_MEANWHILE in answer.text
        assert center.user("bora") == before

    @pytest.mark.parametrize("path", ["1/profile", "1/password", "1/access"])
    def test_redirect_a_get_request_to_the_user_s_page(
        self, browser: FlaskClient, path: str
    ) -> None:
        answered = browser.get(f"{URL}{path}?lang=ko", headers=PAGE)

        assert (answered.status_code, answered.location) == (303, f"{URL}1?lang=ko")

    def test_of_a_forced_out_administrator_change_nothing(
        self, center: Center, browser: FlaskClient
    ) -> None:
        page = browser.get(f"{URL}new", headers=PAGE).text
        found = re.search(r'name="csrf_token" value="(\w+)"', page)
        assert found is not None
        center.force_logout("admin")

        form = {"csrf_token": found[1], "username": "eve", "password": NEW_PASSWORD}
        answer = browser.post(f"{URL}new", data=form, headers=PAGE)

        assert answer.status_code == 303
        assert answer.location == SIGN_IN
        assert len(center.rows("users")) == 1

    @pytest.mark.parametrize("code", ["inactive", "created", "password-sessions", "%3Cb%3Eevil"])
    def test_show_no_result_that_an_address_claims(
        self, center: Center, browser: FlaskClient, code: str
    ) -> None:
        for path in ("", "1", "new"):
            page = browser.get(f"{URL}{path}?done={code}", headers=PAGE)
            text = BeautifulSoup(page.text, "html.parser").get_text()

            assert 'class="xs-notice' not in page.text
            assert "Inactive." not in text
            assert "created" not in text
            assert "evil" not in text
