"""Sign-in, force logout and layout in real browsers, against a running Admin Center."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.support.admin_center import PASSWORD, UNLIMITED, AdminCenter
from tests.support.chromium import GALAXY, IPHONE, SCREEN, WHALE, sign_in
from tests.support.paths import ELSEWHERE, HERE
from tests.support.standalone import Center, center_maker
from xgen_flask_sessions import PastSignIn, clock
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import db

pytestmark = pytest.mark.slow

BEAT_MS = 3000
"""Milliseconds between two checks by the workspace whether its session is still valid."""

LONG = "n" * 150
USERS = {"bora": ("Bora Lim", "Research"), "jwm": ("", ""), LONG: ("이름 " * 37, "d" * 150)}
"""The users besides the administrator: each username with a name and a department."""

TEXTS = {
    "en-US": {
        "forced": "An administrator ended your session",
        "result": "✓ Signed out\n2 sessions",
        "button": "Force Logout bora",
        "cards": ["Active Users", "Active Sessions", "SuperUsers"],
    },
    "ko-KR": {
        "forced": "관리자가",
        "result": "✓ 로그아웃됨\n세션 2개",
        "button": "강제 로그아웃 bora",
        "cards": ["활성 사용자", "활성 세션", "슈퍼관리자"],
    },
}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser") / "instance"


@pytest.fixture(scope="module")
def inside(instance: Path) -> Iterator[Center]:
    """Yield the Admin Center's application in this process, with :data:`USERS`."""
    with center_maker(instance) as make:
        center = make(ADMIN_PASSWORD=PASSWORD)
        for username, (name, department) in USERS.items():
            center.add_user(username, PASSWORD, name=name, department=department)
        yield center


@pytest.fixture(scope="module")
def served(instance: Path, inside: Center) -> Iterator[AdminCenter]:
    """Yield the running Admin Center that serves every test of this module."""
    with AdminCenter(instance, **UNLIMITED) as running:
        yield running


@pytest.fixture
def center(served: AdminCenter, inside: Center) -> AdminCenter:
    """Return the running Admin Center, without any recorded sign-ins."""
    with inside.app.app_context(), db.engine.begin() as connection:
        for rows in ("xgen_sessions", "xgen_revocations", "xgen_user_logins WHERE user_id <> '*'"):
            connection.exec_driver_sql(f"DELETE FROM {rows}")
    return served


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, center: AdminCenter) -> Iterator[OpenPage]:
    """Yield a function that opens a page in a new browser profile; script errors fail the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def listen(message: ConsoleMessage, tolerated: str) -> None:
        if message.type == "error" and not re.search(tolerated, message.text):
            complaints.append(message.text)

    def new(
        *, locale: str = "en-US", width: int = 1440, tolerated: str = "401", **options: Any
    ) -> Page:
        # Some tests provoke refused calls: errors that match ``tolerated`` are ignored.
        context = browser.new_context(
            base_url=center.url, locale=locale, viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: listen(message, tolerated))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def signed_in(page: Page, username: str) -> Page:
    """Sign in with one HTTP request, without loading a page."""
    form: dict[str, str | float | bool] = {"username": username, "password": PASSWORD}
    assert page.request.post("/login", form=form, max_redirects=0).status == 303
    return page


def shown_summary(page: Page) -> list[int]:
    return [int(text) for text in page.locator(".xs-card dd").all_inner_texts()]


def api_summary(page: Page) -> list[int]:
    summary = page.request.get("/sessions/users").json()["summary"]
    return [summary["active_users"], summary["active_sessions"], summary["superusers"]]


def shown_counts(page: Page) -> dict[str, int]:
    return {
        row.locator(".xs-username").inner_text(): int(row.locator(".xs-count").inner_text())
        for row in page.locator(".xs-table > tbody > tr:not(.xs-detail)").all()
    }


def api_counts(page: Page) -> dict[str, int]:
    users = page.request.get("/sessions/users").json()["users"]
    return {user["username"]: user["active_sessions"] for user in users}


@pytest.mark.parametrize("locale", TEXTS)
def test_a_forced_out_browser_goes_to_the_sign_in_page_by_itself(
    center: AdminCenter, open_page: OpenPage, locale: str
) -> None:
    texts = TEXTS[locale]
    bora, bora_on_a_phone = open_page(locale=locale), open_page(locale=locale, width=390)
    for page in (bora, bora_on_a_phone):
        page.clock.install()
        sign_in(page, "bora")
    jwm = sign_in(open_page(locale=locale), "jwm")
    admin = signed_in(open_page(locale=locale), "admin")
    admin.goto(SCREEN)
    assert admin.locator(".xs-card dt").all_inner_texts() == texts["cards"]
    assert shown_summary(admin) == api_summary(admin) == [3, 4, 1]
    assert shown_counts(admin) == api_counts(admin) == {"admin": 1, "jwm": 1, "bora": 2}

    admin.get_by_role("button", name=str(texts["button"]), exact=True).click()

    assert admin.locator(".xs-result").inner_text() == texts["result"]
    assert shown_counts(admin) == {"admin": 1, "jwm": 1, "bora": 0}
    assert api_summary(admin) == [2, 2, 1]
    assert api_counts(admin) == {"admin": 1, "jwm": 1}
    for page in (bora, bora_on_a_phone):
        page.clock.fast_forward(BEAT_MS)
        page.wait_for_url(re.compile(r"/login\?next=%2F$"), timeout=15_000)
        assert str(texts["forced"]) in page.inner_text("body")
    assert jwm.request.get("/api/me").ok
    assert jwm.url == f"{center.url}/"
    sign_in(bora, "bora")
    assert bora.request.get("/api/me").json()["username"] == "bora"
    with admin.expect_navigation():
        admin.get_by_role("button", name=re.compile("Refresh|새로고침")).click()
    assert shown_summary(admin) == api_summary(admin) == [3, 3, 1]


def test_three_devices_of_one_user_expand_and_end_together(
    center: AdminCenter, open_page: OpenPage
) -> None:
    for agent in (IPHONE, GALAXY, WHALE):
        signed_in(open_page(user_agent=agent), "bora")
    admin = signed_in(open_page(), "admin")
    admin.goto(SCREEN)
    count = admin.get_by_role("button", name="3 active sessions of bora")

    count.focus()
    admin.keyboard.press("Space")
    admin.wait_for_selector(".xs-sessions")

    table = admin.locator(".xs-sessions tbody tr")
    assert [row.locator("td").nth(0).inner_text() for row in table.all()] == [
        "Whale 4", "Samsung Internet 27", "Safari 19",
    ]  # fmt: skip
    assert [row.locator("td").nth(1).inner_text() for row in table.all()] == [
        "Windows", "Android", "iPhone",
    ]  # fmt: skip
    assert count.get_attribute("aria-expanded") == "true"
    admin.keyboard.press("Enter")
    assert count.get_attribute("aria-expanded") == "false"
    assert not admin.locator(".xs-sessions").is_visible()


@pytest.mark.parametrize("with_scripts", [True, False])
def test_an_expanded_row_shows_the_twenty_newest_sessions(
    center: AdminCenter, inside: Center, open_page: OpenPage, with_scripts: bool
) -> None:
    bora, now = str(inside.user("bora")["id"]), clock.now_us()
    with inside.app.app_context():
        sessions.record_past_sign_ins(
            PastSignIn(user_id=bora, signed_in_us=now - number, expires_us=now + 10**9)
            for number in range(1, 102)
        )
    admin = sign_in(open_page(java_script_enabled=with_scripts), "admin")
    admin.goto(SCREEN)
    role = "button" if with_scripts else "link"

    admin.get_by_role(role, name="101 active sessions of bora").click()  # type: ignore[arg-type]
    admin.locator(".xs-all").wait_for()

    assert admin.locator(".xs-sessions tbody tr").count() == 20
    assert "101" in admin.locator(".xs-all").inner_text()


def test_everything_works_without_scripts(center: AdminCenter, open_page: OpenPage) -> None:
    bora = signed_in(open_page(), "bora")
    admin = sign_in(open_page(java_script_enabled=False), "admin")
    admin.goto(SCREEN)

    admin.get_by_role("link", name="1 active session of bora").click()
    admin.locator(".xs-sessions").wait_for()
    admin.get_by_role("button", name="Force Logout bora").click()

    assert admin.locator(".xs-result").inner_text() == "✓ Signed out\n1 session"
    assert bora.request.get("/api/me").status == 401


def test_forcing_oneself_out_ends_on_the_sign_in_page(
    center: AdminCenter, open_page: OpenPage
) -> None:
    admin = signed_in(open_page(), "admin")
    admin.goto(SCREEN)

    admin.get_by_role("button", name="Force Logout admin").click()

    admin.wait_for_url(re.compile("/login"))
    assert "You ended all your sessions." in admin.inner_text("body")


def test_guard_watches_xhr_as_well_as_fetch(inside: Center, open_page: OpenPage) -> None:
    admin = signed_in(open_page(), "admin")
    admin.goto(SCREEN)
    inside.force_logout("admin")

    admin.evaluate(
        "() => { const call = new XMLHttpRequest();"
        " call.open('GET', '/sessions/users'); call.send(); }"
    )

    admin.wait_for_url(re.compile(r"/login\?next=%2Fadmin%2Fadmin-active-sessions%2F$"))


def test_guard_leaves_calls_without_a_token_alone(center: AdminCenter, open_page: OpenPage) -> None:
    admin = signed_in(open_page(), "admin")
    admin.goto(SCREEN)

    status = admin.evaluate(
        "() => fetch('/sessions/users', {credentials: 'omit'}).then(answer => answer.status)"
    )

    assert status == 401
    assert admin.url.endswith(SCREEN)


def test_next_never_leads_to_another_site(center: AdminCenter, open_page: OpenPage) -> None:
    admin = signed_in(open_page(tolerated="40[14]"), "admin")
    left: list[str] = []
    admin.on("request", lambda request: left.append(request.url))
    addresses = [target for target in (*ELSEWHERE, *HERE) if "\ud800" not in target]

    for target in addresses:
        admin.goto(f"/login?{urlencode({'next': target})}", wait_until="domcontentloaded")
        assert admin.url.startswith(f"{center.url}/"), target

    admin.context.clear_cookies()
    for target in ("//evil.example", "/\\evil.example", "/\t/evil.example", "/..//evil.example"):
        admin.goto(f"/login?{urlencode({'next': target})}")
        admin.fill("[name=username]", "admin")
        admin.fill("[name=password]", PASSWORD)
        with admin.expect_navigation():
            admin.keyboard.press("Enter")
        assert admin.url == f"{center.url}/", target
        admin.context.clear_cookies()
    assert {url for url in left if not url.startswith((f"{center.url}/", "data:"))} == set()


@pytest.mark.parametrize("path", ["//evil.example/..", "/\\evil.example", "/%09/evil.example"])
def test_guard_never_returns_to_another_site(
    center: AdminCenter, inside: Center, open_page: OpenPage, path: str
) -> None:
    admin = signed_in(open_page(tolerated="40[14]"), "admin")
    inside.force_logout("admin")
    admin.goto("/login")

    # Load the guard on a page whose path looks like the address of another site.
    admin.evaluate("path => history.replaceState(null, '', location.origin + path)", path)
    admin.add_script_tag(url="/sessions/static/session-guard.js")
    admin.evaluate("() => fetch('/api/me')")
    admin.wait_for_url(re.compile(r"/login\?next="))
    admin.fill("[name=username]", "admin")
    admin.fill("[name=password]", PASSWORD)
    admin.keyboard.press("Enter")
    admin.wait_for_url(lambda url: "/login" not in url)

    assert admin.url.startswith(f"{center.url}/")


def test_layout_of_the_screen(center: AdminCenter, open_page: OpenPage) -> None:
    admin = signed_in(open_page(), "admin")
    admin.goto(SCREEN)

    def box(selector: str) -> dict[str, float]:
        found = admin.locator(selector).first.bounding_box()
        assert found is not None
        return {key: float(found[key]) for key in ("x", "y", "width", "height")}

    title, refresh = box("h1"), box(".xs-bar button")
    cards = [box(f".xs-card:nth-child({number})") for number in (1, 2, 3)]
    table, action = box(".xs-table"), box("td.xs-action .xs-split")
    badge = admin.locator(".xs-super").first.evaluate("it => getComputedStyle(it).backgroundColor")
    red, green, blue = (int(number) for number in re.findall(r"\d+", badge))

    assert box(".xs-side")["x"] == 0
    assert title["y"] < refresh["y"] < cards[0]["y"] < table["y"]
    assert refresh["x"] == title["x"] == table["x"]
    assert cards[0]["x"] < cards[1]["x"] < cards[2]["x"]
    assert {card["y"] for card in cards} == {cards[0]["y"]}
    assert abs(action["x"] + action["width"] - table["x"] - table["width"]) < 24
    assert min(red, green) > blue, "the badge is yellow"


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_cards_with_a_million_sessions_are_no_wider_than_the_table(
    center: AdminCenter, open_page: OpenPage, locale: str
) -> None:
    page = signed_in(open_page(locale=locale), "admin")
    page.goto(SCREEN)
    for number, figure in enumerate(["100000", "1000000", "100000"]):
        page.locator(".xs-card dd").nth(number).evaluate(
            "(cell, text) => { cell.textContent = text }", figure
        )

    for width in (320, 390, 1440):
        page.set_viewport_size({"width": width, "height": 760})
        last = page.locator(".xs-card").last.bounding_box()
        table = page.locator(".xs-table").bounding_box()
        assert last is not None
        assert table is not None
        assert last["x"] + last["width"] <= table["x"] + table["width"] + 0.5, width
