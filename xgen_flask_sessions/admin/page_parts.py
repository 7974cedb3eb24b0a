"""The parts of a page that a layout has shown, for base templates that lack some of them."""

from __future__ import annotations

import re
from typing import Final

ROOT: Final = " data-xs-root"
"""Marks the root element of a page's content, until :func:`complete` replaces the mark."""

_MAIN: Final = re.compile(r"<main\b|\brole=[\"']?main\b", re.IGNORECASE)
_HTML: Final = re.compile(r"<html\b(?P<attributes>[^>]*)>", re.IGNORECASE)
_LANG: Final = re.compile(r"\blang\s*=", re.IGNORECASE)


class PageParts:
    """Notes during one rendering which parts of the page are there.

    Flask-Admin's own layout shows the styles of a view in the head, then its heading, then its
    content. A block that a host's base template does not have is silently left out.
    """

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._expected = False

    @property
    def is_complete(self) -> bool:
        """Whether the page's content was shown, if the template was a whole page."""
        return "content" in self._shown or not self._expected

    def expect(self) -> bool:
        """Note that the template is a whole page, whose content must be shown."""
        self._expected = True
        return True

    def shows(self, part: str) -> bool:
        """Note that *part* is shown; return whether this is the first time."""
        is_new = part not in self._shown
        self._shown.add(part)
        return is_new

    def has(self, part: str) -> bool:
        """Return whether *part* was shown."""
        return part in self._shown


def complete(page: str, language: str) -> str:
    """Return a page with the language and the main landmark that its layout may lack.

    Flask-Admin's own layout has neither (WCAG 2.2, 3.1.1; ARIA, "main").

    :param page: A rendered page, whose root element carries :data:`ROOT`.
    :param language: The language of the page, such as ``ko``.
    """
    has_main = _MAIN.search(page) is not None
    page = page.replace(ROOT, "" if has_main else ' role="main"', 1)
    html = _HTML.search(page)
    if html is None or _LANG.search(html["attributes"]):
        return page
    return f'{page[: html.start()]}<html lang="{language}"{html["attributes"]}>{page[html.end() :]}'
