"""The screen **Login Management**, a view of Flask-Admin.

It holds no rules: ``authority`` decides permissions, and ``roster`` provides the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Response, abort, current_app, redirect, request, url_for
from flask_admin import BaseView, expose
from flask_login import current_user

from .. import clock
from ..clock import SECOND_US
from ..errors import (
    AuthenticationError,
    BadRequest,
    Forbidden,
    NotFound,
    RateLimited,
    XgenSessionsError,
)
from ..roster import records
from ..roster.listing import COLUMNS, Column, Listing, parse_listing, parse_page
from ..roster.roster import SessionPage
from ..state import find_state, get_state
from ..store.transactions import UNREACHABLE
from ..text import visible
from ..web import i18n
from ..web.force_out import force_out
from ..web.forms import check_form, field_token
from ..web.login_bridge import require_user
from ..web.marks import checks_caller
from ..web.problems import (
    database_problem,
    refuse,
    sign_in_url,
    with_security_headers,
)
from ..web.request_token import outcome
from .page_parts import PageParts

ENDPOINT = "admin-active-sessions"

ASSETS = Path(__file__).parent
"""The directory of ``static/`` and ``templates/``."""

_LAYOUT = "xgen_sessions/admin_center.html"

_NOTICE_US = 300 * SECOND_US


def _styles() -> list[str]:
    return [url_for("xgen_sessions.static", filename="xgen-sessions.css")]


def page_number() -> int:
    """Return the requested page; an invalid number means the first one."""
    return _number("page")


def _number(parameter: str) -> int:
    text = request.values.get(parameter, "1")
    if text.isascii() and text.isdigit():
        text = text[:9]  # also past the end
    return parse_page(text) or 1


class AdminCenterView(BaseView):  # type: ignore[misc]
    """A view for administrators only, under a strict Content-Security-Policy.

    Its templates bring their own styles: Bootstrap is not loaded by the sidebar layout.
    """

    brings_own_styles = True
    check_form = staticmethod(check_form)
    form_token = staticmethod(field_token)
    page_number = staticmethod(page_number)

    @property
    def extra_css(self) -> list[str]:
        """The styles, which a layout shows in its head; otherwise the page shows them."""
        parts: PageParts | None = self._template_args.get("page_parts")
        if parts is not None:
            parts.shows("styles")
        return _styles()

    def render(self, template: str, **kwargs: Any) -> str:
        """Render a template in the host's layout, or in the plugin's if that shows no content."""
        page, is_complete = self._render_in_layout(template, kwargs)
        if is_complete:
            return page
        layout = self.admin.theme.base_template
        current_app.logger.warning(
            "Flask-Admin's base template %r has no block 'body', or does not show it; "
            "%s is shown in the layout %r instead.", layout, self.endpoint, _LAYOUT,
        )  # fmt: skip
        page, _ = self._render_in_layout(template, kwargs, admin_base_template=_LAYOUT)
        return page

    def _render_in_layout(self, template: str, arguments: Any, **over: str) -> tuple[str, bool]:
        """Return the rendered template, and whether it has the page's content.

        :param over: Arguments that replace those of Flask-Admin.
        """
        parts = PageParts()
        self._template_args.update(over, page_parts=parts)
        return super().render(template, styles=_styles(), **arguments), parts.is_complete

    @checks_caller
    def is_accessible(self) -> bool:
        """Return whether the current user may see the view."""
        state = find_state()
        if state is None:  # the same Admin serves an application without the plugin
            return False
        try:
            return state.authority.may_view(require_user())
        except XgenSessionsError:
            return False

    def inaccessible_callback(self, name: str, **kwargs: Any) -> Any:  # noqa: ARG002
        """Redirect to the sign-in page without a valid session; otherwise answer 403."""
        if find_state() is None:
            return abort(404)
        try:
            require_user()
        except AuthenticationError as error:
            return self._to_sign_in(error)
        except XgenSessionsError as error:
            return refuse(error)
        return abort(403)

    def create_blueprint(self, admin: Any) -> Any:
        """Return the view's blueprint, whose answers have the security headers."""
        blueprint = super().create_blueprint(admin)
        blueprint.after_request(self._with_headers)
        for unreachable in UNREACHABLE:
            blueprint.register_error_handler(unreachable, database_problem)
        # The user was forced out after the page was loaded.
        blueprint.register_error_handler(AuthenticationError, self._to_sign_in)
        return blueprint

    def _with_headers(self, response: Response) -> Response:
        """Set the security headers; the host's inline code carries Flask-Admin's nonce, if any."""
        make_nonce = self.admin.csp_nonce_generator
        return with_security_headers(response, nonce=str(make_nonce()) if make_nonce else None)

    def _to_sign_in(self, error: AuthenticationError) -> Any:
        """Redirect to the sign-in page, after a form with GET."""
        url = sign_in_url(url_for(f"{self.endpoint}.index"))
        if request.method == "POST" and url is not None:
            return redirect(url, 303)
        return refuse(error)

    def back(self, **query: Any) -> Any:
        """Redirect to the view's list after a form was handled."""
        return redirect(url_for(f"{self.endpoint}.index", **query), 303)


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
    number = _number("sessions_page")
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
