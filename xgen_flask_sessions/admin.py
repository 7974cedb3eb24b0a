"""The screen **Login Management**, a view of Flask-Admin.

Holds no rules: who may do what is asked of ``authority``, what is shown of ``roster``.
"""

from __future__ import annotations

from typing import Any

from flask import Response, abort, redirect, request, url_for
from flask_admin import BaseView, expose
from flask_login import current_user

from . import clock, i18n
from .access import outcome
from .clock import SECOND_US
from .errors import AuthenticationError, BadRequest, Forbidden, XgenSessionsError
from .forms import check_form, field_token
from .login import require_user
from .problems import database_problem, refuse, sealed, sign_in_url
from .roster import parse_page
from .state import get_state
from .transactions import UNREACHABLE

ENDPOINT = "admin-active-sessions"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing inline, nothing foreign, no frames (Content Security Policy Level 3)."""

_NOTICE_US = 300 * SECOND_US


class AdminCenterView(BaseView):  # type: ignore[misc]
    """A view that only administrators get into, under a strict Content-Security-Policy.

    Its templates bring their own styles: Bootstrap is not loaded by the sidebar layout.
    """

    brings_own_styles = True

    @property
    def extra_css(self) -> list[str]:
        """The styles, for any layout."""
        return [url_for("xgen_sessions.static", filename="xgen-sessions.css")]

    def is_accessible(self) -> bool:
        """Say whether the current user may see the view."""
        try:
            return get_state().authority.may_view(require_user())
        except XgenSessionsError:
            return False

    def inaccessible_callback(self, name: str, **kwargs: Any) -> Any:  # noqa: ARG002
        """Send who is not signed in to the sign-in page, and turn away everybody else."""
        try:
            require_user()
        except AuthenticationError as error:
            url = sign_in_url(url_for(f"{self.endpoint}.index"))
            if request.method == "POST" and url is not None:
                return redirect(url, 303)
            return refuse(error)
        except XgenSessionsError as error:
            return refuse(error)
        return abort(403)

    def create_blueprint(self, admin: Any) -> Any:
        """Return the view's blueprint, whose answers no cache keeps and no frame shows."""
        blueprint = super().create_blueprint(admin)
        blueprint.after_request(_protect)
        for unreachable in UNREACHABLE:
            blueprint.register_error_handler(unreachable, database_problem)
        return blueprint

    def back(self, **query: Any) -> Any:
        """Redirect to the view's list after a form was handled."""
        return redirect(url_for(f"{self.endpoint}.index", **query), 303)


class LoginManagementView(AdminCenterView):
    """Who is signed in, on what, from where; and **Force Logout**."""

    def __init__(self) -> None:
        super().__init__(
            name=i18n.lazy_gettext("Login Management"),
            category=i18n.lazy_gettext("Users / Access Control"),
            endpoint=ENDPOINT,
        )

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> Any:
        """Show one page of the users that are signed in."""
        state = get_state()
        session = state.db.session()
        number = parse_page(request.args.get("page", "1")) or 1
        expanded = request.args.get("expand")
        return self.render(
            "xgen_sessions/login_management.html",
            summary=state.roster.summary(session),
            page=state.roster.nearest_page(session, number),
            expanded=expanded,
            expanded_sessions=state.roster.sessions_of(session, expanded) if expanded else [],
            notice=_notice(request.args.get("revocation")),
            may_force_logout=lambda user: state.authority.may_force_logout(
                current_user, superuser=user.profile.superuser
            ),
            **_helpers(),
        )

    @expose("/sessions")  # type: ignore[untyped-decorator]
    def sessions(self) -> Any:
        """Return the active sessions of one user, as the table that a row expands to."""
        state = get_state()
        user_id = request.args.get("user_id", "")
        return self.render(
            "xgen_sessions/_sessions.html",
            sessions=state.roster.sessions_of(state.db.session(), user_id),
            **_helpers(),
        )

    @expose("/confirm")  # type: ignore[untyped-decorator]
    def confirm(self) -> Any:
        """Ask before a force logout, where the deployment wants that."""
        state = get_state()
        user_id = request.args.get("user_id", "")
        return self.render(
            "xgen_sessions/confirm.html",
            profile=state.users.profile(user_id, state.users.get(user_id)),
            sessions=state.roster.sessions_of(state.db.session(), user_id),
            page_number=request.args.get("page", "1"),
            **_helpers(),
        )

    @expose("/force-logout", methods=["POST"])  # type: ignore[untyped-decorator]
    def force_logout(self) -> Any:
        """End all sessions of a user; whoever did it to themselves goes to the sign-in page."""
        check_form()
        state = get_state()
        user_id = request.form.get("user_id", "")
        user = state.users.get(user_id)
        superuser = user is not None and state.users.is_superuser(user)
        if not state.authority.may_force_logout(current_user, superuser=superuser):
            raise Forbidden("You may not force out this user.")
        if user is None and not state.roster.ever_signed_in(state.db.session(), user_id):
            raise BadRequest("There is no such user.")
        oneself = user_id == current_user.get_id()
        revocation = state.sessions.force_logout(user_id, actor=current_user)
        if oneself and (url := sign_in_url()) is not None:
            return redirect(url, 303)
        return self.back(revocation=revocation.id, page=request.form.get("page") or None)


def _notice(revocation_id: str | None) -> str | None:
    """Return what the administrator's own force logout of a moment ago did, in words."""
    if not revocation_id:
        return None
    state = get_state()
    past = state.roster.revocation(state.db.session(), revocation_id)
    recent = past is not None and clock.now_us() - past.revoked_us < _NOTICE_US
    if past is None or not recent or not past.user_id or past.actor != current_user.get_id():
        return None
    profile = state.users.profile(past.user_id, state.users.get(past.user_id))
    return i18n.ngettext(
        "%(num)d session of %(user)s ended",
        "%(num)d sessions of %(user)s ended",
        past.sessions_ended,
        user=profile.username,
    )


def _helpers() -> dict[str, Any]:
    settings = get_state().settings
    token = outcome().token
    return {
        "ENDPOINT": ENDPOINT,
        "confirm_first": settings.confirm_force_logout,
        "current_session_id": token.session_id if token else None,
        "field_token": field_token,
        "format_time": lambda at_us: "-" if at_us is None else i18n.format_time(at_us, settings),
        "zone": i18n.format_zone(settings),
    }


def _protect(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return sealed(response)
