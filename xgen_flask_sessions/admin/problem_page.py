"""Error answers that a browser shows: a page in the layout, or one that needs nothing else.

An answer becomes a page only if it is the plugin's problem document, or Werkzeug's bare page: where
the application has its own handler for an error, its answer stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from flask import Flask, Response, current_app, request, url_for
from flask_admin.helpers import set_current_view
from werkzeug.exceptions import default_exceptions

from ..errors import CrossSiteRequest, XgenSessionsError
from ..state import find_state
from ..text import cause_of
from ..web import i18n, problems
from ..web.host_header import is_host_usable
from ..web.problem_texts import ProblemText, describe
from ..web.problems import (
    is_page_navigation,
    own_path,
    problem,
    problem_of,
    sign_in_url,
    wants_page,
)
from ..web.same_site import is_local_path
from .templating import current_profile

IN_LAYOUT: Final = "xgen_sessions/problem.html"
APART: Final = "xgen_sessions/problem_apart.html"
"""The template of a page without a layout: it needs neither the database nor Flask-Admin."""

_SITE: Final = "xgen_sessions_site"
_LONGEST_BARE: Final = 8192
"""Bytes of Werkzeug's longest page; a longer answer is not read to compare it."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Link:
    """A next step of an error page."""

    url: str
    text: str


@dataclass(frozen=True, slots=True)
class Site:
    """The application's own parts of a page without a layout."""

    template: str = APART
    home: str | None = None
    """The endpoint of a page that every caller can open."""


def answer_errors(app: Flask, *, page: str | None = None, home: str | None = None) -> None:
    """Answer every HTTP error of an application, and a database error, with problem details.

    :param app: The application. Handlers that it registered for single errors stay in force.
    :param page: A template for the pages that browsers get in place of problem details. It extends
        ``xgen_sessions/problem_apart.html``, which has the blocks ``site``, ``head``, ``brand``
        and ``below``, and is rendered without context processors.
    :param home: The endpoint of the page that the others link to.
    """
    problems.answer_errors(app)
    if page is not None:
        app.extensions[_SITE] = Site(page, home)
        app.after_request(_finish_any)


def _finish_any(response: Response) -> Response:
    finish(response)
    return response


def finish(response: Response, view: Any = None) -> None:
    """Make an error answer a page if a browser shows it, otherwise a problem document.

    Its status and its headers stay as they are. Other answers are not changed.

    :param response: The answer.
    :param view: The ``AdminCenterView`` that answered, if one did.
    """
    is_problem, error = problem_of(response)
    if find_state() is None or not is_host_usable() or not (is_problem or _is_bare(response)):
        return
    if not wants_page():
        if not is_problem:
            kind = default_exceptions[response.status_code]
            detail = kind.description or kind().name
            document = problem(response.status_code, "http_error", detail)
            _replace(response, document.get_data(as_text=True), "application/problem+json")
        return
    site = current_app.extensions.get(_SITE, Site())
    page = _Page(response.status_code, error, view, site.home)
    text = _in_layout(page) if page.may_view else None
    for language in (None, "en"):  # the host's choice of a language may need the database
        with i18n.forced(language):
            text = text or _attempt(lambda: _apart(page, site.template))
    if text is not None:
        _replace(response, text, "text/html; charset=utf-8")


class _Page:
    """The page for one error answer: its words and its links."""

    def __init__(
        self, status: int, error: XgenSessionsError | None, view: Any, home: str | None
    ) -> None:
        self.status = status
        self.error = error
        self.view = view
        self.home = home
        is_known = status < 500 and status != 401
        self.may_view = view is not None and is_known and bool(_attempt(view.is_accessible))

    def text(self) -> ProblemText:
        """Return the words, in the current language."""
        username = None
        if self.status == 403 and self._is_closed:
            profile = _attempt(current_profile)
            username = None if profile is None else profile.username
        return describe(self.status, self.error, may_view=self.may_view, username=username)

    def links(self) -> list[Link]:
        """Return the next steps, the best one first."""
        found = [self._retry(), self._sign_in(), self._back(), self._home()]
        return [link for link in found if link is not None]

    @property
    def _is_closed(self) -> bool:
        """Whether the caller has to sign in, as another user if need be."""
        is_refused = self.status == 403 and not isinstance(self.error, CrossSiteRequest)
        return self.status == 401 or (is_refused and not self.may_view)

    def _retry(self) -> Link | None:
        is_passing = self.status >= 500 or self.status == 429
        path = own_path()
        if not (is_passing and is_page_navigation() and is_local_path(path)):
            return None
        return Link(path, i18n.gettext("Try again"))

    def _back(self) -> Link | None:
        if self.view is None or self._is_closed:
            return None
        text = i18n.gettext("Back to %(page)s", page=self.view.name)
        return Link(self._list_url(), text)

    def _home(self) -> Link | None:
        if self.home is None or self.may_view:
            return None
        return Link(url_for(self.home), i18n.gettext("To the start page"))

    def _sign_in(self) -> Link | None:
        if not self._is_closed:
            return None
        url = sign_in_url(own_path() if is_page_navigation() else self._list_url())
        if url is None:
            return None
        if self.status == 401:
            return Link(url, i18n.gettext("Sign in"))
        # OpenID Connect's parameter, for a sign-in page that sends signed-in users on.
        parts = urlsplit(url)
        query = f"{parts.query}&prompt=login" if parts.query else "prompt=login"
        text = i18n.gettext("Sign in as another user")
        return Link(urlunsplit(parts._replace(query=query)), text)

    def _list_url(self) -> str:
        return "/" if self.view is None else url_for(f"{self.view.endpoint}.index")


def _in_layout(page: _Page) -> str | None:
    set_current_view(page.view)
    return _attempt(
        lambda: str(page.view.render(IN_LAYOUT, problem=page.text(), links=page.links()))
    )


def _apart(page: _Page, template: str) -> str:
    """Render the page without the host's context processors, which may read the database."""
    site = "" if page.view is None else str(page.view.admin.name)
    return current_app.jinja_env.get_template(template).render(
        problem=page.text(), links=page.links(), site=site
    )


def _attempt(make: Callable[[], _T]) -> _T | None:
    """Return the result of a function, or ``None`` if it fails: an error page must not fail."""
    try:
        return make()
    except Exception as error:
        current_app.logger.warning("A part of an error page failed: %s", cause_of(error))
        return None


def _replace(response: Response, text: str, content_type: str) -> None:
    response.set_data(text)
    response.content_type = content_type


def _is_bare(response: Response) -> bool:
    """Return whether *response* is Werkzeug's own page for its error, with any description."""
    kind = default_exceptions.get(response.status_code)
    if kind is None or response.mimetype != "text/html" or response.direct_passthrough:
        return False
    if not 0 < (response.content_length or 0) < _LONGEST_BARE:
        return False
    beginning = str(kind("").get_body()).partition("<p>")[0]
    return response.get_data(as_text=True).startswith(beginning)


def is_unrouted(view: Any) -> bool:
    """Return whether the current request's address is below a view's, but is none of its pages."""
    if request.routing_exception is None or not is_host_usable() or not view.url:
        return False
    if not f"{request.path}/".startswith(f"{view.url}/"):
        return False
    adapter = current_app.create_url_adapter(request)
    try:
        endpoint, _ = adapter.match(f"{view.url}/", method="GET")  # type: ignore[union-attr]
    except Exception:
        return False
    return bool(endpoint == f"{view.endpoint}.index")
