"""The entries of the feed. No database here: some readers have none."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

KEPT: Final = 10_000
"""Minimum number of events retained. A reader further behind must resync."""

EventKind = Literal["user", "session", "everyone", "renewed"]


class Change(NamedTuple):
    """A change that ends tokens. Times are microseconds."""

    kind: EventKind
    user_id: str | None
    session_id: str | None
    cut_us: int
    """The invalidation timestamp; for a renewal, the stamp of the new token."""
    until_us: int | None = None
    """For a renewal, the end of the old token."""


class Event(NamedTuple):
    """A change at its position in the feed."""

    position: int
    id: str
    """Distinguishes it from another event at the same position, as after a restored backup."""
    change: Change
