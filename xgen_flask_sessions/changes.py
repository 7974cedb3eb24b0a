"""What the feed of revocations consists of. No database here: its readers may have none."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

KEPT: Final = 10_000
"""Events that are kept at least. Who is further behind begins anew."""

EventKind = Literal["user", "session", "everyone", "renewed"]


class Change(NamedTuple):
    """What ends tokens. Times are microseconds."""

    kind: EventKind
    user_id: str | None
    session_id: str | None
    cut_us: int
    """The invalidation timestamp; of a renewal, the stamp of the new token."""
    until_us: int | None = None
    """Of a renewal, the end of the old token."""


class Event(NamedTuple):
    """A change at its place in the feed."""

    position: int
    id: str
    """Tells it from another at the same place, as after a restored backup."""
    change: Change
