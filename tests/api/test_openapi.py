"""The OpenAPI document is data; these tests compare it with the application."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import XgenSessionsError, errors
from xgen_flask_sessions.api.views import DEFAULT_PER_PAGE, MAX_PER_PAGE
from xgen_flask_sessions.roster.address_ranges import MAX_ADDRESS
from xgen_flask_sessions.roster.listing import (
    COLUMNS,
    DEFAULT,
    FALLING,
    FILTERS,
    MAX_TEXT,
    OWN,
    parse_page,
)
from xgen_flask_sessions.store.tables import MAX_REASON
from xgen_flask_sessions.web.bulk_acts import MOST_USERS

URL = "/sessions/openapi.json"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
HTTP_ERRORS = {"400": {"http_error"}, "413": {"http_error"}}
"""The codes, by status, of errors that Flask raises and that have no class in ``errors``."""


def document_of(host: Host, url: str = URL) -> Any:
    answer = host.client().get(url)
    assert answer.status_code == 200
    return answer.get_json()


def resolved_document_of(host: Host) -> Any:
    """Return the document with each ``$ref`` replaced by its target."""
    document = document_of(host)

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" not in node:
            return {name: resolve(value) for name, value in node.items()}
        target = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return resolve(target)

    return resolve(document)


def operations(document: Any) -> dict[tuple[str, str], Any]:
    """Return the document's operations by method and path."""
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def problem_members(answer: Any) -> Any:
    """Return the schemas of the members that are specific to one problem document."""
    content = answer.get("content", {}).get("application/problem+json")
    return content["schema"]["allOf"][1]["properties"] if content else {}


def codes_of(answer: Any) -> set[str]:
    """Return every ``code`` that an answer may have."""
    return set(problem_members(answer).get("code", {}).get("enum", ()))


def leaves(kind: type[XgenSessionsError]) -> set[type[XgenSessionsError]]:
    """Return the error classes that are raised: those that define a code."""
    own = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    below = {leaf for child in own for leaf in leaves(child)}
    return below | ({kind} if "code" in vars(kind) and kind is not XgenSessionsError else set())


def codes_by_status() -> dict[str, set[str]]:
    """Return every code that the application can answer with, by status."""
    codes = defaultdict(set, HTTP_ERRORS)
    for error in leaves(XgenSessionsError):
        codes[str(error.status)] = codes[str(error.status)] | {error.code}
    return dict(codes)


def test_it_is_a_valid_document_of_openapi_3_1(sqlite_host: Host) -> None:
    document = document_of(sqlite_host)

    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


def test_it_has_every_route_and_no_other(sqlite_host: Host) -> None:
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix("/sessions"))): (
            rule.endpoint.removeprefix("xgen_sessions.")
        )
        for rule in sqlite_host.app.url_map.iter_rules()
        if rule.endpoint.startswith("xgen_sessions.") and rule.endpoint != "xgen_sessions.static"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    found = operations(document_of(sqlite_host))

    assert {key: operation["operationId"] for key, operation in found.items()} == routes


def test_every_operation_has_its_path_s_parameters_and_one_tag(sqlite_host: Host) -> None:
    document = resolved_document_of(sqlite_host)
    tags = [tag["name"] for tag in document["tags"]]

    for path, item in document["paths"].items():
        parameters = [(each["in"], each["name"]) for each in item.get("parameters", ())]
        assert parameters == [("path", name) for name in re.findall(r"{(\w+)}", path)]
    for operation in operations(document).values():
        (tag,) = operation["tags"]
        assert tag in tags


def test_every_component_is_used(sqlite_host: Host) -> None:
    document = document_of(sqlite_host)
    text = json.dumps(document)

    del document["components"]["securitySchemes"]  # named, not referenced
    for kind, components in document["components"].items():
        for name in components:
            assert f'{{"$ref": "#/components/{kind}/{name}"}}' in text


def test_each_status_has_the_codes_of_its_errors_and_no_other(sqlite_host: Host) -> None:
    codes: defaultdict[str, set[str]] = defaultdict(set)
    for operation in operations(resolved_document_of(sqlite_host)).values():
        for status, answer in operation["responses"].items():
            codes[status] |= codes_of(answer)

    assert {status: found for status, found in codes.items() if found} == codes_by_status()


def test_every_protected_operation_has_the_codes_of_its_refusals(sqlite_host: Host) -> None:
    codes = codes_by_status()

    for (method, path), operation in operations(resolved_document_of(sqlite_host)).items():
        if operation.get("security") == []:
            continue
        for status in ("400", "401", "503"):
            assert codes_of(operation["responses"][status]) == codes[status], (method, path)
        forbidden = {"cross_site"} if method != "GET" else set()
        is_for_administrators = path.startswith(("/users", "/force-logout"))
        forbidden |= {"forbidden"} if is_for_administrators else set()
        assert codes_of(operation["responses"].get("403", {})) == forbidden, (method, path)


def test_problems_have_the_status_and_the_title_of_their_response(sqlite_host: Host) -> None:
    document = resolved_document_of(sqlite_host)

    for operation in operations(document).values():
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                continue
            problem, _ = answer["content"]["application/problem+json"]["schema"]["allOf"]
            assert problem == document["components"]["schemas"]["Problem"]
            members = problem_members(answer)
            title = members["title"]
            assert members["status"] == {"const": int(status)}
            # Python 3.13 renamed the title of 413.
            assert HTTPStatus(int(status)).phrase in title.get("enum", [title.get("const")])


def test_responses_have_their_headers(sqlite_host: Host) -> None:
    more = {
        "302": {"Location"},
        "401": {"WWW-Authenticate"},
        "429": {"Retry-After"},
        "503": {"Retry-After"},
    }

    for key, operation in operations(resolved_document_of(sqlite_host)).items():
        if operation.get("security") == []:
            continue
        for status, answer in operation["responses"].items():
            headers = answer.get("headers", {})
            assert headers.keys() == {"Cache-Control"} | more.get(status, set()), (key, status)
            assert all(header["required"] for header in headers.values())


def test_parameters_have_the_values_and_limits_of_the_application(sqlite_host: Host) -> None:
    document = document_of(sqlite_host)
    parameters = {each["name"]: each for each in document["paths"]["/users"]["get"]["parameters"]}
    page, sort = parameters["page"]["schema"], parameters["sort"]["schema"]

    assert sort == {"enum": list(COLUMNS), "default": DEFAULT}
    assert f"only {OWN[0]}, {OWN[1]} and {OWN[2]} are" in parameters["sort"]["description"]
    assert f"desc for {' and '.join(FALLING)}," in parameters["order"]["description"]
    assert parameters["q"]["schema"]["maxLength"] == MAX_TEXT
    schemas = document["components"]["schemas"]
    assert schemas["ReasonText"]["maxLength"] == MAX_REASON
    several, _ = schemas["Several"]["oneOf"]
    assert several["properties"]["user_ids"]["maxItems"] == MOST_USERS
    for number, is_valid in (
        (page["minimum"] - 1, False),
        (page["minimum"], True),
        (page["maximum"], True),
        (page["maximum"] + 1, False),
    ):
        assert parse_page(str(number)) == (number if is_valid else None)


def test_pages_of_sessions_have_the_sizes_of_the_application(sqlite_host: Host) -> None:
    document = resolved_document_of(sqlite_host)

    for path in ("/", "/users/{user_id}"):
        parameters = document["paths"][path]["get"]["parameters"]
        schemas = {each["name"]: each["schema"] for each in parameters}
        assert schemas["per_page"] == {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_PER_PAGE,
            "default": DEFAULT_PER_PAGE,
        }
        assert schemas["page"]["default"] == 1


def test_parameters_are_those_that_the_api_reads(sqlite_host: Host) -> None:
    admin = sqlite_host.issue(sqlite_host.add_user("admin", is_superuser=True))
    parameters = document_of(sqlite_host)["paths"]["/users"]["get"]["parameters"]
    schemas = {each["name"]: each["schema"] for each in parameters}

    def status(**query: object) -> int:
        return (
            sqlite_host.client()
            .get("/sessions/users", query_string=query, headers=bearer(admin))
            .status_code
        )

    assert schemas.keys() == {"page", "sort", "order", *FILTERS}
    assert schemas["order"]["enum"] == [x for x in ("asc", "desc", "up") if status(order=x) == 200]
    assert all(status(superuser=value) == 200 for value in schemas["superuser"]["enum"])
    assert [status(address=address) for address in ("1" * MAX_ADDRESS, "::1")] == [400, 200]
    counts = [schemas["min_sessions"][name] for name in ("minimum", "maximum")]
    assert [status(min_sessions=count) for count in (counts[0] - 1, *counts, counts[1] + 1)] == [
        400, 200, 200, 400,
    ]  # fmt: skip
    for bad in ({"page": 0}, {"sort": "x"}, {"order": "x"}, {"q": "x" * (MAX_TEXT + 1)}):
        assert status(**bad) == 400


def test_schemas_have_the_members_that_the_api_answers(sqlite_host: Host) -> None:
    schemas = document_of(sqlite_host)["components"]["schemas"]
    user = sqlite_host.add_user("bob")
    token = sqlite_host.issue(user)
    admin = sqlite_host.issue(sqlite_host.add_user("admin", is_superuser=True))

    def call(method: str, path: str, by: Any = admin, **more: Any) -> Any:
        client, headers = sqlite_host.client(), bearer(by)
        return client.open(f"/sessions{path}", method=method, headers=headers, **more).get_json()

    force_logout = "/force-logout"
    several = call("POST", force_logout, json={"user_ids": [user, "x"]})
    own, users, others = call("GET", "/"), call("GET", "/users"), call("GET", f"/users/{user}")
    answers = {
        "SessionList": own,
        "Session": own["sessions"][0],
        "UserSessions": others,
        "UserPage": users,
        "Summary": users["summary"],
        "User": users["users"][0],
        "RenewedByHeader": call("POST", "/renew"),
        "RenewedByCookie": sqlite_host.cookie_client(admin).post("/sessions/renew").get_json(),
        "ForcedOut": call("POST", f"/users/{user}/force-logout"),
        "Problem": call("GET", "/", by=token),
        "SeveralForcedOut": several,
        "Refused": several["refused"][0],
        "EndedSessions": call("POST", f"/users/{user}/end-sessions", json={"keep_newest": True}),
        "Leaver": call("POST", f"/users/{user}/leaver"),
        "EveryoneForcedOut": call("POST", force_logout, json={"everyone": True}),
    }

    for name, answer in answers.items():
        later = {"account"} if name == "Problem" else set()  # of an act that stopped
        assert schemas[name]["properties"].keys() - later == answer.keys(), name
        optional = {"forced", "account_changed"} if name == "Problem" else set()
        assert set(schemas[name]["required"]) == answer.keys() - optional, name
        for member in answer:
            schema = schemas[name]["properties"][member]
            assert schema.keys() & {"type", "const", "enum", "$ref"}, (name, member)
            is_time = RFC_3339.fullmatch(str(answer[member])) is not None
            assert (schema.get("format") == "date-time") == is_time, (name, member)
    assert schemas.keys() - answers.keys() == {"Reason", "ReasonText", "Several", "OldSessions"}
    assert schemas["Reason"]["properties"].keys() == {"reason"}


def test_every_operation_but_the_document_requires_a_token(sqlite_host: Host) -> None:
    document = document_of(sqlite_host)

    assert document["security"] == [{"bearer": []}, {"cookie": []}]
    open_ones = [key for key, each in operations(document).items() if each.get("security") == []]
    assert open_ones == [("GET", "/openapi.json")]
    for key, operation in operations(document).items():
        assert key in open_ones or {"400", "401", "503"} <= operation["responses"].keys()


@pytest.mark.parametrize(("place", "scheme"), [("headers", "bearer"), ("cookies", "cookie")])
def test_it_names_the_configured_token_locations(
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
def test_its_addresses_follow_the_prefix_and_the_mount_point(
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


def test_it_may_be_cached_publicly_for_an_hour(sqlite_host: Host) -> None:
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
