"""Several users in a browser: check boxes, the bar, the act in place, pages without a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.support.admin_center import PASSWORD, UNLIMITED, AdminCenter
from tests.support.chromium import SCREEN
from tests.support.standalone import Center, center_maker
from xgen_flask_sessions import PastSignIn, clock
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import db

pytestmark = pytest.mark.slow

USERS = [f"user{number:02}" for number in range(12)]
STILL_MS = 500
"""Milliseconds: longer than a button of the bar that has just appeared is inert."""


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Center]:
    with center_maker(tmp_path_factory.mktemp("several") / "instance") as make:
        center = make(ADMIN_PASSWORD=PASSWORD)
        for username in USERS:
            center.add_user(username, PASSWORD, name=f"{username} Kim", department="Research")
        yield center


@pytest.fixture(scope="module")
def served(inside: Center) -> Iterator[AdminCenter]:
    with AdminCenter(Path(inside.app.instance_path), **UNLIMITED) as running:
        yield running


@pytest.fixture(scope="module")
def contexts(browser: Browser, served: AdminCenter) -> Iterator[dict[bool, BrowserContext]]:
    """Yield the administrator's browsers, with and without script."""
    with ExitStack() as stack:
        found = {}
        for with_scripts in (True, False):
            found[with_scripts] = browser.new_context(
                base_url=served.url, java_script_enabled=with_scripts,
                viewport={"width": 1280, "height": 800}, reduced_motion="reduce",
            )  # fmt: skip
            stack.callback(found[with_scripts].close)
        yield found


@pytest.fixture
def screen(
    request: pytest.FixtureRequest, inside: Center, contexts: dict[bool, BrowserContext]
) -> Iterator[Page]:
    """Yield the list of twelve users with a session each, and the administrator."""
    with inside.app.app_context(), db.engine.begin() as connection:
        for rows in ("xgen_sessions", "xgen_revocations", "xgen_user_logins WHERE user_id <> '*'"):
            connection.exec_driver_sql(f"DELETE FROM {rows}")
    ids = [str(inside.user(each)["id"]) for each in USERS]
    now = clock.now_us()
    with inside.app.app_context():
        sessions.record_past_sign_ins(
            PastSignIn(user_id=each, signed_in_us=now - at, expires_us=now + 3600 * 10**6)
            for at, each in enumerate(ids, 1)
        )
    context = contexts[getattr(request, "param", True)]
    form: dict[str, str | float | bool] = {"username": "admin", "password": PASSWORD}
    assert context.request.post("/login", form=form, max_redirects=0).status == 303
    page = context.new_page()
    page.goto(SCREEN)
    yield page
    page.close()


def row(page: Page, username: str) -> Locator:
    return page.locator(f".xs-user[data-xs-name={username}]")


def box(page: Page, username: str) -> Locator:
    return row(page, username).locator("[name=users]")


def bar(page: Page) -> Locator:
    return page.get_by_role("region", name="Selected users")


def records(center: Center) -> list[Any]:
    return center.rows("xgen_revocations")


def test_boxes_ranges_and_the_header_box_select(screen: Page) -> None:
    head = screen.get_by_label("Select all users of this page")
    expect(bar(screen)).to_be_hidden()

    box(screen, "user02").click()
    box(screen, "user05").click(modifiers=["Shift"])

    expect(bar(screen)).to_contain_text("4 users selected")
    expect(bar(screen)).to_contain_text("4 sessions")
    assert head.evaluate("box => [box.checked, box.indeterminate]") == [False, True]
    head.click()
    expect(bar(screen)).to_contain_text("13 users selected")
    head.click()
    expect(bar(screen)).to_be_hidden()
    box(screen, "user02").click()
    screen.wait_for_timeout(STILL_MS)
    bar(screen).get_by_role("button", name="Clear").click()
    assert not box(screen, "user02").is_checked()
    screen.mouse.move(640, 300)
    expect(bar(screen)).to_be_hidden()


def test_the_bar_covers_no_row_that_has_the_focus(screen: Page) -> None:
    box(screen, "user00").click()
    screen.set_viewport_size({"width": 1280, "height": 500})

    for _ in range(60):
        screen.keyboard.press("Tab")
        overlap = screen.evaluate(
            """() => {
              const focused = document.activeElement;
              const bar = document.getElementById("xs-selection").getBoundingClientRect();
              const isIn = focused.closest(".xs-user");
              return isIn && focused.getBoundingClientRect().bottom > bar.top;
            }"""
        )
        assert not overlap
    screen.set_viewport_size({"width": 1280, "height": 800})
    screen.evaluate("scrollTo(0, document.body.scrollHeight)")
    last = screen.locator(".xs-user").last.bounding_box()
    place = bar(screen).bounding_box()
    assert last is not None
    assert place is not None
    assert last["y"] + last["height"] <= place["y"]


def test_the_headings_cover_no_row_that_has_the_focus(screen: Page) -> None:
    screen.set_viewport_size({"width": 1280, "height": 500})
    screen.locator(".xs-user .xs-count").last.focus()

    for _ in range(40):
        screen.keyboard.press("Shift+Tab")
        overlap = screen.evaluate(
            """() => {
              const focused = document.activeElement;
              const headings = document.querySelector(".xs-list thead").getBoundingClientRect();
              const isIn = focused.closest(".xs-user");
              return isIn && focused.getBoundingClientRect().top < headings.bottom;
            }"""
        )
        assert not overlap
    screen.set_viewport_size({"width": 1280, "height": 800})


@pytest.mark.parametrize("delay_ms", [60, 300, 1000])
def test_two_clicks_at_force_logout_are_one_act_in_place(
    screen: Page, inside: Center, delay_ms: int
) -> None:
    for username in ("user03", "user04"):
        box(screen, username).click()
    before = row(screen, "user04").bounding_box()
    button = bar(screen).get_by_role("button", name="Force Logout").bounding_box()
    assert button is not None
    x, y = button["x"] + 30, button["y"] + button["height"] / 2
    screen.wait_for_timeout(STILL_MS)

    screen.mouse.click(x, y)
    screen.wait_for_timeout(delay_ms)
    screen.mouse.click(x, y)
    row(screen, "user04").locator(".xs-done").wait_for()
    screen.mouse.click(x, y)

    expect(bar(screen)).to_contain_text("2 users signed out, 2 sessions ended.")
    assert row(screen, "user04").bounding_box() == before, "nothing on the page has moved"
    assert len(records(inside)) == 2
    assert screen.locator(".xs-gone").count() == 2
    assert screen.locator("[name=users]:checked").count() == 0
    bar(screen).get_by_role("button", name="Close").click()
    screen.mouse.move(640, 200)
    expect(bar(screen)).to_be_hidden()


def test_by_keyboard_alone_with_a_reason(screen: Page, inside: Center) -> None:
    expect(box(screen, "user06")).to_have_accessible_description(
        "Enter leads to the bar of the selected users, and Escape leads back."
    )
    box(screen, "user06").focus()
    screen.keyboard.press("Space")
    expect(screen.locator("#xs-live")).to_have_text("1 user selected 1 session")
    screen.keyboard.press("Enter")  # to the bar
    screen.keyboard.press("Tab")
    screen.keyboard.press("Enter")
    screen.locator("dialog[open] textarea").wait_for()
    screen.keyboard.type("Left a public PC")
    counter = screen.locator("small", has_text="16/500")
    expect(counter).to_have_attribute("aria-hidden", "true")  # not announced at each key
    screen.keyboard.press("Tab")
    screen.keyboard.press("Enter")

    expect(bar(screen)).to_contain_text("1 user signed out, 1 session ended.")
    expect(screen.locator("#xs-live")).to_contain_text("1 user signed out, 1 session ended.")
    expect(bar(screen)).to_be_focused()
    screen.keyboard.press("Escape")  # to the row: its box is disabled
    expect(row(screen, "user06")).to_be_focused()
    box(screen, "user00").focus()
    screen.keyboard.press("Enter")
    expect(bar(screen)).to_be_focused()
    screen.keyboard.press("Escape")
    expect(box(screen, "user00")).to_be_focused()
    screen.keyboard.press("Enter")
    screen.keyboard.press("Enter")
    screen.keyboard.press("Tab")
    screen.keyboard.press("Enter")
    expect(bar(screen)).to_be_hidden()
    expect(row(screen, "user00")).to_be_focused()
    assert [each["reason"] for each in records(inside)] == ["Left a public PC"]


def test_enter_at_a_check_box_forces_out_nobody(screen: Page, inside: Center) -> None:
    box(screen, "user06").focus()

    screen.keyboard.press("Enter")
    screen.wait_for_timeout(STILL_MS)

    assert records(inside) == []
    assert screen.url.endswith(SCREEN)


def test_no_answer_is_said_in_the_bar_and_can_be_tried_again(screen: Page, inside: Center) -> None:
    for username in ("user07", "user08"):
        box(screen, username).click()
    screen.wait_for_timeout(STILL_MS)
    held: list[Route] = []
    screen.route("**/several", lambda route: held.append(route))

    bar(screen).get_by_role("button", name="Force Logout").click()
    expect(bar(screen)).to_contain_text("Signing out…")
    box(screen, "user09").click()  # after the act has begun
    held[0].abort()
    expect(bar(screen)).to_contain_text("It is not known whether the users were signed out.")
    screen.unroute("**/several")
    screen.wait_for_timeout(STILL_MS)
    bar(screen).get_by_role("button", name="Retry").click()

    expect(bar(screen)).to_contain_text("2 users signed out, 2 sessions ended.")
    assert len(records(inside)) == 2
    expect(bar(screen).get_by_role("button", name="Retry")).to_be_hidden()
    expect(box(screen, "user09")).to_be_checked()


@pytest.mark.parametrize("screen", [False], indirect=True)
def test_without_a_script_the_boxes_lead_to_a_preview(screen: Page, inside: Center) -> None:
    expect(bar(screen)).to_be_hidden()
    for username in ("user09", "user10"):
        box(screen, username).check()

    screen.get_by_role("button", name="Force Logout selected…").click()
    expect(screen.get_by_role("heading", name="2 users · 2 sessions")).to_be_visible()
    assert records(inside) == []
    screen.get_by_role("button", name="Force Logout · 2 users").click()

    expect(screen.locator(".xs-notice")).to_have_text("2 users signed out, 2 sessions ended.")
    screen.get_by_role("link", name="Back to Login Management").click()
    assert screen.locator(".xs-user").count() == 11


@pytest.mark.parametrize("screen", [False], indirect=True)
def test_enter_at_a_check_box_without_a_script_forces_out_nobody(
    screen: Page, inside: Center
) -> None:
    box(screen, "user09").check()

    with screen.expect_navigation():
        box(screen, "user09").press("Enter")

    assert "/several?users=" in screen.url
    assert records(inside) == []


def test_everyone_is_signed_out_after_a_word(screen: Page, inside: Center) -> None:
    screen.get_by_role("link", name="Sign out everyone…").click()
    field = screen.get_by_label('Type "EVERYONE" to confirm')

    field.fill("all")
    screen.get_by_role("button", name="Sign out everyone").click()
    expect(screen.get_by_text("This is not the word.")).to_be_visible()
    assert records(inside) == []
    field.fill("EVERYONE")
    screen.get_by_role("button", name="Sign out everyone").click()

    screen.wait_for_url("**/login**")
    expect(screen.get_by_text("You signed out everyone:")).to_be_visible()
    assert [each["kind"] for each in records(inside)] == ["everyone"]
