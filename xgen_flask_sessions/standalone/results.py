"""Results of acts, said once, on the next page that this browser opens.

They travel in Flask's signed session, which only this application can write. A result in the
address would be said again at each reload, and whoever makes a link could say anything. Each is a
sentence about the act itself, in the past, so that a later change does not make it false.
"""

from __future__ import annotations

from flask import flash, get_flashed_messages

_CATEGORY = "result"


def tell(text: str) -> None:
    """Say *text* on the next page."""
    flash(text, _CATEGORY)


def told() -> list[str]:
    """Return the results to say on the current page; the next page says them no more."""
    return [str(text) for text in get_flashed_messages(category_filter=[_CATEGORY])]
