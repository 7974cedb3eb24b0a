"""Pictures of every state: at each width, in each language, scheme and layout."""

from __future__ import annotations

import base64
import itertools
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, Page

from tests.screenshots.sites import SITES
from tests.screenshots.stage import LOCALES, open_stage, states_of

WIDTHS: Final = (1440, 1280, 1093, 768, 390)
HEIGHT: Final = 900
COLLEAGUES: Final = 31
"""With them the list has two pages."""
MAX_HEIGHT: Final = 1500
"""Pixels: longer pages are cut off."""
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def take_all(browser: Browser, directory: Path, names: Collection[str] = ()) -> int:
    """Write ``LAYOUT-STATE-LANGUAGE-SCHEME-WIDTH.png`` for each, and return their number.

    :param names: Only these states.
    """
    directory.mkdir(parents=True, exist_ok=True)
    number = 0
    for layout, language in itertools.product(SITES, LOCALES):
        with (
            tempfile.TemporaryDirectory() as home,
            open_stage(browser, layout, language, home=Path(home), colleagues=COLLEAGUES) as stage,
        ):
            for state in states_of(stage.site):
                if names and state.name not in names:
                    continue
                began = time.perf_counter()
                page = state.bring(stage)
                number += _photograph(page, directory / f"{layout}-{state.name}-{language}")
                stage.close_pages()
                took = time.perf_counter() - began
                print(f"{layout:8}{state.name:28}{language}  {took:.1f} s", flush=True)
    return number


def _photograph(page: Page, stem: Path) -> int:
    page.bring_to_front()
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    chrome = page.context.new_cdp_session(page)  # twice as fast as Playwright's own screenshots
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            height = page.evaluate("document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": width, "height": min(height, MAX_HEIGHT), "scale": 1}
            picture = chrome.send(
                "Page.captureScreenshot",
                {"clip": clip, "captureBeyondViewport": True, "optimizeForSpeed": True},
            )
            path = stem.with_name(f"{stem.name}-{scheme}-{width}.png")
            path.write_bytes(base64.b64decode(picture["data"]))
    return len(SCHEMES) * len(WIDTHS)
