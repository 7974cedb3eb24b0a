"""The screen **User Management**, a view of Flask-Admin.

Holds no rules: those are in ``accounts`` and ``rules``.
"""

from __future__ import annotations

from typing import Any, Final

from flask import abort, current_app, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user

from xgen_flask_sessions import AdminCenterView, cause_of, gettext, gettext_noop, lazy_gettext
from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import MAX_USERNAME, User
from xgen_flask_sessions.standalone.rules import AccountError, ChangeFailed, Profile, StaleError
from xgen_flask_sessions.standalone.sign_in import to_sign_in

ENDPOINT: Final = "admin-users"

NEWS: Final = {
    "created": gettext_noop("The user has been created."),
    "profile": gettext_noop("The profile has been changed."),
    "password": gettext_noop("The password has been reset."),
    "password-sessions": gettext_noop(
        "The password has been reset, and all sessions of this user have ended."
    ),
    "access": gettext_noop("The access has been changed."),
    "inactive": gettext_noop("The user is inactive now, and all sessions of this user have ended."),
}
"""The notices of the page, by the code in ``?done=``."""

_USER_ID: Final = "<int(max=2147483647):user_id>"


class UserManagementView(AdminCenterView):
    """Users: names, departments, roles, passwords, Active/Inactive, SuperUser."""

    def __init__(self) -> None:
        super().__init__(
            name=lazy_gettext("User Management"),
            category=lazy_gettext("Users / Access Control"),
            endpoint=ENDPOINT,
        )

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> Any:
        """Show one page of the users, or of those that were searched for."""
        text = request.args.get("q", "").strip()[:MAX_USERNAME]
        page = accounts.search(text if text.isprintable() else "", self.page_number())
        return self._render("users.html", page=page, text=text)

    @expose("/new", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    def new(self) -> Any:
        """Show the form for a new user, and make one."""
        if request.method == "GET":
            return self._render("user_new.html", values={}, error=None)
        self.check_form()
        try:
            user = accounts.create(
                request.form.get("username", ""),
                request.form.get("password", ""),
                _profile(),
                superuser="superuser" in request.form,
                actor=current_user,
            )
        except AccountError as error:
            return self._refused("user_new.html", error, values=request.form)
        return self._to_user(user.id, "created")

    @expose(f"/{_USER_ID}")  # type: ignore[untyped-decorator]
    def edit(self, user_id: int) -> Any:
        """Show a user, with the forms to change it."""
        return self._edit_page(_find(user_id))

    @expose(f"/{_USER_ID}/<any(profile, password, access):form>")  # type: ignore[untyped-decorator]
    def form(self, user_id: int, form: str) -> Any:  # noqa: ARG002
        """Lead from the address of a form that was sent to the page it is on."""
        return redirect(url_for(".edit", user_id=user_id, **_query()), 303)

    @expose(f"/{_USER_ID}/profile", methods=["POST"])  # type: ignore[untyped-decorator]
    def profile(self, user_id: int) -> Any:
        """Change name, department and roles."""
        self.check_form()
        user = _find(user_id)
        try:
            accounts.change_profile(user.id, _profile(), actor=current_user, shown=_shown())
        except AccountError as error:
            return self._edit_page(user, "profile", error)
        return self._to_user(user_id, "profile")

    @expose(f"/{_USER_ID}/password", methods=["POST"])  # type: ignore[untyped-decorator]
    def password(self, user_id: int) -> Any:
        """Reset the password and, unless asked not to, end all sessions."""
        self.check_form()
        user = _find(user_id)
        end_sessions = "end_sessions" in request.form
        try:
            accounts.reset_password(
                user.id,
                request.form.get("password", ""),
                actor=current_user,
                end_sessions=end_sessions,
            )
        except AccountError as error:
            return self._edit_page(user, "password", error)
        if end_sessions and _is_oneself(user_id):
            return to_sign_in("sessions-ended")
        return self._to_user(user_id, "password-sessions" if end_sessions else "password")

    @expose(f"/{_USER_ID}/access", methods=["POST"])  # type: ignore[untyped-decorator]
    def access(self, user_id: int) -> Any:
        """Make the user Active or Inactive, and a SuperUser or not."""
        self.check_form()
        user = _find(user_id)
        superuser = "superuser" in request.form
        active = request.form.get("status") == "active"
        try:
            deactivated = accounts.change_access(
                user.id, active=active, superuser=superuser, actor=current_user, shown=_shown()
            )
        except AccountError as error:
            return self._edit_page(user, "access", error)
        if _is_oneself(user_id) and not (active and superuser):
            # The user may no longer see this view.
            return (
                to_sign_in("sessions-ended")
                if deactivated
                else redirect(url_for("workspace.page"), 303)
            )
        return self._to_user(user_id, "inactive" if deactivated else "access")

    def _edit_page(
        self, user: User, form: str | None = None, error: AccountError | None = None
    ) -> Any:
        """Show the forms of one user; the form named *form* keeps its typed values.

        Typed values for a user that has changed meanwhile are dropped.

        :raises DenylistUnavailable: The database does not answer at all.
        """
        if isinstance(error, ChangeFailed):
            sessions.require_database()  # to show the user, it is read again
        values: dict[str, dict[str, Any]] = {
            "profile": {
                "name": user.name or "",
                "department": user.department or "",
                "roles": ", ".join(role.name for role in user.roles),
                "shown": accounts.shown_profile(user),
            },
            "access": {
                "status": "active" if user.is_active else "inactive",
                "superuser": user.is_superuser,
                "shown": accounts.shown_access(user),
            },
            "password": {"end_sessions": True},
        }
        if form is not None and not isinstance(error, StaleError):
            typed = {name: request.form.get(name, "") for name in values[form]}
            values[form] = typed
        context = {"user": user, "values": values, "failed_form": form}
        if error is None:
            return self._render("user_edit.html", error=None, **context)
        return self._refused("user_edit.html", error, **context)

    def _refused(self, template: str, error: AccountError, **context: Any) -> Any:
        """Show a form again, with its typed values and the error.

        :raises DenylistUnavailable: The database does not answer at all.
        """
        if not isinstance(error, ChangeFailed):
            return self._render(template, error=error, **context), 400
        current_app.logger.error("A change of a user failed: %s", cause_of(error))
        sessions.require_database()  # to show the page, the current user is read again
        return self._render(template, error=error, **context), 503, {"Retry-After": "1"}

    def _render(self, template: str, **context: Any) -> Any:
        news = NEWS.get(request.args.get("done", ""))
        return self.render(
            f"xgen_standalone/{template}",
            notice=gettext(news) if news and request.method == "GET" else None,
            **context,
        )

    def _to_user(self, user_id: int, news: str) -> Any:
        return redirect(url_for(".edit", user_id=user_id, done=news), 303)


def _query() -> dict[str, Any]:
    return {name: value for name, value in request.args.items() if name == "lang"}


def _find(user_id: int) -> User:
    user = accounts.find(user_id)
    if user is None:
        abort(404)
    return user


def _is_oneself(user_id: int) -> bool:
    return bool(current_user.get_id() == str(user_id))


def _shown() -> str:
    return request.form.get("shown", "")


def _profile() -> Profile:
    return Profile.parse(*(request.form.get(name, "") for name in ("name", "department", "roles")))
