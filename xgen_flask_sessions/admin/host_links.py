"""Links from the host's own pages of users to the pages of Login Management."""

from __future__ import annotations

from typing import Final

from flask import current_app, url_for

ENDPOINT: Final = "admin-active-sessions"
"""The endpoint of Login Management, and the start of its views' endpoints."""


def user_sessions_url(user_id: str) -> str | None:
    """Return the address of a user's page in Login Management, for the host's own pages.

    :param user_id: The user's id: the primary key as text.
    :returns: ``None`` if the application has no Login Management.
    """
    endpoint = f"{ENDPOINT}.user"
    if endpoint not in current_app.view_functions:
        return None
    return url_for(endpoint, user_id=str(user_id))
