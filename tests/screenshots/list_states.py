"""The states of Login Management's list."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

from tests.screenshots.people import LONG_NAME
from tests.screenshots.stage import Stage, state
from tests.support.chromium import SCREEN


def row(page: Page, username: str) -> Locator:
    """Return a user's row of the list."""
    name = page.locator(".xs-username", has_text=username)
    return page.locator(".xs-table > tbody > tr").filter(has=name).first


def expand(page: Page, username: str) -> None:
    """Open the sessions below a user's row."""
    row(page, username).locator(".xs-count").click()
    page.locator(".xs-sessions").first.wait_for()


def force_out(page: Page, username: str) -> None:
    """Press the button Force Logout of a user's row."""
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


@state("list-no-match")
def no_match(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}?q=nobody-has-this-name")
