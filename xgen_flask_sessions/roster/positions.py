"""Positions in lists that are read page by page, from the newest row on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_TEXT = re.compile(r"(\d{1,18})-(\d{1,18})-([A-Za-z0-9_-]{1,36})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: the next page begins behind it, at older rows.

    Unlike a page's number, it stays right while rows are added, and costs the same for every page.
    """

    at_us: int
    """The time of the row."""
    expires_us: int
    """The order among rows of the same time; 0 in a list without it."""
    id: str
    """The key of the row: the order among rows that have both in common."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the position that an address names; ``None`` if *text* is not one."""
        match = _TEXT.fullmatch(text)
        return None if match is None else cls(int(match[1]), int(match[2]), match[3])

    def __str__(self) -> str:
        """Return the text for an address; see :meth:`parse`."""
        return f"{self.at_us}-{self.expires_us}-{self.id}"
