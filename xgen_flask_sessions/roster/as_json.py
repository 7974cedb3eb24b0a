"""Users, sessions and force logouts as JSON, for the API and for the commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..clock import to_rfc3339
from ..store.bulk import BulkResult, EndedSessions
from ..store.revocations import Revocation
from .roster import ActiveSession, ActiveUser, Page, SessionPage, Summary


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


def represent_session_page(page: SessionPage, current_session_id: str | None) -> dict[str, Any]:
    """Return the members of one page of a user's sessions.

    :param current_session_id: The caller's own session, if it has one.
    """
    return {
        "sessions": [
            represent_session(session, current=session.session_id == current_session_id)
            for session in page.sessions
        ],
        "page": page.number,
        "pages": page.pages,
        "total": page.total,
    }


def represent_page(summary: Summary, page: Page) -> dict[str, Any]:
    """Return the members of one page of the list."""
    return {
        "summary": asdict(summary),
        "users": [_represent_user(user) for user in page.users],
        "page": page.number,
        "pages": page.pages,
    }


def represent_force_logout(revocation: Revocation) -> dict[str, Any]:
    """Return a force logout's members; ``user_id`` is ``None`` for everyone."""
    return {
        "user_id": revocation.user_id,
        "sessions_ended": revocation.sessions_ended,
        "invalid_before": to_rfc3339(revocation.invalid_before_us or 0),
    }


def represent_ends(user_id: str, ended: EndedSessions) -> dict[str, Any]:
    """Return the members of the end of several sessions of a user: how far it came."""
    return {
        "user_id": user_id,
        "sessions_ended": len(ended.done),
        "session_ids": [each.session_id for each in ended.done],
    }


def represent_leaver(
    revocation: Revocation, deactivated: bool, roles: Sequence[str]
) -> dict[str, Any]:
    """Return a leaver's members.

    :param deactivated: Whether the account became inactive.
    :param roles: The names of the roles that were revoked.
    """
    return {
        **represent_force_logout(revocation),
        "deactivated": deactivated,
        "roles": list(roles),
    }


def represent_bulk(result: BulkResult) -> dict[str, Any]:
    """Return the members of a force logout of several users: how far it came."""
    return {
        "done": list(map(represent_force_logout, result.done)),
        "refused": [
            {"user_id": user_id, "code": error.code, "detail": error.detail}
            for user_id, error in result.refused
        ],
        "failed": result.failed,
        "unknown": result.failed_unknown,
        "not_reached": result.not_reached,
    }


def _represent_user(user: ActiveUser) -> dict[str, Any]:
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
