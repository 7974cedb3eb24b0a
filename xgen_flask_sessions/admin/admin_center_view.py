"""The base of the Admin Center's views: permissions, layout, security headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Response, abort, current_app, redirect, request, url_for
from flask_admin import BaseView
from markupsafe import Markup
from werkzeug.exceptions import Forbidden as HttpForbidden

from ..errors import AuthenticationError, Forbidden, XgenSessionsError
from ..roster.listing import parse_page
from ..state import find_state
from ..store.transactions import UNREACHABLE
from ..web import i18n
from ..web.forms import check_form, field_token
from ..web.login_bridge import require_user
from ..web.marks import checks_caller
from ..web.problems import answer, database_problem, refuse, sign_in_url, with_security_headers
from .page_parts import ROOT, PageParts, complete
from .problem_page import finish, is_unrouted

ASSETS = Path(__file__).parent
"""The directory of ``static/`` and ``templates/``."""

_LAYOUT = "xgen_sessions/admin_center.html"


def page_number() -> int:
    """Return the requested page; an invalid number means the first one."""
    return requested_number("page")


def requested_number(parameter: str) -> int:
    """Return the number in a query parameter; an invalid number means 1."""
    text = request.values.get(parameter, "1")
    if text.isascii() and text.isdigit():
        text = text[:9]  # also past the end
    return parse_page(text) or 1


class AdminCenterView(BaseView):  # type: ignore[misc]
    """A view for administrators only, under a strict Content-Security-Policy.

    Its templates bring their own styles: Bootstrap is not loaded by the sidebar layout.
    """

    brings_own_styles = True
    style_names: tuple[str, ...] = ("xgen-sessions.css",)
    """The style sheets among the plugin's static files, in their order."""
    check_form = staticmethod(check_form)
    form_token = staticmethod(field_token)
    page_number = staticmethod(page_number)

    @property
    def extra_css(self) -> list[str]:
        """The styles, which a layout shows in its head; otherwise the page shows them."""
        parts: PageParts | None = self._template_args.get("page_parts")
        if parts is not None:
            parts.shows("styles")
        return self._style_urls()

    def _style_urls(self) -> list[str]:
        return [url_for("xgen_sessions.static", filename=name) for name in self.style_names]

    def render(self, template: str, **kwargs: Any) -> str:
        """Render a template in the host's layout, or in the plugin's if that shows no content."""
        page, is_complete = self._render_in_layout(template, kwargs)
        if is_complete:
            return complete(page, i18n.language())
        layout = self.admin.theme.base_template
        current_app.logger.warning(
            "Flask-Admin's base template %r has no block 'body', or does not show it; "
            "%s is shown in the layout %r instead.", layout, self.endpoint, _LAYOUT,
        )  # fmt: skip
        page, _ = self._render_in_layout(template, kwargs, admin_base_template=_LAYOUT)
        return complete(page, i18n.language())

    def _render_in_layout(self, template: str, arguments: Any, **over: str) -> tuple[str, bool]:
        """Return the rendered template, and whether it has the page's content.

        :param over: Arguments that replace those of Flask-Admin.
        """
        parts = PageParts()
        self._template_args.update(over, page_parts=parts, page_root=Markup(ROOT))  # noqa: S704
        page = super().render(template, styles=self._style_urls(), **arguments)
        return page, parts.is_complete

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
        state = find_state()
        if state is None:
            return abort(404)
        try:
            require_user()
        except AuthenticationError as error:
            return self._to_sign_in(error)
        except XgenSessionsError as error:
            return refuse(error)
        why = Forbidden(state.authority.why_closed())
        # Of Werkzeug's own class, which the application's handlers for any HTTP error answer, too.
        raise HttpForbidden(why.detail, response=answer(why))

    def create_blueprint(self, admin: Any) -> Any:
        """Return the view's blueprint, whose answers have the security headers."""
        blueprint = super().create_blueprint(admin)
        blueprint.after_request(self._finish)
        blueprint.after_app_request(self._finish_unrouted)
        for unreachable in UNREACHABLE:
            blueprint.register_error_handler(unreachable, database_problem)
        # The user was forced out after the page was loaded.
        blueprint.register_error_handler(AuthenticationError, self._to_sign_in)
        return blueprint

    def _finish_unrouted(self, response: Response) -> Response:
        """Finish the answer to an address below the view's that is none of its pages."""
        return self._finish(response) if is_unrouted(self) else response

    def _finish(self, response: Response) -> Response:
        """Make an error a page, and set the security headers.

        The host's inline code carries Flask-Admin's nonce, if it has one.
        """
        finish(response, self)
        make_nonce = self.admin.csp_nonce_generator
        return with_security_headers(response, nonce=str(make_nonce()) if make_nonce else None)

    def _to_sign_in(self, error: AuthenticationError) -> Any:
        """Redirect to the sign-in page, after a form with GET."""
        url = sign_in_url(url_for(f"{self.endpoint}.index"))
        by_script = request.headers.get("X-Requested-With") == "XMLHttpRequest"
        if request.method == "POST" and url is not None and not by_script:
            return redirect(url, 303)
        return refuse(error)

    def back(self, **query: Any) -> Any:
        """Redirect to the view's list after a form was handled."""
        return redirect(url_for(f"{self.endpoint}.index", **query), 303)
