"""Error answers: problem details for programs, and a short page for people."""

from __future__ import annotations

from flask import Flask, Response, request

from xgen_flask_sessions.standalone.extensions import sessions


def set_up(app: Flask) -> None:
    """Answer every error of the application, and give every answer its security headers."""
    app.after_request(_add_security_headers)  # runs last
    sessions.answer_errors(app, page="xgen_standalone/error.html", home="workspace.page")


def _add_security_headers(response: Response) -> Response:
    is_file = (request.endpoint or "").rpartition(".")[2] == "static"
    return sessions.with_security_headers(response, cached=is_file and response.status_code < 400)
