"""The workspace: a page that calls an API, in place of a deployment's own application."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, current_app, jsonify, render_template
from flask_login import current_user, login_required

from xgen_flask_sessions import current_token, token_required
from xgen_flask_sessions.standalone.extensions import sessions

blueprint = Blueprint("workspace", __name__)

_READ: Final = 100
_MOST_READ: Final = 1000
"""Sessions that are searched for the current one, the newest first."""


@blueprint.get("/")
@login_required  # type: ignore[untyped-decorator]
def page() -> str:
    """Show the current user, the other sessions, and the last answer of the API."""
    return render_template(
        "xgen_standalone/workspace.html",
        user=current_user,
        signed_in_us=_signed_in_us(),
        timezone=current_app.config.get("XGEN_SESSIONS_TIMEZONE") or "UTC",
        may_administer=sessions.may_view(current_user),
    )


@blueprint.get("/api/me")
@token_required  # answers every call without a token with 401, as an API does
@login_required  # type: ignore[untyped-decorator]
def me() -> Response:
    """``GET /api/me``: the current user."""
    return jsonify(
        user_id=current_user.get_id(),
        username=current_user.username,
        name=current_user.name,
        department=current_user.department,
        superuser=current_user.is_superuser,
        roles=[role.name for role in current_user.roles],
        session_id=current_token.session_id,
    )


def _signed_in_us() -> int | None:
    """Return the time at which this session began; a renewed token is younger."""
    for offset in range(0, _MOST_READ, _READ):
        found = sessions.active_sessions(current_token.user_id, limit=_READ, offset=offset)
        for session in found:
            if session.session_id == current_token.session_id:
                return session.signed_in_us
        if len(found) < _READ:
            break
    return None
