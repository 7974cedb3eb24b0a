"""The acts of Login Management: a checked form, one act, and the answer to the browser."""

from __future__ import annotations

from typing import Any

from flask import redirect, request
from flask_login import current_user

from ..errors import BadRequest, NotFound, RateLimited
from ..state import get_state
from ..web.acts import force_out
from ..web.forms import check_form
from ..web.problems import sign_in_url
from .admin_center_view import AdminCenterView, page_number
from .list_page import list_context, requested_listing, row_context
from .results import too_often


def force_logout(view: AdminCenterView) -> Any:
    """End all sessions of a user; after one's own, go to the sign-in page."""
    check_form()
    user_id = request.form.get("user_id", "")
    oneself = user_id == get_state().users.id_of(current_user)
    try:
        revocation = force_out(current_user, user_id)
    except NotFound as error:
        raise BadRequest(error.detail) from None
    except RateLimited as error:
        wait = error.retry_after_s or 1
        context = list_context(failure=too_often(wait))
        page = view.render("xgen_sessions/login_management.html", **context)
        return page, error.status, {"Retry-After": str(wait)}
    if oneself and (url := sign_in_url()) is not None:
        return redirect(url, 303)
    query: dict[str, Any] = requested_listing().query()
    if (number := page_number()) > 1:
        query["page"] = number
    return view.back(revocation=revocation.id, **query)


def confirm(view: AdminCenterView) -> Any:
    """Ask before a force logout, if the deployment requires it."""
    state = get_state()
    user_id = request.args.get("user_id", "")
    profile = state.users.profile(user_id, state.users.get(user_id))
    state.authority.require_force_logout(current_user, superuser=profile.superuser)
    return view.render(
        "xgen_sessions/confirm.html",
        profile=profile,
        number=state.roster.count_sessions(state.db.session(), user_id),
        **row_context(),
    )
