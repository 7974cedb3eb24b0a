"""Refusals: problem details for programs, a short page in the same look for people."""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask, Response, current_app, render_template, request
from werkzeug.exceptions import HTTPException

from xgen_flask_sessions.admin import CONTENT_SECURITY_POLICY
from xgen_flask_sessions.errors import DatabaseUnavailable
from xgen_flask_sessions.problems import problem, sealed

_PROBLEM: Final = "application/problem+json"


def set_up(app: Flask) -> None:
    """Answer every error of the application, and give every page its security headers."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(sa.exc.OperationalError, _database_error)
    app.register_error_handler(sa.exc.InterfaceError, _database_error)
    app.register_error_handler(sa.exc.TimeoutError, _database_error)
    app.after_request(_finish)


def _http_error(error: HTTPException) -> Any:
    if error.response is not None:
        return error.response
    status = error.code or 500
    answered = problem(status, "http_error", error.description or error.name)
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            answered.headers[name] = value
    return answered


def _database_error(error: Exception) -> Response:
    current_app.logger.error("The database cannot be used: %s", error)
    answered = problem(503, "database_unavailable", "The database cannot be used right now.")
    answered.headers["Retry-After"] = str(DatabaseUnavailable.retry_after_s)
    return answered


def _finish(response: Response) -> Response:
    if response.mimetype == _PROBLEM and response.status_code >= 400 and _wants_page():
        _make_page(response)
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        sealed(response)
    return response


def _wants_page() -> bool:
    """Say whether a browser shows the answer, be it to a link or to a form."""
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    script = request.headers.get("X-Requested-With") == "XMLHttpRequest"
    bearer = "Authorization" in request.headers
    return not script and not bearer and "text/html" in request.headers.get("Accept", "")


def _make_page(response: Response) -> None:
    """Say the same in words, for people."""
    members = json.loads(response.get_data())
    page = render_template("xgen_standalone/error.html", status=members["status"])
    response.set_data(page)
    response.content_type = "text/html; charset=utf-8"
