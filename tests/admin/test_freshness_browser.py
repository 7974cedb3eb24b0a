"""An open list follows the sessions by itself, in a real browser whose clock the test turns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, Route, expect

from tests.support.admin_center import PASSWORD, UNLIMITED, AdminCenter
from tests.support.chromium import SCREEN
from tests.support.standalone import Center, center_maker
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import db

pytestmark = pytest.mark.slow

POLL_MS = 10_000
USERS = {"bora": "Bora Lim", "jwm": "", "haneul": ""}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("freshness") / "instance"


@pytest.fixture(scope="module")
def inside(instance: Path) -> Iterator[Center]:
    """Yield the Admin Center's application in this process, with :data:`USERS`."""
    with center_maker(instance) as make:
        center = make(ADMIN_PASSWORD=PASSWORD)
        for username, name in USERS.items():
            center.add_user(username, PASSWORD, name=name)
        yield center


@pytest.fixture(scope="module")
def served(instance: Path, inside: Center) -> Iterator[AdminCenter]:
    with AdminCenter(instance, **UNLIMITED) as running:
        yield running


@pytest.fixture
def center(served: AdminCenter, inside: Center) -> AdminCenter:
    """Return the running Admin Center, without any recorded sign-ins."""
    with inside.app.app_context(), db.engine.begin() as connection:
        for rows in ("xgen_sessions", "xgen_revocations", "xgen_user_logins WHERE user_id <> '*'"):
            connection.exec_driver_sql(f"DELETE FROM {rows}")
    return served


OpenList = Callable[..., Page]


@pytest.fixture
def open_list(browser: Browser, center: AdminCenter) -> Iterator[OpenList]:
    """Yield a function that opens the list as ``admin``, with a clock that stands still."""
    contexts: list[BrowserContext] = []

    def new(path: str = SCREEN, locale: str = "en-US", **options: Any) -> Page:
        context = browser.new_context(
            base_url=center.url,
            locale=locale,
            viewport={"width": 1440, "height": 900},
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.clock.install()
        form: dict[str, str | float | bool] = {"username": "admin", "password": PASSWORD}
        assert page.request.post("/login", form=form, max_redirects=0).status == 303
        page.goto(path)
        return page

    yield new
    for context in contexts:
        context.close()


def user_id(inside: Center, username: str) -> str:
    return str(inside.user(username)["id"])


def issue(inside: Center, username: str, **options: Any) -> str:
    """Sign a user in, and return the session's id."""
    key = user_id(inside, username)
    with inside.app.app_context():
        return sessions.issue(key, **options).session_id


def pass_a_poll(page: Page) -> None:
    """Turn the clock to the next poll, and wait until it is answered."""
    with page.expect_response(lambda answer: "/poll" in answer.url):
        page.clock.run_for(POLL_MS)


def count_polls(page: Page) -> list[str]:
    """Return a list that grows with each request to poll."""
    polls: list[str] = []

    def note(request: Request) -> None:
        if request.url.split("?")[0].endswith("/poll") and request.method == "GET":
            polls.append(request.url)

    page.on("request", note)
    return polls


def set_hidden(page: Page, hidden: bool) -> None:
    page.evaluate(
        "value => { Object.defineProperty(document, 'hidden', {value, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def row_of(page: Page, username: str) -> Locator:
    has = page.locator(".xs-username", has_text=re.compile(f"^{username}$"))
    return page.locator("tr.xs-user", has=has)


def usernames(page: Page) -> list[str]:
    return page.locator("tr.xs-user .xs-username").all_inner_texts()


def cards(page: Page) -> list[str]:
    return page.locator(".xs-card dd").all_inner_texts()


def state(page: Page) -> str | None:
    return page.locator("[data-xs-poll]").get_attribute("data-xs-state")


def test_newcomers_are_announced_and_not_inserted(inside: Center, open_list: OpenList) -> None:
    page = open_list()
    assert usernames(page) == ["admin"]
    link = page.locator(".xs-newcomers")
    expect(link).to_be_hidden()
    place = page.locator(".xs-list").bounding_box()
    issue(inside, "bora")
    issue(inside, "jwm")

    pass_a_poll(page)

    expect(link).to_be_visible()
    assert " ".join(link.inner_text().split()) == "2 new sign-ins · show"
    for target in (link, page.locator(".xs-follow")):
        size = target.evaluate("it => [it.offsetWidth, it.offsetHeight]")
        assert min(size) >= 24, "WCAG 2.5.8"
    assert usernames(page) == ["admin"]
    assert page.locator(".xs-list").bounding_box() == place
    expect(page.locator(".xs-told")).to_have_text("2 new sign-ins")
    assert cards(page) == ["3", "3", "1"]

    link.click()
    page.wait_for_load_state()
    assert set(usernames(page)) == {"admin", "bora", "jwm"}


def test_rows_change_in_place_and_keep_focus_order_and_height(
    inside: Center, open_list: OpenList
) -> None:
    for username in ("bora", "jwm"):
        issue(inside, username)
    page = open_list()
    before = usernames(page)
    count = row_of(page, "bora").locator(".xs-count")
    row_of(page, "jwm").locator("input[type=checkbox]").check()
    count.focus()
    page.evaluate("document.activeElement.marked = true")
    boxes = [row.bounding_box() for row in page.locator("tr.xs-user").all()]

    issue(inside, "bora")
    issue(inside, "jwm")
    pass_a_poll(page)

    expect(count).to_have_text("2")
    assert count.get_attribute("aria-label") == "2 active sessions of bora"
    assert page.evaluate("document.activeElement.marked") is True
    assert usernames(page) == before
    assert [row.bounding_box() for row in page.locator("tr.xs-user").all()] == boxes
    expect(row_of(page, "jwm").locator("input[type=checkbox]")).to_be_checked()
    assert cards(page) == ["3", "5", "1"]


def test_a_user_who_signed_out_stays_greyed_without_the_button(
    inside: Center, open_list: OpenList
) -> None:
    first, second = issue(inside, "bora"), issue(inside, "jwm")
    page = open_list()
    row_of(page, "bora").locator(".xs-count").click()
    ends = page.locator(".xs-sessions button")
    expect(ends).to_have_count(1)
    menu = row_of(page, "jwm").locator(".xs-more summary")
    menu.click()
    boxes = [row.bounding_box() for row in page.locator("tr.xs-user").all()]
    with inside.app.app_context():
        for each in (first, second):
            sessions.end_session(each)

    pass_a_poll(page)

    gone = row_of(page, "bora")
    expect(gone.locator(".xs-c-action")).to_have_text("Signed out")
    expect(gone.locator(".xs-count")).to_have_text("0")
    expect(gone.locator(".xs-count")).to_have_accessible_name("0 active sessions of bora")
    expect(ends).to_be_disabled()
    assert gone.get_by_role("button", name=re.compile("Force Logout")).count() == 0
    assert [row.bounding_box() for row in page.locator("tr.xs-user").all()] == boxes
    open_menu = row_of(page, "jwm").locator(".xs-menu-box")
    expect(open_menu).to_be_visible()
    menu.click()
    expect(row_of(page, "jwm").locator(".xs-c-action")).to_have_text("Signed out")
    assert [row.bounding_box() for row in page.locator("tr.xs-user").all()] == boxes

    issue(inside, "bora")
    pass_a_poll(page)

    expect(page.locator(".xs-newcomers")).to_contain_text("1 new sign-in")
    expect(gone.locator(".xs-c-action")).to_have_text("Signed out")


def test_no_row_moves_under_the_pointer(inside: Center, open_list: OpenList) -> None:
    issue(inside, "bora")
    issue(inside, "jwm")
    page = open_list()
    row_of(page, "jwm").locator(".xs-count").click()
    expect(page.locator(".xs-sessions")).to_be_visible()
    lines = page.locator(".xs-sessions tbody tr")
    button = row_of(page, "bora").locator(".xs-c-action button")
    button.hover()
    place = button.bounding_box()

    issue(inside, "jwm")
    pass_a_poll(page)

    expect(row_of(page, "jwm").locator(".xs-count")).to_have_text("2")
    assert button.bounding_box() == place
    assert lines.count() == 1, "its place would be taken by another line"

    page.mouse.move(1, 1)
    expect(lines).to_have_count(2)
    expect(row_of(page, "jwm").locator(".xs-count")).to_have_attribute("aria-expanded", "true")


def test_an_ended_session_does_not_come_back(inside: Center, open_list: OpenList) -> None:
    first = issue(inside, "jwm")
    page = open_list()
    row_of(page, "jwm").locator(".xs-count").click()
    line = page.locator(f"[data-xs-session='{first}']")
    line.hover()
    issue(inside, "jwm")
    pass_a_poll(page)
    expect(row_of(page, "jwm").locator(".xs-count")).to_have_text("2")

    held: list[Route] = []
    page.route("**/end-session*", lambda route: held.append(route))
    page.clock.run_for(1000)  # the row has rested
    line.get_by_role("button", name="End").click()
    expect(line.get_by_role("button", name="End")).to_have_attribute("aria-busy", "true")
    page.mouse.move(1, 1)
    expect(line).to_be_visible()
    assert page.locator("[data-xs-session]").count() == 1, "not while its act is on its way"
    page.locator(".xs-sessions").hover()
    with page.expect_response(lambda answer: "/poll" in answer.url):
        held[0].continue_()
        expect(line).to_contain_text("Ended")
    page.mouse.move(1, 1)
    expect(line).to_be_focused()
    page.get_by_role("button", name="Refresh").focus()
    page.locator(".xs-sessions").hover()
    page.mouse.move(1, 1)

    expect(page.locator(".xs-sessions button")).to_have_count(1)
    expect(line).to_have_count(0)


def test_a_hidden_tab_does_not_poll_and_resumes_at_once(
    inside: Center, open_list: OpenList
) -> None:
    page = open_list()
    polls = count_polls(page)

    set_hidden(page, True)
    page.clock.run_for(10 * POLL_MS)
    assert polls == []

    issue(inside, "bora")
    with page.expect_response(lambda answer: "/rows" in answer.url):
        set_hidden(page, False)
    assert len(polls) == 1
    expect(page.locator(".xs-newcomers")).to_contain_text("1 new sign-in")


def test_the_switch_is_remembered(open_list: OpenList) -> None:
    page = open_list()
    polls = count_polls(page)
    follow = page.get_by_role("button", name="Follow")
    assert (follow.get_attribute("aria-pressed"), state(page)) == ("true", "following")

    follow.click()
    page.clock.run_for(3 * POLL_MS)
    assert (follow.get_attribute("aria-pressed"), state(page), polls) == ("false", "paused", [])

    page.reload()
    assert (follow.get_attribute("aria-pressed"), state(page)) == ("false", "paused")
    with page.expect_response(lambda answer: "/poll" in answer.url):
        follow.click()
    assert (follow.get_attribute("aria-pressed"), state(page)) == ("true", "following")


def test_the_time_moves_on_while_nothing_changes(open_list: OpenList) -> None:
    page = open_list()
    time = page.locator(".xs-as-of")
    first = time.inner_text()
    assert re.fullmatch(r"As of \d\d:\d\d:\d\d", first)

    with page.expect_response(lambda answer: answer.status == 304):
        page.clock.run_for(POLL_MS)

    expect(time).not_to_have_text(first)
    assert state(page) == "following"


def test_each_sixth_poll_is_unconditional(open_list: OpenList) -> None:
    page = open_list()
    statuses = []

    for _ in range(6):
        with page.expect_response(lambda answer: "/poll" in answer.url) as answered:
            page.clock.run_for(POLL_MS)
        statuses.append(answered.value.status)
        expect(page.locator("[data-xs-poll]")).to_have_attribute("data-xs-state", "following")

    assert statuses == [304] * 5 + [200]


@pytest.mark.parametrize(
    ("locale", "stale"),
    [
        ("en-US", r"Not updated since \d\d:\d\d:\d\d"),
        ("ko-KR", r"\d\d시 \d\d분 \d\d초 이후 갱신되지 않음"),
    ],
)
def test_failed_polls_say_so_and_come_less_often(
    open_list: OpenList, locale: str, stale: str
) -> None:
    page = open_list(locale=locale)
    since = re.findall(r"\d+", page.locator(".xs-as-of").inner_text())
    answers = [503]

    def fail(route: Route) -> None:
        if answers:
            route.fulfill(status=answers[0], headers={"Retry-After": "50"})
        else:
            route.continue_()

    page.route("**/poll*", fail)
    pass_a_poll(page)

    expect(page.locator(".xs-as-of")).to_have_text(re.compile(stale))
    assert re.findall(r"\d+", page.locator(".xs-as-of").inner_text()) == since
    expect(page.locator(".xs-told")).to_have_text(re.compile(stale))
    assert state(page) == "stale"

    polls = count_polls(page)
    page.clock.run_for(4 * POLL_MS)
    assert polls == [], "the server asked for 50 seconds"
    answers.clear()
    pass_a_poll(page)
    expect(page.locator("[data-xs-poll]")).to_have_attribute("data-xs-state", "following")


def test_a_connection_that_breaks_is_a_failed_poll(open_list: OpenList) -> None:
    page = open_list()
    page.route("**/poll*", lambda route: route.abort())

    page.clock.run_for(POLL_MS)

    expect(page.locator("[data-xs-poll]")).to_have_attribute("data-xs-state", "stale")


def test_an_administrator_who_was_forced_out_leaves_the_list(
    inside: Center, open_list: OpenList
) -> None:
    page = open_list()
    inside.force_logout("admin")

    page.clock.run_for(POLL_MS)

    page.wait_for_url(re.compile(r"/login\?next=%2Fadmin%2Fadmin-active-sessions%2F$"))


def test_a_page_whose_cookie_is_gone_leaves_the_list(open_list: OpenList) -> None:
    page = open_list()
    page.context.clear_cookies()

    page.clock.run_for(2 * POLL_MS)

    page.wait_for_url(re.compile(r"/login"))


@pytest.mark.parametrize("path", ["/admin/admin-users/", SCREEN])
def test_a_page_that_is_looked_at_again_asks_whether_the_session_is_valid(
    inside: Center, open_list: OpenList, path: str
) -> None:
    page = open_list(path)
    set_hidden(page, True)
    with page.expect_response(lambda answer: "/poll" in answer.url) as asked:
        set_hidden(page, False)
    assert asked.value.status == 304

    set_hidden(page, True)
    inside.force_logout("admin")
    set_hidden(page, False)

    page.wait_for_url(re.compile(r"/login\?next="))


def test_refresh_keeps_open_rows_and_the_place(inside: Center, open_list: OpenList) -> None:
    issue(inside, "bora")
    issue(inside, "jwm")
    page = open_list()
    page.set_viewport_size({"width": 1440, "height": 420})
    for username in ("bora", "jwm"):
        row_of(page, username).locator(".xs-count").click()
    expect(page.locator(".xs-sessions")).to_have_count(2)
    page.evaluate("scrollTo(0, 60)")
    issue(inside, "haneul")

    with page.expect_navigation():
        page.evaluate("document.querySelector('form[data-xs-refresh]').requestSubmit()")

    expect(page.locator(".xs-sessions")).to_have_count(2)
    assert page.evaluate("scrollY") == 60
    assert len(usernames(page)) == 4


def test_how_long_ago_stays_true(inside: Center, open_list: OpenList) -> None:
    page = open_list()
    ago = page.locator("time[datetime] + .xs-ago").first
    assert ago.inner_text() == "just now"

    page.clock.run_for(125_000)

    assert ago.inner_text() == "2 minutes ago"

    time = page.locator("time[datetime]:has(+ .xs-ago)").first
    time.evaluate("it => { it.dateTime = new Date(Date.now() + 65_000).toISOString() }")
    page.clock.run_for(30_000)

    assert ago.inner_text() == "in less than a minute"
