"""Login Management in a browser: a database that does not answer, lost answers, many sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.screenshots.list_states import expand, force_out, row, settle
from tests.screenshots.people import KIOSK_SESSIONS
from tests.screenshots.stage import Stage, open_stage
from tests.support.chromium import SCREEN

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

LONGEST_EXPANSION = 20
OUTSIDE = """box => {
  const row = box.closest("tr").getBoundingClientRect();
  return [box, ...box.querySelectorAll("*")].filter(each => {
    const {left, top, right, bottom} = each.getBoundingClientRect();
    return left < row.left || top < row.top || right > row.right || bottom > row.bottom;
  }).map(each => each.outerHTML);
}"""


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
    settle(page)
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
    settle(page)
    row(page, "victim1").get_by_role("button", name="Retry").click()
    expect(row(page, "victim1").get_by_role("alert")).to_have_count(0)
    expect(row(page, "victim1").get_by_role("button", name="Force Logout")).to_have_count(0)


def test_what_is_said_of_an_act_lies_within_its_row(stage: Stage) -> None:
    page = stage.visit(f"{SCREEN}?q=victim&sort=username&order=asc")
    expand(page, "victim2")
    settle(page)
    for path in ("**/force-logout", "**/end-session*"):
        page.route(path, lambda route: route.abort())

    row(page, "victim3").get_by_role("button", name="Force Logout").click()
    page.locator(".xs-sessions").get_by_role("button").last.click()

    boxes = page.locator(".xs-trouble")
    expect(boxes).to_have_count(2)
    said = boxes.locator("[role=alert]")
    expect(said.first).to_have_text("It is not known whether the session ended.")
    expect(said.last).to_have_text("It is not known whether victim3 was signed out.")
    for width in (1366, 1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 768})
        for box in boxes.all():
            assert (width, box.evaluate(OUTSIDE)) == (width, [])
            assert box.evaluate("it => it.offsetWidth") > width / 4, "wider than its cell"


def test_a_second_click_does_not_meet_retry(stage: Stage) -> None:
    page = stage.visit()
    sent: list[str] = []
    page.on("request", lambda each: sent.append(each.url) if "force-logout" in each.url else None)
    page.route("**/force-logout", lambda route: route.abort())
    force_out(page, "victim4")
    again = row(page, "victim4").get_by_role("button", name="Retry")
    close = row(page, "victim4").get_by_role("button", name="Close")

    again.click()
    again.press("Enter")
    close.click()
    expect(again).to_be_visible()
    assert len(sent) == 1
    settle(page)
    close.click()

    expect(again).to_have_count(0)
    assert len(sent) == 1


@pytest.mark.parametrize("act", ["force-logout", "end-session"])
def test_an_act_whose_row_cannot_be_read_is_no_failure(stage: Stage, act: str) -> None:
    page = stage.visit()
    answer = {"status": "done", "message": "It is done."}
    page.route(f"**/{act}*", lambda route: route.fulfill(json=answer))
    place = row(page, "victim5")
    if act == "end-session":
        expand(page, "victim5")
        place = page.locator("[data-xs-session]").first
    settle(page)
    button = place.get_by_role("button", name="End" if act == "end-session" else "Force Logout")

    button.click()

    said = place.locator(".xs-trouble.xs-calm")
    expect(said).to_contain_text("It is done.")
    expect(page.locator("#xs-live")).to_have_text("It is done.")
    expect(button).to_be_disabled()
    expect(place.get_by_role("button", name="Retry")).to_have_count(0)
    expect(place.get_by_role("alert")).to_have_count(0)


def test_no_retry_where_it_cannot_succeed(stage: Stage) -> None:
    page = stage.visit()
    answer = {"status": "failed", "message": "You may not do this.", "retry": False}
    page.route("**/force-logout", lambda route: route.fulfill(json=answer, status=403))
    force_out(page, "victim6")

    expect(row(page, "victim6").get_by_role("alert")).to_have_text("You may not do this.")
    expect(row(page, "victim6").get_by_role("button", name="Retry")).to_have_count(0)


def test_an_act_without_an_answer_is_given_up(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("""() => {
      AbortSignal.timeout = (ms) => {
        window.patience = ms;
        return AbortSignal.abort();
      };
    }""")
    page.route("**/force-logout", lambda route: None)
    force_out(page, "victim7")

    expect(row(page, "victim7").get_by_role("alert")).to_contain_text("It is not known whether")
    assert page.evaluate("patience") == 30_000


def test_a_click_at_a_row_that_has_just_moved_is_said_there(stage: Stage) -> None:
    page = stage.visit(f"{SCREEN}?q=victim8")
    place = row(page, "victim8")
    settle(page)

    before = place.evaluate("""async row => {
      const notice = document.createElement("p");
      notice.style.height = "40px";
      document.getElementById("xs-acts").prepend(notice);
      await new Promise(done => requestAnimationFrame(done));
      const {height} = row.getBoundingClientRect();
      const click = {bubbles: true, cancelable: true, detail: 1};
      row.querySelector(".xs-force").dispatchEvent(new MouseEvent("click", click));
      return height;
    }""")

    said = place.locator(".xs-moved")
    expect(said).to_have_text("The list had just moved. Click again.")
    expect(page.locator("#xs-live")).to_have_text("The list had just moved. Click again.")
    assert said.evaluate(OUTSIDE) == []
    assert place.evaluate("it => it.getBoundingClientRect().height") == before
    settle(page)
    place.get_by_role("button", name="Force Logout").click()  # not covered
    expect(place).to_contain_text("Signed out")


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
