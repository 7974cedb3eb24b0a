"""The screen **Login Management**, a view of Flask-Admin.

It holds no rules: ``authority`` decides permissions, and ``roster`` provides the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import redirect, request
from flask_admin import expose
from flask_login import current_user

from .. import clock
from ..clock import SECOND_US
from ..errors import (
    BadRequest,
    Forbidden,
    NotFound,
    RateLimited,
)
from ..roster import records
from ..roster.listing import COLUMNS, Column, Listing, parse_listing
from ..roster.roster import SessionPage
from ..state import get_state
from ..text import visible
from ..web import i18n
from ..web.acts import force_out
from ..web.forms import check_form
from ..web.problems import (
    sign_in_url,
)
from ..web.request_token import outcome
from .admin_center_view import AdminCenterView, page_number, requested_number

ENDPOINT = "admin-active-sessions"

_NOTICE_US = 300 * SECOND_US


class LoginManagementView(AdminCenterView):
    """The active users with their sessions and devices, and **Force Logout**."""

    def __init__(self) -> None:
        super().__init__(
            name=i18n.lazy_gettext("Login Management"),
            category=i18n.lazy_gettext("Users / Access Control"),
            endpoint=ENDPOINT,
        )

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> Any:
        """Show one page of the users that are signed in."""
        return self._list(notice=_notice(request.args.get("revocation")))

    @expose("/sessions")  # type: ignore[untyped-decorator]
    def sessions(self) -> Any:
        """Return a page of one user's active sessions, as the table that a row expands to."""
        user_id = request.args.get("user_id", "")
        return self.render(
            "xgen_sessions/_sessions.html",
            sessions=_session_page(user_id),
            user_id=user_id,
            page_number=page_number(),
            query=_listing().query(),
            **_helpers(),
        )

    @expose("/confirm")  # type: ignore[untyped-decorator]
    def confirm(self) -> Any:
        """Ask before a force logout, if the deployment requires it."""
        state = get_state()
        user_id = request.args.get("user_id", "")
        profile = state.users.profile(user_id, state.users.get(user_id))
        if not state.authority.may_force_logout(current_user, superuser=profile.superuser):
            raise Forbidden("You may not force out this user.")
        return self.render(
            "xgen_sessions/confirm.html",
            profile=profile,
            number=state.roster.count_sessions(state.db.session(), user_id),
            page_number=page_number(),
            query=_listing().query(),
            **_helpers(),
        )

    @expose("/force-logout")  # type: ignore[untyped-decorator]
    def lead_back(self) -> Any:
        """Redirect from the form's address to the list, as after a change of language."""
        return self.back(lang=request.args.get("lang"), **_listing().query())

    @expose("/force-logout", methods=["POST"])  # type: ignore[untyped-decorator]
    def force_logout(self) -> Any:
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
            page = self._list(failure=_too_often(wait))
            return page, error.status, {"Retry-After": str(wait)}
        if oneself and (url := sign_in_url()) is not None:
            return redirect(url, 303)
        number = page_number()
        page = number if number > 1 else None
        return self.back(revocation=revocation.id, page=page, **_listing().query())

    def _list(self, *, notice: str | None = None, failure: str | None = None) -> Any:
        state = get_state()
        session = state.db.session()
        expanded = request.args.get("expand")
        summary = state.roster.summary(session)
        columns = state.roster.columns(session)
        listing = _listing(columns)
        page = state.roster.nearest_page(
            session, page_number(), listing, active_users=summary.active_users
        )
        return self.render(
            "xgen_sessions/login_management.html",
            summary=summary,
            page=page,
            columns=columns,
            listing=listing,
            query=listing.query(),
            expanded=expanded,
            expanded_sessions=_session_page(expanded) if expanded else None,
            page_number=page.number,
            notice=notice,
            failure=failure,
            may_force_logout=lambda user: state.authority.may_force_logout(
                current_user, superuser=user.profile.superuser
            ),
            **_helpers(),
        )


def _session_page(user_id: str) -> SessionPage:
    """Return the requested page of a user's active sessions."""
    state = get_state()
    number = requested_number("sessions_page")
    return state.roster.nearest_session_page(state.db.session(), user_id, number)


def _listing(columns: Sequence[Column] = COLUMNS) -> Listing:
    """Return the requested list; an invalid parameter means the default.

    :param columns: The columns that exist.
    """
    query = {**request.values.to_dict(), "q": request.values.get("q", "").strip()}
    listing, _ = parse_listing(query, columns)
    return listing


def _too_often(wait_s: int) -> str:
    return i18n.ngettext(
        "Too many force logouts in a short time. No user was signed out. Try again in %(num)d "
        "second.",
        "Too many force logouts in a short time. No user was signed out. Try again in %(num)d "
        "seconds.",
        wait_s,
    )


def _notice(revocation_id: str | None) -> str | None:
    """Return the result of the administrator's own recent force logout, in words."""
    if not revocation_id:
        return None
    state = get_state()
    past = records.revocation(state.db.session(), revocation_id)
    recent = past is not None and abs(clock.now_us() - past.revoked_us) < _NOTICE_US
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


def _helpers() -> dict[str, Any]:
    token = outcome().token
    return {
        "ENDPOINT": ENDPOINT,
        "confirm_first": get_state().settings.confirm_force_logout,
        "current_session_id": token.session_id if token else None,
    }
