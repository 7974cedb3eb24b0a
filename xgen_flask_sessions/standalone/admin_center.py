"""The Admin Center: Flask-Admin, with Login Management as its first page."""

from __future__ import annotations

from typing import Any

from flask import redirect, url_for
from flask_admin import Admin, AdminIndexView, expose
from flask_admin.theme import Bootstrap4Theme

from xgen_flask_sessions import open_to_all
from xgen_flask_sessions.standalone.user_admin import UserManagementView


class _IndexView(AdminIndexView):  # type: ignore[misc]
    """``/admin/`` itself, which has no page of its own."""

    def is_visible(self) -> bool:
        """Stay out of the menu."""
        return False

    @expose("/")  # type: ignore[untyped-decorator]
    @open_to_all
    def index(self) -> Any:
        """Go to Login Management."""
        return redirect(url_for("admin-active-sessions.index"))


def create_admin() -> Admin:
    """Return the Flask-Admin of one application; the plugin adds Login Management to it."""
    admin = Admin(
        name="XGEN",
        index_view=_IndexView(),
        theme=Bootstrap4Theme(base_template="xgen_standalone/admin_center.html"),
    )
    admin.add_view(UserManagementView())
    return admin
