"""``flask xgen-sessions doctor`` on routes: its findings agree with the routes' answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, cast

import flask_login
import pytest
from flask import Blueprint, Flask, redirect, url_for
from flask.views import MethodView, View
from flask_admin import Admin, AdminIndexView, BaseView, expose
from werkzeug.routing import Rule

from tests.support.databases import MakeHost
from tests.support.doctor import examine, paths
from tests.support.hosts import Host
from xgen_flask_sessions import open_to_all, token_required
from xgen_flask_sessions.admin.admin_center_view import AdminCenterView

Add = Callable[[Flask], None]


def made(make_host: MakeHost, url: str, add: Add, **config: Any) -> Host:
    """Return a host with the routes that *add* adds."""

    def extras(app: Flask) -> Mapping[str, Any]:
        add(app)
        return {}

    return make_host(url, extras=extras, **config)


def view() -> str:
    return "in"


def login_required(function: Any) -> Any:
    """A decorator that has the name of a check and adds none."""

    def decorated_view() -> Any:
        return function()

    return decorated_view


def careless(function: Any) -> Any:
    """A decorator that only calls the decorated function."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return called


def by_token(app: Flask) -> None:
    app.add_url_rule("/x", "x", token_required(view))


def by_login(app: Flask) -> None:
    app.add_url_rule("/x", "x", flask_login.login_required(view))


def by_fresh_login(app: Flask) -> None:
    app.add_url_rule("/x", "x", flask_login.fresh_login_required(view))


def below_another_decorator(app: Flask) -> None:
    app.add_url_rule("/x", "x", careless(careless(flask_login.login_required(careless(view)))))


def within_a_decorator_that_takes_the_views_name(app: Flask) -> None:
    app.add_url_rule("/x", "x", wraps(view)(flask_login.login_required(lambda: view())))


def below_a_partial(app: Flask) -> None:
    def view_of(text: str) -> str:
        return text

    app.add_url_rule("/x", "x", partial(token_required(view_of), text="in"))


def by_decorators_of_a_class(app: Flask) -> None:
    class Page(View):
        decorators = [flask_login.login_required]

        def dispatch_request(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def by_decorators_below_one_that_hides_them(app: Flask) -> None:
    class Page(View):
        decorators = [token_required, lambda function: lambda **kwargs: function(**kwargs)]

        def dispatch_request(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def by_dispatch_of_a_class(app: Flask) -> None:
    class Page(MethodView):
        @token_required
        def dispatch_request(self, **kwargs: Any) -> Any:
            return super().dispatch_request(**kwargs)

        def get(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def by_each_method_of_a_class(app: Flask) -> None:
    class Page(MethodView):
        @token_required
        def get(self) -> str:
            return "in"

        @flask_login.login_required  # type: ignore[untyped-decorator]
        def post(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def before_every_request(app: Flask) -> None:
    app.before_request(flask_login.login_required(lambda: None))
    app.add_url_rule("/x", "x", view)


def before_requests_of_a_blueprint(app: Flask) -> None:
    blueprint = Blueprint("inner", __name__)
    blueprint.before_request(token_required(lambda: None))
    blueprint.add_url_rule("/x", "x", view)
    app.register_blueprint(blueprint)


def before_requests_of_the_blueprint_around(app: Flask) -> None:
    outer, middle, inner = (Blueprint(name, __name__) for name in ("outer", "middle", "inner"))
    outer.before_request(token_required(lambda: None))
    inner.add_url_rule("/x", "x", view)
    middle.register_blueprint(inner)
    outer.register_blueprint(middle)
    app.register_blueprint(outer)


CHECKED: list[Add] = [
    by_token,
    by_login,
    by_fresh_login,
    below_another_decorator,
    within_a_decorator_that_takes_the_views_name,
    below_a_partial,
    by_decorators_of_a_class,
    by_decorators_below_one_that_hides_them,
    by_dispatch_of_a_class,
    by_each_method_of_a_class,
    before_every_request,
    before_requests_of_a_blueprint,
    before_requests_of_the_blueprint_around,
]


def plain(app: Flask) -> None:
    app.add_url_rule("/x", "x", view)


def with_the_check_above_the_route(app: Flask) -> None:
    token_required(app.route("/x", endpoint="x")(view))


def with_a_decorator_that_checks_nothing(app: Flask) -> None:
    app.add_url_rule("/x", "x", careless(view))


def with_a_decorator_called_like_a_check(app: Flask) -> None:
    app.add_url_rule("/x", "x", login_required(view))


def beside_a_blueprint_that_checks(app: Flask) -> None:
    for name, function in (("inner", lambda: None), ("inner2", token_required(lambda: None))):
        blueprint = Blueprint(name, __name__)
        blueprint.before_request(function)
        app.register_blueprint(blueprint, url_prefix=f"/{name}")
    app.add_url_rule("/x", "inner.x", view)


def around_a_blueprint_that_checks(app: Flask) -> None:
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)
    inner.before_request(token_required(lambda: None))
    outer.add_url_rule("/x", "x", view)
    outer.register_blueprint(inner)
    app.register_blueprint(outer)


def of_a_class(app: Flask) -> None:
    class Page(View):
        def dispatch_request(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


UNCHECKED: list[Add] = [
    plain,
    with_the_check_above_the_route,
    with_a_decorator_that_checks_nothing,
    with_a_decorator_called_like_a_check,
    beside_a_blueprint_that_checks,
    around_a_blueprint_that_checks,
    of_a_class,
]


@pytest.mark.parametrize("add", CHECKED, ids=lambda add: add.__name__)
def test_route_is_checked(make_host: MakeHost, sqlite_url: str, add: Add) -> None:
    host = made(make_host, sqlite_url, add)

    assert "/x" not in paths(examine(host), "routes-unchecked")
    assert host.client().get("/x").status_code == 401


@pytest.mark.parametrize("add", UNCHECKED, ids=lambda add: add.__name__)
def test_route_is_not_checked(make_host: MakeHost, sqlite_url: str, add: Add) -> None:
    host = made(make_host, sqlite_url, add)

    assert "/x" in paths(examine(host), "routes-unchecked")
    assert host.client().get("/x").status_code == 200


def test_reports_the_other_routes_of_a_host(sqlite_host: Host) -> None:
    findings = examine(sqlite_host)

    assert findings["routes-unchecked"]["level"] == "warning"
    assert findings["routes-unchecked"]["routes"] == [
        {"methods": ["GET"], "path": "/open", "endpoint": "open_to_all"}
    ]
    assert paths(findings, "routes-open") == [
        "/sign-in",
        "/sessions/openapi.json",
        "/sessions/static/<path:filename>",
        "/static/<path:filename>",
    ]
    assert "routes-own-rule" not in findings


def test_every_route_of_the_plugin_refuses_anonymous_calls(
    make_host: MakeHost, sqlite_url: str
) -> None:
    """None is reported as unchecked, and each one refuses an anonymous call."""
    host = make_host(sqlite_url, extras=lambda app: {"admin": Admin(app)})
    findings = examine(host)
    unchecked = paths(findings, "routes-unchecked")
    ours = [
        rule
        for rule in host.app.url_map.iter_rules()
        if rule.endpoint.startswith(("xgen_sessions.", "admin-active-sessions."))
        and not rule.endpoint.endswith((".static", ".openapi_document"))
    ]

    assert len(ours) >= 11
    assert {rule.rule for rule in ours}.isdisjoint(unchecked)
    assert "routes-own-rule" not in findings
    with host.app.test_request_context():
        calls = [
            (method, url_for(rule.endpoint, **values))
            for rule in ours
            for values in [cast("Any", dict.fromkeys(rule.arguments, "x"))]
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        ]
    answers = {host.client().open(path, method=method).status_code for method, path in calls}
    assert answers == {401, 303}, "303: the screen's button redirects to the sign-in page"


def test_only_the_methods_without_a_check_are_listed(make_host: MakeHost, sqlite_url: str) -> None:
    class Page(MethodView):
        @token_required
        def get(self) -> str:
            return "in"

        def post(self) -> str:
            return "in"

        def delete(self) -> str:
            return "in"

    host = made(
        make_host, sqlite_url, lambda app: app.add_url_rule("/x", view_func=Page.as_view("x"))
    )

    routes = examine(host)["routes-unchecked"]["routes"]

    assert routes[0] == {"methods": ["DELETE", "POST"], "path": "/x", "endpoint": "x"}
    assert host.client().get("/x").status_code == 401
    assert host.client().post("/x").status_code == 200


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def test_web_sockets_are_checked_too(make_host: MakeHost, sqlite_url: str) -> None:
    def add(app: Flask) -> None:
        guarded = flask_login.login_required(lambda: "in")
        app.add_url_rule("/socket", "socket", lambda: "in", websocket=True)
        app.add_url_rule("/guarded", "guarded", guarded, websocket=True)
        app.add_url_rule("/public", "public", open_to_all(lambda: "in"), websocket=True)

    host = made(make_host, sqlite_url, add)

    findings = examine(host)

    expected = {"methods": ["WEBSOCKET"], "path": "/socket", "endpoint": "socket"}
    assert findings["routes-unchecked"]["routes"][0] == expected, (
        "listed first, as it may change data"
    )
    assert "/guarded" not in paths(findings, "routes-unchecked")
    assert "/public" in paths(findings, "routes-open")
    answers = [host.client().get(path, headers=UPGRADE) for path in ("/socket", "/guarded")]
    assert [answer.status_code for answer in answers] == [200, 401]


def unchecked_methods(host: Host, path: str) -> list[str]:
    """Return the methods that are listed as unchecked, after a call of each method."""
    routes = examine(host)["routes-unchecked"]["routes"]
    listed = [method for route in routes if route["path"] == path for method in route["methods"]]
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        reached = host.client().open(path, method=method).headers.get("X-Reached") is not None
        assert reached == (method in listed or (method == "HEAD" and "GET" in listed)), method
    return listed


def reached() -> tuple[str, dict[str, str]]:
    return "in", {"X-Reached": "yes"}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("check", "listed"),
    [
        (flask_login.login_required, ["OPTIONS"]),
        (flask_login.fresh_login_required, ["OPTIONS"]),
        (token_required, ["OPTIONS"]),
    ],
)
def test_checks_let_options_through(
    make_host: MakeHost,
    sqlite_url: str,
    check: Callable[[Any], Any],
    listed: list[str],
    before: bool,
) -> None:
    def add(app: Flask) -> None:
        blueprint = Blueprint("inner", __name__)
        if before:
            blueprint.before_request(check(lambda: None))
        function = reached if before else check(reached)
        blueprint.add_url_rule("/x", "x", function, methods=["GET", "OPTIONS"])
        blueprint.add_url_rule("/default", "default", function)
        app.register_blueprint(blueprint)

    host = made(make_host, sqlite_url, add)

    assert unchecked_methods(host, "/x") == listed
    assert unchecked_methods(host, "/default") == [], "Flask answers OPTIONS itself"


def test_implicit_head_and_options_of_a_class_are_checked(
    make_host: MakeHost, sqlite_url: str
) -> None:
    class Page(MethodView):
        @token_required
        def get(self) -> Any:
            return reached()

        @flask_login.login_required  # type: ignore[untyped-decorator]
        def post(self) -> Any:
            return reached()

    class Open(Page):
        def head(self) -> Any:
            return reached()

        def options(self) -> Any:
            return reached()

    class Decorated(Open):
        decorators = [flask_login.login_required]

    def add(app: Flask) -> None:
        for kind in (Page, Open, Decorated):
            app.add_url_rule(f"/{kind.__name__}", view_func=kind.as_view(kind.__name__))

    host = made(make_host, sqlite_url, add)

    assert unchecked_methods(host, "/Page") == []
    assert unchecked_methods(host, "/Open") == ["HEAD", "OPTIONS"]
    assert unchecked_methods(host, "/Decorated") == ["OPTIONS"]


def test_a_rule_without_methods_takes_them_all(make_host: MakeHost, sqlite_url: str) -> None:
    def add(app: Flask) -> None:
        app.url_map.add(Rule("/x", endpoint="x"))
        app.view_functions["x"] = reached

    host = made(make_host, sqlite_url, add)

    assert {"GET", "OPTIONS", "POST"} <= set(unchecked_methods(host, "/x"))


def test_routes_that_change_something_come_first(make_host: MakeHost, sqlite_url: str) -> None:
    def add(app: Flask) -> None:
        app.add_url_rule("/a", "a", view)
        app.add_url_rule("/z", "z", view, methods=["PATCH"])
        app.add_url_rule("/m", "m", view, methods=["GET", "PUT"])

    host = made(make_host, sqlite_url, add)

    assert paths(examine(host), "routes-unchecked") == ["/m", "/z", "/a", "/open"]


class TestFlaskAdmin:
    @pytest.fixture
    def host(self, make_host: MakeHost, sqlite_url: str) -> Host:
        class Careless(BaseView):  # type: ignore[misc]
            @expose("/")  # type: ignore[untyped-decorator]
            def index(self) -> str:
                return "in"

            @expose("/own", methods=["POST"])  # type: ignore[untyped-decorator]
            @token_required
            def own(self) -> str:
                return "in"

        class Own(Careless):
            def is_accessible(self) -> bool:
                return False

        class Handled(Careless):
            def _handle_view(self, name: str, **kwargs: Any) -> Any:
                return redirect("/sign-in")

        class Ours(AdminCenterView):
            @expose("/")  # type: ignore[untyped-decorator]
            def index(self) -> str:
                return "in"

        def extras(app: Flask) -> Mapping[str, Any]:
            admin = Admin(app)
            for kind in (Careless, Own, Handled, Ours):
                admin.add_view(kind(endpoint=kind.__name__.lower()))
            return {"admin": admin}

        return make_host(sqlite_url, extras=extras)

    def test_views_that_are_open_are_found_and_so_is_the_default_index(self, host: Host) -> None:
        found = paths(examine(host), "routes-unchecked")

        assert found == ["/admin/", "/admin/careless/", "/open"]
        assert [host.client().get(path).status_code for path in found[:2]] == [200, 200]

    def test_access_rules_of_the_host_are_listed_separately(self, host: Host) -> None:
        findings = examine(host)

        assert findings["routes-own-rule"]["level"] == "ok"
        assert paths(findings, "routes-own-rule") == ["/admin/handled/", "/admin/own/"]

    def test_a_check_on_the_method_or_of_the_plugins_view_counts(self, host: Host) -> None:
        assert host.client().post("/admin/careless/own").status_code == 401
        assert host.client().get("/admin/ours/").status_code == 401

    def test_its_files_are_open(self, host: Host) -> None:
        assert "/admin/static/<path:filename>" in paths(examine(host), "routes-open")

    def test_an_index_with_a_rule_is_not_reported(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        class Index(AdminIndexView):  # type: ignore[misc]
            def is_accessible(self) -> bool:
                return False

        host = make_host(sqlite_url, extras=lambda app: {"admin": Admin(app, index_view=Index())})

        assert paths(examine(host), "routes-unchecked") == ["/open"]


class TestOpenRoutes:
    def test_are_named_with_an_option(self, make_host: MakeHost, sqlite_url: str) -> None:
        host = made(make_host, sqlite_url, plain)

        one = examine(host, "--open", "x")
        both = examine(host, "--open", "x", "--open", "open_to_all")

        assert paths(one, "routes-unchecked") == ["/open"]
        assert "routes-unchecked" not in both
        assert {"/x", "/open"} <= set(paths(both, "routes-open"))

    def test_must_exist_if_they_are_named(self, sqlite_host: Host) -> None:
        result = sqlite_host.app.test_cli_runner().invoke(
            args=["xgen-sessions", "doctor", "--open", "open_to_all", "--open", "nothing\x1b"]
        )

        assert (result.exit_code, result.stdout) == (2, "")
        assert "There is no endpoint nothing" in result.stderr
        assert "\x1b" not in result.stderr

    @pytest.mark.parametrize("decorate", [open_to_all, lambda view: careless(open_to_all(view))])
    def test_are_marked(
        self, make_host: MakeHost, sqlite_url: str, decorate: Callable[[Any], Any]
    ) -> None:
        host = made(
            make_host, sqlite_url, lambda app: app.add_url_rule("/x", "x", decorate(lambda: "in"))
        )

        findings = examine(host)

        assert "/x" in paths(findings, "routes-open")
        assert "/x" not in paths(findings, "routes-unchecked")

    def test_stay_checked_if_they_have_a_check(self, make_host: MakeHost, sqlite_url: str) -> None:
        guarded = open_to_all(token_required(lambda: "in"))
        host = made(make_host, sqlite_url, lambda app: app.add_url_rule("/x", "x", guarded))

        assert "/x" not in paths(examine(host, "--open", "x"), "routes-open")
        assert host.client().get("/x").status_code == 401

    def test_are_the_sign_in_pages_with_what_their_forms_call(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        def add(app: Flask) -> None:
            app.add_url_rule("/sign-in", "submit", view, methods=["PUT"])
            app.add_url_rule("/staff", "staff", view)
            app.add_url_rule("/team", "team", view, methods=["GET", "POST"])
            app.login_manager.blueprint_login_views = {  # type: ignore[attr-defined]
                "a": "staff",
                "b": "/team?from=b",
            }

        host = made(make_host, sqlite_url, add)

        findings = examine(host)

        assert paths(findings, "routes-unchecked") == ["/open"]
        assert {"/sign-in", "/staff", "/team"} <= set(paths(findings, "routes-open"))

    @pytest.mark.parametrize("site", ["https://sso.example.com", "//sso.example.com"])
    def test_do_not_include_the_path_of_an_external_sign_in_page(
        self, make_host: MakeHost, sqlite_url: str, site: str
    ) -> None:
        def add(app: Flask) -> None:
            app.add_url_rule("/pub", "pub", view)
            app.login_manager.login_view = f"{site}/pub"  # type: ignore[attr-defined]

        host = made(make_host, sqlite_url, add)

        assert "/pub" in paths(examine(host), "routes-unchecked")

    def test_are_files_of_blueprints(self, make_host: MakeHost, sqlite_url: str) -> None:
        def add(app: Flask) -> None:
            outer = Blueprint("outer", __name__, url_prefix="/outer")
            inner = Blueprint("inner", __name__, static_folder="static", url_prefix="/inner")
            outer.register_blueprint(inner)
            outer.add_url_rule("/static", "static", view)
            app.register_blueprint(outer)

        host = made(make_host, sqlite_url, add)

        findings = examine(host)

        assert "/outer/inner/static/<path:filename>" in paths(findings, "routes-open")
        assert "/outer/static" in paths(findings, "routes-unchecked"), (
            "only its path looks like files"
        )


class TestFlaskLogin:
    def test_switched_off_is_a_problem(self, make_host: MakeHost, sqlite_url: str) -> None:
        host = make_host(sqlite_url, LOGIN_DISABLED=True)

        findings = examine(host, ends_with=1)

        assert findings["login-disabled"]["level"] == "problem"
        assert {"/api/user", "/page"} <= set(paths(findings, "routes-unchecked"))
        assert "/api/token" not in paths(findings, "routes-unchecked")

    def test_without_the_token_loader_is_no_check(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        def extras(app: Flask) -> Mapping[str, Any]:
            app.login_manager.user_loader(lambda _: None)  # type: ignore[attr-defined]
            return {"login_manager": None}

        host = make_host(sqlite_url, extras=extras)
        token = host.issue(host.add_user("bora"))

        findings = examine(host)

        assert findings["login-manager-apart"]["level"] == "warning"
        assert "/page" in paths(findings, "routes-unchecked")
        assert host.status(token) == 200
        assert host.status(token, "/api/user") == 302, "the token is not read"

    def test_is_optional(self, make_host: MakeHost, sqlite_url: str) -> None:
        def extras(app: Flask) -> Mapping[str, Any]:
            del app.login_manager  # type: ignore[attr-defined]
            return {"login_manager": None}

        findings = examine(make_host(sqlite_url, extras=extras))

        assert "login-manager-apart" not in findings
        assert {"/page", "/sign-in"} <= set(paths(findings, "routes-unchecked"))

    def test_with_the_token_loader_is_fine(self, sqlite_host: Host) -> None:
        assert isinstance(sqlite_host.login_manager, flask_login.LoginManager)
        assert {"login-manager-apart", "login-disabled"}.isdisjoint(examine(sqlite_host))
