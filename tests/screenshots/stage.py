"""A site in a browser, and the register of the states that its pages can be in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page

from tests.screenshots.sites import SITES, Site
from tests.support.chromium import SCREEN

LOCALES: Final = {"en": "en-US", "ko": "ko-KR"}


@dataclass(slots=True)
class Stage:
    """A site in a browser that speaks one language."""

    browser: Browser
    site: Site
    language: str
    _signed_in: dict[str, BrowserContext] = field(default_factory=dict)
    _others: list[BrowserContext] = field(default_factory=list)

    def context(self, **options: Any) -> BrowserContext:
        """Return a new browser profile, closed with the stage."""
        context = self.browser.new_context(
            base_url=self.site.url,
            locale=LOCALES[self.language],
            timezone_id="Asia/Seoul",
            viewport={"width": 1280, "height": 800},
            **options,
        )
        context.set_default_timeout(10_000)
        self._others.append(context)
        return context

    def browser_of(self, username: str) -> BrowserContext:
        """Return the browser profile in which a user is signed in."""
        if username not in self._signed_in:
            context = self.context()
            self.site.sign_in(context.request, username)
            self._signed_in[username] = context
        return self._signed_in[username]

    def visit(self, path: str = SCREEN, username: str = "admin", *, status: int = 200) -> Page:
        """Open a page of the site in a new tab of a user's browser.

        :param status: The status of the answer; another one is an error.
        """
        page = self.browser_of(username).new_page()
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"
        return page

    def close_pages(self) -> None:
        """Close the tabs, and keep the users signed in."""
        for context in self._others:
            for page in context.pages:
                page.unroute_all(behavior="ignoreErrors")
                page.close()

    def close(self) -> None:
        """Close every browser profile."""
        for context in self._others:
            context.close()


@contextmanager
def open_stage(
    browser: Browser, layout: str, language: str, *, home: Path, colleagues: int = 2
) -> Iterator[Stage]:
    """Serve a site, and yield it in a browser.

    :param layout: A name in ``SITES``.
    :param language: A language in :data:`LOCALES`.
    :param home: An empty directory.
    :param colleagues: The number of users with one session each, besides the others.
    """
    with SITES[layout](home, colleagues) as site:
        stage = Stage(browser, site, language)
        try:
            yield stage
        finally:
            stage.close()


def submit_without_script(page: Page, act: str, **fields: str) -> None:
    """Send a form of the list as a browser without scripts does, and show the answer."""
    with page.expect_navigation():
        page.evaluate(_SUBMIT, {"action": SCREEN + act, "fields": fields})


_SUBMIT: Final = """({action, fields}) => {
  const form = document.createElement("form");
  const token = document.querySelector("form[method=post] input[type=hidden]");
  form.method = "post";
  form.action = action;
  form.append(token.cloneNode());
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement("input"), {name, value}));
  }
  document.body.append(form);
  form.submit();
}"""


Bring = Callable[[Stage], Page]


@dataclass(frozen=True, slots=True)
class State:
    """A state of a page, and the steps that lead to it."""

    name: str
    bring: Bring
    center_only: bool


STATES: Final[dict[str, State]] = {}


def state(name: str, *, center_only: bool = False) -> Callable[[Bring], Bring]:
    """Register a function that brings a page into a state.

    :param name: The state's name, which is the name of its pictures.
    :param center_only: Whether only the Admin Center has this page.
    """

    def register(bring: Bring) -> Bring:
        STATES[name] = State(name, bring, center_only)
        return bring

    return register


def states_of(site: Site, states: Mapping[str, State] = STATES) -> Iterator[State]:
    """Yield the states that a site's pages can be in."""
    for each in states.values():
        if site.is_center or not each.center_only:
            yield each
