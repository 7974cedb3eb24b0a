"""Error answers: problem details for programs, and a short page for people."""

from __future__ import annotations

import json
from typing import Final

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import BadHost, SecurityError

from xgen_flask_sessions.standalone.extensions import sessions

_PROBLEM: Final = "application/problem+json"


def set_up(app: Flask) -> None:
    """Answer every error of the application, and give every answer its security headers."""
    sessions.answer_errors(app)
    app.after_request(_finish)


def _finish(response: Response) -> Response:
    is_error = response.mimetype == _PROBLEM and response.status_code >= 400
    has_urls = not isinstance(request.routing_exception, BadHost | SecurityError)
    if is_error and has_urls and sessions.wants_page():
        _make_page(response)
    is_file = (request.endpoint or "").rpartition(".")[2] == "static"
    return sessions.with_security_headers(response, cached=is_file and response.status_code < 400)


def _make_page(response: Response) -> None:
    """Replace the problem document by a page for people."""
    members = json.loads(response.get_data())
    page = render_template("xgen_standalone/error.html", status=members["status"])
    response.set_data(page)
    response.content_type = "text/html; charset=utf-8"
