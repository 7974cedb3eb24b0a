"""The age of a list: its time, as shown, and the tag that tells whether it has changed since."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from flask_login import current_user

from .. import clock
from ..clock import SECOND_US
from ..roster import freshness
from ..roster.listing import DEFAULT, Listing
from ..state import get_state
from ..web import i18n
from . import kept_rows

MISSED_US: Final = 10 * SECOND_US
"""The longest time that a sign-in takes until it is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAge:
    """The age of a list, for ``_freshness.html``. Make it before reading the list.

    :param etag: The list's entity tag. It is weak (RFC 9110, section 8.8.1): answers with one tag
        differ in their time.
    :param as_of_us: The time, in microseconds.
    :param recent: The ids of the newest users that had signed in within :data:`MISSED_US` before.
    :param newest: The query parameters of the same list, newest sign-ins first.
    """

    etag: str
    as_of_us: int
    recent: list[str]
    newest: dict[str, str]

    @classmethod
    def of(cls, listing: Listing) -> ListAge:
        """Return the age of a list that is about to be read."""
        state = get_state()
        viewer = state.users.id_of(current_user)
        query = [f"{name}={value}" for name, value in sorted(listing.query().items())]
        as_of_us = clock.now_us()
        fresh = freshness.look(state.db.session(), viewer, i18n.language(), *query)
        return cls(
            etag=f'W/"{fresh.tag}"',
            as_of_us=as_of_us,
            recent=[user_id for user_id, at_us in fresh.newest if at_us >= as_of_us - MISSED_US],
            newest=replace(listing, sort=DEFAULT, descending=True).query(),
        )

    @property
    def packed(self) -> str:
        """The recent users, as the page sends them back for its rows; see :mod:`.kept_rows`."""
        return kept_rows.pack(self.recent) if self.recent else ""

    @property
    def time(self) -> str:
        """The time of day, as shown."""
        return i18n.format_clock(self.as_of_us, get_state().settings)

    @property
    def offset_s(self) -> int:
        """The offset of the configured zone from UTC, in seconds."""
        offset = clock.to_datetime(self.as_of_us, get_state().settings.timezone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    @property
    def pattern(self) -> str:
        """The format of :attr:`time`, for the script that shows later times."""
        return i18n.clock_pattern()
