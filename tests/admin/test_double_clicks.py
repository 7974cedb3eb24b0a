"""Two clicks at one place force out one user: by mouse, keys and touch, with and without a script.

Other people sign in meanwhile, so that a list that is loaded again would have other rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.admin_center import PASSWORD, UNLIMITED, AdminCenter
from tests.support.chromium import SCREEN
from tests.support.standalone import Center, center_maker
from xgen_flask_sessions import PastSignIn, clock
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import db

pytestmark = pytest.mark.slow

USERS = [f"user{number:02}" for number in range(30)]
NEWCOMERS = USERS[12:]
CLICKS = [
    *(("mouse", delay_ms) for delay_ms in (100, 450, 3000)),
    *((by, delay_ms) for by in ("Enter", "touch") for delay_ms in (100, 450)),
    ("Space", 300),
]
"""The kind of a click, and the milliseconds between two of them."""


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Center]:
    with center_maker(tmp_path_factory.mktemp("double") / "instance") as make:
        center = make(ADMIN_PASSWORD=PASSWORD)
        for username in USERS:
            center.add_user(username, PASSWORD, name=f"{username} Kim", department="Research")
        yield center


@pytest.fixture(scope="module")
def served(inside: Center) -> Iterator[AdminCenter]:
    with AdminCenter(Path(inside.app.instance_path), **UNLIMITED) as running:
        yield running


@pytest.fixture(scope="module")
def contexts(browser: Browser, served: AdminCenter) -> Iterator[dict[bool, BrowserContext]]:
    """Yield the administrator's browsers, with and without script."""
    with ExitStack() as stack:
        found = {}
        for with_scripts in (True, False):
            context = browser.new_context(
                base_url=served.url, java_script_enabled=with_scripts, has_touch=True,
                viewport={"width": 1280, "height": 800}, reduced_motion="reduce",
            )  # fmt: skip
            stack.callback(context.close)
            form: dict[str, str | float | bool] = {"username": "admin", "password": PASSWORD}
            assert context.request.post("/login", form=form, max_redirects=0).status == 303
            found[with_scripts] = context
        yield found


@pytest.fixture
def screen(
    request: pytest.FixtureRequest, inside: Center, contexts: dict[bool, BrowserContext]
) -> Iterator[Page]:
    """Yield the list of twelve users, and the administrator."""
    others = f"user_id NOT IN ('*', '{inside.user('admin')['id']}')"  # who stays signed in
    with inside.app.app_context(), db.engine.begin() as connection:
        for table in ("xgen_sessions", "xgen_revocations", "xgen_user_logins"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE {others}")
    sign_in_at_once(inside, USERS[:12])
    page = contexts[request.param].new_page()
    page.goto(SCREEN)
    yield page
    page.close()


def sign_in_at_once(center: Center, usernames: list[str]) -> None:
    """Record a sign-in of each user."""
    ids = [str(center.user(each)["id"]) for each in usernames]
    now = clock.now_us()
    with center.app.app_context():
        sessions.record_past_sign_ins(
            PastSignIn(user_id=each, signed_in_us=now - at, expires_us=now + 3600 * 10**6)
            for at, each in enumerate(ids, 1)
        )


def forced_out(center: Center) -> set[str]:
    return {str(record["user_id"]) for record in center.rows("xgen_revocations")}


def set_pace(page: Page, pace: float) -> None:
    """Set how fast animations run, on this page and on those that follow it in the same tab."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Animation.enable")
    devtools.send("Animation.setPlaybackRate", {"playbackRate": pace})


@pytest.mark.parametrize("screen", [True, False], indirect=True, ids=["script", "no-script"])
@pytest.mark.parametrize(("by", "delay_ms"), CLICKS)
def test_two_clicks_at_one_place_force_out_one_user(
    screen: Page, inside: Center, by: str, delay_ms: int
) -> None:
    button = screen.locator("button.xs-force").nth(4)
    row = screen.locator(".xs-user").nth(4)
    user_id = row.get_attribute("data-xs-user")
    before = row.bounding_box()
    box = button.bounding_box()
    assert box is not None
    x, y = box["x"] + 30, box["y"] + box["height"] / 2
    button.focus()
    set_pace(screen, 0)  # the time in which the next page takes no click stands still

    def press() -> None:
        if by == "mouse":
            screen.mouse.click(x, y)
        elif by == "touch":
            screen.touchscreen.tap(x, y)
        else:
            screen.keyboard.press(by)

    press()
    sign_in_at_once(inside, NEWCOMERS[:3])
    screen.wait_for_timeout(delay_ms)
    press()
    screen.locator(".xs-gone").first.wait_for()
    press()

    screen.locator(".xs-done").first.wait_for()
    assert forced_out(inside) == {user_id}
    assert screen.locator(".xs-gone").count() == 1
    gone = screen.locator(".xs-gone")
    assert gone.get_attribute("data-xs-user") == user_id
    focused = "document.activeElement.dataset.xsUser"
    if "kept" not in screen.url:
        assert gone.bounding_box() == before, "nothing on the page has moved"
        assert screen.evaluate(focused) == user_id


@pytest.mark.parametrize("screen", [False], indirect=True, ids=["no-script"])
def test_the_next_user_can_be_forced_out_after_a_while(screen: Page, inside: Center) -> None:
    rows = screen.locator(".xs-user")
    ids = [rows.nth(place).get_attribute("data-xs-user") for place in (4, 5)]
    set_pace(screen, 0)
    rows.nth(4).locator("button.xs-force").click()
    screen.locator(".xs-gone").wait_for()
    other = rows.nth(5).locator("button.xs-force")
    takes_clicks = "it => getComputedStyle(it).pointerEvents"
    assert other.evaluate(takes_clicks) == "none"

    set_pace(screen, 1000)
    other.click()

    screen.locator(".xs-gone").nth(1).wait_for()
    assert forced_out(inside) == set(ids)
