"""The screen Login Management: its contents, and the effect of its buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup, Tag
from flask import Flask, Response
from flask_login import login_user
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import (
    FORCE_LOGOUT,
    IPHONE,
    SCREEN,
    WINDOWS,
    cards,
    form_for,
    page_of,
    results,
    rows,
    sign_in,
    with_screen,
)
from xgen_flask_sessions import UserInactive, XgenSessions, clock
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.store import sign_ins
from xgen_flask_sessions.store.sign_ins import PastSignIn


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=with_screen)


@pytest.fixture
def one_host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host on SQLite, for tests whose result does not depend on the database."""
    return make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_TIMEZONE="Asia/Seoul")


def test_screen_is_in_the_sidebar_under_users_and_access_control(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    page = page_of(admin)

    group = page.select_one(".xs-group")
    assert group is not None
    assert group.summary is not None
    assert group.summary.text == "Users / Access Control"
    current = group.select_one("a[aria-current=page]")
    assert current is not None
    assert (current.text, current["href"]) == ("Login Management", SCREEN)


def test_title_lead_and_refresh(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    page = page_of(admin)

    assert page.h1 is not None
    assert page.h1.text == "Login Management"
    assert len(page.select("link[href$='xgen-sessions.css']")) == 1
    assert (
        "List of users currently signed in. You can revoke all sessions of a user immediately "
        "when needed." in page.text
    )
    refresh = page.select_one(".xs-bar button")
    assert refresh is not None
    assert refresh.text.split()[-1] == "Refresh"
    form = refresh.find_parent("form")
    assert isinstance(form, Tag)
    assert (form["method"], form["action"]) == ("get", SCREEN)


def test_cards_count_users_sessions_and_superusers(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    host.add_user("absent", is_superuser=True)
    bora = host.add_user("bora")
    for _ in range(3):
        sign_in(host, bora)

    page = page_of(admin)

    assert cards(page) == {"Active Users": 2, "Active Sessions": 4, "SuperUsers": 1}


def test_thousands_are_separated_by_commas(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
    now = clock.now_us()
    many = [
        PastSignIn(user_id="crowd", signed_in_us=now - number, expires_us=now + 3600 * SECOND_US)
        for number in range(1, 1235)
    ]
    with one_host.app.app_context():
        sign_ins.record_past(one_host.db.session(), many)
        one_host.db.session.commit()

    page = page_of(admin)

    assert [card.text for card in page.select(".xs-card dd")] == ["2", "1,235", "1"]
    assert [link.text for link in page.select(".xs-count")] == ["1,234", "1"]


def test_one_row_per_user_newest_last_login_first_unrecorded_last(host: Host) -> None:
    ids = {name: host.add_user(name) for name in ("first", "second", "agent")}
    admin_id = host.add_user(
        "admin", is_superuser=True, display_name="Site operator", department="Platform"
    )
    for at, name in enumerate(("first", "second", "agent")):
        with freeze_time(f"2026-05-25 04:00:0{at}"):
            sign_in(host, ids[name], ip=f"203.0.113.{at}")
    with host.app.app_context():  # like an imported row
        host.db.session.execute(
            sa.text("UPDATE xgen_user_logins SET last_login_us = NULL, last_ip = NULL "
                    "WHERE user_id = :agent"), {"agent": ids["agent"]},
        )  # fmt: skip
        host.db.session.commit()

    with freeze_time("2026-05-25 04:36:49"):
        admin = sign_in(host, admin_id)
        page = page_of(admin)

    assert rows(page) == [
        ["admin SUPER you", "Site operator", "Platform", "1", "2026. 5. 25. 04:36:49",
         "198.51.100.7", "Force Logout"],
        ["second", "-", "-", "1", "2026. 5. 25. 04:00:01", "203.0.113.1", "Force Logout"],
        ["first", "-", "-", "1", "2026. 5. 25. 04:00:00", "203.0.113.0", "Force Logout"],
        ["agent", "-", "-", "1", "-", "-", "Force Logout"],
    ]  # fmt: skip


def test_times_are_in_the_configured_zone_and_the_zone_is_named(one_host: Host) -> None:
    with freeze_time("2026-05-25 04:36:49"):
        admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
        page = page_of(admin)
        korean = page_of(admin, **{"X-Language": "ko"})

    assert "2026. 5. 25. 13:36:49" in page.text
    assert "Korean Standard Time (UTC+09:00)" in page.text
    assert "2026. 5. 25. 13시 36분 49초" in korean.text
    assert "한국 표준시 (UTC+09:00)" in korean.text


def test_korean_screen(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    page = page_of(admin, **{"X-Language": "ko"})

    assert page.html is not None
    assert page.html["lang"] == "ko"
    headings = [th.text for th in page.select(".xs-list > thead th")]
    assert headings == [
        "사용자", "이름", "부서", "활성 세션", "최근 로그인", "마지막 IP", "동작",
    ]  # fmt: skip
    assert set(cards(page)) == {"활성 사용자", "활성 세션", "슈퍼관리자"}
    for text in (
        "사용자 / 접근제어",
        "로그인 관리",
        (
            "현재 시스템에 로그인되어 있는 사용자 목록입니다. "
            "필요 시 사용자별로 모든 세션을 즉시 회수할 수 있습니다."
        ),
        "새로고침",
        "강제 로그아웃",
    ):
        assert text in page.text


def test_count_expands_the_row_without_scripts(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.add_user("bora")
    with freeze_time("2026-05-25 08:02:11"):
        sign_in(host, bora, agent=IPHONE, ip="203.0.113.9")
        page = page_of(sign_in(host, host.add_user("root", is_superuser=True)))
        link = page.find("a", attrs={"aria-label": "1 active session of bora"})
        assert isinstance(link, Tag)
        assert not page.select(".xs-sessions"), "no sessions are loaded before a row is expanded"

        expanded = page_of(admin, str(link["href"]))

    (table,) = expanded.select(".xs-sessions")
    headings = [th.text for th in table.select("th")]
    cells = [" ".join(td.text.split()) for td in table.select("td")]
    assert headings == ["Browser", "Device", "Signed in", "IP", "Expires", "Action"]
    assert cells == [
        "Safari 19", "iPhone", "2026. 5. 25. 08:02:11 just now", "203.0.113.9",
        "2026. 5. 26. 08:02:11", "End",
    ]  # fmt: skip


def test_expanded_row_marks_ones_own_session(one_host: Host) -> None:
    admin_id = one_host.add_user("admin", is_superuser=True)
    sign_in(one_host, admin_id, agent=IPHONE)
    admin = sign_in(one_host, admin_id, agent=WINDOWS)

    fragment = page_of(admin, f"{SCREEN}sessions?user_id={admin_id}")

    own, other = (" ".join(row.text.split()) for row in fragment.select("tbody tr"))
    assert own.startswith("Chrome 148 this session Windows")
    assert other.startswith("Safari 19 iPhone")


def test_unknown_browser_is_labelled_as_unknown(one_host: Host) -> None:
    user_id = one_host.add_user("admin", is_superuser=True)
    admin = sign_in(one_host, user_id, agent="")

    fragment = page_of(admin, f"{SCREEN}sessions?user_id={user_id}")

    assert next(td.text.strip() for td in fragment.select("td")).startswith("Unknown browser")


def test_force_logout_takes_one_click_and_shows_the_result(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora_id = host.add_user("bora", display_name="Bora Lim")
    tokens = [host.issue(bora_id) for _ in range(3)]
    page = page_of(admin)

    response = admin.post(FORCE_LOGOUT, data=form_for(page, "bora"))

    assert response.status_code == 303
    after = page_of(admin, response.location)
    assert results(after) == {"bora": "✓ Signed out 3 sessions"}
    assert cards(after) == {"Active Users": 1, "Active Sessions": 1, "SuperUsers": 1}
    assert [row[0] for row in rows(after)] == [row[0] for row in rows(page)]
    assert [row[0] for row in rows(page_of(admin))] == ["admin SUPER you"]
    assert [host.status(token) for token in tokens] == [401, 401, 401]
    assert host.status(host.issue(bora_id)) == 200, "the account stays active and can sign in again"
    (record,) = host.rows("xgen_revocations")
    assert (record["user_id"], record["sessions_ended"]) == (bora_id, 3)
    assert record["actor_ip"] == "127.0.0.1"


def test_a_result_is_shown_to_the_acting_administrator_only_and_expires(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
    other = sign_in(one_host, one_host.add_user("other", is_superuser=True))
    one_host.issue(one_host.add_user("bora"))
    target = admin.post(FORCE_LOGOUT, data=form_for(page_of(admin), "bora")).location

    shown = results(page_of(admin, target))
    elsewhere = results(page_of(other, target))
    with freeze_time(auto_tick_seconds=0) as clock:
        clock.tick(3600)
        later = results(page_of(admin, target))

    assert shown == {"bora": "✓ Signed out 1 session"}
    assert elsewhere == later == {}


def test_korean_result(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
    one_host.issue(one_host.add_user("bora"))

    target = admin.post(FORCE_LOGOUT, data=form_for(page_of(admin), "bora")).location

    shown = results(page_of(admin, target, **{"X-Language": "ko"}))
    assert shown == {"bora": "✓ 로그아웃됨 세션 1개"}


def test_forcing_oneself_out_leads_to_the_sign_in_page(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    response = admin.post(FORCE_LOGOUT, data=form_for(page_of(admin), "admin"))

    assert (response.status_code, response.location) == (303, "/sign-in")
    again = admin.get(SCREEN, headers={"Accept": "text/html"})
    assert (again.status_code, again.location) == (
        302,
        f"/sign-in?next={SCREEN.replace('/', '%2F')}",
    )


def test_a_deployment_can_require_confirmation(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, extras=with_screen, XGEN_SESSIONS_CONFIRM_FORCE_LOGOUT=True)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    token = host.issue(host.add_user("bora"))
    page = page_of(admin)
    assert not page.select("button[name=user_id]")
    link = page.find("a", attrs={"aria-label": "Force Logout bora"})
    assert isinstance(link, Tag)

    confirmation = page_of(admin, str(link["href"]))

    assert "End 1 session of bora? This cannot be undone." in confirmation.text
    assert confirmation.title is not None
    assert confirmation.title.text == "Force Logout · Login Management · XGEN"
    assert host.status(token) == 200
    form = confirmation.select_one("form[method=post]")
    assert form is not None
    data = {str(field["name"]): str(field["value"]) for field in form.find_all("input")}
    assert admin.post(str(form["action"]), data=data).status_code == 303
    assert host.status(token) == 401


@pytest.mark.parametrize(
    ("headers", "without_token"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_forms_of_other_sites_do_nothing(
    one_host: Host, headers: dict[str, str], without_token: bool
) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
    token = one_host.issue(one_host.add_user("bora"))
    data = form_for(page_of(admin), "bora")
    if without_token:
        del data["csrf_token"]

    response = admin.post(FORCE_LOGOUT, data=data, headers=headers)

    assert response.status_code in (401, 403) or response.location == "/sign-in"
    assert one_host.status(token) == 200
    assert one_host.rows("xgen_revocations") == []


def test_a_form_token_is_bound_to_its_session(one_host: Host) -> None:
    admin_id = one_host.add_user("admin", is_superuser=True)
    token = one_host.issue(one_host.add_user("bora"))
    data = form_for(page_of(sign_in(one_host, admin_id)), "bora")

    response = sign_in(one_host, admin_id).post(FORCE_LOGOUT, data=data)

    assert response.status_code == 403
    assert one_host.status(token) == 200


def test_a_page_left_open_for_hours_still_works(one_host: Host) -> None:
    with freeze_time("2026-05-25 08:00:00") as clock:
        admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
        token = one_host.issue(one_host.add_user("bora"))
        data = form_for(page_of(admin), "bora")
        clock.tick(23 * 3600)

        response = admin.post(FORCE_LOGOUT, data=data)

        assert response.status_code == 303
        assert one_host.status(token) == 401


def test_only_administrators_can_open_the_screen(one_host: Host) -> None:
    bora = sign_in(one_host, one_host.add_user("bora"))

    assert bora.get(SCREEN).status_code == 403
    assert bora.get(f"{SCREEN}sessions?user_id=1").status_code == 403
    assert bora.post(FORCE_LOGOUT, data={"user_id": "1"}).status_code == 403
    anonymous = one_host.client().get(SCREEN, headers={"Sec-Fetch-Mode": "navigate"})
    assert (anonymous.status_code, anonymous.location) == (
        302,
        "/sign-in?next=%2Fadmin%2Fadmin-active-sessions%2F",
    )
    posted = one_host.client().post(FORCE_LOGOUT, data={"user_id": "1"})
    assert (posted.status_code, posted.location.partition("?")[0]) == (303, "/sign-in")


def test_other_users_allowed_by_the_host_cannot_force_out_a_superuser(
    make_host: MakeHost, database_url: str
) -> None:
    def with_helpdesk(app: Flask) -> Mapping[str, Any]:
        return {**with_screen(app), "can_view": lambda user: user.department == "Helpdesk"}

    host = make_host(database_url, extras=with_helpdesk)
    helper = sign_in(host, host.add_user("helper", department="Helpdesk"))
    root_id = host.add_user("root", is_superuser=True)
    root, bora = host.issue(root_id), host.issue(host.add_user("bora"))
    page = page_of(helper)
    buttons = [str(button["aria-label"]) for button in page.select("tbody .xs-action button")]

    refused = helper.post(FORCE_LOGOUT, data=form_for(page, "bora") | {"user_id": root_id})
    asked = helper.get(f"{SCREEN}confirm?user_id={root_id}")
    by_api = helper.post(f"/sessions/users/{root_id}/force-logout")
    done = helper.post(FORCE_LOGOUT, data=form_for(page, "bora"))

    assert sorted(buttons) == ["Force Logout bora", "Force Logout helper"]
    assert (refused.status_code, by_api.status_code, done.status_code) == (403, 403, 303)
    assert asked.status_code == 403
    assert (host.status(root), host.status(bora)) == (200, 401)
    assert [record["user_id"] for record in host.rows("xgen_revocations")] != [root_id]


@pytest.mark.parametrize(
    "page", ["0", "-1", "abc", "99999999999999999999", "2", "", "\N{FULLWIDTH DIGIT ONE}"]
)
def test_any_page_number_shows_a_page(one_host: Host, page: str) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    shown = page_of(admin, f"{SCREEN}?page={page}")

    assert len(rows(shown)) == 1


def test_a_page_has_fifty_users(host: Host) -> None:
    admin_id = host.add_user("admin", is_superuser=True)
    with freeze_time("2026-05-25 08:00:00") as clock:
        for number in range(59):
            host.issue(host.add_user(f"user{number:02}"))
            clock.tick(1)
        admin = sign_in(host, admin_id)
        first, second = page_of(admin), page_of(admin, f"{SCREEN}?page=2")

    assert [row[0] for row in rows(first)] == ["admin SUPER you"] + [
        f"user{number:02}" for number in range(58, 9, -1)
    ]
    assert [row[0] for row in rows(second)] == [f"user{number:02}" for number in range(9, -1, -1)]
    assert cards(first) == cards(second) == {
        "Active Users": 60, "Active Sessions": 60, "SuperUsers": 1,
    }  # fmt: skip
    pager = second.select_one(".xs-pager")
    assert pager is not None
    assert "Page 2 of 2" in pager.text
    assert [a.text for a in pager.select("a")] == ["Previous"]


def test_sessions_that_expired_or_ended_are_not_active(host: Host) -> None:
    with freeze_time("2026-05-25 08:00:00") as clock:
        admin_id = host.add_user("admin", is_superuser=True)
        bora_id = host.add_user("bora")
        host.issue(bora_id, lifetime=60)
        ended = host.issue(bora_id)
        host.end_session(ended.session_id)
        renewed = host.renew(host.issue(bora_id))
        admin = sign_in(host, admin_id)
        before = cards(page_of(admin))
        clock.tick(61)
        after = cards(page_of(admin))

        listed = admin.get(f"/sessions/users/{bora_id}").get_json()["sessions"]

    assert (before["Active Sessions"], after["Active Sessions"]) == (3, 2)
    assert [session["session_id"] for session in listed] == [renewed.session_id]


def test_a_login_without_an_active_session_is_not_listed(host: Host) -> None:
    with freeze_time("2026-05-25 08:00:00") as clock:
        admin_id = host.add_user("admin", is_superuser=True)
        host.issue(host.add_user("bora"), lifetime=60)
        clock.tick(60)
        admin = sign_in(host, admin_id)

        page = page_of(admin)

    assert [row[0] for row in rows(page)] == ["admin SUPER you"]
    assert cards(page)["Active Users"] == 1


def test_a_deleted_user_is_listed_by_id_and_can_be_forced_out(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora_id = host.add_user("bora")
    token = host.issue(bora_id)
    host.delete_user(bora_id)

    page = page_of(admin)
    admin.post(FORCE_LOGOUT, data=form_for(page, bora_id))

    assert [bora_id, "-", "-"] in [row[:3] for row in rows(page)]
    assert host.status(token) == 401


def test_forcing_out_an_unknown_user_is_refused(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
    data = form_for(page_of(admin), "admin")

    for user_id in ("4711", "*", "", "x" * 300, "\N{SNOWMAN}"):
        response = admin.post(FORCE_LOGOUT, data={**data, "user_id": user_id})
        assert response.status_code == 400, user_id
    assert one_host.rows("xgen_revocations") == []


def test_headers_forbid_inline_scripts_frames_and_caching(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    response = admin.get(SCREEN)

    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    page = BeautifulSoup(response.text, "html.parser")
    assert not page.select("style, [style], script:not([src])")
    assert not [tag for tag in page.find_all(True) for name in tag.attrs if name.startswith("on")]


def test_static_files_may_be_cached(one_host: Host) -> None:
    with one_host.client().get("/sessions/static/session-guard.js") as response:
        assert response.status_code == 200
        assert response.headers.get("Cache-Control") != "no-store"


def test_names_are_shown_as_text(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))
    one_host.issue(
        one_host.add_user(
            "<script>alert(1)</script>", display_name='"><img src=x onerror=alert(1)>'
        )
    )

    page = page_of(admin)

    assert rows(page)[0][:2] == ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>']
    assert not page.select("img, .xs-table script")


def test_cards_and_rows_agree_with_the_json_api(host: Host) -> None:
    admin_id = host.add_user("admin", is_superuser=True)
    admin = sign_in(host, admin_id)
    for name in ("bora", "jwm"):
        user_id = host.add_user(name)
        host.issue(user_id)
        host.issue(user_id)

    page = page_of(admin)
    answer = host.client().get("/sessions/users", headers=bearer(host.issue(admin_id))).get_json()

    # The token of the API call is one more session of the administrator.
    assert answer["summary"]["active_users"] == cards(page)["Active Users"]
    assert answer["summary"]["active_sessions"] == cards(page)["Active Sessions"] + 1
    assert {user["username"]: user["active_sessions"] for user in answer["users"]} == {
        row[0].removesuffix(" SUPER you"): int(row[3]) + row[0].endswith("you")
        for row in rows(page)
    }


def test_a_parameter_that_is_given_twice_is_a_fault_as_in_the_api(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    page = page_of(admin, f"{SCREEN}?q=admin&q=bora")

    alert = page.select_one("[role=alert]")
    assert alert is not None
    assert alert.text == "Each parameter may be given only once."
    assert page.select("tbody tr[id]") == []
    assert admin.get("/sessions/users?q=admin&q=bora").status_code == 400


@pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "x" * 400, "*", "%F0%9F%92%A9", "'--"])
def test_any_text_in_the_address_is_harmless(host: Host, text: str) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    for query in (f"?expand={text}", f"?kept={text}", f"sessions?user_id={text}"):
        assert admin.get(SCREEN + query).status_code == 200, query
    assert admin.get(f"{SCREEN}confirm?user_id={text}").status_code == 404
    assert admin.get(f"/sessions/users/{text}").status_code == 404


def test_an_administrator_with_a_flask_login_session_only(
    make_host: MakeHost, database_url: str
) -> None:
    def with_host_login(app: Flask) -> Mapping[str, Any]:
        @app.route("/host-sign-in/<user_id>")
        def host_sign_in(user_id: str) -> str:
            login_user(app.extensions["xgen_sessions"].users.get(user_id))
            return "in"

        app.login_manager.user_loader(  # type: ignore[attr-defined]
            lambda user_id: app.extensions["xgen_sessions"].users.get(user_id)
        )
        return with_screen(app)

    host = make_host(database_url, extras=with_host_login)
    admin, other = host.client(), host.client()
    admin.get(f"/host-sign-in/{host.add_user('admin', is_superuser=True)}")
    other.get(f"/host-sign-in/{host.add_user('other', is_superuser=True)}")
    bora_id = host.add_user("bora")
    token = host.issue(bora_id)
    data = form_for(page_of(admin), "bora")

    from_another_session = other.post(FORCE_LOGOUT, data=data)
    by_another_site = admin.post(
        f"/sessions/users/{bora_id}/force-logout", headers={"Sec-Fetch-Site": "cross-site"}
    )
    before = host.status(token)
    done = admin.post(FORCE_LOGOUT, data=data)

    assert (from_another_session.status_code, by_another_site.status_code) == (403, 403)
    assert before == 200
    assert (done.status_code, host.status(token)) == (303, 401)


def host_with_token_and_flask_login_session(make_host: MakeHost, database_url: str) -> Host:
    """Return a host whose sign-in page starts a Flask-Login session in addition to the token."""

    def extras(app: Flask) -> Mapping[str, Any]:
        def find(user_id: str) -> Any:
            return app.extensions["xgen_sessions"].users.get(user_id)

        @app.route("/host-sign-in/<user_id>")
        def host_sign_in(user_id: str) -> Response:
            response = Response("in")
            login_user(find(user_id))
            sessions = XgenSessions()
            sessions.set_cookie(response, sessions.issue(user_id))
            return response

        app.login_manager.user_loader(find)  # type: ignore[attr-defined]
        return with_screen(app)

    return make_host(database_url, extras=extras)


def test_a_revoked_token_is_refused_despite_a_flask_login_session(
    make_host: MakeHost, database_url: str
) -> None:
    host = host_with_token_and_flask_login_session(make_host, database_url)
    admin_id, bora_id = host.add_user("admin", is_superuser=True), host.add_user("bora")
    admin, bora = host.client(), host.issue(bora_id)
    admin.get(f"/host-sign-in/{admin_id}")
    data = form_for(page_of(admin), "bora")

    host.force_logout(admin_id)

    assert admin.get(SCREEN).status_code == 401
    assert admin.get("/sessions/users").get_json()["code"] == "session_revoked"
    assert admin.post(f"/sessions/users/{bora_id}/force-logout").status_code == 401
    assert admin.post(FORCE_LOGOUT, data=data).location.startswith("/sign-in")
    assert host.status(bora) == 200


def test_a_token_of_another_user_than_the_flask_login_session_is_refused(
    make_host: MakeHost, database_url: str
) -> None:
    host = host_with_token_and_flask_login_session(make_host, database_url)
    admin = host.client()
    admin.get(f"/host-sign-in/{host.add_user('admin', is_superuser=True)}")
    admin.set_cookie("xgen_token", host.issue(host.add_user("bora")).token)

    assert admin.get(SCREEN).status_code == 400
    assert admin.get("/sessions/users").status_code == 400


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**63, 10**300])
def test_an_id_out_of_the_columns_range_is_not_found(host: Host, number: int) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    assert admin.get(f"/sessions/users/{number}").status_code == 404
    assert admin.post(f"/sessions/users/{number}/force-logout").status_code == 404
    assert admin.get(f"{SCREEN}confirm?user_id={number}").status_code == 404
    with host.app.app_context(), pytest.raises((UserInactive, ValueError)):
        host.sessions.issue(str(number))


def test_a_database_lost_after_the_token_was_checked_is_503(one_host: Host) -> None:
    admin = sign_in(one_host, one_host.add_user("admin", is_superuser=True))

    def fail(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "active_until_us" in statement:
            raise sa.exc.OperationalError(statement, {}, Exception("the server went away"))

    with one_host.calling_before_statements(fail):
        answers = [admin.get("/sessions/users"), admin.get(SCREEN)]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all(answer.headers["Retry-After"] for answer in answers)
