"""Refusals: problem details for programs, a short page in the same look for people."""

from __future__ import annotations

import json
from typing import Final

import sqlalchemy as sa
from flask import Flask, Response, render_template
from werkzeug.exceptions import HTTPException

from xgen_flask_sessions.admin import CONTENT_SECURITY_POLICY
from xgen_flask_sessions.problems import database_problem, http_problem, sealed, wants_page

_PROBLEM: Final = "application/problem+json"


def set_up(app: Flask) -> None:
    """Answer every error of the application, and give every page its security headers."""
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(sa.exc.OperationalError, database_problem)
    app.register_error_handler(sa.exc.InterfaceError, database_problem)
    app.register_error_handler(sa.exc.TimeoutError, database_problem)
    app.after_request(_finish)


def _finish(response: Response) -> Response:
    if response.mimetype == _PROBLEM and response.status_code >= 400 and wants_page():
        _make_page(response)
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        sealed(response)
    return response


def _make_page(response: Response) -> None:
    """Say the same in words, for people."""
    members = json.loads(response.get_data())
    page = render_template("xgen_standalone/error.html", status=members["status"])
    response.set_data(page)
    response.content_type = "text/html; charset=utf-8"
