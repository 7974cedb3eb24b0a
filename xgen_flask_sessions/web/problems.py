"""Refusals over HTTP: problem details (RFC 9457), challenges (RFC 6750), or a redirect."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from flask import Response, current_app, redirect, request
from flask_login.utils import expand_login_view
from werkzeug.exceptions import HTTPException

from ..errors import (
    AuthenticationError,
    DatabaseUnavailable,
    SessionRevoked,
    XgenSessionsError,
)
from .same_site import is_local_path

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Of pages: nothing inline, nothing foreign, no frames (Content Security Policy Level 3).

No ``form-action``: browsers hold each redirect after a form against it, and who has been signed out
is redirected to the host's sign-in page, which may be elsewhere.
"""

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Of everything else, which is no page: should a browser show it as one, it can do nothing."""

_NOT_IN_CHALLENGE = re.compile(r"[^ !#-\[\]-~]")  # RFC 6750, section 3


def problem(status: int, code: str, detail: str, **members: Any) -> Response:
    """Return a problem document (RFC 9457, section 3).

    :param status: The HTTP status.
    :param code: A stable name for programs.
    :param detail: A sentence for people.
    :param members: Further members.
    """
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    response = Response(json.dumps(body | members), status, content_type="application/problem+json")
    return sealed(response)


def sealed(response: Response, *, cached: bool = False) -> Response:
    """Put the headers on that each answer of ours has.

    No browser guesses its type, shows it in a frame, runs what is not ours, or tells another site
    where it was; and no cache keeps it.

    :param cached: Leave the caches to do as they were told: for files that are the same to all.
    """
    is_page = response.mimetype == "text/html" and not 300 <= response.status_code < 400
    if not cached:
        response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = PAGE_POLICY if is_page else DATA_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def answer(error: XgenSessionsError) -> Response:
    """Return *error* as a problem document, with the headers that belong to it."""
    members = {"forced": error.forced} if isinstance(error, SessionRevoked) else {}
    response = problem(error.status, error.code, error.detail, **members)
    if isinstance(error, AuthenticationError) or error.oauth_error:
        challenge = 'Bearer realm="xgen"'
        if error.oauth_error:
            described = _NOT_IN_CHALLENGE.sub("?", error.detail)
            challenge += f', error="{error.oauth_error}", error_description="{described}"'
        response.headers["WWW-Authenticate"] = challenge
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def http_problem(error: HTTPException) -> Any:
    """Return an HTTP error as a problem document, with the headers it came with."""
    if error.response is not None:
        return error.response
    answered = problem(error.code or 500, "http_error", error.description or error.name)
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            answered.headers[name] = value
    return answered


def database_problem(error: Exception) -> Response:
    """Return a database that cannot be used as a problem document, and log why."""
    current_app.logger.error("The database cannot be used: %s", error)
    return answer(DatabaseUnavailable())


def refuse(error: XgenSessionsError) -> Response:
    """Answer the current request with *error*: for a page navigation, by the sign-in page."""
    if isinstance(error, AuthenticationError) and is_page_navigation():
        url = sign_in_url(_own_path())
        if url is not None:
            return sealed(current_app.make_response(redirect(url)))
    return answer(error)


def _own_path() -> str:
    """Return the current request's path and query, as a browser would ask for them."""
    path = quote(request.script_root + request.path, safe="/:@!$&'()*+,;=~")
    query = request.query_string.decode("ascii", "replace")
    return f"{path}?{query}" if query else path


def is_page_navigation() -> bool:
    """Say whether a browser asks for the current request's answer as a page."""
    return request.method in ("GET", "HEAD") and wants_page()


def wants_page() -> bool:
    """Say whether a browser shows the current request's answer, be it to a link or a form."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    if scheme.lower() == "bearer":  # with another, a browser may have signed in to a proxy
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    script = request.headers.get("X-Requested-With") == "XMLHttpRequest"
    return not script and "text/html" in request.headers.get("Accept", "")


def sign_in_url(next_path: str | None = None) -> str | None:
    """Return the host's sign-in page, or ``None`` if it has none.

    :param next_path: The path to come back to afterwards.
    """
    manager = getattr(current_app, "login_manager", None)
    if manager is None:
        return None
    view = manager.blueprint_login_views.get(request.blueprint) or manager.login_view
    if not view:
        return None
    url = urlsplit(str(expand_login_view(view)))
    if not is_local_path(next_path):  # the sign-in page would not go there either
        return urlunsplit(url)
    query = "&".join(part for part in (url.query, urlencode({"next": next_path})) if part)
    return urlunsplit(url._replace(query=query))
