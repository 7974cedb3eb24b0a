"""The screen **Login Management**, a view of Flask-Admin: its routes.

Each concept has its own module: the list in :mod:`.list_page`, the acts in :mod:`.acting`, their
results in :mod:`.results`. ``authority`` decides permissions, and ``roster`` provides the lists.
"""

from __future__ import annotations

from typing import Any

from flask import request
from flask_admin import expose

from ..web import i18n
from . import acting, everyone, poll, several, user_acts, user_page
from .admin_center_view import AdminCenterView
from .list_page import (
    ENDPOINT,
    list_context,
    newest_sessions,
    requested_listing,
    row_context,
)


class LoginManagementView(AdminCenterView):
    """The active users with their sessions and devices, and **Force Logout**."""

    style_names = (
        "xgen-sessions.css",
        "login-management.css",
        "freshness.css",
        "user-page.css",
        "selection.css",
    )

    def __init__(self) -> None:
        super().__init__(
            name=i18n.lazy_gettext("Login Management"),
            category=i18n.lazy_gettext("Users / Access Control"),
            endpoint=ENDPOINT,
        )

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> Any:
        """Show one page of the users that are signed in."""
        return self.render("xgen_sessions/login_management.html", **list_context())

    @expose("/sessions")  # type: ignore[untyped-decorator]
    def sessions(self) -> Any:
        """Return the newest active sessions of a user, as the table that a row expands to."""
        user_id = request.args.get("user_id", "")
        return self.render(
            "xgen_sessions/_sessions.html",
            sessions=newest_sessions(user_id),
            user_id=user_id,
            may_end=acting.may_end(user_id),
            **row_context(),
        )

    @expose("/poll")  # type: ignore[untyped-decorator]
    def poll(self) -> Any:
        """Return the summary as it is now, or 304 if nothing has changed."""
        return poll.poll()

    @expose("/rows", methods=["POST"])  # type: ignore[untyped-decorator]
    def rows(self) -> Any:
        """Return shown rows as they are now, and the number of users that came meanwhile."""
        return poll.rows(self)

    @expose("/confirm")  # type: ignore[untyped-decorator]
    def confirm(self) -> Any:
        """Ask before a force logout, for a reason or because the deployment requires it."""
        return acting.confirm(self)

    @expose("/force-logout")  # type: ignore[untyped-decorator]
    @expose("/end-session")  # type: ignore[untyped-decorator]
    def lead_back(self) -> Any:
        """Redirect from the form's address to the list, as after a change of language."""
        return self.back(lang=request.args.get("lang"), **requested_listing().query())

    @expose("/force-logout", methods=["POST"])  # type: ignore[untyped-decorator]
    def force_logout(self) -> Any:
        """End all sessions of a user; after one's own, go to the sign-in page."""
        if user_acts.is_from_user_page():
            return user_acts.force_logout(self)
        return acting.force_logout(self)

    @expose("/several")  # type: ignore[untyped-decorator]
    def several(self) -> Any:
        """Show who would be forced out of the chosen users, or afterwards, the results."""
        return several.show(self)

    @expose("/several", methods=["POST"])  # type: ignore[untyped-decorator]
    def force_logout_several(self) -> Any:
        """End all sessions of the chosen users."""
        return several.submit(self)

    @expose("/everyone")  # type: ignore[untyped-decorator]
    def everyone(self) -> Any:
        """Ask before a force logout of everyone."""
        return everyone.show(self)

    @expose("/everyone", methods=["POST"])  # type: ignore[untyped-decorator]
    def force_logout_everyone(self) -> Any:
        """End all sessions of all users."""
        return everyone.submit(self)

    @expose("/user")  # type: ignore[untyped-decorator]
    def user(self) -> Any:
        """Show the page of one user."""
        return user_page.show(self)

    @expose("/end-session", methods=["POST"])  # type: ignore[untyped-decorator]
    def end_session(self) -> Any:
        """End one session of a user; after one's own, go to the sign-in page."""
        if user_acts.is_from_user_page():
            return user_acts.end_session(self)
        return acting.end_session(self)

    @expose("/end-older", methods=["POST"])  # type: ignore[untyped-decorator]
    def end_older(self) -> Any:
        """End the sessions of a user that began long ago, or all but the newest."""
        return user_acts.end_older(self)

    @expose("/leaver", methods=["POST"])  # type: ignore[untyped-decorator]
    def leaver(self) -> Any:
        """End all sessions of a user, make the account inactive and revoke its roles."""
        return user_acts.process_leaver(self)
