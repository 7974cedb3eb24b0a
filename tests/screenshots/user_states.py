"""The states of a user's page."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.screenshots.stage import Stage, state
from tests.support.chromium import SCREEN


def open_user(stage: Stage, username: str) -> Page:
    """Open the page of a user."""
    return stage.visit(f"{SCREEN}user?user_id={stage.site.ids[username]}")


@state("user")
def as_loaded(stage: Stage) -> Page:
    """A user with sessions, of which some have ended before."""
    calls = stage.browser_of("admin").request
    sessions = f"/sessions/users/{stage.site.ids['bora']}"
    stage.site.sign_in(stage.context().request, "bora")
    newest = calls.get(sessions).json()["sessions"][0]["session_id"]
    calls.delete(f"{sessions}/sessions/{newest}", data={"reason": "Left signed in on a public PC"})
    return open_user(stage, "bora")


@state("user-many-sessions")
def many_sessions(stage: Stage) -> Page:
    return open_user(stage, "kiosk")


@state("user-without-sessions")
def without_sessions(stage: Stage) -> Page:
    path = f"/sessions/users/{stage.site.ids['victim6']}/force-logout"
    stage.browser_of("admin").request.post(path)
    return open_user(stage, "victim6")


@state("user-oneself")
def oneself(stage: Stage) -> Page:
    return open_user(stage, "admin")


@state("user-deleted")
def deleted(stage: Stage) -> Page:
    stage.site.execute("DELETE FROM users WHERE username = 'victim7'")
    return open_user(stage, "victim7")


@state("user-unknown")
def unknown(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}user?user_id=99999999", status=404)


@state("user-older-than")
def older_than(stage: Stage) -> Page:
    page = open_user(stage, "pile.up")
    page.locator(".xs-user-bar summary").last.click()
    return page


@state("user-session-ended")
def session_ended(stage: Stage) -> Page:
    page = open_user(stage, "pile.up")
    page.locator(".xs-devices button").last.click()
    page.locator(".xs-gone .xs-done").wait_for()
    return page


@state("user-leaver")
def leaver(stage: Stage) -> Page:
    page = open_user(stage, "leaver")
    page.locator("[data-xs-act=leaver] button").click()
    page.locator(".xs-gone .xs-done").first.wait_for()
    return page
