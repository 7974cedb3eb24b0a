"""The pages that a person sees in place of the page asked for."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.screenshots.sites import HASTY_LIMIT
from tests.screenshots.stage import Stage, state, submit_without_script
from tests.support.chromium import SCREEN


@state("page-403")
def forbidden(stage: Stage) -> Page:
    return stage.visit(SCREEN, "clerk", status=403)


@state("page-404")
def not_found(stage: Stage) -> Page:
    return stage.visit(f"{SCREEN}no-such-page", status=404)


@state("page-503")
def unavailable(stage: Stage) -> Page:
    stage.browser_of("admin")
    with stage.site.unreadable():
        return stage.visit(status=503)


@state("page-429")
def too_many(stage: Stage) -> Page:
    page = stage.visit(username="hasty")
    target = stage.site.ids["batch-agent"]
    for _ in range(HASTY_LIMIT):
        page.request.post(f"/sessions/users/{target}/force-logout")
    submit_without_script(page, "force-logout", user_id=target)
    page.locator("[role=alert]").first.wait_for()
    return page
