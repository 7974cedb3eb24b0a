"""A host with routes of its own at the paths of the JSON API."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView
from flask_admin import Admin

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import ConfigurationError

Add = Callable[[Flask], object]


def route(path: str, *methods: str, **options: Any) -> Add:
    def add(app: Flask) -> None:
        app.add_url_rule(
            path, "ours", lambda **_: "ours", methods=methods or ("GET",), **options
        )  # fmt: skip

    add.__name__ = f"{path} {methods}"
    return add


def blueprint(app: Flask) -> None:
    sessions = Blueprint("sessions", __name__, url_prefix="/sessions")
    sessions.add_url_rule("/", "index", lambda: "ours")
    app.register_blueprint(sessions)


def class_based(app: Flask) -> None:
    class Sessions(MethodView):
        def delete(self, name: str) -> str:
            return name

    app.add_url_rule("/sessions/<name>", view_func=Sessions.as_view("own"))


def flask_admin(app: Flask) -> None:
    Admin(app, url="/sessions")


TAKEN: list[Add] = [
    route("/sessions/"),
    route("/sessions"),
    route("/sessions/users"),
    route("/sessions/users/<int:user_id>"),
    route("/sessions/<path:page>"),
    route("/sessions/<id>", "GET", "DELETE"),
    route("/sessions/<int:id>", "DELETE"),
    route("/sessions/renew", "POST"),
    route("/sessions/static/<path:filename>"),
    route("/sessions/users/<name>/<act>", "POST"),
    route("/sessions/", host="ignored.example"),
    route("/sessions/user<letter>"),
    blueprint,
    class_based,
    flask_admin,
]
BESIDE: list[Add] = [
    route("/sessions/<int:number>"),
    route("/sessions/report"),
    route("/sessions/", "POST"),
    route("/sessions/2024/users"),
]
ELSEWHERE: list[Add] = [
    route("/session"),
    route("/sessions-report/"),
    route("/<path:page>"),
    route("/<name>/"),
    route("/sessions/", subdomain="other"),
]


def name(add: Add) -> str:
    return add.__name__


def with_routes(make_host: MakeHost, url: str, add: Add, **config: Any) -> Host:
    return make_host(url, extras=lambda app: add(app) or {}, **config)


@pytest.mark.parametrize("add", TAKEN, ids=name)
def test_a_route_of_the_apis_stops_the_start(
    make_host: MakeHost, sqlite_url: str, add: Add
) -> None:
    with pytest.raises(ConfigurationError, match="set XGEN_SESSIONS_URL_PREFIX to another"):
        with_routes(make_host, sqlite_url, add)


@pytest.mark.parametrize("add", TAKEN, ids=name)
def test_a_route_that_is_added_later_is_found_by_the_first_request(
    make_host: MakeHost, sqlite_url: str, add: Add
) -> None:
    host = make_host(sqlite_url)
    add(host.app)

    with pytest.raises(ConfigurationError, match="set XGEN_SESSIONS_URL_PREFIX to another"):
        host.client().get("/open")


@pytest.mark.parametrize("add", TAKEN, ids=name)
def test_another_prefix_mends_it(make_host: MakeHost, sqlite_url: str, add: Add) -> None:
    host = with_routes(make_host, sqlite_url, add, XGEN_SESSIONS_URL_PREFIX="/sign-ins")
    token = host.issue(host.add_user())

    assert host.status(token, "/sign-ins/") == 200


@pytest.mark.parametrize("add", [*BESIDE, *ELSEWHERE], ids=name)
def test_routes_beside_the_api_work_and_are_logged_if_they_are_under_its_path(
    make_host: MakeHost, sqlite_url: str, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    host = with_routes(make_host, sqlite_url, add)
    token = host.issue(host.add_user())

    with caplog.at_level(logging.WARNING):
        answers = [host.client().get("/sessions/", headers=bearer(token)) for _ in range(2)]

    assert [answer.get_json()["sessions"][0]["session_id"] for answer in answers] == [
        token.session_id
    ] * 2
    assert caplog.text.count("XGEN_SESSIONS_URL_PREFIX") == (add in BESIDE)


def test_a_blueprint_of_the_same_name_stops_the_start(make_host: MakeHost, sqlite_url: str) -> None:
    def add(app: Flask) -> None:
        app.register_blueprint(Blueprint("xgen_sessions", __name__))

    with pytest.raises(ConfigurationError, match="rename the blueprint"):
        with_routes(make_host, sqlite_url, add)
