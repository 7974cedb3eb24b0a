"""The filters in the bar of the list: their choices as links, which work without a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Any, Final

from flask import url_for

from .. import clock
from ..clock import SECOND_US
from ..roster.listing import Listing
from ..state import get_state
from ..web import i18n

Url = Callable[[Listing], str]
"""Returns the address of a list."""

_HOUR_US: Final = 3600 * SECOND_US
_DAY_US: Final = 24 * _HOUR_US
_AGES_US: Final = (_HOUR_US, 12 * _HOUR_US, _DAY_US, 7 * _DAY_US, 30 * _DAY_US)
_SESSIONS: Final = (1, 5, 10, 20)
_DAYS: Final = (1, 7, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of a filter: a link to the list that it leads to."""

    label: str
    url: str
    is_chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter in the bar."""

    label: str
    is_on: bool
    url: str = ""
    """The list with the filter on, or off again, if there is nothing to choose."""
    choices: Sequence[Choice] = field(default_factory=tuple)


def filters_of(listing: Listing, endpoint: str) -> list[Filter]:
    """Return the filters of a list; the first one is for SuperUsers.

    :param endpoint: The endpoint of the list.
    """

    def url(changed: Listing) -> str:
        query: dict[str, Any] = changed.query()
        return url_for(endpoint, **query)

    return [
        Filter(
            label=i18n.gettext("SuperUsers"),
            is_on=listing.superuser,
            url=url(replace(listing, superuser=not listing.superuser)),
        ),
        _ages(listing, url),
        _sessions(listing, url),
        _since(listing, url),
    ]


def _ages(listing: Listing, url: Url) -> Filter:
    chosen = listing.older_than_us
    return Filter(
        label=i18n.gettext("Signed in longer than")
        if chosen is None
        else i18n.gettext("Signed in longer than %(age)s", age=_span(chosen)),
        is_on=chosen is not None,
        choices=[
            Choice(
                label=_span(age),
                url=url(replace(listing, older_than_us=age)),
                is_chosen=age == chosen,
            )
            for age in _AGES_US
        ]
        + _any(chosen, url(replace(listing, older_than_us=None))),
    )


def _sessions(listing: Listing, url: Url) -> Filter:
    chosen = listing.min_sessions
    return Filter(
        label=i18n.gettext("More sessions than")
        if chosen is None
        else i18n.gettext("More than %(num)s sessions", num=i18n.format_number(chosen - 1)),
        is_on=chosen is not None,
        choices=[
            Choice(
                label=i18n.format_number(number),
                url=url(replace(listing, min_sessions=number + 1)),
                is_chosen=chosen == number + 1,
            )
            for number in _SESSIONS
        ]
        + _any(chosen, url(replace(listing, min_sessions=None))),
    )


def _since(listing: Listing, url: Url) -> Filter:
    zone = get_state().settings.timezone
    today = datetime.combine(clock.to_datetime(clock.now_us(), zone).date(), time(), zone)
    chosen = listing.since_us
    choices = []
    for days in _DAYS:
        at = today - timedelta(days=days - 1)
        since_us = int(at.timestamp()) * SECOND_US
        choices.append(
            Choice(
                label=i18n.gettext("Today") if days == 1 else _day(since_us),
                url=url(replace(listing, since_us=since_us)),
                is_chosen=chosen == since_us,
            )
        )
    return Filter(
        label=i18n.gettext("Last sign-in since")
        if chosen is None
        else i18n.gettext("Last sign-in since %(day)s", day=_day(chosen)),
        is_on=chosen is not None,
        choices=choices + _any(chosen, url(replace(listing, since_us=None))),
    )


def _any(chosen: int | None, url: str) -> list[Choice]:
    """Return the choice that takes the filter off, if it is on."""
    return [] if chosen is None else [Choice(label=i18n.gettext("Any"), url=url)]


def _span(span_us: int) -> str:
    """Return a length of time in words."""
    if span_us % _DAY_US == 0:
        return i18n.ngettext("%(num)d day", "%(num)d days", span_us // _DAY_US)
    if span_us % _HOUR_US == 0:
        return i18n.ngettext("%(num)d hour", "%(num)d hours", span_us // _HOUR_US)
    return i18n.ngettext("%(num)d second", "%(num)d seconds", span_us // SECOND_US)


def _day(at_us: int) -> str:
    at = clock.to_datetime(at_us, get_state().settings.timezone)
    return f"{at.year}. {at.month}. {at.day}."
