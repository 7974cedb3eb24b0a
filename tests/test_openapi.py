"""The OpenAPI document: it says of every call what is there, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.conftest import MakeHost
from tests.hosts import Host, bearer
from xgen_flask_sessions import XgenSessionsError

URL = "/sessions/openapi.json"
HTTP_CODES = {"http_error", "rate_limited"}
"""What answers with a code of its own and is no class in ``errors``, or not only there."""


def document_of(host: Host, url: str = URL) -> Any:
    answer = host.client().get(url)
    assert answer.status_code == 200
    return answer.get_json()


def operations(document: Any) -> dict[tuple[str, str], Any]:
    """Return the document's operations by method and path."""
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def codes_in(document: Any) -> set[str]:
    """Return every ``code`` that an answer may have."""
    return {
        code
        for operation in operations(document).values()
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
        for part in content["schema"].get("allOf", ())
        for code in part.get("properties", {}).get("code", {}).get("enum", ())
    }


def leaves(kind: type[XgenSessionsError]) -> set[type[XgenSessionsError]]:
    """Return the errors that are raised: those that say what their code is."""
    below = {leaf for child in kind.__subclasses__() for leaf in leaves(child)}
    return below | ({kind} if "code" in vars(kind) and kind is not XgenSessionsError else set())


def test_it_is_a_valid_document_of_openapi_3_1(sqlite_host: Host) -> None:
    document = document_of(sqlite_host)

    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


def test_it_has_every_route_and_no_other(sqlite_host: Host) -> None:
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix("/sessions")))
        for rule in sqlite_host.app.url_map.iter_rules()
        if rule.endpoint.startswith("xgen_sessions.") and rule.endpoint != "xgen_sessions.static"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert set(operations(document_of(sqlite_host))) == routes


def test_it_has_every_code_and_no_other(sqlite_host: Host) -> None:
    codes = {error.code for error in leaves(XgenSessionsError)}

    assert codes_in(document_of(sqlite_host)) == codes | HTTP_CODES


def test_every_operation_is_closed_but_this_one(sqlite_host: Host) -> None:
    document = document_of(sqlite_host)

    assert document["security"] == [{"bearer": []}, {"cookie": []}]
    open_ones = [key for key, each in operations(document).items() if each.get("security") == []]
    assert open_ones == [("GET", "/openapi.json")]
    for key, operation in operations(document).items():
        assert key in open_ones or {"400", "401", "503"} <= operation["responses"].keys()


@pytest.mark.parametrize(("place", "scheme"), [("headers", "bearer"), ("cookies", "cookie")])
def test_it_says_where_tokens_may_be(
    make_host: MakeHost, sqlite_url: str, place: str, scheme: str
) -> None:
    host = make_host(
        sqlite_url, XGEN_SESSIONS_TOKEN_LOCATIONS=[place], XGEN_SESSIONS_COOKIE_NAME="door"
    )

    document = document_of(host)

    assert document["security"] == [{scheme: []}]
    assert list(document["components"]["securitySchemes"]) == [scheme]
    if place == "cookies":
        assert document["components"]["securitySchemes"][scheme]["name"] == "door"


@pytest.mark.parametrize("prefix", ["/sessions", "/api/v1/logins"])
@pytest.mark.parametrize("root", ["", "/xgen", "/a/b"])
def test_its_addresses_are_right_wherever_it_is(
    make_host: MakeHost, sqlite_url: str, prefix: str, root: str
) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_URL_PREFIX=prefix)
    token = host.issue(host.add_user("admin", is_superuser=True))
    client = Client(DispatcherMiddleware(Flask("nothing"), {root: host.app}) if root else host.app)

    document = client.get(f"{root}{prefix}/openapi.json").get_json()

    (server,) = document["servers"]
    for method, path in operations(document):
        url = server["url"] + path.format(user_id="1", session_id=token.session_id)
        assert client.open(url, method=method).status_code in (200, 401), url
    for path in ("/", "/users", "/users/1"):
        assert client.get(server["url"] + path, headers=bearer(token)).status_code == 200


def test_anybody_may_keep_it_for_a_while(sqlite_host: Host) -> None:
    client = sqlite_host.client()

    answer = client.get(URL, headers={"Cookie": "xgen_token=x", "Authorization": "Bearer y"})

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    again = client.get(URL, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_it_needs_no_database(sqlite_host: Host) -> None:
    with sqlite_host.app.app_context():
        sqlite_host.db.drop_all()

    assert sqlite_host.client().get(URL).status_code == 200
