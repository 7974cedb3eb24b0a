"""The pages that only the standalone Admin Center has."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.screenshots.stage import Stage, state

USERS = "/admin/admin-users/"


def _sign_in_page(stage: Stage, query: str = "") -> Page:
    page = stage.context().new_page()
    page.goto(f"/login{query}")
    return page


@state("sign-in", center_only=True)
def sign_in(stage: Stage) -> Page:
    return _sign_in_page(stage)


@state("sign-in-wrong", center_only=True)
def wrong_password(stage: Stage) -> Page:
    page = _sign_in_page(stage)
    page.fill("[name=username]", "bora")
    page.fill("[name=password]", "wrong password")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    return page


@state("sign-in-signed-out", center_only=True)
def signed_out(stage: Stage) -> Page:
    return _sign_in_page(stage, "?done=signed-out")


@state("sign-in-sessions-ended", center_only=True)
def sessions_ended(stage: Stage) -> Page:
    return _sign_in_page(stage, "?done=sessions-ended")


@state("sign-in-forced-out", center_only=True)
def forced_out(stage: Stage) -> Page:
    page = stage.context().new_page()
    stage.site.sign_in(page.request, "colleague01")
    stage.browser_of("admin").request.post(
        f"/sessions/users/{stage.site.ids['colleague01']}/force-logout"
    )
    page.goto("/login")
    return page


@state("workspace", center_only=True)
def workspace(stage: Stage) -> Page:
    page = stage.visit("/")
    page.locator("#sessions li").first.wait_for()
    return page


@state("users", center_only=True)
def users(stage: Stage) -> Page:
    return stage.visit(USERS)


@state("users-no-match", center_only=True)
def users_no_match(stage: Stage) -> Page:
    return stage.visit(f"{USERS}?q=nobody-has-this-name")


@state("users-new", center_only=True)
def new_user(stage: Stage) -> Page:
    return stage.visit(f"{USERS}new")


@state("users-edit", center_only=True)
def edit_user(stage: Stage) -> Page:
    return stage.visit(f"{USERS}{stage.site.ids['bora']}")


@state("users-stale", center_only=True)
def stale_edit(stage: Stage) -> Page:
    path = f"{USERS}{stage.site.ids['jwm']}"
    page, meanwhile = stage.visit(path), stage.visit(path)
    for each, text in ((meanwhile, "Sales and Support"), (page, "Retail")):
        field = each.locator("[name=department]")
        field.fill(text)
        with each.expect_navigation():
            field.press("Enter")
    return page
