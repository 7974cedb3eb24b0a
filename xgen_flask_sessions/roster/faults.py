"""The sentences for query parameters that cannot be read; the screen translates them."""

from __future__ import annotations

from typing import Final

from ..text import gettext_noop

ADDRESS: Final = gettext_noop(
    "address is an IP address, the beginning of one such as 203.0.113. or 2001:db8:, or a network "
    "such as 203.0.113.0/24 or 2001:db8::/32, without a zone."
)
SUPERUSER: Final = gettext_noop("superuser is true or false.")
OLDER_THAN: Final = gettext_noop(
    "older_than is a whole number of seconds, or of a unit as in 90s, 30m, 12h or 7d; at most "
    "36500d."
)
MIN_SESSIONS: Final = gettext_noop("min_sessions is a whole number from 1 to 1000000.")
SINCE: Final = gettext_noop(
    "since is a date such as 2026-05-25, or a time with its offset such as "
    "2026-05-25T13:36:49+09:00 or 2026-05-25T04:36:49Z."
)
TWICE: Final = gettext_noop("Each parameter may be given only once.")
TOO_LONG: Final = gettext_noop("q has at most 150 characters.")
NO_NAMES: Final = gettext_noop(
    "The users of this application cannot be searched by name, only by address."
)
NO_KEYS: Final = gettext_noop(
    "The addresses that an earlier release recorded cannot be searched yet; run the command "
    "xgen-sessions upgrade."
)
ORDER: Final = gettext_noop("order is asc or desc.")
