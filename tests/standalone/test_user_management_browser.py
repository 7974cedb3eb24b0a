"""User Management in a real browser: one form on a user's page, and a list that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from tests.support.admin_center import UNLIMITED
from tests.support.chromium import SHORT_TIMEOUT
from tests.support.ports import free_port
from tests.support.serving import serving
from tests.support.standalone import ADMIN_PASSWORD, Center, center_maker
from xgen_flask_sessions.standalone import accounts, rules
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.rules import Profile

pytestmark = pytest.mark.slow

URL = "/admin/admin-users/"
WIDTHS = (390, 480, 560, 640, 700, 768, 860, 1024, 1140, 1280, 1440, 1920)
NASTY = {
    "W" * 150: {"name": "W" * 150, "department": "W" * 150, "roles": "W" * 50},
    "김" * 60: {
        "name": "이름이 아주 긴 사용자 " * 6,
        "department": "정보보호" * 30,
        "roles": ",".join(f"역할 {number}" for number in range(20)),
    },
    "<b>a&b</b>": {"name": "مرحبا <i>", "department": "a/b\\c", "roles": "{{ 7*7 }}"},
    "plain": {"name": "", "department": "Only a department", "roles": ""},
}
OVERFLOWING = """() => {
  const wide = (each) => each.scrollWidth > each.clientWidth + 1;
  const faults = [];
  if (wide(document.documentElement)) faults.push("the page");
  const seen = (each) => each.checkVisibility() && each.clientWidth > 1
    && getComputedStyle(each).clipPath === "none";  // not for screen readers only
  const cells = ".xa-users :is(th, td, .xs-clip), .xs-bar *, .xs-button";
  for (const each of [...document.querySelectorAll(cells)].filter(seen)) {
    if (each.closest("thead")?.clientHeight <= 1) continue;  // for screen readers, on a phone
    const box = each.getBoundingClientRect();
    const name = each.className || each.localName;
    if (wide(each) && getComputedStyle(each).display !== "inline") faults.push("in " + name);
    if (box.right > innerWidth + 1 || box.left < -1) faults.push("outside: " + name);
  }
  const rows = [...document.querySelectorAll(".xa-users > tbody > tr")];
  for (const row of rows) {
    const cells = [...row.children].filter(seen);
    cells.forEach((one, index) => cells.slice(index + 1).forEach((other) => {
      const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 1) faults.push(`${one.className} on ${other.className}`);
    }));
  }
  return faults;
}"""
INERT = """(button) => {
  const target = () => {
    const box = button.getBoundingClientRect();
    return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  };
  button.scrollIntoView({block: "center"});
  button.style.animation = "none";
  button.offsetWidth;
  button.style.animation = "";  // starts again, as when the page opens
  const first = target();
  button.getAnimations().forEach((each) => each.finish());
  return [first === button, target() === button];
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Center, str]]:
    with center_maker(tmp_path_factory.mktemp("users") / "instance") as make:
        center = make(**UNLIMITED, XGEN_SESSIONS_COOKIE_SECURE=False)
        port = free_port()
        with serving(center.app, port):
            yield center, f"http://127.0.0.1:{port}"


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, served: tuple[Center, str]) -> Iterator[OpenPage]:
    """Yield a function that opens a page as a given user."""
    contexts: list[BrowserContext] = []

    def new(path: str, username: str = "admin", locale: str = "en-US") -> Page:
        context = browser.new_context(
            base_url=served[1], locale=locale, viewport={"width": 1280, "height": 900}
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        form: dict[str, str | float | bool] = {"username": username, "password": ADMIN_PASSWORD}
        assert page.request.post("/login", form=form, max_redirects=0).status == 303
        page.goto(path)
        return page

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def center(served: tuple[Center, str]) -> Center:
    return served[0]


def press(page: Page, name: str) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name=name, exact=True).click()


def notice(page: Page) -> str:
    found = page.locator('.alert[role="status"], .xs-notice[role="status"]')
    return found.first.inner_text().strip()


def test_typed_text_outlives_saving_and_refusal_of_another_part(
    center: Center, open_page: OpenPage
) -> None:
    page = open_page(f"{URL}{center.add_user('typed')}")
    page.get_by_label("Department", exact=True).fill("Research")
    page.get_by_label("New password").fill("short")
    press(page, "Reset password")

    expect(page.get_by_label("Department", exact=True)).to_have_value("Research")
    assert "A password has 8 to 256 characters." in page.locator("main").inner_text()

    page.get_by_label("Inactive", exact=True).check()
    press(page, "Save access")

    expect(page.get_by_label("Department", exact=True)).to_have_value("Research")
    expect(page.locator("#profile")).to_contain_text("Not saved yet")
    assert "typed was set to Inactive." in notice(page)
    assert center.user("typed")["department"] is None

    press(page, "Save profile")
    user = center.user("typed")
    assert (user["department"], user["is_active"]) == ("Research", False)


def test_the_enter_key_saves_the_part_that_was_changed(center: Center, open_page: OpenPage) -> None:
    page = open_page(f"{URL}{center.add_user('enter')}")
    name = page.get_by_label("Name", exact=True)
    name.fill("By Enter")
    with page.expect_navigation():
        name.press("Enter")
    assert center.user("enter")["name"] == "By Enter"

    name.fill("Second")
    page.get_by_label("Inactive", exact=True).check()
    with page.expect_navigation():
        name.press("Enter")

    assert rules.NOT_ONE_PART in page.locator("main").inner_text()
    expect(name).to_have_value("Second")
    user = center.user("enter")
    assert (user["name"], user["is_active"]) == ("By Enter", True)


def test_a_stale_form_shows_both_values_and_saves_at_the_second_time(
    center: Center, open_page: OpenPage
) -> None:
    user_id = center.add_user("stale", name="Old")
    page = open_page(f"{URL}{user_id}")
    with center.app.app_context():
        accounts.change_profile(user_id, Profile.parse("Other", "", ""))
    page.get_by_label("Name", exact=True).fill("Mine")
    press(page, "Save profile")

    assert rules.CHANGED_MEANWHILE in page.locator("main").inner_text()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Mine")
    assert "Changed meanwhile to: Other" in page.locator("main").inner_text()
    assert center.user("stale")["name"] == "Other"

    press(page, "Save profile")
    assert center.user("stale")["name"] == "Mine"


def test_the_own_access_is_taken_after_a_question_only(center: Center, open_page: OpenPage) -> None:
    user_id = center.add_user("leaver", superuser=True)
    page = open_page(f"{URL}{user_id}", "leaver")
    page.get_by_label("Name", exact=True).fill("Still typed")
    page.get_by_label("Inactive", exact=True).check()
    press(page, "Save access")

    assert center.user("leaver")["is_active"]
    question = page.get_by_role("button", name="Set myself to Inactive")
    assert question.evaluate(INERT) == [False, True]
    press(page, "Cancel")

    expect(page.get_by_label("Name", exact=True)).to_have_value("Still typed")
    press(page, "Save access")
    press(page, "Set myself to Inactive")
    assert "/login" in page.url
    assert "You set your own account to Inactive." in page.locator("body").inner_text()
    assert not center.user("leaver")["is_active"]


def test_the_buttons_of_a_new_page_take_no_second_click_of_a_double_click(
    center: Center, open_page: OpenPage
) -> None:
    page = open_page(f"{URL}{center.add_user('twice')}")

    for name in ("Save access", "Save profile", "Reset password"):
        button = page.get_by_role("button", name=name, exact=True)
        assert button.evaluate(INERT) == [False, True]


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_the_pages_fit_every_width_with_any_data(
    center: Center, open_page: OpenPage, locale: str
) -> None:
    for username, profile in NASTY.items():
        if accounts_of(center).isdisjoint({username}):
            center.add_user(username, superuser=username != "plain", **profile)
            with center.app.app_context():
                sessions.issue(str(center.user(username)["id"]))
    page = open_page(URL, locale=locale)
    for path in (URL, f"{URL}?q=nothing+like+this", f"{URL}{center.user('W' * 150)['id']}"):
        page.goto(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(OVERFLOWING) == [], (path, width)


def test_a_phone_orders_the_list_by_fields(center: Center, open_page: OpenPage) -> None:
    center.add_user("aaa", name="Zoe", department="Sales", roles="editor")
    center.add_user("zzz", department="Audit")
    page = open_page(URL)
    order = page.get_by_label("Order by")
    expect(order).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 900})
    order.select_option("username")
    page.get_by_label("Direction").select_option("desc")
    press(page, "Search")

    names = page.locator(".xa-users .xs-username").all_inner_texts()
    assert names.index("zzz") < names.index("aaa")
    row = page.locator(".xa-users tbody tr", has_text="aaa")
    dots = [
        row.locator(f".xa-c-{column}").evaluate(
            "cell => [getComputedStyle(cell, '::before').content, "
            "getComputedStyle(cell, '::after').content]"
        )
        for column in ("name", "department", "roles")
    ]
    assert [[text.strip('"') for text in each] for each in dots] == [
        ["none", "\N{NO-BREAK SPACE}·"], ["none", "\N{NO-BREAK SPACE}·"], ["none", "none"],
    ]  # fmt: skip


def accounts_of(center: Center) -> set[str]:
    return {str(row["username"]) for row in center.rows("users")}


def test_the_workspace_lists_the_newest_twenty_sessions(
    center: Center, open_page: OpenPage
) -> None:
    user_id = str(center.add_user("many"))
    with center.app.app_context():
        for _ in range(24):
            sessions.issue(user_id)

    page = open_page("/", "many")

    expect(page.locator(".xa-list li")).to_have_count(20)
    expect(page.locator(".xa-more")).to_have_text("The newest 20 of 25 sessions are shown.")
    page.emulate_media(forced_colors="active")  # without backgrounds
    width = page.locator(".xa-dot").evaluate("dot => getComputedStyle(dot).borderTopWidth")
    assert width == "4px"


def test_the_workspace_goes_on_after_a_call_without_an_answer(
    center: Center, open_page: OpenPage
) -> None:
    center.add_user("hung")
    page = open_page("about:blank", "hung")
    page.add_init_script(SHORT_TIMEOUT)
    page.route("**/api/me", lambda route: None)
    page.goto("/")

    expect(page.locator("#pulse")).to_contain_text("The API does not answer.")
    page.unroute("**/api/me")
    expect(page.locator("#pulse")).to_contain_text("The API answered at")


def test_the_list_of_the_workspace_moves_nothing_below_the_pointer(
    center: Center, open_page: OpenPage
) -> None:
    user_id = str(center.add_user("still"))
    issue(center, user_id, 2)
    page = open_page("about:blank", "still")
    page.clock.install()
    page.goto("/")
    rows = page.locator(".xa-list li")
    expect(rows).to_have_count(3)
    rows.nth(0).hover()

    issue(center, user_id, 1)
    next_list(page)
    expect(rows).to_have_count(3)
    page.mouse.move(0, 0)
    expect(rows).to_have_count(4)

    held: list[tuple[Route, APIResponse]] = []
    page.route(
        "**/sessions/?per_page=*", lambda route: held.append((route, route.fetch())), times=1
    )
    next_list(page)
    rows.nth(0).get_by_role("button").click()
    expect(page.locator(".xa-said")).to_have_text("The session has ended.")
    expect(rows.nth(0)).to_contain_text("Ended")
    expect(page.locator("#yours")).to_be_focused()
    page.mouse.move(0, 0)
    expect(rows).to_have_count(3)

    route, answer = held[0]  # from before the end
    with page.expect_response("**/sessions/?per_page=*"):
        route.fulfill(response=answer)
    page.wait_for_timeout(200)
    expect(rows).to_have_count(3)


def issue(center: Center, user_id: str, number: int) -> None:
    with center.app.app_context():
        for _ in range(number):
            sessions.issue(user_id)


def next_list(page: Page) -> None:
    """Let the time pass until the workspace has asked for the list again."""
    for _ in range(5):
        with page.expect_response("**/api/me"):
            page.clock.run_for(3000)
        page.wait_for_timeout(150)
