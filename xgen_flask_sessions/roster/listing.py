"""The request for a list of active users, and its query parameters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from typing import Literal, TypeVar, get_args

from ..clock import to_rfc3339
from . import faults
from .address_ranges import Range, is_address_like, parse_address
from .spans import format_span, parse_count, parse_since, parse_span

T = TypeVar("T")

Column = Literal["username", "name", "department", "active_sessions", "last_login", "last_ip"]
"""The columns for ordering users, as the JSON API names them."""

COLUMNS: tuple[Column, ...] = get_args(Column)
OWN: tuple[Column, ...] = ("active_sessions", "last_login", "last_ip")
"""Columns that do not need the host's table."""
FALLING: tuple[Column, ...] = ("active_sessions", "last_login")
"""Columns that are ordered from the highest value by default."""
DEFAULT: Column = "last_login"
MAX_TEXT = 150
FILTERS = ("q", "address", "superuser", "older_than", "min_sessions", "since")
"""The query parameters of filters. A user is listed if all of them hold."""
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A request for a list: by default all active users, newest last login first.

    :param sort: The column to order by.
    :param descending: Order from the highest value.
    :param text: A part of a username, a name or a department, in any case (on SQLite, for ASCII
        letters only), or the beginning of the address of an active session; all users if empty.
    :param address: An address, the beginning of one, or a network, of any active session; as it
        was typed.
    :param superuser: Only SuperUsers.
    :param older_than_us: Only users with an active session that signed in longer ago; microseconds.
    :param min_sessions: Only users with at least so many active sessions.
    :param since_us: Only users whose last login was then or later; microseconds since the epoch.
    """

    sort: Column = DEFAULT
    descending: bool = True
    text: str = ""
    address: str = ""
    superuser: bool = False
    older_than_us: int | None = None
    min_sessions: int | None = None
    since_us: int | None = None

    @property
    def is_answerable(self) -> bool:
        """Whether a name can match: names contain only printable characters."""
        return self.text.isprintable()

    @property
    def is_filtered(self) -> bool:
        """Whether it may leave out active users."""
        return self.without_filters() != self

    @property
    def address_ranges(self) -> list[Range]:
        """The keys of the addresses that :attr:`address` stands for."""
        return parse_address(self.address) or []

    @property
    def text_ranges(self) -> list[Range]:
        """The keys of the addresses that :attr:`text` stands for, if it reads as an address."""
        return (parse_address(self.text) or []) if is_address_like(self.text) else []

    @property
    def older_than(self) -> str:
        """The shortest way to write :attr:`older_than_us`, such as "7d"; empty without."""
        return "" if self.older_than_us is None else format_span(self.older_than_us)

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
        return replace(self, sort=column, descending=descending)

    def without_text(self) -> Listing:
        """Return the same list without the search for a text."""
        return replace(self, text="")

    def without_filters(self) -> Listing:
        """Return the same order of all users."""
        return Listing(sort=self.sort, descending=self.descending)

    def query(self) -> dict[str, str]:
        """Return the query parameters of an address; empty for the default."""
        filters = {
            "q": self.text,
            "address": self.address,
            "superuser": "true" if self.superuser else "",
            "older_than": self.older_than,
            "min_sessions": "" if self.min_sessions is None else str(self.min_sessions),
            "since": "" if self.since_us is None else to_rfc3339(self.since_us),
        }
        query = {name: value for name, value in filters.items() if value}
        if (self.sort, self.descending) != (DEFAULT, True):
            query |= {"sort": self.sort, "order": "desc" if self.descending else "asc"}
        return query


def parse_listing(
    query: Mapping[str, str], offered: Sequence[Column], *, zone: tzinfo = UTC
) -> tuple[Listing, list[str]]:
    """Return the list for query parameters, and their faults, one sentence each.

    A faulty parameter counts as left out, and so does an empty filter; a text that is too long is
    cut. With a fault, the list has more users than were asked for: do not show it.

    :param query: The parameters ``sort`` and ``order``, and :data:`FILTERS`. A parameter that is
        given several times is a fault.
    :param offered: The columns that exist; a search by name needs ``username``.
    :param zone: The zone in which a date of ``since`` begins.
    """
    wrong = [faults.TWICE] if _repeated(query) else []
    column = query.get("sort", DEFAULT)
    sort = next((each for each in offered if each == column), None)
    if sort is None:
        wrong.append(f"sort is one of {', '.join(offered)}.")
    order = query.get("order")
    if order not in (None, "asc", "desc"):
        wrong.append(faults.ORDER)
        order = None
    text = _text(query.get("q", ""), offered, wrong)
    filters = _Filters({name: query.get(name, "").strip() for name in FILTERS}, wrong)
    listing = replace(
        Listing.of(sort or DEFAULT, order, text),
        address=filters.read("address", _address, faults.ADDRESS) or "",
        superuser=filters.read("superuser", _FLAGS.get, faults.SUPERUSER) or False,
        older_than_us=filters.read("older_than", parse_span, faults.OLDER_THAN),
        min_sessions=filters.read("min_sessions", parse_count, faults.MIN_SESSIONS),
        since_us=filters.read("since", lambda text: parse_since(text, zone), faults.SINCE),
    )
    return listing, wrong


def _repeated(query: Mapping[str, str]) -> bool:
    getlist = getattr(query, "getlist", lambda _: ())
    return any(len(getlist(name)) > 1 for name in ("sort", "order", *FILTERS))


def _text(text: str, offered: Sequence[Column], wrong: list[str]) -> str:
    if len(text) > MAX_TEXT:
        wrong.append(faults.TOO_LONG)
    elif text and "username" not in offered and not is_address_like(text):
        wrong.append(faults.NO_NAMES)
        return ""
    return text


def _address(text: str) -> str | None:
    return text if parse_address(text) else None


@dataclass(frozen=True, slots=True)
class _Filters:
    """The texts of filters, and the faults that were found so far."""

    texts: Mapping[str, str]
    wrong: list[str]

    def read(self, name: str, parse: Callable[[str], T | None], fault: str) -> T | None:
        """Return a filter's value; ``None`` without a text, and for a faulty one."""
        text = self.texts[name]
        value = parse(text) if text else None
        if text and value is None:
            self.wrong.append(fault)
        return value


def parse_page(text: str) -> int | None:
    """Return the number of a page, counted from 1; ``None`` if *text* is not one."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return int(text) or None
