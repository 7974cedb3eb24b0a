"""Refusals are raised: no decorator above a check meets one, and the application answers it."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import flask_restful.fields
import flask_restx
import pytest
from flask import Blueprint, Flask, Response, jsonify, make_response
from flask.json.provider import DefaultJSONProvider
from flask.views import MethodView
from flask_caching import Cache
from flask_login import login_required
from werkzeug.exceptions import HTTPException

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import (
    Forbidden,
    SessionRevoked,
    TokenExpired,
    TokenMissing,
    UserInactive,
    XgenSessionsError,
    token_required,
)

JSON = {"Accept": "application/json"}
PAGE = {"Accept": "text/html"}
CHECKS = [token_required, login_required]


def view() -> str:
    return "in"


def revoked(host: Host) -> dict[str, str]:
    """Return the header of a token that was revoked."""
    user = host.add_user()
    token = host.issue(user)
    host.force_logout(user)
    return bearer(token)


def accepted(host: Host) -> dict[str, str]:
    return bearer(host.issue(host.add_user()))


@pytest.fixture(params=[True, False], ids=["testing", "production"])
def made(request: pytest.FixtureRequest, make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host with ``TESTING`` on and off: it propagates errors only if it is on."""
    return make_host(sqlite_url, TESTING=request.param)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("library", [flask_restful, flask_restx])
def test_a_serializer_above_a_check_does_not_meet_the_refusal(
    made: Host, library: Any, check: Callable[[Any], Any]
) -> None:
    class Order(library.Resource):  # type: ignore[misc]
        @library.marshal_with({"id": library.fields.Integer})  # type: ignore[untyped-decorator]
        @check
        def get(self) -> Any:
            return {"id": 7}

    library.Api(made.app).add_resource(Order, "/orders")
    client = made.client()

    for headers in ({}, JSON, {"Accept": "*/*"}, revoked(made), bearer("nonsense")):
        answer = client.get("/orders", headers=headers)
        assert answer.status_code in (401, 302), answer.text
        assert answer.headers["Cache-Control"] == "no-store" or answer.status_code == 302
        if answer.status_code == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert answer.get_json()["code"].startswith(("token_", "session_"))
    user = made.add_user("bob")
    assert client.get("/orders", headers=bearer(made.issue(user))).get_json() == {"id": 7}


@pytest.mark.parametrize("library", [flask_restful, flask_restx])
@pytest.mark.parametrize("error", [TokenExpired, Forbidden, UserInactive])
def test_an_error_raised_in_a_resource_keeps_its_status(
    made: Host, library: Any, error: type[XgenSessionsError]
) -> None:
    class Raises(library.Resource):  # type: ignore[misc]
        def get(self) -> Any:
            raise error

    library.Api(made.app).add_resource(Raises, "/raises")

    answer = made.client().get("/raises", headers=JSON)

    assert answer.status_code == error.status
    assert answer.get_json()["code"] == error.code


def test_a_handler_of_flask_restx_sees_the_error(made: Host) -> None:
    api = flask_restx.Api(made.app)

    @api.errorhandler(SessionRevoked)  # type: ignore[untyped-decorator]
    def ended(error: SessionRevoked) -> tuple[dict[str, Any], int]:
        return {"forced": error.forced}, 401

    @api.route("/orders")
    class Order(flask_restx.Resource):  # type: ignore[misc]
        method_decorators = [token_required]

        def get(self) -> Any:
            return {}

    answer = made.client().get("/orders", headers=revoked(made))

    assert (answer.status_code, answer.get_json()["forced"]) == (401, True)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("check", CHECKS)
def test_a_cache_above_a_check_does_not_keep_the_refusal(
    made: Host, check: Callable[[Any], Any]
) -> None:
    cache = Cache(made.app, config={"CACHE_TYPE": "SimpleCache"})

    @made.app.get("/cached")
    @cache.cached(timeout=60, response_filter=lambda _: True)
    @check
    def cached() -> str:
        return "in"

    client = made.client()

    assert client.get("/cached", headers=JSON).status_code == 401
    assert client.get("/cached", headers=accepted(made)).get_data() == b"in"


def test_the_refusals_of_a_class_based_view_are_raised(made: Host) -> None:
    met: list[Any] = []

    def recording(checked: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(**kwargs: Any) -> Any:
            met.append(checked(**kwargs))
            return met[-1]

        return wrapped

    class Orders(MethodView):
        decorators = [token_required, recording]

        async def get(self) -> str:
            return "in"

    class Guarded(MethodView):
        decorators = [recording]

        @token_required
        async def get(self) -> str:
            return "in"

    for kind in (Orders, Guarded):
        path = f"/{kind.__name__}"
        made.app.add_url_rule(path, view_func=kind.as_view(path[1:]))

    assert made.client().get("/Orders").status_code == 401
    assert made.client().get("/Guarded").status_code == 401
    assert met == []
    headers = accepted(made)
    assert made.client().get("/Guarded", headers=headers).get_data() == b"in"
    assert met == ["in"]


# --- The application's own handlers ----------------------------------------------------------


def test_the_handler_of_the_error_s_class_answers(made: Host) -> None:
    @made.app.errorhandler(XgenSessionsError)
    def own(error: XgenSessionsError) -> Any:
        return jsonify(own=error.code), error.status

    @made.app.errorhandler(TokenMissing)
    async def missing(error: TokenMissing) -> Any:
        return jsonify(missing=error.code), error.status

    @made.app.errorhandler(401)
    @made.app.errorhandler(Exception)
    def never(error: Exception) -> Any:
        raise AssertionError

    client = made.client()

    assert client.get("/api/token", headers=JSON).get_json() == {"missing": "token_missing"}
    answer = client.get("/api/token", headers=revoked(made) | PAGE)
    assert answer.get_json() == {"own": "session_revoked"}
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_the_handler_of_the_status_answers_calls_and_not_page_navigations(made: Host) -> None:
    @made.app.errorhandler(401)
    def own(error: HTTPException) -> Any:
        return jsonify(own=error.description), 401

    client = made.client()

    answer = client.get("/api/token", headers=revoked(made))
    assert answer.get_json() == {"own": "An administrator ended the session."}
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    page = client.get("/api/token", headers=PAGE)
    assert (page.status_code, page.location) == (302, "/sign-in?next=%2Fapi%2Ftoken")


@pytest.mark.parametrize("place", ["application", "blueprint"])
@pytest.mark.parametrize("kind", [Exception, HTTPException])
def test_a_generic_handler_does_not_turn_a_refusal_into_500(
    made: Host, place: str, kind: type[Exception]
) -> None:
    blueprint = Blueprint("inner", __name__)
    blueprint.add_url_rule("/inner", "view", token_required(view))
    where: Any = made.app if place == "application" else blueprint

    @where.errorhandler(kind)  # type: ignore[untyped-decorator]
    def generic(error: Exception) -> Any:
        if isinstance(error, HTTPException):
            return error
        return "The host's own page", 500

    made.app.register_blueprint(blueprint)

    answer = made.client().get("/inner", headers=revoked(made))
    assert answer.status_code == 401
    assert answer.get_json()["code"] == "session_revoked"
    assert made.client().get("/inner", headers=PAGE).status_code == 302


@pytest.mark.parametrize("kind", [Exception, HTTPException])
def test_a_generic_handler_answers_calls_and_not_redirects(
    made: Host, kind: type[Exception]
) -> None:
    blueprint = Blueprint("inner", __name__)
    blueprint.add_url_rule("/inner", "view", token_required(view))

    @blueprint.errorhandler(kind)
    def generic(error: Any) -> Any:
        return jsonify(own=error.name), error.code

    made.app.register_blueprint(blueprint)
    browser = made.cookie_client(revoked(made)["Authorization"].removeprefix("Bearer "))

    call = browser.get("/inner")
    assert (call.status_code, call.get_json()) == (401, {"own": "Unauthorized"})
    page = browser.get("/inner", headers=PAGE)
    assert (page.status_code, page.location) == (302, "/sign-in?next=%2Finner")


def test_the_application_s_own_reading_of_json_does_not_matter(made: Host) -> None:
    class Objects(DefaultJSONProvider):
        def loads(self, s: str | bytes, **kwargs: Any) -> Any:
            return json.loads(s, object_hook=lambda members: SimpleNamespace(**members))

    made.app.json = Objects(made.app)

    answer = made.client().get("/api/token")

    assert (answer.status_code, json.loads(answer.data)["code"]) == (401, "token_missing")


def test_a_handler_of_the_blueprint_comes_first(made: Host) -> None:
    blueprint = Blueprint("inner", __name__)
    blueprint.add_url_rule("/inner", "view", token_required(view))
    blueprint.register_error_handler(XgenSessionsError, lambda error: (error.code, 418))
    made.app.register_blueprint(blueprint)

    answer = made.client().get("/inner")

    assert (answer.status_code, answer.text) == (418, "token_missing")
    assert made.client().get("/api/token").status_code == 401
    assert made.client().get("/sessions/").status_code == 401


@pytest.mark.parametrize(
    "config",
    [
        {"TRAP_HTTP_EXCEPTIONS": True},
        {"PROPAGATE_EXCEPTIONS": True},
        {"DEBUG": True},
        {"TRAP_BAD_REQUEST_ERRORS": True},
    ],
)
def test_settings_for_debugging_do_not_change_a_refusal(
    make_host: MakeHost, sqlite_url: str, config: dict[str, Any]
) -> None:
    host = make_host(sqlite_url, **config)
    token = host.issue(host.add_user())
    browser = host.cookie_client(token)

    assert host.client().get("/api/token").get_json()["code"] == "token_missing"
    assert host.client().get("/api/token", headers=PAGE).status_code == 302
    assert browser.get("/api/token", headers=bearer(token)).status_code == 400


def test_a_refusal_can_be_caught_above_the_check(made: Host) -> None:
    def own_answer(checked: Callable[[], Any]) -> Callable[[], Any]:
        def wrapped() -> Any:
            try:
                return checked()
            except TokenMissing as error:
                return make_response({"own": error.code}, error.status)

        return wrapped

    made.app.add_url_rule("/own", "own", own_answer(token_required(view)))

    assert made.client().get("/own").get_json() == {"own": "token_missing"}


def test_an_error_of_the_host_s_own_is_answered_too(made: Host) -> None:
    class Teapot(XgenSessionsError, ValueError):
        status = 418
        code = "teapot"

        def __init__(self, *, size: int) -> None:
            super().__init__("Short and stout.")
            self.size = size

    @made.app.get("/teapot")
    def teapot() -> Response:
        raise Teapot(size=1)

    answer = made.client().get("/teapot")

    assert (answer.status_code, answer.get_json()["code"]) == (418, "teapot")


# --- CORS preflights -------------------------------------------------------------------------


def test_a_preflight_needs_no_token(made: Host) -> None:
    def add_options(app: Flask) -> None:
        @app.route("/cross", methods=["GET", "OPTIONS"])
        @token_required
        def cross() -> Response:
            return Response(headers={"Access-Control-Allow-Origin": "https://app.example.com"})

    add_options(made.app)
    preflight = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }

    answer = made.client().options("/cross", headers=preflight)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    for method in ("GET", "HEAD"):
        assert made.client().open("/cross", method=method, headers=preflight).status_code == 401
