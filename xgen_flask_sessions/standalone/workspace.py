"""The workspace: a page that calls an API, in the place of what a deployment is for."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, render_template
from flask_login import current_user, login_required

from xgen_flask_sessions import current_token
from xgen_flask_sessions.state import get_state
from xgen_flask_sessions.web.i18n import format_time, format_zone
from xgen_flask_sessions.web.problems import sealed

blueprint = Blueprint("workspace", __name__)


@blueprint.get("/")
@login_required  # type: ignore[untyped-decorator]
def page() -> str:
    """Show who is signed in, on what else, and the last answer of the API."""
    settings = get_state().settings
    return render_template(
        "xgen_standalone/workspace.html",
        user=current_user,
        signed_in=_signed_in(),
        zone=format_zone(settings),
        timezone=settings.timezone.key,
        may_administer=get_state().authority.may_view(current_user),
    )


@blueprint.get("/api/me")
@login_required  # type: ignore[untyped-decorator]
def me() -> Response:
    """``GET /api/me``: who the caller is."""
    return sealed(
        jsonify(
            user_id=current_user.get_id(),
            username=current_user.username,
            name=current_user.name,
            department=current_user.department,
            superuser=current_user.is_superuser,
            roles=[role.name for role in current_user.roles],
            session_id=current_token.session_id,
        )
    )


def _signed_in() -> Any:
    """Return when this session began, in words; a renewed token is younger than that."""
    state = get_state()
    own = state.roster.sessions_of(state.db.session(), current_token.user_id)
    for session in own:
        if session.session_id == current_token.session_id:
            return format_time(session.signed_in_us, state.settings)
    return "-"
