"""Login Management in a browser: a database that does not answer, lost answers, many sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.screenshots.list_states import expand, force_out, row
from tests.screenshots.people import KIOSK_SESSIONS
from tests.screenshots.stage import Stage, open_stage
from tests.support.chromium import SCREEN

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

LONGEST_EXPANSION = 20


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("faults")
    with open_stage(browser, "center", "en", home=home) as stage:
        yield stage


@pytest.fixture(autouse=True)
def no_page_is_left(stage: Stage) -> Iterator[None]:
    yield
    stage.close_pages()


def sessions_of(stage: Stage, username: str) -> int:
    calls = stage.browser_of("admin").request
    answer = calls.get(f"/sessions/users/{stage.site.ids[username]}").json()
    return len(answer["sessions"])


def text_of(page: Page, username: str) -> str:
    return " ".join(row(page, username).inner_text().split())


def test_a_force_logout_that_is_not_recorded_says_that_nobody_was_signed_out(
    stage: Stage,
) -> None:
    page = stage.visit()

    with stage.site.locked():
        force_out(page, "victim0")
        expect(row(page, "victim0")).to_contain_text("Signing out", timeout=1000)
        trouble = row(page, "victim0").get_by_role("alert")
        expect(trouble).to_contain_text("Nobody was signed out")
    assert sessions_of(stage, "victim0") == 2
    row(page, "victim0").get_by_role("button", name="Retry").click()

    expect(row(page, "victim0")).to_contain_text("Signed out")
    assert sessions_of(stage, "victim0") == 0


def test_a_force_logout_whose_answer_is_lost_is_not_known(stage: Stage) -> None:
    page = stage.visit()

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/force-logout", lose, times=1)
    force_out(page, "victim1")

    expect(row(page, "victim1").get_by_role("alert")).to_contain_text("It is not known whether")
    assert sessions_of(stage, "victim1") == 0
    row(page, "victim1").get_by_role("button", name="Retry").click()
    expect(row(page, "victim1").get_by_role("alert")).to_have_count(0)
    expect(row(page, "victim1").get_by_role("button", name="Force Logout")).to_have_count(0)


def test_an_expanded_row_has_the_newest_sessions_and_a_link_to_the_others(stage: Stage) -> None:
    page = stage.visit(f"{SCREEN}?q=kiosk")
    before = page.evaluate("document.documentElement.scrollHeight")

    expand(page, "kiosk")

    lines = page.locator(".xs-sessions tbody tr")
    assert lines.count() == LONGEST_EXPANSION
    assert page.evaluate("document.documentElement.scrollHeight") < before + 1200
    with page.expect_navigation():
        page.get_by_role("link", name=f"All {KIOSK_SESSIONS:,} sessions").click()
    assert page.locator("[data-xs-session]").count() == LONGEST_EXPANSION
    assert page.title().startswith("kiosk")


@pytest.mark.parametrize(
    "path",
    [
        SCREEN,
        f"{SCREEN}user?user_id={{bora}}",
        f"{SCREEN}confirm?user_id={{bora}}",
        "/admin/admin-users/",
        "/admin/admin-users/{bora}",
        "/admin/admin-users/new",
    ],
)
def test_an_administrator_who_was_forced_out_leaves_each_page(stage: Stage, path: str) -> None:
    page = stage.context().new_page()
    stage.site.sign_in(page.request, "hasty")
    page.goto(path.format(bora=stage.site.ids["bora"]))
    stage.browser_of("admin").request.post(
        f"/sessions/users/{stage.site.ids['hasty']}/force-logout"
    )

    page.evaluate("() => fetch('/sessions/users')")

    page.wait_for_url("**/login?next=*")
