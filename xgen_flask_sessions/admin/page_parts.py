"""The parts of a page that a layout has shown, for base templates that lack some of them."""

from __future__ import annotations


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
