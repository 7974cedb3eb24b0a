"""The manual's recommendations as timed walks: python -m tests.benchmarks.walks [--json FILE] […].

A scripted administrator does each task in a browser, on an Admin Center with random users and a
known cast, and starts at Login Management each time. Prints the clicks, the keystrokes (a typed
text or a pressed key is one), the pages loaded and the seconds of each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.support import cast
from tests.support.admin_center import PASSWORD, UNLIMITED, AdminCenter
from tests.support.chromium import FLAGS, SCREEN, sign_in
from tests.support.standalone import center_maker
from tests.support.walker import Walk, Walker
from xgen_flask_sessions.standalone import seeding
from xgen_flask_sessions.standalone.models import User, db

AIM_MS: Final = 800
"""Milliseconds a person needs to aim at a button that has just appeared; until then it is inert."""


def rows(page: Page) -> Locator:
    """Return the rows of the list's users."""
    return page.locator(".xs-table > tbody > tr[data-xs-user]")


def row(page: Page, username: str) -> Locator:
    """Return the row of a user."""
    return rows(page).filter(has=page.locator(".xs-username", has_text=username))


def search(walker: Walker, text: str) -> None:
    """Type a text into the page's search field."""
    field = walker.page.locator("[name=q]")
    walker.click(field)
    walker.type(field, text)
    walker.press("Enter", loads=True)


def public_pc(page: Page) -> Walk:
    """End the session at the public computer, and no other."""
    walker = Walker(page, "public PC")
    search(walker, "blim")
    walker.click(row(page, "blim").locator(".xs-count"))
    session = page.locator(".xs-sessions tr", has_text=cast.PUBLIC_PC)
    session.wait_for()
    page.wait_for_timeout(AIM_MS)
    walker.click(session.locator("button"))
    expect(session.locator("button")).to_have_count(0)
    walk = walker.done()
    assert ended(page, "blim") == 1
    return walk


def reset(page: Page) -> Walk:
    """Reset a password, and end the user's sessions."""
    walker = Walker(page, "password reset and force logout")
    search(walker, "jwm")
    walker.open(row(page, "jwm").locator("a.xs-username"))
    walker.open(page.locator("main").get_by_role("link", name="User Management"))
    field = page.get_by_label("New password")
    walker.click(field)
    walker.type(field, "another long password")
    walker.open(page.get_by_role("button", name="Reset password"))
    walk = walker.done()
    assert ended(page, "jwm") == 2
    return walk


def unfamiliar(page: Page) -> Walk:
    """Force out every user with an active session from an address."""
    walker = Walker(page, "unfamiliar address")
    search(walker, cast.UNFAMILIAR)
    found = rows(page).count()
    for each in rows(page).all():
        page.wait_for_timeout(AIM_MS)
        walker.click(each.get_by_role("button", name="Force Logout"))
        each.locator(".xs-done").wait_for()
    walk = walker.done(note=f"{found} of 2 users found and forced out")
    assert found == 2
    return walk


def leaver(page: Page) -> Walk:
    """End the sessions, set the account inactive, and revoke its roles."""
    walker = Walker(page, "leaver")
    search(walker, "hseo")
    walker.open(row(page, "hseo").locator("a.xs-username"))
    page.wait_for_timeout(AIM_MS)
    walker.click(page.get_by_role("button", name="Process leaver"))
    page.locator(".xs-gone .xs-done").first.wait_for()
    walk = walker.done(note="2 clicks from the row")
    assert ended(page, "hseo") == 3
    return walk


def superusers(page: Page) -> Walk:
    """See the SuperUsers that are signed in, with their addresses."""
    walker = Walker(page, "SuperUsers at night")
    walker.open(page.locator(".xs-card").get_by_role("link", name="SuperUsers"))
    found = rows(page).filter(has=page.locator(".xs-super")).count()
    walk = walker.done(note=f"{found} of 5 found, with their addresses")
    assert found == rows(page).count() == 5
    return walk


def pile_up(page: Page) -> Walk:
    """Find a user with sessions older than a week, and end those alone."""
    walker = Walker(page, "pile-up")
    bar = page.locator(".xs-filters")
    walker.click(bar.locator("summary", has_text="Signed in longer than"))
    walker.open(bar.get_by_role("link", name="7 days"))
    walker.open(rows(page).locator("a.xs-username").first)
    page.wait_for_timeout(AIM_MS)
    walker.click(page.locator("summary", has_text="End older than"))
    walker.click(page.get_by_role("button", name="7 days"))
    result = page.locator("[data-xs-result]")
    expect(result).to_contain_text("ended")
    return walker.done(note=result.inner_text())


def ended(page: Page, username: str) -> int:
    """Return how many sessions of a user have ended since the start."""
    found = page.request.get(f"/sessions/users?q={username}").json()["users"]
    left = sum(int(user["active_sessions"]) for user in found if user["username"] == username)
    return len(cast.PEOPLE[username].sign_ins) - left


WALKS: Final[tuple[Callable[[Page], Walk], ...]] = (
    public_pc,
    reset,
    unfamiliar,
    leaver,
    superusers,
    pile_up,
)


@contextmanager
def seeded(users: int, sessions: int) -> Iterator[AdminCenter]:
    """Serve an Admin Center with random users and the cast."""
    with tempfile.TemporaryDirectory() as home:
        instance = Path(home) / "instance"
        with center_maker(instance) as make:
            center = make(ADMIN_PASSWORD=PASSWORD)
            with center.app.app_context():
                for _ in seeding.seed(users, sessions, randomness=1):
                    pass
                everybody_else = sa.update(User).where(User.username != "admin")
                db.session.execute(everybody_else.values(is_superuser=False))
                db.session.commit()
            cast.enter(center)
        with AdminCenter(instance, **UNLIMITED) as served:
            yield served


def main() -> None:
    """Do every walk, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=8000)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    walks = []
    with seeded(options.users, options.sessions) as served, sync_playwright() as playwright:
        path = shutil.which("chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = chromium.new_context(
            base_url=served.url, locale="en-US", viewport={"width": 1366, "height": 768}
        ).new_page()
        page.set_default_timeout(15_000)
        sign_in(page, "admin")
        print(f"{'task':33} clicks  keys  pages  seconds")
        for walk in WALKS:
            page.goto(SCREEN)
            done = walk(page)
            walks.append(done)
            figures = f"{done.clicks:6} {done.keystrokes:5} {done.pages:6} {done.seconds:8.2f}"
            print(f"{done.task:33} {figures}  {done.note}", flush=True)
        chromium.close()
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(walk) for walk in walks], indent=1))


if __name__ == "__main__":
    main()
