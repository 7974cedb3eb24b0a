"""Time, as the whole package counts it: integer microseconds since the epoch, UTC.

One unit makes comparisons exact, and the same on every database.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo

SECOND_US = 1_000_000
"""Microseconds in one second."""

MAX_LEEWAY = timedelta(minutes=5)
"""The longest ``XGEN_SESSIONS_LEEWAY``."""

MAX_RELEVANCE_US = 2 * (MAX_LEEWAY // timedelta(microseconds=1))
"""Time after its expiry in which a token may still be accepted: the leeway, and a slow clock."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Return this machine's wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


def seconds_until(at_us: int) -> int:
    """Return the whole seconds from now until *at_us*, rounded up; 0 if it has passed."""
    return max(0, -((now_us() - at_us) // SECOND_US))


def to_datetime(at_us: int, zone: tzinfo = UTC) -> datetime:
    """Return *at_us* (microseconds since the epoch) as an aware datetime, without rounding."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)


def offset_of(at_us: int, zone: tzinfo) -> str:
    """Return a zone's offset at a time, such as "UTC+09:00"."""
    offset = to_datetime(at_us, zone).strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def unusual_offset_of(at_us: int, zone: tzinfo) -> str:
    """Return a zone's offset at a time as " (UTC+01:00)", or "" if it is the offset of now.

    Times are shown below the offset of now. In a zone with daylight-saving time, another one may
    hold for them.
    """
    offset = offset_of(at_us, zone)
    return "" if offset == offset_of(now_us(), zone) else f" ({offset})"


def to_rfc3339(at_us: int) -> str:
    """Return *at_us* as an RFC 3339 timestamp in UTC with all six decimals (section 5.6)."""
    return to_datetime(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
