"""The list at each width, with IPv6 addresses, long names and thousands of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from playwright.sync_api import Browser, Page

from tests.screenshots.list_states import expand
from tests.screenshots.people import LONG_NAME
from tests.screenshots.sites import SITES
from tests.screenshots.stage import LOCALES, Stage, open_stage
from tests.support.chromium import SCREEN

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

WIDTHS = (390, 600, 768, 1024, 1093, 1200, 1280, 1366, 1440, 1920)
CARDS_BELOW = 600
WIDTH_AT_200_PERCENT = 640
"""1280 px at 200 % zoom."""
SPACING = """* { line-height: 1.5 !important; letter-spacing: 0.12em !important;
  word-spacing: 0.16em !important } p { margin-bottom: 2em !important }"""
"""The text spacing of WCAG 1.4.12."""

_CUT_OFF = """width => [...document.querySelectorAll(
    ".xs-list button, .xs-list .xs-force, .xs-list time, .xs-list .xs-c-ip, .xs-bar button")]
  .filter(each => each.offsetParent && each.getBoundingClientRect().right > width + 0.5)
  .map(each => each.outerHTML.slice(0, 120))"""
_WRAPPED_TIMES = """() => [...document.querySelectorAll(".xs-list .xs-c-login time")]
  .filter(each => each.offsetParent && each.getClientRects().length > 1)
  .map(each => each.outerHTML.slice(0, 120))"""
_ADD_STYLE = """text => {
  const sheet = new CSSStyleSheet();  // the policy allows no inline styles
  sheet.replaceSync(text);
  document.adoptedStyleSheets = [sheet];
}"""
_IN_VIEW = """() => [...document.querySelectorAll("tr[data-xs-user]")]
  .filter(each => each.getBoundingClientRect().bottom <= innerHeight).length"""


@pytest.fixture(scope="module", params=product(SITES, LOCALES), ids="-".join)
def stage(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    layout, language = request.param
    home = tmp_path_factory.mktemp(f"{layout}-{language}")
    with open_stage(browser, layout, language, home=home) as stage:
        yield stage


def open_rows(stage: Stage) -> Page:
    page = stage.visit()
    expand(page, LONG_NAME)
    return page


def problems(page: Page, width: int, height: int = 900) -> dict[str, object]:
    """Return the faults of the page at a width."""
    page.set_viewport_size({"width": width, "height": height})
    needed = page.evaluate("document.documentElement.scrollWidth")
    found = {
        "sideways": needed - width if needed > width else None,
        "cut off": page.evaluate(_CUT_OFF, width)[:3],
        "wrapped times": page.evaluate(_WRAPPED_TIMES)[:3],
    }
    return {name: each for name, each in found.items() if each}


def test_the_table_fits_at_each_width(stage: Stage) -> None:
    page = open_rows(stage)

    found = {width: problems(page, width) for width in WIDTHS}

    assert {width: each for width, each in found.items() if each} == {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        display = page.locator("tr[data-xs-user]").first.evaluate(
            "it => getComputedStyle(it).display"
        )
        assert (display == "block") == (width < CARDS_BELOW), width
    stage.close_pages()


def test_it_fits_with_wide_text_spacing_and_at_200_percent(stage: Stage) -> None:
    page = open_rows(stage)
    assert problems(page, WIDTH_AT_200_PERCENT, 450) == {}

    page.evaluate(_ADD_STYLE, SPACING)

    for width in (390, 768, 1280):
        assert "sideways" not in problems(page, width), width
    stage.close_pages()


def test_six_users_at_125_percent_and_ten_at_1440(stage: Stage) -> None:
    page = stage.visit(f"{SCREEN}?sort=username&order=desc")  # rows of two lines first

    counts = []
    for width, height in ((1093, 614), (1440, 900)):
        page.set_viewport_size({"width": width, "height": height})
        counts.append(page.evaluate(_IN_VIEW))

    if stage.site.is_center:
        assert counts[0] >= 6
        assert counts[1] >= 10
    stage.close_pages()
