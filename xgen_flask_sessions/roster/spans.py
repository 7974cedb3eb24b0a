"""Durations, counts and times as people type them; ``None`` for a text that is none."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from ..clock import SECOND_US

MAX_SPAN_US: Final = 36_500 * 86_400 * SECOND_US
"""The longest duration, a century in microseconds."""
MAX_COUNT: Final = 1_000_000

_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_SPAN: Final = re.compile(r"(?P<number>\d{1,12})(?P<unit>[dhms]?)", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,12}", re.ASCII)
_TIME: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,30}))?"
    r"(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<hours>\d\d):(?P<minutes>\d\d)))?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001
_US: Final = timedelta(microseconds=1)
_LATEST_US: Final = (datetime(9999, 12, 31) - _EPOCH) // _US  # noqa: DTZ001


def parse_span(text: str) -> int | None:
    """Return a duration in microseconds: seconds, or a number with the unit s, m, h or d."""
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    span_us = int(match["number"]) * _UNITS[match["unit"] or "s"] * SECOND_US
    return span_us if span_us <= MAX_SPAN_US else None


def format_span(span_us: int) -> str:
    """Return a duration in the largest unit that needs no fraction, such as "7d".

    :param span_us: Microseconds, whole seconds.
    """
    seconds = span_us // SECOND_US
    unit = next(unit for unit, length in _UNITS.items() if not seconds % length)
    return f"{seconds // _UNITS[unit]}{unit if seconds else 's'}"


def parse_count(text: str) -> int | None:
    """Return a whole number from 1 to :data:`MAX_COUNT`."""
    number = int(text) if _COUNT.fullmatch(text) else 0
    return number if 1 <= number <= MAX_COUNT else None


def parse_since(text: str, zone: tzinfo) -> int | None:
    """Return a time in microseconds since the epoch, of RFC 3339 (section 5.6) or of a date.

    A time before 1970 is the beginning of 1970, and one after the year 9999 its end: no sign-in
    lies beyond.

    :param zone: The zone in which a date begins, at midnight.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        at = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00:00'}")
        offset = _offset(match, at, zone)
    except (ValueError, OverflowError):
        return None
    if offset is None:
        return None
    fraction = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    return min(max((at - _EPOCH - offset) // _US + fraction, 0), _LATEST_US)


def _offset(match: re.Match[str], at: datetime, zone: tzinfo) -> timedelta | None:
    """Return the offset from UTC, or ``None`` if it is none."""
    if match["time"] is None:
        return at.replace(tzinfo=zone).utcoffset()
    if match["utc"]:
        return UTC.utcoffset(None)
    hours, minutes = int(match["hours"]), int(match["minutes"])
    if hours > 23 or minutes > 59:
        return None
    return timedelta(hours=hours, minutes=minutes) * (1 if match["sign"] == "+" else -1)
