"""The page of one user in a real browser: it fits, and each click acts once, in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.admin_center import PASSWORD, UNLIMITED, AdminCenter
from tests.support.chromium import IPHONE, SCREEN, SHORT_TIMEOUT, WHALE
from tests.support.standalone import Center, center_maker
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import db

pytestmark = pytest.mark.slow

USER = f"{SCREEN}user?user_id="
LONG = "maximiliana.featherstonehaugh1"
WIDTHS = (390, 600, 768, 1024, 1093, 1200, 1280, 1366, 1440, 1920)
IPV6 = "2001:db8:85a3:1234:5678:8a2e:1370:7334"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("person") / "instance"


@pytest.fixture(scope="module")
def inside(instance: Path) -> Iterator[Center]:
    """Yield the Admin Center's application in this process, with two users (2 and 3)."""
    with center_maker(instance) as make:
        center = make(ADMIN_PASSWORD=PASSWORD)
        center.add_user("bora", PASSWORD, name="Bora Lim", department="Research")
        center.add_user(LONG, PASSWORD, name="이름 " * 12, department="Research and Development")
        yield center


@pytest.fixture(scope="module")
def served(instance: Path, inside: Center) -> Iterator[AdminCenter]:
    """Yield the running Admin Center that serves every test of this module."""
    with AdminCenter(instance, **UNLIMITED) as running:
        yield running


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, served: AdminCenter, inside: Center) -> Iterator[OpenPage]:
    """Yield a function that signs the administrator in, and opens a page.

    Script errors fail the test. The users begin without sessions.
    """
    with inside.app.app_context(), db.engine.begin() as connection:
        for rows in ("xgen_sessions", "xgen_revocations", "xgen_user_logins WHERE user_id <> '*'"):
            connection.exec_driver_sql(f"DELETE FROM {rows}")
        connection.exec_driver_sql("UPDATE users SET is_active = 1")
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def new(path: str, *, width: int = 1366, **options: object) -> Page:
        context = browser.new_context(
            base_url=served.url,
            viewport={"width": width, "height": 900},
            **options,  # type: ignore[arg-type]
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        form: dict[str, str | float | bool] = {"username": "admin", "password": PASSWORD}
        assert page.request.post("/login", form=form, max_redirects=0).status == 303
        page.goto(path)
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(inside: Center, user_id: str, *, agent: str = WHALE, ip: str = "192.0.2.1") -> str:
    """Sign in as a user elsewhere, and return the session's id."""
    with inside.app.test_request_context(
        headers={"User-Agent": agent}, environ_base={"REMOTE_ADDR": ip}
    ):
        return sessions.issue(user_id).session_id


def active(inside: Center, user_id: str) -> list[str]:
    with inside.app.app_context():
        return [each.session_id for each in sessions.active_sessions(user_id)]


def wait_until_armed(page: Page) -> None:
    """Wait until the buttons act, after the page has just been opened."""
    page.evaluate(
        """Promise.all(document.getAnimations()
        .filter((each) => each.animationName === "xs-inert").map((each) => each.finished))"""
    )


def buttons(page: Page) -> list[str]:
    return page.locator(".xs-devices tbody .xs-c-action").all_inner_texts()


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_the_page_fits_at_every_width(open_page: OpenPage, inside: Center, locale: str) -> None:
    for agent in (WHALE, IPHONE, "curl/8.0"):
        sign_in(inside, "3", agent=agent, ip=IPV6)
    with inside.app.app_context():
        sessions.end_session(active(inside, "3")[0], actor="1", reason="w" * 500)
    page = open_page(f"{USER}3", locale=locale)

    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        for box in page.locator(".xs-devices .xs-button, .xs-user-acts > *").all():
            bounds = box.bounding_box()
            assert bounds is not None
            assert 0 <= bounds["x"] <= bounds["x"] + bounds["width"] <= width, (width, bounds)
    split = page.locator(".xs-devices time").evaluate_all(
        "(times) => times.filter((each) => each.getClientRects().length > 1).length"
    )
    assert split == 0


@pytest.mark.parametrize("delay", [100, 700, 3000])
def test_two_clicks_at_one_place_end_one_session(
    open_page: OpenPage, inside: Center, delay: int
) -> None:
    ids = [sign_in(inside, "2") for _ in range(4)][::-1]
    page = open_page(f"{USER}2")
    wait_until_armed(page)
    button = page.get_by_role("button", name=re.compile("^End Whale")).nth(1)
    box = button.bounding_box()
    assert box is not None
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    page.mouse.click(*place)
    page.wait_for_timeout(delay)
    page.mouse.click(*place)

    expect(page.locator(".xs-toast")).to_have_text("1 session of bora ended")
    page.wait_for_timeout(300)
    assert buttons(page) == ["End", "✓ Ended", "End", "End"]
    assert active(inside, "2") == [ids[0], ids[2], ids[3]]
    expect(page.locator("[data-xs-total]")).to_have_text("3")
    expect(page.locator(f"#s-{ids[1]}")).to_be_focused()


@pytest.mark.parametrize("delay", [150, 1500])
def test_two_clicks_at_one_place_end_one_session_without_javascript(
    open_page: OpenPage, inside: Center, delay: int
) -> None:
    for _ in range(4):
        sign_in(inside, "2")
    page = open_page(f"{USER}2", java_script_enabled=False)
    wait_until_armed(page)
    box = page.locator(".xs-devices button").nth(1).bounding_box()
    assert box is not None
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    page.mouse.click(*place)
    page.wait_for_timeout(delay)
    page.mouse.click(*place)
    page.wait_for_url("**result=**")
    page.wait_for_timeout(300)

    assert buttons(page) == ["End", "✓ Ended", "End", "End"]
    assert len(active(inside, "2")) == 3
    expect(page.locator(".xs-toast")).to_have_text("1 session of bora ended")


def test_a_double_click_at_the_link_of_the_list_acts_on_nothing(
    open_page: OpenPage, inside: Center
) -> None:
    sign_in(inside, "2")
    page = open_page(f"{USER}2")
    places = [each.bounding_box() for each in page.locator("main form button:visible").all()]

    for box in places:  # as the second click of the one that led here
        assert box is not None
        page.goto(f"{USER}2", wait_until="commit")
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    assert len(places) >= 3
    assert len(active(inside, "2")) == 1


def test_a_leaver_takes_two_clicks_from_the_row_of_the_list(
    open_page: OpenPage, inside: Center
) -> None:
    sign_in(inside, "2")
    sign_in(inside, "2")
    page = open_page(SCREEN)

    page.get_by_role("link", name="bora", exact=True).click()
    wait_until_armed(page)
    page.get_by_role("button", name="Process leaver").click()

    expect(page.locator(".xs-toast")).to_have_text(
        "2 sessions of bora ended · The account is inactive."
    )
    expect(page.locator("[data-xs-account]")).to_have_text("account inactive")
    expect(page.locator("[data-xs-account]")).to_have_class("xs-inactive")
    expect(page.locator("#xs-h-leaver")).to_be_focused()
    assert buttons(page) == ["✓ Ended", "✓ Ended"]
    assert active(inside, "2") == []
    page.reload()
    expect(page.locator(".xs-past").first).to_contain_text("Leaver or transfer · 2 sessions")


def test_a_server_that_does_not_answer_leaves_a_retry(open_page: OpenPage, inside: Center) -> None:
    sign_in(inside, "2")
    page = open_page(f"{USER}2")
    wait_until_armed(page)
    page.route("**/force-logout", lambda route: route.abort())
    page.get_by_role("button", name="Force Logout", exact=True).first.click()

    expect(page.locator(".xs-toast")).to_contain_text("It is not known whether")
    assert buttons(page) == ["End"]
    page.unroute("**/force-logout")
    page.wait_for_timeout(1100)  # a click right after the answer acts on nothing
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".xs-toast")).to_have_text("1 session of bora ended")


def test_an_answer_that_does_not_come_is_not_waited_for(
    open_page: OpenPage, inside: Center
) -> None:
    sign_in(inside, "2")
    page = open_page("about:blank")
    page.add_init_script(SHORT_TIMEOUT)
    page.goto(f"{USER}2")
    wait_until_armed(page)
    expect(page.get_by_role("status")).to_have_text("")  # known before its text comes
    page.route("**/force-logout", lambda route: None)
    page.get_by_role("button", name="Force Logout", exact=True).first.click()

    expect(page.get_by_role("status")).to_contain_text("It is not known whether")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_everything_is_done_by_keyboard(open_page: OpenPage, inside: Center) -> None:
    sign_in(inside, "2")
    page = open_page(f"{USER}2")
    wait_until_armed(page)
    summary = page.locator(".xs-split summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("A public PC")
    page.keyboard.press("Enter")

    expect(page.locator(".xs-toast")).to_have_text("1 session of bora ended")
    expect(page.locator(".xs-split details")).not_to_have_attribute("open", "")
    expect(page.locator("#xs-h-active")).to_be_focused()
    page.reload()
    expect(page.locator(".xs-past").first).to_contain_text("A public PC")
