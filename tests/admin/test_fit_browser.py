"""The pages fit: at every width, in both languages and layouts, with data that is hard to place.

``tests/support/measuring.js`` says what fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.screenshots.sites import SITES, Site
from tests.screenshots.stage import LOCALES
from tests.support.axe import CONTRAST, violations
from tests.support.chromium import SCREEN

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

WIDTHS = (320, 390, 600, 640, 683, 768, 1024, 1093, 1200, 1280, 1366, 1440, 1920)
"""Pixels; 640 and 683 are 1280 and 1366 at 200 % zoom."""
TABLE_FROM = 600
"""Pixels: the narrowest window with a table."""
MEASURE = (Path(__file__).parents[1] / "support" / "measuring.js").read_text("utf-8")
SPACING = """* {
  line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important;
} p { margin-bottom: 2em !important; }"""
"""WCAG 2.2, success criterion 1.4.12."""
IN_VIEW = """() => [...document.querySelectorAll(".xs-user .xs-split")].filter((button) => {
  const box = button.getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight;
}).length"""


@pytest.fixture(scope="module", params=SITES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Yield a running site in the layout of the Admin Center, or of Flask-Admin."""
    with SITES[request.param](tmp_path_factory.mktemp(request.param), 3) as running:
        yield running


@pytest.fixture(scope="module")
def contexts(browser: Browser, site: Site) -> Iterator[dict[str, BrowserContext]]:
    """Yield the administrator's browser of each language."""
    found = {}
    for language, locale in LOCALES.items():
        found[language] = browser.new_context(base_url=site.url, locale=locale)
        site.sign_in(found[language].request, "admin")
    yield found
    for context in found.values():
        context.close()


@pytest.fixture(params=LOCALES)
def page(request: pytest.FixtureRequest, contexts: dict[str, BrowserContext]) -> Iterator[Page]:
    opened = contexts[request.param].new_page()
    yield opened
    opened.close()


@pytest.fixture
def english(contexts: dict[str, BrowserContext]) -> Iterator[Page]:
    opened = contexts["en"].new_page()
    yield opened
    opened.close()


def resize(page: Page, width: int, height: int = 900) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def add_style(page: Page, style: str) -> None:
    """Add a style sheet as a browser extension does: the page's policy allows no style element."""
    page.evaluate("""style => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(style);
      document.adoptedStyleSheets.push(sheet);
    }""", style)  # fmt: skip


def faults_at(page: Page, widths: tuple[int, ...] = WIDTHS, **options: Any) -> dict[int, list[str]]:
    """Return the faults of the layout by the window's width."""
    found = {}
    for width in widths:
        resize(page, width)
        found[width] = page.evaluate(MEASURE, options)
    return {width: faults for width, faults in found.items() if faults}


def list_of(site: Site) -> str:
    """Return the address of the list with two open rows."""
    return f"{SCREEN}?expand={site.ids['haneul']}&expand={site.ids['bora']}"


def test_the_list_fits(site: Site, page: Page) -> None:
    page.goto(list_of(site))

    assert faults_at(page) == {}
    for width in WIDTHS:
        resize(page, width)
        row = page.locator(".xs-user").first
        display = row.evaluate("it => getComputedStyle(it).display")
        assert (width, display != "block") == (width, width >= TABLE_FROM), "a table, or cards"


@pytest.mark.parametrize("query", ["?superuser=true&q=a&older_than=1h", "?older_than=never"])
def test_a_filtered_list_fits(english: Page, query: str) -> None:
    english.goto(SCREEN + query)

    assert faults_at(english) == {}


def test_the_page_of_a_user_fits(site: Site, page: Page) -> None:
    page.goto(f"{SCREEN}user?user_id={site.ids['maximiliana.featherstonehaugh1']}")

    assert faults_at(page) == {}


@pytest.mark.parametrize("username", ["pile.up", "nobody"])
def test_a_page_of_many_sessions_or_of_none_fits(site: Site, english: Page, username: str) -> None:
    english.goto(f"{SCREEN}user?user_id={site.ids.get(username, 'nobody')}")

    assert faults_at(english) == {}


def test_the_pages_of_the_admin_center_fit(site: Site, page: Page) -> None:
    if not site.is_center:
        pytest.skip("it has these pages alone")
    for path in ("/admin/admin-users/", f"/admin/admin-users/{site.ids['haneul']}", "/"):
        page.goto(path)
        assert (path, faults_at(page)) == (path, {})


@pytest.mark.parametrize("path", ["", "user?user_id={haneul}"])
def test_text_may_be_spaced_wider(site: Site, english: Page, path: str) -> None:
    english.goto(SCREEN + path.format(**site.ids))
    add_style(english, SPACING)

    assert faults_at(english, (390, 600, 768, 1093, 1280, 1440), spaced=True) == {}


@pytest.mark.parametrize(
    ("width", "height", "users"), [(390, 844, 4), (1093, 614, 6), (1366, 768, 8), (1440, 900, 10)]
)
def test_a_screen_shows_many_users(
    site: Site, page: Page, width: int, height: int, users: int
) -> None:
    page.goto(SCREEN)
    resize(page, width, height)

    bars = page.locator(".xs-list-bar").evaluate("it => it.offsetHeight")
    assert page.evaluate(IN_VIEW) >= users - (not site.is_center)
    assert bars < 60 or width < 1280, "one row"


def test_headings_and_actions_stay_in_view(site: Site, page: Page) -> None:
    page.goto(SCREEN)
    for width in (each for each in WIDTHS if each >= TABLE_FROM):
        resize(page, width)
        page.evaluate("scrollTo(0, 700)")
        at = page.evaluate("""() => {
          const link = document.querySelector(".xs-list thead .xs-sort");
          const {left, top, height} = link.getBoundingClientRect();
          return [document.querySelector(".xs-list thead").getBoundingClientRect().top,
            document.elementFromPoint(left + 5, top + height / 2) === link];
        }""")
        assert (width, at) == (width, [0, True])


def test_a_list_too_wide_scrolls_within_itself(english: Page) -> None:
    english.goto(SCREEN)
    add_style(english, ".xs-list { letter-spacing: 0.5em }")
    resize(english, 560)
    place = english.locator("#xs-acts")
    expect(place).to_have_class(re.compile("xs-scroll"))

    assert english.evaluate("document.documentElement.scrollWidth") == 560
    for left in (0, 9999):
        gap = place.evaluate("""(it, left) => {
          it.scrollLeft = left;
          const button = it.querySelector(".xs-user .xs-split");
          return it.getBoundingClientRect().right - button.getBoundingClientRect().right;
        }""", left)  # fmt: skip
        assert 0 <= gap < 20, "the action column stays at the right edge"

    resize(english, 1440)
    english.evaluate("document.adoptedStyleSheets.pop()")
    expect(place).not_to_have_class(re.compile("xs-scroll"))


def test_the_menus_of_the_filters_lie_over_the_list(english: Page) -> None:
    english.goto(SCREEN)
    resize(english, 1366)
    for menu in english.locator(".xs-filters details").all():
        menu.locator("summary").click()
        covered = menu.evaluate("""it => [...it.querySelectorAll("a")].filter(link => {
          const box = link.getBoundingClientRect();
          const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return hit !== link;
        }).map(link => link.textContent)""")
        assert covered == []


def test_a_menu_lies_over_the_rows_below(english: Page) -> None:
    english.goto(SCREEN)
    for width in (390, 768, 1280):
        resize(english, width)
        menu = english.locator("tbody .xs-more").nth(2)
        menu.evaluate("it => { it.open = true }")
        covered = menu.evaluate("""it => [...it.querySelectorAll("a")].filter(link => {
          link.scrollIntoView({block: "center"});
          const box = link.getBoundingClientRect();
          return document.elementFromPoint(box.right - 8, box.bottom - 4) !== link;
        }).length""")
        assert (width, covered) == (width, 0)


def test_headings_of_cards_are_seen_with_the_focus(site: Site, english: Page) -> None:
    for path in (SCREEN, "/admin/admin-users/") if site.is_center else (SCREEN,):
        english.goto(path)
        resize(english, 390)
        link = english.locator(".xs-grid thead .xs-sort").last
        link.evaluate("it => it.focus()")
        assert (
            path,
            link.evaluate("""it => {
          const {left, top, width, height} = it.getBoundingClientRect();
          return document.elementFromPoint(left + width / 2, top + height / 2) === it;
        }"""),
        ) == (path, True)


def test_print_has_every_row_and_no_controls(site: Site, english: Page) -> None:
    english.goto(f"{list_of(site)}&q=a&older_than=1m")
    english.emulate_media(media="print")
    resize(english, 760)

    left = """selector => [...document.querySelectorAll(selector)]
      .filter(it => it.checkVisibility()).map(it => it.outerHTML.slice(0, 80))"""
    unset = (
        ".xs-find:has(:placeholder-shown), .xs-chip:not([aria-current]), .xs-menu-box, .xs-order"
    )
    assert english.evaluate(left, f"button, select, nav, .xs-side, {unset}") == []
    expect(english.locator(".xs-as-of")).to_be_visible()
    expect(english.locator(".xs-search")).to_be_visible()
    expect(english.locator(".xs-chip[aria-current]:visible")).to_contain_text("longer than")
    if site.is_center:  # Bootstrap prints pages 992 px wide
        assert english.evaluate("document.documentElement.scrollWidth") == 760
    rows = english.locator(".xs-user")
    assert all(row.is_visible() for row in rows.all())
    assert rows.count() >= 10
    assert english.locator(".xs-user .xs-c-login").first.bounding_box()


def test_forced_colors_keep_borders(site: Site, english: Page) -> None:
    english.emulate_media(forced_colors="active")
    english.goto(SCREEN)

    for selector in (".xs-card", ".xs-super", ".xs-you", ".xs-count", ".xs-table", ".xs-chip"):
        border = english.locator(f"{selector}:visible").first.evaluate(
            "it => [getComputedStyle(it).borderTopWidth, getComputedStyle(it).borderTopStyle]"
        )
        assert (selector, border) == (selector, ["1px", "solid"])
    assert faults_at(english, (390, 1280)) == {}


def test_nothing_moves_where_motion_is_reduced(english: Page) -> None:
    english.emulate_media(reduced_motion="reduce")
    english.goto(SCREEN)
    english.locator("tbody .xs-more summary").first.click()

    assert english.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_level_aaa(site: Site, english: Page, scheme: Any) -> None:
    english.emulate_media(color_scheme=scheme)
    paths = [list_of(site), f"{SCREEN}user?user_id={site.ids['bora']}"]
    if site.is_center:
        paths += ["/admin/admin-users/", f"/admin/admin-users/{site.ids['haneul']}", "/"]
    for path in paths:
        english.goto(path)
        found = [each for each in violations(english, rules=CONTRAST) if "nav-link" not in each]
        assert (path, found) == (path, [])
