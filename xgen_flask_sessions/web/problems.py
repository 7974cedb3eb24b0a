"""Refusals over HTTP: problem details (RFC 9457), challenges (RFC 6750), or a redirect."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from flask import (
    Flask,
    Response,
    current_app,
    has_request_context,
    redirect,
    request,
    session,
)
from flask_login.config import USE_SESSION_FOR_NEXT
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from ..errors import (
    AuthenticationError,
    DatabaseUnavailable,
    SessionRevoked,
    TokenAmbiguous,
    XgenSessionsError,
)
from ..state import get_state
from ..store.transactions import UNREACHABLE, is_unreachable
from .failures import note_failure
from .login_views import expand
from .page_policy import DATA_POLICY, page_policy
from .request_scope import get_request, has_bearer
from .same_site import is_local_path

_Response = TypeVar("_Response", bound=BaseResponse)

_PROBLEM: Final = "application/problem+json"
_DOCUMENT: Final = "_xgen_sessions_problem"
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
    response = Response(json.dumps(body | members), status, content_type=_PROBLEM)
    _note(response, None)
    return with_security_headers(response)


def _note(response: Response, error: XgenSessionsError | None) -> None:
    """Note the request's last problem document, and the error that it answers."""
    if has_request_context():
        get_request().__dict__[_DOCUMENT] = (response.get_data(), error)


def problem_of(response: Response) -> tuple[bool, XgenSessionsError | None]:
    """Return whether *response* is a document of :func:`problem`, and the error that it answers.

    It may be a copy: Flask copies the response within an ``HTTPException``.
    """
    document, error = get_request().__dict__.get(_DOCUMENT, (None, None))
    is_problem = response.mimetype == _PROBLEM and response.get_data() == document
    return is_problem, error if is_problem else None


def with_security_headers(
    response: _Response, *, cached: bool = False, nonce: str | None = None
) -> _Response:
    """Set the security headers that each of the plugin's answers has.

    Browsers do not guess its type, frame it, run foreign scripts or send its address to other
    sites; caches do not store it.

    :param cached: Keep the answer's own cache headers, for static files.
    :param nonce: The nonce of inline scripts and styles that a page may contain; by default, a page
        contains none.
    """
    is_page = response.mimetype == "text/html" and not 300 <= response.status_code < 400
    if not cached:
        response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = page_policy(nonce) if is_page else DATA_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def answer(error: XgenSessionsError, **more: Any) -> Response:
    """Return *error* as a problem document, with the headers that belong to it.

    An answer with 5xx is logged.

    :param more: Further members.
    """
    note_failure(error)
    members = more
    if isinstance(error, SessionRevoked):
        members = members | {"forced": error.forced, "account_changed": error.account_changed}
    response = problem(error.status, error.code, error.detail, **members)
    _note(response, error)
    challenge = challenge_of(error)
    if challenge is not None:
        response.headers["WWW-Authenticate"] = challenge
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def challenge_of(error: XgenSessionsError) -> str | None:
    """Return the ``WWW-Authenticate`` header that belongs to *error* (RFC 6750), if one does."""
    if not isinstance(error, AuthenticationError) and not error.oauth_error:
        return None
    challenge = 'Bearer realm="xgen"'
    if error.oauth_error:
        described = _NOT_IN_CHALLENGE.sub("?", error.detail)
        challenge += f', error="{error.oauth_error}", error_description="{described}"'
    return challenge


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
    """Return a database error as a problem document.

    :raises Exception: The error itself, if a row of the host's was refused.
    """
    if not is_unreachable(error):
        raise error
    return answer(DatabaseUnavailable().caused_by(error))


def answer_errors(app: Flask) -> None:
    """Answer every HTTP error of an application, and a database error, with problem details.

    :param app: The application. Handlers that it registered for single errors stay in force.
    """
    app.register_error_handler(HTTPException, http_problem)
    for unreachable in UNREACHABLE:
        app.register_error_handler(unreachable, database_problem)


def refuse(error: XgenSessionsError) -> Response:
    """Answer the current request with *error*; a page navigation goes to the sign-in page.

    A sign-in there also replaces cookies of several users.
    """
    if isinstance(error, AuthenticationError | TokenAmbiguous) and is_page_navigation():
        url = _sign_in_url_back_here()
        if url is not None:
            return with_security_headers(current_app.make_response(redirect(url)))
    return answer(error)


def _sign_in_url_back_here() -> str | None:
    """Return the URL of the sign-in page that leads back to the current request's page."""
    path = own_path()
    in_session = current_app.config.get("USE_SESSION_FOR_NEXT", USE_SESSION_FOR_NEXT)
    url = sign_in_url(None if in_session else path)
    if url is not None and in_session and is_local_path(path):
        session["next"] = path  # as Flask-Login does
    return url


def own_path() -> str:
    """Return the current request's path and query, as a browser would send them."""
    path = quote(request.script_root + request.path, safe="/:@!$&'()*+,;=~")
    query = request.query_string.decode("ascii", "replace")
    return f"{path}?{query}" if query else path


def is_page_navigation() -> bool:
    """Return whether the current request is a browser's page navigation."""
    return request.method in ("GET", "HEAD") and wants_page()


def wants_page() -> bool:
    """Return whether a browser will show the answer as a page, after a link or a form."""
    if _sends_token():
        return False
    by_script = _is_by_script()
    return "text/html" in request.headers.get("Accept", "") if by_script is None else not by_script


def wants_data() -> bool:
    """Return whether a script or a program sent the request, and expects data instead of a page.

    A request that does not say so gets the answer of Flask-Login.
    """
    if _sends_token():
        return True
    by_script = _is_by_script()
    if by_script is not None:
        return by_script
    accepted = request.headers.get("Accept", "").lower()
    return "json" in accepted and "text/html" not in accepted


def _sends_token() -> bool:
    """Return whether the request's ``Authorization`` header is for the plugin, not for a proxy."""
    header = request.headers.get("Authorization", "")
    return has_bearer(header) and "headers" in get_state().settings.token_locations


def _is_by_script() -> bool | None:
    """Return whether a script on a page sent the request, or ``None`` if it does not say."""
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode != "navigate"
    return True if request.headers.get("X-Requested-With") == "XMLHttpRequest" else None


def sign_in_url(next_path: str | None = None) -> str | None:
    """Return the URL of the host's sign-in page, or ``None`` if it has none that exists.

    :param next_path: The path to return to afterwards.
    """
    manager = getattr(current_app, "login_manager", None)
    if manager is None:
        return None
    view = manager.blueprint_login_views.get(request.blueprint) or manager.login_view
    if not view:
        return None
    expanded = expand(view)
    if expanded is None:
        return None
    url = urlsplit(expanded)
    # A path leads back to this host only from a sign-in page of this host.
    is_apart = bool(url.netloc) and expanded != view and url.netloc != request.host
    if is_apart or not is_local_path(next_path):  # the sign-in page would refuse it
        return urlunsplit(url)
    query = "&".join(part for part in (url.query, urlencode({"next": next_path})) if part)
    return urlunsplit(url._replace(query=query))
