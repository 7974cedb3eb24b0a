"""Foreign text, made safe to store, to print and to show."""

from __future__ import annotations

import re
from typing import Final

_ACTING: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_text(value: str | None, length: int) -> str | None:
    """Return printable text of at most *length* characters, or ``None`` if none remains."""
    printable = (
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value or ""
    )
    return "".join(printable)[:length].strip() or None


def visible(value: str | None) -> str:
    """Return a name as a page shows it, without characters that act on the page.

    Control characters, and those that turn the direction of writing (Unicode Standard Annex 9,
    section 2), are replaced: with them ``\u202enimda`` would read as "admin".
    """
    return _ACTING.sub("\N{REPLACEMENT CHARACTER}", value or "")
