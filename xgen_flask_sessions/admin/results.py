"""The results of acts in words, from their audit records."""

from __future__ import annotations

from typing import Final

from flask_login import current_user

from .. import clock
from ..clock import SECOND_US
from ..roster import records
from ..state import get_state
from ..text import visible
from ..web import i18n

RECENT_US: Final = 300 * SECOND_US
"""Microseconds for which an act's result is shown to its actor."""


def notice_of(revocation_id: str | None) -> str | None:
    """Return the result of the administrator's own recent force logout, in words."""
    if not revocation_id:
        return None
    state = get_state()
    past = records.revocation(state.db.session(), revocation_id)
    recent = past is not None and abs(clock.now_us() - past.revoked_us) < RECENT_US
    if past is None or not recent or not past.user_id:
        return None
    if past.actor != state.users.id_of(current_user):
        return None
    profile = state.users.profile(past.user_id, state.users.get(past.user_id))
    return i18n.ngettext(
        "%(num)d session of %(user)s ended",
        "%(num)d sessions of %(user)s ended",
        past.sessions_ended,
        user=visible(profile.username),
    )


def too_often(wait_s: int) -> str:
    """Return the text for a force logout that the rate limit refused.

    :param wait_s: Seconds after which it may be done.
    """
    return i18n.ngettext(
        "Too many force logouts in a short time. No user was signed out. Try again in %(num)d "
        "second.",
        "Too many force logouts in a short time. No user was signed out. Try again in %(num)d "
        "seconds.",
        wait_s,
    )
