"""The list and a user's page as assistive technologies have them: their accessibility trees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.screenshots.list_states import expand, force_out
from tests.screenshots.stage import Stage, open_stage
from tests.support.chromium import SCREEN

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

WIDTHS = (390, 700, 1093, 1280, 1920)

LANDMARKS = """
- link "Skip to content"
- complementary:
  - link "XGEN Admin Center"
  - navigation "Admin Center":
    - group:
      - link "User Management"
      - link "Login Management"
  - navigation "Language"
  - button "Sign out"
- main
"""

LIST = r"""
- heading "Login Management" [level=1]
- paragraph: /List of users currently signed in/
- paragraph: Korean Standard Time (UTC+09:00)
- button "Refresh"
- search:
  - searchbox "User, name, department, IP": victim
  - button "Search"
- group:
  - group "Filters":
    - link "SuperUsers"
    - group: Signed in longer than
    - group: More sessions than
    - group: Last sign-in since
    - link "Clear filters"
- button "Follow" [pressed]
- time: /As of \d+:\d+:\d+/
- status: "victim0 was signed out: 2 sessions ended."
- term: Active Users
- definition
- term: Active Sessions
- definition
- term:
  - link "SuperUsers"
- definition
- status: 10 users
- table "Login Management":
  - rowgroup:
    - row /Select all users of this page User Name Department .* Action/:
      - cell "Select all users of this page":
        - checkbox "Select all users of this page"
      - columnheader "User":
        - link "User"
      - columnheader "Name":
        - link "Name"
      - columnheader "Department":
        - link "Department"
      - columnheader "Active Sessions":
        - link "Active Sessions"
      - columnheader "Last Login":
        - link "Last Login"
      - columnheader "Last IP":
        - link "Last IP"
      - columnheader "Action"
  - rowgroup:
    - row:
      - cell "Select victim0":
        - checkbox "Select victim0" [disabled]
      - rowheader "victim0":
        - link "victim0"
      - cell "Victim 0"
      - cell "-"
      - cell "0 active sessions of victim0":
        - button "0 active sessions of victim0": "0"
      - cell /2 hours ago/:
        - time
        - text: 2 hours ago
      - cell "192.0.2.50"
      - cell "Signed out 2 sessions"
    - row:
      - cell "Select victim1":
        - checkbox "Select victim1"
      - rowheader "victim1":
        - link "victim1"
      - cell "Victim 1"
      - cell "-"
      - cell "2 active sessions of victim1":
        - button "2 active sessions of victim1" [expanded]: "2"
      - cell /2 hours ago/
      - cell "192.0.2.50"
      - cell "Force Logout victim1":
        - button "Force Logout victim1": Force Logout
        - group
    - row "Active Sessions":
      - cell "Active Sessions":
        - table "Active Sessions":
          - rowgroup:
            - row "Browser Device Signed in IP Expires Action":
              - columnheader "Browser"
              - columnheader "Device"
              - columnheader "Signed in"
              - columnheader "IP"
              - columnheader "Expires"
              - columnheader "Action"
          - rowgroup:
            - row:
              - cell "Chrome 148"
              - cell "Windows"
              - cell /2 hours ago/:
                - time
                - text: 2 hours ago
              - cell "192.0.2.50"
              - cell:
                - time
              - cell /End Chrome 148/:
                - button /End Chrome 148, signed in .+/: End
            - row /Safari 19 iPhone/
"""

USER = r"""
- navigation "Breadcrumb":
  - link "Login Management"
  - text: bora
- heading "Bora Lim" [level=1]
- paragraph:
  - text: /bora ·.*Research ·.*account active/
  - link "User Management"
- paragraph: Korean Standard Time (UTC+09:00)
- button "Force Logout"
- group
- button "End all but the newest"
- group: End older than
- paragraph:
  - link "Refresh"
  - text: /As of/
- region "Active sessions · 3":
  - heading "Active sessions · 3" [level=2]
  - table "Active sessions · 3":
    - rowgroup:
      - row "Browser Device Signed in IP Expires Action"
    - rowgroup:
      - row:
        - rowheader "Chrome 148"
        - cell "Windows"
        - cell /15 minutes ago/:
          - time
          - text: 15 minutes ago
        - cell "203.0.113.66"
        - cell:
          - time
        - cell "End Chrome 148 · Windows":
          - button "End Chrome 148 · Windows": End
      - row /Samsung Internet 27 Android/
      - row /curl 8/
- region "Leaver or transfer":
  - heading "Leaver or transfer" [level=2]
  - list:
    - listitem: Force logout
    - listitem: Inactive
    - listitem: Revoke roles
  - paragraph: "In this order, at once: 3 sessions, 2 roles."
  - textbox "Reason (optional)"
  - button "Process leaver"
- region "Seen":
  - heading "Seen" [level=2]
  - term: First sign-in
  - definition
  - term: Last Login
  - definition
  - term: Addresses
  - definition
  - term: Devices
  - definition
- region "Force logouts and ends":
  - heading "Force logouts and ends" [level=2]
- region "Ended sessions":
  - heading "Ended sessions" [level=2]
"""


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(browser, "center", "en", home=tmp_path_factory.mktemp("tree")) as stage:
        yield stage


def print_tree(page: Page) -> None:
    print(page.locator("body").aria_snapshot())


def test_the_list_with_an_open_row_and_a_signed_out_one(stage: Stage) -> None:
    page = stage.visit(f"{SCREEN}?q=victim&sort=username&order=asc")
    expand(page, "victim1")
    force_out(page, "victim0")
    page.locator(".xs-gone").wait_for()

    print_tree(page)
    expect(page.locator("body")).to_match_aria_snapshot(LANDMARKS)
    expect(page.get_by_role("main")).to_match_aria_snapshot(LIST)
    page.set_viewport_size({"width": 390, "height": 800})
    sessions = page.get_by_role("table", name="Active Sessions")
    for heading in ("Browser", "Signed in", "Expires"):
        expect(sessions.get_by_role("columnheader", name=heading)).to_have_count(1)
    shown = sessions.locator(".xs-when").evaluate_all(
        "cells => cells.slice(0, 2).map(cell => getComputedStyle(cell, '::before').content)"
    )
    assert [each.split('"')[1].strip() for each in shown] == ["Signed in", "Expires"]
    stage.close_pages()


def test_the_page_of_a_user(stage: Stage) -> None:
    page = stage.visit(f"{SCREEN}user?user_id={stage.site.ids['bora']}")

    print_tree(page)
    expect(page.locator("body")).to_match_aria_snapshot(LANDMARKS)
    expect(page.get_by_role("main")).to_match_aria_snapshot(USER)
    stage.close_pages()


@pytest.mark.parametrize("path", [SCREEN, "/admin/admin-users/"])
def test_a_row_has_as_many_cells_as_there_are_headings(stage: Stage, path: str) -> None:
    page = stage.visit(path)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        cells = page.get_by_role("main").get_by_role("row").filter(visible=True)
        counts = cells.evaluate_all("""rows => rows.map(row => [...row.children].filter(cell =>
          cell.checkVisibility({visibilityProperty: true})).length)""")
        assert (width, set(counts)) == (width, {8})
    stage.close_pages()
