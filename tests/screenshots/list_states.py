"""The states of Login Management's list."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

from tests.screenshots.people import LONG_NAME
from tests.screenshots.stage import Stage, state, submit_without_script
from tests.support.chromium import SCREEN

STILL_MS = 800
"""Milliseconds: longer than the buttons of a row that has just appeared are inert."""
POLL_MS = 11_000
"""Milliseconds: more than between two polls of the list."""


def row(page: Page, username: str) -> Locator:
    """Return a user's row of the list."""
    name = page.locator(".xs-username", has_text=username)
    return page.locator(".xs-table > tbody > tr").filter(has=name).first


def expand(page: Page, username: str) -> None:
    """Open the sessions below a user's row."""
    row(page, username).locator(".xs-count").click()
    page.locator(".xs-sessions").first.wait_for()


def settle(page: Page) -> None:
    """Wait until the buttons of rows that have just appeared can be used."""
    page.evaluate("ms => new Promise(done => setTimeout(done, ms))", STILL_MS)


def force_out(page: Page, username: str) -> None:
    """Press the button Force Logout of a user's row."""
    settle(page)
    row(page, username).locator(".xs-action button").first.click()


@state("list")
def as_loaded(stage: Stage) -> Page:
    return stage.visit()


@state("list-open-row")
def open_row(stage: Stage) -> Page:
    page = stage.visit()
    expand(page, "bora")
    expand(page, LONG_NAME)
    return page


@state("list-open-row-many")
def open_row_with_thousands(stage: Stage) -> Page:
    page = stage.visit(f"{SCREEN}?q=kiosk")
    expand(page, "kiosk")
    return page


@state("list-menu")
def menu(stage: Stage) -> Page:
    page = stage.visit()
    row(page, "haneul").locator("summary").click()
    return page


@state("list-reason")
def reason(stage: Stage) -> Page:
    page = menu(stage)
    settle(page)
    row(page, "haneul").locator("[data-xs-ask]").click()
    page.locator("dialog[open] textarea").fill("Left signed in on a public PC")
    return page


@state("list-signed-out")
def signed_out(stage: Stage) -> Page:
    page = stage.visit()
    force_out(page, "victim0")
    page.locator(".xs-gone .xs-done").first.wait_for()
    return page


@state("list-session-ended")
def session_ended(stage: Stage) -> Page:
    page = stage.visit()
    expand(page, "victim1")
    settle(page)
    page.locator(".xs-sessions .xs-force").last.click()
    page.locator(".xs-sessions .xs-result").wait_for()
    return page


@state("list-busy")
def busy(stage: Stage) -> Page:
    page = stage.visit()
    page.route("**/force-logout", lambda route: None)  # the answer never comes
    force_out(page, "victim2")
    page.locator(".xs-busy").wait_for()
    return page


@state("list-failure-certain")
def certain_failure(stage: Stage) -> Page:
    page = stage.visit()
    with stage.site.locked():
        force_out(page, "victim3")
        page.locator(".xs-trouble").wait_for()
    return page


@state("list-failure-unknown")
def unknown_failure(stage: Stage) -> Page:
    page = stage.visit()
    page.route("**/force-logout", lambda route: route.abort())
    force_out(page, "victim4")
    page.locator(".xs-trouble").wait_for()
    return page


@state("list-without-script")
def without_script(stage: Stage) -> Page:
    page = stage.visit()
    submit_without_script(page, "force-logout", user_id=stage.site.ids["victim5"])
    page.locator(".xs-gone").wait_for()
    return page


@state("list-filters")
def filters(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}?q=2001:db8::/32&superuser=true&min_sessions=1&older_than=1m")


@state("list-bad-filter")
def bad_filter(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}?older_than=soon&address=nowhere")


@state("list-no-match")
def no_match(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}?q=nobody-has-this-name")


@state("list-last-page")
def last_page(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}?page=2")


@state("list-selection")
def selection(stage: Stage) -> Page:
    page = stage.visit()
    for username in ("jwm", "bora"):
        row(page, username).locator("[type=checkbox]").check()
    return page


@state("list-several-done")
def several_done(stage: Stage) -> Page:
    page = stage.visit()
    for username in ("victim8", "victim9"):
        row(page, username).locator("[type=checkbox]").check()
    settle(page)
    page.locator("[data-xs-act]").click()
    page.locator("[data-xs-finished] [data-xs-close]").wait_for()
    return page


@state("several")
def several(stage: Stage) -> Page:
    ids = [stage.site.ids[name] for name in ("jwm", "bora", "haneul")]
    query = "&".join(f"users={each}" for each in ids)
    return stage.visit(f"{SCREEN}several?{query}")


@state("several-result")
def several_result(stage: Stage) -> Page:
    ids = [stage.site.ids[name] for name in ("victim7", "victim8", "batch-agent")]
    query = "&".join(f"users={each}" for each in ids)
    page = stage.visit(f"{SCREEN}several?{query}")
    with page.expect_navigation():
        page.locator(".xs-panel .xs-force").click()
    return page


@state("everyone-wrong-word")
def everyone_wrong_word(stage: Stage) -> Page:
    page = everyone(stage)
    page.fill("[name=reason]", "An incident")
    page.fill("[name=word]", "everybody")
    page.locator(".xs-panel .xs-force").click()
    page.locator(".xs-wrong").wait_for()
    return page


@state("everyone")
def everyone(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}everyone")


@state("confirm")
def confirm(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}confirm?user_id={stage.site.ids['bora']}")


@state("list-newcomers")
def newcomers(stage: Stage) -> Page:
    page = stage.visit()
    page.clock.install()
    page.reload()
    stage.site.sign_in(stage.context().request, "guest")
    page.clock.fast_forward(POLL_MS)
    page.locator(".xs-newcomers:visible").wait_for()
    return page


@state("list-not-followed")
def not_followed(stage: Stage) -> Page:
    page = stage.visit()
    page.locator(".xs-follow").click()
    return page
