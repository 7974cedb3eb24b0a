"""Calls that schemathesis generates get documented answers only, for every caller.

They are made in process, over WSGI, and are the same at each run. Each call has a new token, so
that a call that ends its session does not affect the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from werkzeug.test import TestResponse

from tests.support.hosts import BROWSER, Host, NamedUser, bearer, make_app

pytestmark = pytest.mark.slow

load_all_checks()
Case = schemathesis.Case[Any]
CONFORMS: list[Any] = [
    CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
REJECTS: list[Any] = [CHECKS.get_one("negative_data_rejection")]

ADMIN, USER, GONE = "admin", "a/user 한 %2F", "gone"
OPERATIONS = {
    "own_sessions": "GET /",
    "end_own_session": "DELETE /{session_id}",
    "renew": "POST /renew",
    "sign_out": "POST /sign-out",
    "users": "GET /users",
    "user_sessions": "GET /users/{user_id}",
    "force_logout": "POST /users/{user_id}/force-logout",
    "end_session": "DELETE /users/{user_id}/sessions/{session_id}",
    "end_sessions": "POST /users/{user_id}/end-sessions",
    "leaver": "POST /users/{user_id}/leaver",
    "force_logout_several": "POST /force-logout",
}
FOR_ADMINISTRATORS = {
    "users",
    "user_sessions",
    "force_logout",
    "end_session",
    "end_sessions",
    "leaver",
    "force_logout_several",
}
CALLERS = ["admin by header", "admin by cookie", "user by header", "user by cookie", "anonymous"]


def strict(node: Any) -> Any:
    """Return the document with every undocumented member forbidden."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {name: strict(value) for name, value in node.items()}
    if "allOf" in node or ("required" in node and "properties" in node):
        closed["unevaluatedProperties"] = False
    return closed


class Api:
    """A host's API and the document that its answers are checked against."""

    def __init__(self, host: Host) -> None:
        self.host = host
        document = strict(host.client().get("/sessions/openapi.json").get_json())
        del document["components"]["schemas"]["Problem"]["unevaluatedProperties"]
        self.schema = schemathesis.openapi.from_dict(document)
        self.operations = {}
        for name, label in OPERATIONS.items():
            method, path = label.split()
            self.operations[name] = self.schema[path][method]

    def call(self, case: Case, caller: str) -> Any:
        """Send *case* as *caller*, and check the answer against the document."""
        headers, cookies = {"User-Agent": BROWSER}, {}
        role, _, place = caller.partition(" by ")
        if role != "anonymous":  # anonymous calls have a generated token, or none
            token = self.host.issue(ADMIN if role == "admin" else USER).token
            case.headers.pop("Authorization", None)
            case.cookies.pop("xgen_token", None)
            if place == "header":
                headers |= bearer(token)
            else:
                cookies["xgen_token"] = token
        answer = case.call(app=self.host.app, headers=headers, cookies=cookies)
        case.validate_response(answer, checks=CONFORMS)
        return answer

    def check(self, name: str, answer: TestResponse) -> None:
        """Check the answer to a hand-written call against the document."""
        ids = {"user_id": GONE, "session_id": "x"}
        case = self.operations[name].Case(path_parameters=ids)
        case.validate_response(answer, checks=CONFORMS)


@pytest.fixture(scope="module")
def make_api() -> Iterator[Callable[[str], Api]]:
    """Yield a function that makes an :class:`Api` on a database."""
    hosts: list[Host] = []

    def make(database_url: str) -> Api:
        host = make_app(
            database_url,
            model=NamedUser,
            extras=lambda app: {"deactivate": lambda user: None},  # the callers stay active
            XGEN_SESSIONS_FORCE_LOGOUT_LIMIT=None,
        )
        hosts.append(host)
        host.add_user(ADMIN, id=ADMIN, is_superuser=True, display_name="Admin")
        for user in (USER, GONE):
            host.add_user(user, id=user)
            host.issue(user)
        host.delete_user(GONE)
        return Api(host)

    yield make
    for host in hosts:
        host.dispose()


@pytest.fixture(scope="module")
def api(make_api: Callable[[str], Api], tmp_path_factory: pytest.TempPathFactory) -> Api:
    return make_api(f"sqlite:///{tmp_path_factory.mktemp('api') / 'test.db'}")


def cases_of(api: Api, name: str, mode: GenerationMode) -> st.SearchStrategy[Case]:
    """Return generated calls of one operation, with generated and with known user ids."""
    operation = api.operations[name]
    generated = operation.as_strategy(generation_mode=mode)
    if "{user_id}" not in OPERATIONS[name]:
        return generated
    known = [
        operation.as_strategy(generation_mode=mode, path_parameters={"user_id": user})
        for user in (ADMIN, USER, GONE)
    ]
    return st.one_of(generated, *known)


def attack(api: Api, name: str, caller: str, mode: GenerationMode, examples: int) -> set[int]:
    """Make up to *examples* generated calls, and return the statuses of the answers."""
    statuses = set()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases_of(api, name, mode))
    def calls(case: Case) -> None:
        answer = api.call(case, caller)
        if mode is GenerationMode.NEGATIVE and caller == "admin by header":
            case.validate_response(answer, checks=REJECTS)
        statuses.add(answer.status_code)

    calls()
    return statuses


def probe(api: Api, name: str, caller: str) -> set[int]:
    """Make calls at the documented limits and just beyond; return the statuses of the answers."""
    operation = api.operations[name]
    cases = api.schema.iter_coverage_cases(
        operation,
        generation_modes=list(GenerationMode),
        generation_config=api.schema.config.generation_for(operation=operation),
    )
    # Flask answers OPTIONS itself. Only the first probe of a path includes it.
    return {api.call(case, caller).status_code for case in cases if case.method != "OPTIONS"}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("caller", CALLERS)
def test_generated_calls_get_documented_answers(api: Api, name: str, caller: str) -> None:
    examples = {"admin by header": 8, "user by header": 6}.get(caller, 4)  # others repeat them
    statuses = set.union(*(attack(api, name, caller, mode, examples) for mode in GenerationMode))
    statuses |= probe(api, name, caller) - {405}  # some calls use another method

    if caller == "anonymous":
        assert statuses in ({401}, {400, 401})  # 400: generated tokens in two places
    elif name in FOR_ADMINISTRATORS and caller.startswith("user"):
        assert statuses == {403}
    else:
        assert statuses <= {200, 204, 400, 404}
        assert statuses & {200, 204, 404}


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_generated_calls_get_documented_answers_on_the_other_databases(
    make_api: Callable[[str], Api], request: pytest.FixtureRequest, database: str
) -> None:
    api = make_api(request.getfixturevalue(f"{database}_url"))

    for name in OPERATIONS:
        for mode in GenerationMode:
            assert attack(api, name, "admin by header", mode, 4) <= {200, 204, 400, 404}


def refusals(host: Host) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each refusal: its code, an operation, and a request that provokes it."""
    path = f"/sessions/users/{GONE}/force-logout"
    admin = bearer(host.issue(ADMIN))
    cookie = {"Cookie": f"xgen_token={host.issue(ADMIN).token}"}
    with freeze_time(timedelta(seconds=-100)):
        expired = bearer(host.issue(USER, lifetime=1))
    ended, forced, inactive = host.issue(USER), host.issue("out"), host.issue("idle")
    host.end_session(ended.session_id)
    host.force_logout("out")
    host.change_user("idle", is_active=False)
    yield "token_missing", "own_sessions", {}
    yield "token_invalid", "own_sessions", {"headers": bearer("x.y.z")}
    yield "token_expired", "own_sessions", {"headers": expired}
    yield "session_revoked", "own_sessions", {"headers": bearer(ended)}
    yield "session_revoked", "own_sessions", {"headers": bearer(forced)}
    yield "user_inactive", "renew", {"headers": bearer(inactive)}
    yield "token_ambiguous", "own_sessions", {"headers": admin | cookie}
    yield "bad_request", "force_logout", {"path": path, "headers": admin, "data": "{"}
    yield "http_error", "force_logout", {"path": path, "headers": admin, "data": "x" * 20_000}
    cross = {"Sec-Fetch-Site": "cross-site"}
    for name in ("renew", "sign_out"):
        yield "cross_site", name, {"headers": cookie | cross}
    yield "cross_site", "force_logout", {"path": path, "headers": cookie | cross}
    several = {"path": "/sessions/force-logout", "headers": admin}
    yield "bad_request", "force_logout_several", several | {"data": "{}"}
    yield "http_error", "force_logout_several", several | {"data": "x" * 3_000_000}
    yield "not_found", "end_own_session", {"path": "/sessions/x", "headers": admin}


def test_refusals_that_generated_calls_do_not_reach_are_documented(api: Api) -> None:
    host = api.host
    for user in ("out", "idle"):
        host.add_user(user, id=user)

    client = host.app.test_client(use_cookies=False)  # a cookie jar would replace the header

    for code, name, request in refusals(host):
        method, path = OPERATIONS[name].split()
        answer = client.open(**{"path": f"/sessions{path}", "method": method} | request)
        assert answer.get_json().get("code") == code, answer.text
        api.check(name, answer)


def test_the_redirect_to_the_sign_in_page_is_documented(api: Api) -> None:
    answer = api.host.client().get("/sessions/", headers={"Sec-Fetch-Mode": "navigate"})

    assert answer.status_code == 302
    api.check("own_sessions", answer)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_outage_is_documented(
    make_api: Callable[[str], Api], sqlite_url: str, name: str
) -> None:
    api = make_api(sqlite_url)
    token = api.host.issue(ADMIN)
    with api.host.app.app_context():
        api.host.db.drop_all()
    method, path = OPERATIONS[name].split()

    answer = api.host.client().open(f"/sessions{path}", method=method, headers=bearer(token))

    assert answer.status_code == 503
    api.check(name, answer)
