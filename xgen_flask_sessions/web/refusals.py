"""Turns the package's errors into HTTP errors before the application's handlers see them.

A check raises its refusal: a returned one would meet the decorators above the check, such as a
serializer or a cache. Generic error handlers, and extensions such as Flask-RESTful, answer every
error with 500 that is no ``HTTPException``, so each error becomes one, with its answer in it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from flask import Flask, Response, after_this_request, current_app, request
from werkzeug.exceptions import HTTPException, default_exceptions

from ..errors import XgenSessionsError
from .failures import note_failure
from .problems import challenge_of, refuse

_CONVERTS: Final = "_xgen_sessions_converts"


class Answer(HTTPException):
    """An answer that is raised instead of returned, such as a redirect to the sign-in page."""

    def __init__(self, response: Response) -> None:
        super().__init__(response=response)


def watch(app: Flask) -> None:
    """Answer the package's errors in *app*, unless it has its own handlers for them."""
    app.register_error_handler(XgenSessionsError, answer_refusal)
    # With TRAP_HTTP_EXCEPTIONS, Flask asks for a handler even of an error with a response.
    app.register_error_handler(Answer, lambda error: error.get_response())
    convert_errors(app)


def convert_errors(app: Flask) -> None:
    """Convert the errors of *app*; call it again after extensions replaced its error handling."""
    handle = app.handle_user_exception
    if getattr(handle, _CONVERTS, False):
        return

    def convert(error: Exception) -> Any:
        if isinstance(error, HTTPException) or not isinstance(error, XgenSessionsError):
            return handle(error)
        note_failure(error)
        _keep_challenge(error)
        own = _handler_of(error)
        if own is not None:
            return current_app.ensure_sync(own)(error)
        response = refuse(error)
        if response.status_code != error.status:
            return response  # a redirect, which a handler would answer as an error
        return handle(_to_http(error, response))

    def handle_converted(error: Exception) -> Any:
        try:
            return convert(error)
        except (Answer, XgenSessionsError) as raised:
            if raised is error:
                raise
            # By a handler of the application, such as one that calls LoginManager.unauthorized().
            return convert(raised)

    setattr(handle_converted, _CONVERTS, True)
    vars(app)["handle_user_exception"] = handle_converted


def answer_refusal(error: XgenSessionsError) -> Response:
    """Answer the current request with *error*, unless the application has its own handler."""
    response = getattr(error, "response", None)
    return response if isinstance(response, Response) else refuse(error)


def _handler_of(error: XgenSessionsError) -> Any | None:
    """Return the application's own handler of the error's class, if there is one."""
    for name in (*request.blueprints, None):
        handlers = current_app.error_handler_spec.get(name, {}).get(None, {})
        for kind in type(error).__mro__:
            if issubclass(kind, XgenSessionsError) and kind in handlers:
                handler = handlers[kind]
                return None if handler is answer_refusal else handler
    return None


def _to_http(error: XgenSessionsError, response: Response) -> Any:
    """Return *error* as an ``HTTPException`` of its status, which is also one of its own class."""
    of: Any = type(error)
    kind = _http_class(of, error.status)
    converted = kind.__new__(kind)
    converted.args = error.args
    vars(converted).update(vars(error), description=error.detail, response=response)
    # Flask-RESTX answers with a body of its own; it takes the members from here.
    vars(converted)["data"] = {"message": error.detail, **json.loads(response.get_data())}
    return converted.with_traceback(error.__traceback__)


def _keep_challenge(error: XgenSessionsError) -> None:
    """Add the challenge of a 401 (RFC 9110, section 15.5.2) if a handler leaves it out."""
    challenge = challenge_of(error)

    def add(response: Response) -> Response:
        if response.status_code == 401 and "WWW-Authenticate" not in response.headers:
            response.headers["WWW-Authenticate"] = challenge
        return response

    if challenge is not None:
        after_this_request(add)


@lru_cache(maxsize=64)
def _http_class(kind: Any, status: int) -> type[Exception]:
    base = default_exceptions.get(status, HTTPException)
    return type(kind.__name__, (kind, base), {"code": status, "__doc__": kind.__doc__})
