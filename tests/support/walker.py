"""A scripted administrator that counts clicks, keystrokes and loaded pages."""

from __future__ import annotations

import time
from dataclasses import dataclass

from playwright.sync_api import Locator, Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How much work a task was."""

    task: str
    clicks: int
    keystrokes: int
    """Texts typed and single keys pressed."""
    pages: int
    """Documents loaded, without the first."""
    seconds: float
    possible: bool = True
    note: str = ""


class Walker:
    """An administrator with a page; the work counts from the construction on."""

    def __init__(self, page: Page, task: str) -> None:
        self.page = page
        self._task = task
        self._clicks = self._keystrokes = self._pages = 0
        page.on("domcontentloaded", self._count_page)
        self._started = time.perf_counter()

    def _count_page(self, _: Page) -> None:
        self._pages += 1

    def click(self, target: Locator) -> None:
        """Click, and wait for the page that loads, if one does."""
        self._clicks += 1
        target.click()

    def open(self, target: Locator) -> None:
        """Click a link or a button that loads a page."""
        with self.page.expect_event("domcontentloaded"):
            self.click(target)

    def type(self, target: Locator, text: str) -> None:
        """Replace the text of the field that was clicked."""
        self._keystrokes += 1
        target.fill(text)

    def press(self, key: str, *, loads: bool = False) -> None:
        """Press a key that loads a page or not."""
        self._keystrokes += 1
        if not loads:
            self.page.keyboard.press(key)
            return
        with self.page.expect_event("domcontentloaded"):
            self.page.keyboard.press(key)

    def done(self, *, possible: bool = True, note: str = "") -> Walk:
        """Return the work so far."""
        seconds = time.perf_counter() - self._started
        self.page.remove_listener("domcontentloaded", self._count_page)
        return Walk(
            task=self._task,
            clicks=self._clicks,
            keystrokes=self._keystrokes,
            pages=self._pages,
            seconds=round(seconds, 2),
            possible=possible,
            note=note,
        )
