"""Users and sessions as JSON, the same from the API and from the commands."""

from __future__ import annotations

from typing import Any

from ..clock import to_rfc3339
from .roster import ActiveSession, ActiveUser


def represent_session(session: ActiveSession, *, current: bool) -> dict[str, Any]:
    """Return a session's members.

    :param session: The session.
    :param current: Whether it is the caller's own session.
    """
    return {
        "session_id": session.session_id,
        "browser": session.device.browser,
        "device": session.device.device,
        "signed_in": to_rfc3339(session.signed_in_us),
        "expires": to_rfc3339(session.expires_us),
        "ip": session.ip,
        "current": current,
    }


def represent_user(user: ActiveUser) -> dict[str, Any]:
    """Return a user's members.

    :param user: The user with the last sign-in.
    """
    return {
        "user_id": user.profile.user_id,
        "username": user.profile.username,
        "name": user.profile.name,
        "department": user.profile.department,
        "superuser": user.profile.superuser,
        "active_sessions": user.active_sessions,
        "last_login": None if user.last_login_us is None else to_rfc3339(user.last_login_us),
        "last_ip": user.last_ip,
    }
