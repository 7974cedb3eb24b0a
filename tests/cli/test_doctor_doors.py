"""``doctor`` names the checks of other packages, whose tokens a force logout does not end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import pytest
from authlib.integrations.flask_oauth2 import ResourceProtector
from flask import Flask, Request, current_app
from flask.views import MethodView
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth
from flask_jwt_extended import JWTManager, create_access_token, jwt_required, verify_jwt_in_request
from flask_security.decorators import (
    auth_required,
    auth_token_required,
    http_auth_required,
    roles_required,
)
from sqlalchemy import select

from tests.support.databases import MakeHost
from tests.support.doctor import examine, paths
from tests.support.hosts import Host, User, bearer
from xgen_flask_sessions import TokenError, XgenSessions, guarded_by, token_required

Add = Callable[[Flask], object]
sessions = XgenSessions()


def made(make_host: MakeHost, url: str, add: Add, **config: Any) -> Host:
    def extras(app: Flask) -> Mapping[str, Any]:
        add(app)
        return {}

    return make_host(url, extras=extras, **config)


def under(decorator: Any) -> Add:
    return lambda app: app.add_url_rule("/x", "x", decorator(lambda: "in"))


def by_verify_jwt(function: Any) -> Any:
    """The decorator of the documentation of Flask-JWT-Extended."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        verify_jwt_in_request()
        return function(*args, **kwargs)

    return wrapper


def before_requests(app: Flask) -> None:
    @app.before_request
    def check() -> None:
        verify_jwt_in_request()

    app.add_url_rule("/x", "x", lambda: "in")


def by_decorators_of_a_class(app: Flask) -> None:
    class Resource(MethodView):
        decorators = [jwt_required()]

        def get(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Resource.as_view("x"))


def by_method_decorators(app: Flask) -> None:
    """As Flask-RESTful and Flask-RESTX apply them: at each call."""

    class Resource(MethodView):
        method_decorators = [jwt_required()]

        def dispatch_request(self, **kwargs: Any) -> Any:
            call = super().dispatch_request
            for decorator in self.method_decorators:
                call = decorator(call)
            return call(**kwargs)

        def get(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Resource.as_view("x"))


basic, token = HTTPBasicAuth(), HTTPTokenAuth()
DOORS: dict[str, tuple[Add, str, str]] = {
    "jwt_required": (under(jwt_required()), "routes-flask-jwt-extended", "@jwt_required"),
    "fresh": (under(jwt_required(fresh=True)), "routes-flask-jwt-extended", "@jwt_required"),
    "verify_jwt": (under(by_verify_jwt), "routes-flask-jwt-extended", "@jwt_required"),
    "before": (before_requests, "routes-flask-jwt-extended", "@jwt_required"),
    "class": (by_decorators_of_a_class, "routes-flask-jwt-extended", "@jwt_required"),
    "restful": (by_method_decorators, "routes-flask-jwt-extended", "@jwt_required"),
    "token": (under(auth_required("token")), "routes-flask-security-token", '@auth_required("tok'),
    "any": (under(auth_required()), "routes-flask-security-token", '@auth_required("session", "'),
    "both": (under(auth_required("token", "session")), "routes-flask-security-token", "auth_req"),
    "auth_token": (under(auth_token_required), "routes-flask-security-token", "@auth_token_requ"),
    "http_auth": (under(http_auth_required("x")), "routes-flask-security-basic", "@http_auth_req"),
    "basic": (under(basic.login_required), "routes-flask-httpauth", "@auth.login_required"),
    "role": (under(token.login_required(role="a")), "routes-flask-httpauth", "@auth.login_req"),
    "multi": (under(MultiAuth(basic, token).login_required), "routes-flask-httpauth", "@auth"),
    "authlib": (under(ResourceProtector()("profile")), "routes-authlib", "ResourceProtector"),
    "authlib bare": (under(ResourceProtector()), "routes-authlib", "ResourceProtector"),
}


@pytest.mark.parametrize(("add", "code", "name"), DOORS.values(), ids=DOORS)
def test_checks_of_other_packages_are_doors_that_stay_open(
    make_host: MakeHost, sqlite_url: str, add: Add, code: str, name: str
) -> None:
    findings = examine(made(make_host, sqlite_url, add))

    assert "/x" in paths(findings, code)
    assert findings[code]["level"] == "warning"
    assert name in findings[code]["meaning"]
    assert "a force logout does not close it" in findings[code]["meaning"]
    assert "/x" not in paths(findings, "routes-unchecked")


def test_it_is_true_of_flask_jwt_extended(make_host: MakeHost, sqlite_url: str) -> None:
    def add(app: Flask) -> None:
        app.config["JWT_SECRET_KEY"] = "another secret that is long enough"
        JWTManager(app)
        under(jwt_required())(app)

    host = made(make_host, sqlite_url, add)
    user_id = host.add_user()
    host.issue(user_id)
    with host.app.app_context():
        foreign = create_access_token(identity=user_id)

    host.force_logout(user_id)

    assert host.status(foreign, "/x") == 200, "it knows no sessions"
    assert "/x" in paths(examine(host), "routes-flask-jwt-extended")


@pytest.mark.parametrize(
    "decorator",
    [
        jwt_required(optional=True),
        basic.login_required(optional=True),
        ResourceProtector()(optional=True),
    ],
    ids=["jwt", "httpauth", "authlib"],
)
def test_a_check_that_is_optional_is_none(
    make_host: MakeHost, sqlite_url: str, decorator: Any
) -> None:
    findings = examine(made(make_host, sqlite_url, under(decorator)))

    assert "/x" in paths(findings, "routes-unchecked")


def test_a_check_of_the_plugin_beside_it_closes_the_door(
    make_host: MakeHost, sqlite_url: str
) -> None:
    add = under(lambda function: jwt_required()(token_required(function)))

    findings = examine(made(make_host, sqlite_url, add))

    assert all("/x" not in paths(findings, code) for code in findings)


def verified(text: str) -> str | None:
    try:
        return sessions.verify(text).user_id
    except TokenError:
        return None


def test_flask_httpauth_that_verifies_our_tokens_is_a_guard(
    make_host: MakeHost, sqlite_url: str
) -> None:
    auth = HTTPTokenAuth()
    auth.verify_token(verified)
    host = made(make_host, sqlite_url, under(auth.login_required))
    issued = host.issue(host.add_user())

    findings = examine(host)

    assert all("/x" not in paths(findings, code) for code in findings)
    assert host.status(issued, "/x") == 200
    host.force_logout("1")
    assert host.status(issued, "/x") == 401


def test_flask_jwt_extended_whose_blocklist_asks_the_sessions_is_a_guard(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def add(app: Flask) -> None:
        app.config["JWT_SECRET_KEY"] = "another secret that is long enough"
        manager = JWTManager(app)

        @manager.token_in_blocklist_loader  # type: ignore[untyped-decorator]
        def is_revoked(_: object, payload: dict[str, str]) -> bool:
            return verified(payload["xgen"]) is None

        under(jwt_required())(app)
        app.add_url_rule("/skips", "skips", jwt_required(skip_revocation_check=True)(lambda: "in"))

    host = made(make_host, sqlite_url, add)
    user_id = host.add_user()
    issued = host.issue(user_id)
    with host.app.app_context():
        foreign = create_access_token(user_id, additional_claims={"xgen": issued.token})

    findings = examine(host)

    assert paths(findings, "routes-flask-jwt-extended") == ["/skips"]
    assert host.status(foreign, "/x") == 200
    host.force_logout(user_id)
    assert host.status(foreign, "/x") == 401
    assert host.client().get("/skips", headers=bearer(foreign)).status_code == 200


@pytest.mark.parametrize(
    "decorator", [auth_required("session"), roles_required("admin")], ids=["session", "roles"]
)
def test_flask_security_by_flask_logins_session_is_a_guard(
    make_host: MakeHost, sqlite_url: str, decorator: Any
) -> None:
    findings = examine(made(make_host, sqlite_url, under(decorator)))

    assert all("/x" not in paths(findings, code) for code in findings)


# --- A request loader of the application's own ------------------------------------------------


def find(name: str | None) -> User | None:
    session = current_app.extensions["sqlalchemy"].session
    return session.scalar(select(User).filter_by(username=name))  # type: ignore[no-any-return]


def by_key(request: Request) -> User | None:
    return find(request.args.get("key"))


def by_header(header: str) -> User | None:
    return find(header)


@guarded_by
def by_key_that_is_deleted(request: Request) -> User | None:
    return by_key(request)


def by_our_token(request: Request) -> User | None:
    return find(str(sessions.verify(request.args["token"]).claims["name"]))


def loads_by(set_loader: str, function: Any) -> Add:
    def add(app: Flask) -> None:
        manager = app.login_manager  # type: ignore[attr-defined]
        getattr(manager, set_loader)(function)

    return add


@pytest.mark.filterwarnings("ignore:'header_loader' is deprecated")
@pytest.mark.parametrize("loader", [("request_loader", by_key), ("header_loader", by_header)])
@pytest.mark.parametrize("locations", [["headers", "cookies"], ["cookies"]])
def test_a_loader_of_the_application_is_a_door(
    make_host: MakeHost, sqlite_url: str, loader: tuple[str, Any], locations: list[str]
) -> None:
    config = {"XGEN_SESSIONS_TOKEN_LOCATIONS": locations}
    host = made(make_host, sqlite_url, loads_by(*loader), **config)

    finding = examine(host)["request-loader"]

    assert finding["level"] == "warning"
    assert f"{__name__}.{loader[1].__name__} signs callers in" in finding["meaning"]
    assert ("Bearer" in finding["meaning"]) is ("headers" in locations)


def test_it_is_true_of_a_request_loader(make_host: MakeHost, sqlite_url: str) -> None:
    host = made(make_host, sqlite_url, loads_by("request_loader", by_key))
    user_id = host.add_user("alice")
    host.force_logout(user_id)

    assert host.client().get("/api/user?key=alice").status_code == 200


@pytest.mark.parametrize("loader", [by_key_that_is_deleted, by_our_token, None])
def test_a_loader_that_knows_the_sessions_is_none(
    make_host: MakeHost, sqlite_url: str, loader: Any
) -> None:
    host = made(make_host, sqlite_url, loads_by("request_loader", loader))

    assert "request-loader" not in examine(host)


def test_a_loader_can_be_named_as_a_guard(make_host: MakeHost, sqlite_url: str) -> None:
    config = {"XGEN_SESSIONS_GUARDS": [f"{__name__}.by_key"]}
    findings = examine(made(make_host, sqlite_url, loads_by("request_loader", by_key), **config))

    assert {"request-loader", "guards-unknown"}.isdisjoint(findings)
