"""One walk through Login Management by the keyboard alone, from finding a user to the leaver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.screenshots.stage import Stage, open_stage
from tests.support.chromium import SCREEN

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

MAX_TABS: Final = 120
_HAS_FOCUS: Final = "element => element === document.activeElement"
_OUTLINED: Final = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== "none" || style.boxShadow !== "none";
}"""


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("keyboard")
    with open_stage(browser, "center", "en", home=home) as stage:
        yield stage


class Keyboard:
    """A person without a mouse."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.pressed = 0

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)
        self.pressed += 1

    def go_to(self, target: Locator) -> None:
        """Press Tab until the target has the focus, which must be visible."""
        expect(target).to_be_visible()
        for _ in range(MAX_TABS):
            if target.evaluate(_HAS_FOCUS):
                assert self._page.evaluate(_OUTLINED), f"the focus of {target} is not visible"
                return
            self.press("Tab")
        raise AssertionError(f"{target} is not reached by Tab")

    def use(self, target: Locator, key: str = "Enter") -> None:
        """Go to a target, and press a key there."""
        self.go_to(target)
        self.press(key)

    def type(self, target: Locator, text: str) -> None:
        """Go to a field, and replace its text."""
        self.go_to(target)
        self.press("Control+a")
        self._page.keyboard.type(text)
        self.pressed += 1

    def find(self, text: str) -> None:
        """Search for a text from the top of the page."""
        self._page.goto(SCREEN)
        self.press("Tab")
        expect(self._page.get_by_role("link", name="Skip to content")).to_be_focused()
        self.press("Enter")
        self.type(self._page.get_by_role("searchbox"), text)
        with self._page.expect_navigation():
            self.press("Enter")


def active_sessions(stage: Stage, username: str) -> int:
    calls = stage.browser_of("admin").request
    answer = calls.get(f"/sessions/users/{stage.site.ids[username]}").json()
    return len(answer["sessions"])


def test_one_session_is_found_and_ended(stage: Stage) -> None:
    page = stage.visit()
    keyboard = Keyboard(page)

    keyboard.find("victim0")
    keyboard.use(page.locator(".xs-count"))
    page.locator(".xs-sessions").wait_for()
    session = page.locator(".xs-sessions tbody tr").last
    keyboard.use(session.get_by_role("button"))
    expect(session).to_contain_text("Ended")

    expect(session).to_be_focused()
    expect(page.locator("#xs-live")).to_contain_text("The session was ended")
    assert active_sessions(stage, "victim0") == 1
    stage.close_pages()


def test_a_force_logout_with_a_reason(stage: Stage) -> None:
    page = stage.visit()
    keyboard = Keyboard(page)
    keyboard.find("victim1")
    menu = page.locator("summary[aria-label*=victim1]")

    keyboard.use(menu)
    keyboard.press("Escape")
    expect(menu).to_be_focused()
    keyboard.press("Enter")
    keyboard.use(page.get_by_role("link", name="With a reason…"))
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("textbox")).to_be_focused()
    keyboard.type(dialog.get_by_role("textbox"), "Left signed in on a public PC")
    keyboard.use(dialog.get_by_role("button", name="Force Logout"))

    row = page.locator("tr.xs-gone")
    expect(row).to_contain_text("Signed out")
    expect(row).to_be_focused()
    keyboard.press("Enter")
    keyboard.press("Space")
    assert active_sessions(stage, "victim1") == 0
    stage.close_pages()


def test_several_are_selected_from_a_filtered_list(stage: Stage) -> None:
    page = stage.visit()
    keyboard = Keyboard(page)
    keyboard.find("victim")
    filters = page.get_by_role("group", name="Filters")

    keyboard.use(filters.locator("summary", has_text="More sessions than"))
    with page.expect_navigation():
        keyboard.use(filters.get_by_role("link", name="1", exact=True))
    for username in ("victim2", "victim3"):
        keyboard.use(page.get_by_role("checkbox", name=f"Select {username}"), "Space")
    bar = page.get_by_role("region", name="Selected users")
    keyboard.use(bar.get_by_role("button", name="Force Logout").first)

    expect(bar).to_be_focused()
    expect(bar).to_contain_text("2 users")
    assert [active_sessions(stage, name) for name in ("victim2", "victim3", "victim4")] == [0, 0, 2]
    stage.close_pages()


def test_the_leaver(stage: Stage) -> None:
    page = stage.visit()
    keyboard = Keyboard(page)
    keyboard.find("leaver")

    keyboard.go_to(page.get_by_role("link", name="leaver", exact=True))
    with page.expect_navigation():
        keyboard.press("Enter")
    keyboard.use(page.get_by_role("button", name="Process leaver"))
    expect(page.locator("[data-xs-result]")).not_to_be_empty()

    assert active_sessions(stage, "leaver") == 0
    user = page.request.get(f"/sessions/users/{stage.site.ids['leaver']}")
    assert user.ok
    stage.close_pages()
