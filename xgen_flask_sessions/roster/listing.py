"""The request for a list of active users, and its query parameters."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Column = Literal["username", "name", "department", "active_sessions", "last_login", "last_ip"]
"""The columns for ordering users, as the JSON API names them."""

COLUMNS: tuple[Column, ...] = get_args(Column)
OWN: tuple[Column, ...] = ("active_sessions", "last_login", "last_ip")
"""Columns that do not need the host's table."""
FALLING: tuple[Column, ...] = ("active_sessions", "last_login")
"""Columns that are ordered from the highest value by default."""
DEFAULT: Column = "last_login"
MAX_TEXT = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A request for a list: by default all active users, newest last login first.

    :param sort: The column to order by.
    :param descending: Order from the highest value.
    :param text: A part of a username or a name, in any case (on SQLite, for ASCII letters only);
        all users if empty.
    """

    sort: Column = DEFAULT
    descending: bool = True
    text: str = ""

    @property
    def is_answerable(self) -> bool:
        """Whether a name can match: names contain only printable characters."""
        return self.text.isprintable()

    @classmethod
    def of(cls, sort: Column, order: str | None, text: str) -> Listing:
        """Return the list in an order: ``asc``, ``desc``, or the column's default.

        :param text: The text to search for; cut to :data:`MAX_TEXT` characters.
        """
        descending = sort in FALLING if order is None else order == "desc"
        composed = unicodedata.normalize("NFC", text[:MAX_TEXT])
        return cls(sort=sort, descending=descending, text=composed)

    def ordered_by(self, column: Column) -> Listing:
        """Return the same list ordered by *column*; reversed if it is already."""
        falls = column in FALLING
        descending = not self.descending if column == self.sort else falls
        return Listing(sort=column, descending=descending, text=self.text)

    def without_text(self) -> Listing:
        """Return the same list of all users."""
        return Listing(sort=self.sort, descending=self.descending)

    def query(self) -> dict[str, str]:
        """Return the query parameters of an address; empty for the default."""
        query = {"q": self.text} if self.text else {}
        if (self.sort, self.descending) != (DEFAULT, True):
            query |= {"sort": self.sort, "order": "desc" if self.descending else "asc"}
        return query


def parse_listing(query: Mapping[str, str], offered: Sequence[Column]) -> tuple[Listing, list[str]]:
    """Return the list for the parameters ``sort``, ``order`` and ``q``, and their faults.

    A faulty parameter counts as left out; a text that is too long is cut.

    :param offered: The columns that exist; a search needs ``username``.
    """
    faults = []
    column = query.get("sort", DEFAULT)
    sort = next((each for each in offered if each == column), None)
    if sort is None:
        faults.append(f"sort is one of {', '.join(offered)}.")
    order = query.get("order")
    if order not in (None, "asc", "desc"):
        faults.append("order is asc or desc.")
        order = None
    text, longest = query.get("q", ""), MAX_TEXT if "username" in offered else 0
    if len(text) > longest:
        faults.append(
            f"q has at most {MAX_TEXT} characters."
            if longest
            else "The users of this application cannot be searched by name."
        )
    return Listing.of(sort or DEFAULT, order, text[:longest]), faults


def parse_page(text: str) -> int | None:
    """Return the number of a page, counted from 1; ``None`` if *text* is not one."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return int(text) or None
