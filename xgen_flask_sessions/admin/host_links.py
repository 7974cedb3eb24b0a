"""Links between the host's own pages of users and the pages of Login Management."""

from __future__ import annotations

import logging
import re
from typing import Final

from flask import current_app, url_for

from ..state import get_state
from ..text import traceback_of

_USER_PAGE: Final = "admin-active-sessions.user"

_log = logging.getLogger(__name__)
_ADDRESS = re.compile(r"(?:https?://|/(?![/\\]))[^\s\\]*", re.IGNORECASE)
"""A path of this host, or a URL whose scheme runs no script."""


def find_user_url(user_id: str) -> str | None:
    """Return the address of the host's own page of a user; ``None`` without one.

    A host's function that fails is logged: the page is shown without the link.
    """
    find = get_state().account.user_url
    if find is None:
        return None
    try:
        found = find(user_id)
    except Exception as error:
        _log.error("user_url= failed.\n%s", traceback_of(error))
        return None
    return found if isinstance(found, str) and _ADDRESS.fullmatch(found) else None


def user_sessions_url(user_id: str) -> str | None:
    """Return the address of a user's page in Login Management, for the host's own pages.

    :param user_id: The user's id: the primary key as text.
    :returns: ``None`` if the application has no Login Management.
    """
    if _USER_PAGE not in current_app.view_functions:
        return None
    return url_for(_USER_PAGE, user_id=str(user_id))
