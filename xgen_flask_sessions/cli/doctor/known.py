"""The knowledge of a request without a session, and the values that it leads to."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import flask
import flask_login
import werkzeug.utils
from flask_login import LoginManager

from xgen_flask_sessions import lifecycle
from xgen_flask_sessions.web import request_token


class Mark:
    """A value that stands for something of which no more is known."""

    def __init__(self, name: str) -> None:
        self.name = name


UNKNOWN: Final = Mark("unknown")
REQUEST: Final = Mark("flask.request")
HEADERS: Final = Mark("flask.request.headers")
G: Final = Mark("flask.g")
TOKEN: Final = Mark("current_token, without a token")
INNER: Final = Mark("the decorated function")
CHECKED: Final = Mark("a function under login_required or token_required")
ANSWER: Final = Mark("a response")
REDIRECT: Final = Mark("a redirect")

CHECKS: Final = (
    flask_login.login_required,
    flask_login.fresh_login_required,
    request_token.token_required,
)
"""Decorators that know revoked sessions."""
VERIFYING: Final = (lifecycle.verify, request_token.recheck_token)
"""Calls that refuse a caller without a valid token."""
ANSWERS: Final[Mapping[Any, Mark]] = {
    flask.redirect: REDIRECT,
    werkzeug.utils.redirect: REDIRECT,
    flask.jsonify: ANSWER,
    flask.make_response: ANSWER,
    flask.render_template: ANSWER,
    flask.render_template_string: ANSWER,
    flask.Response: ANSWER,
    LoginManager.unauthorized: REDIRECT,
    LoginManager.needs_refresh: REDIRECT,
}
SECRET_HEADER: Final = re.compile(r"auth|token|key|secret|signature|session|cookie", re.IGNORECASE)
"""Names of headers that a caller without credentials does not send."""
PURE: Final = (str, bytes, int, float, bool, type(None), tuple, list, set, frozenset, dict)
"""Types whose methods can be called: they have no side effects on anything else."""
OPERATORS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A request without a session, as far as it is known before it is sent."""

    app: flask.Flask
    user: Any
    """The anonymous user of Flask-Login."""
    endpoint: str
    method: str
    path: str | None
    """The path; ``None`` if the route has variables."""
    token: Any = TOKEN
    g: dict[str, Any] = field(default_factory=dict)
    """The attributes of ``flask.g`` that the application's own functions set."""

    def signed_in(self) -> Caller:
        """Return the same request of a user of whom no more is known."""
        user = flask_login.UserMixin()
        return replace(self, user=user, token=ANSWER, g=dict.fromkeys(self.g, user))

    def request_attribute(self, name: str) -> Any:
        """Return an attribute of the request, as far as it is known."""
        blueprint = self.endpoint.rpartition(".")[0] or None
        facts: dict[str, Any] = {
            "endpoint": self.endpoint,
            "method": self.method,
            "blueprint": blueprint,
            "path": UNKNOWN if self.path is None else self.path,
            "headers": HEADERS,
            "authorization": None,
            "cookies": {},
        }
        return facts.get(name, UNKNOWN)


class TooMuch(Exception):
    """The function has more paths, or other statements, than are followed."""


class Raised(Exception):
    """A path ends with an exception, such as the one of ``abort()``."""

    def __init__(self, kind: type[BaseException] | None) -> None:
        self.kind = kind


def is_one_of(value: Any, many: Iterable[Any]) -> bool:
    """Return whether *value* is one of some objects; the host's may compare as they like."""
    return any(value is each for each in many)


def is_known(value: Any) -> bool:
    """Return whether *value* is a plain value without a part that is not known."""
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(is_known, value))
    if isinstance(value, dict):
        return all(is_known(key) and is_known(each) for key, each in value.items())
    return isinstance(value, PURE)
