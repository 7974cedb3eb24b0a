"""The JSON API in OpenAPI 3.1: every path, and everything that may be answered.

The codes of refusals are read off the error classes, so that they cannot differ. A test holds the
paths and the schemas against the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from ..errors import (
    BadRequest,
    CrossSiteRequest,
    DatabaseUnavailable,
    DenylistUnavailable,
    Forbidden,
    LedgerUnavailable,
    NotFound,
    SessionRevoked,
    TokenAmbiguous,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    UserInactive,
)
from ..roster.listing import COLUMNS, DEFAULT, MAX_TEXT
from ..settings import Settings
from .schemas import Object, ref, schemas

UNAUTHENTICATED = [
    error.code for error in (TokenMissing, TokenInvalid, TokenExpired, SessionRevoked, UserInactive)
]
UNAVAILABLE = [
    error.code for error in (DenylistUnavailable, LedgerUnavailable, DatabaseUnavailable)
]
HTTP_ERROR = "http_error"
"""The code of what Flask itself refuses, such as a body that is too large."""
RATE_LIMITED = "rate_limited"

_STATUS_TEXTS = {
    302: "The sign-in page, for a browser that asks for a page.",
    400: "The request cannot be understood, or bears a token in the header and in the cookie.",
    401: "No token, or one that is not good any more (RFC 6750, section 3).",
    403: "Not allowed: for this caller, or for another site that uses the cookie.",
    404: "There is no such user or session.",
    413: "The body is too large.",
    429: "Too many force logouts in a short time.",
    503: "The database cannot be used; nothing was let through, and nothing done.",
}


def document(settings: Settings, *, server: str, version: str) -> Object:
    """Return the OpenAPI document.

    :param settings: Where tokens may be sent, and what the cookie is called.
    :param server: The path that the API is mounted at, with the script root.
    :param version: The release of this package.
    """
    schemes = _security_schemes(settings)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Sessions",
            "version": version,
            "description": (
                "A caller's own sessions; and for administrators, everybody's. Refusals are "
                "problem documents (RFC 9457) with a stable `code`. Times are RFC 3339 in UTC "
                "with microseconds. A method that a path does not have is answered with 405."
            ),
        },
        "servers": [{"url": server}],
        "security": [{name: []} for name in schemes],
        "tags": [
            {"name": "own", "description": "The caller's own sessions."},
            {"name": "users", "description": "Everybody's, for administrators."},
            {"name": "about", "description": "This document."},
        ],
        "paths": _own_paths() | _user_paths() | _about_paths(),
        "components": {
            "securitySchemes": schemes,
            "schemas": schemas(),
            "headers": _headers(),
            "parameters": {
                "session_id": _path_parameter("session_id", "A session's id, a token's `sid`."),
                "user_id": _path_parameter(
                    "user_id", "What Flask-Login calls the user; slashes may be in it, escaped."
                ),
            },
        },
    }


def _security_schemes(settings: Settings) -> Object:
    schemes: Object = {}
    if "headers" in settings.token_locations:
        schemes["bearer"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    if "cookies" in settings.token_locations:
        schemes["cookie"] = {"type": "apiKey", "in": "cookie", "name": settings.cookie_name}
    return schemes


def _own_paths() -> Object:
    return {
        "/": {
            "get": _operation(
                "own_sessions",
                "own",
                "The caller's active sessions, newest sign-in first.",
                {200: _json("SessionList"), 302: _redirect()},
            )
        },
        "/{session_id}": {
            "parameters": [{"$ref": "#/components/parameters/session_id"}],
            "delete": _operation(
                "end_own_session",
                "own",
                "End one of the caller's own sessions.",
                {204: _empty("It has ended."), 404: _problem(404, NotFound.code)},
                changes=True,
            ),
        },
        "/renew": {
            "post": _operation(
                "renew",
                "own",
                "A new token for this session; the old one keeps a minute.",
                {200: _json("RenewedByHeader", "RenewedByCookie")},
                changes=True,
            )
        },
        "/sign-out": {
            "post": _operation(
                "sign_out",
                "own",
                "End this session.",
                {204: _empty("It has ended.")},
                changes=True,
            )
        },
    }


def _user_paths() -> Object:
    user = {"$ref": "#/components/parameters/user_id"}
    page = {
        "name": "page",
        "in": "query",
        "description": "Counted from 1; past the end, the page is empty.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": 1},
    }
    sort = {
        "name": "sort",
        "in": "query",
        "description": (
            "What to order by. What is not recorded comes last. Where users lie in another "
            "database, only by what is not theirs."
        ),
        "schema": {"enum": list(COLUMNS), "default": DEFAULT},
    }
    order = {
        "name": "order",
        "in": "query",
        "description": "desc if left out for active_sessions and last_login, else asc.",
        "schema": {"enum": ["asc", "desc"]},
    }
    text = {
        "name": "q",
        "in": "query",
        "description": (
            "Part of a username or a name, in any case; everybody if empty. On SQLite, case is "
            "ignored for ASCII letters only."
        ),
        "schema": {"type": "string", "maxLength": MAX_TEXT},
    }
    force_logout = _operation(
        "force_logout",
        "users",
        "End all sessions of a user, now. The account stays as it is.",
        {
            200: _json("ForcedOut"),
            404: _problem(404, NotFound.code),
            413: _problem(413, HTTP_ERROR),
            429: _problem(429, RATE_LIMITED, headers=["Retry-After"]),
        },
        changes=True,
        administrators=True,
    )
    force_logout["requestBody"] = {
        "required": False,
        "content": {"application/json": {"schema": ref("Reason")}},
    }
    return {
        "/users": {
            "get": _operation(
                "users",
                "users",
                "Who is signed in: the cards and one page of the table.",
                {200: _json("UserPage")},
                administrators=True,
            )
            | {"parameters": [page, sort, order, text]}
        },
        "/users/{user_id}": {
            "parameters": [user],
            "get": _operation(
                "user_sessions",
                "users",
                "A user's active sessions, newest sign-in first.",
                {200: _json("UserSessions"), 404: _problem(404, NotFound.code)},
                administrators=True,
            ),
        },
        "/users/{user_id}/force-logout": {"parameters": [user], "post": force_logout},
    }


def _about_paths() -> Object:
    return {
        "/openapi.json": {
            "get": {
                "operationId": "openapi_document",
                "tags": ["about"],
                "summary": "This document; open to all.",
                "security": [],
                "responses": {
                    "200": {
                        "description": "OpenAPI 3.1",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                    "304": {"description": "It is as it was (RFC 9110, section 13.1.2)."},
                },
            }
        }
    }


def _operation(
    name: str,
    tag: str,
    summary: str,
    answers: dict[int, Object],
    *,
    changes: bool = False,
    administrators: bool = False,
) -> Object:
    """Return an operation with what every protected call may answer besides *answers*.

    :param changes: Whether another site could do harm with the cookie.
    :param administrators: Whether others are turned away.
    """
    forbidden = [CrossSiteRequest.code] * changes + [Forbidden.code] * administrators
    refusals = {
        400: _problem(400, BadRequest.code, TokenAmbiguous.code, HTTP_ERROR),
        401: _problem(401, *UNAUTHENTICATED, headers=["WWW-Authenticate"]),
        503: _problem(503, *UNAVAILABLE, headers=["Retry-After"]),
    }
    if forbidden:
        refusals[403] = _problem(403, *forbidden)
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "responses": {str(status): answer for status, answer in (answers | refusals).items()},
    }


def _problem(status: int, *codes: str, headers: Iterable[str] = ()) -> Object:
    """Return an answer with a problem document whose ``code`` is one of *codes*."""
    members = {
        "status": {"const": status},
        "title": {"const": HTTPStatus(status).phrase},
        "code": {"enum": list(codes)},
    }
    schema = {"allOf": [ref("Problem"), {"type": "object", "properties": members}]}
    answer = {
        "description": _STATUS_TEXTS[status],
        "content": {"application/problem+json": {"schema": schema}},
    }
    return _with_headers(answer, "Cache-Control", *headers)


def _json(*names: str) -> Object:
    schema = ref(names[0]) if len(names) == 1 else {"oneOf": [ref(name) for name in names]}
    answer = {"description": "Done.", "content": {"application/json": {"schema": schema}}}
    return _with_headers(answer, "Cache-Control")


def _empty(description: str) -> Object:
    return _with_headers({"description": description}, "Cache-Control")


def _redirect() -> Object:
    return _with_headers({"description": _STATUS_TEXTS[302]}, "Cache-Control", "Location")


def _with_headers(answer: Object, *names: str) -> Object:
    return answer | {
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    }  # fmt: skip


def _headers() -> Object:
    return {
        "Cache-Control": {"required": True, "schema": {"const": "no-store"}},
        "Location": {"required": True, "schema": {"type": "string", "format": "uri-reference"}},
        "Retry-After": {
            "description": "Seconds after which trying again makes sense.",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        },
        "WWW-Authenticate": {
            "description": "The challenge; without an error where no token was sent.",
            "required": True,
            "schema": {"type": "string", "pattern": '^Bearer realm="xgen"'},
        },
    }


def _path_parameter(name: str, description: str) -> Object:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
    }
