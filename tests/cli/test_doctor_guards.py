"""``flask xgen-sessions doctor`` knows the application's own guards, and what only looks like one.

Each application here is called as well: ``doctor`` must say of a route what the route answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import flask_login
import pytest
from flask import (
    Blueprint,
    Flask,
    abort,
    current_app,
    flash,
    g,
    has_request_context,
    jsonify,
    redirect,
    request,
    session,
    url_for,
)
from flask.views import MethodView, View
from flask_admin import Admin, AdminIndexView, BaseView, expose
from flask_caching import Cache
from flask_login import current_user, logout_user
from werkzeug.local import LocalProxy

from tests.support.databases import MakeHost
from tests.support.doctor import examine, paths
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import (
    TokenError,
    XgenSessions,
    current_token,
    guarded_by,
    open_to_all,
)

Add = Callable[[Flask], object]
sessions = XgenSessions()


def view(**_: object) -> str:
    return "in"


def made(make_host: MakeHost, url: str, add: Add, **config: Any) -> Host:
    def extras(app: Flask) -> Mapping[str, Any]:
        found = add(app)
        return found if isinstance(found, dict) else {}

    return make_host(url, extras=extras, **config)


def require_role(role: str) -> Any:
    """A decorator with an argument, as in most products."""

    def decorate(function: Any) -> Any:
        @wraps(function)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            if not current_user.is_authenticated:
                flash("Please sign in.")
                return redirect(url_for("sign_in", next=request.url))
            if role == "admin" and not current_user.is_superuser:
                abort(403)
            return function(*args, **kwargs)

        return decorated

    return decorate


def without_wraps(function: Any) -> Any:
    def decorated(*args: Any, **kwargs: Any) -> Any:
        if current_user.is_anonymous:
            return current_app.login_manager.unauthorized()  # type: ignore[attr-defined]
        return current_app.ensure_sync(function)(*args, **kwargs)

    decorated.__name__ = function.__name__
    return decorated


def by_token(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        token: Any = current_token
        if not token:
            return jsonify(error="no token"), 401
        return function(*args, **kwargs)

    return decorated


def by_verify(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            g.token = sessions.verify(token)
        except TokenError as error:
            return jsonify(error=error.code), 401
        return function(*args, **kwargs)

    return decorated


def by_a_function_it_calls(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        _require_user()
        return function(*args, **kwargs)

    return decorated


def _require_user() -> None:
    if not _is_signed_in():
        abort(401)


def _is_signed_in() -> bool:
    return bool(current_user.is_authenticated)


def by_an_attribute_that_anonymous_users_lack(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        if not hasattr(current_user, "username"):
            abort(404)
        return function(*args, **kwargs)

    return decorated


def by_login_required_within(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return flask_login.login_required(function)(*args, **kwargs)

    return decorated


def _signed_in_user() -> Any:
    return current_user if has_request_context() and current_user.is_authenticated else None


signed_in_user: Any = LocalProxy(_signed_in_user)


def by_a_proxy_without_an_object_now(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        if not signed_in_user:
            abort(401)
        return function(*args, **kwargs)

    return decorated


def by_an_own_decorator_within(function: Any) -> Any:
    """As where a header chooses one of several checks."""

    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        if request.headers.get("X-Verify"):
            return by_verify(function)(*args, **kwargs)
        return require_role("any")(function)(*args, **kwargs)

    return decorated


def by_a_function_that_calls_the_view(function: Any) -> Any:
    @wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return _run_for_user(function, *args, **kwargs)

    return decorated


def _run_for_user(function: Any, *args: Any, **kwargs: Any) -> Any:
    _require_user()
    return function(*args, **kwargs)


class RequireUser:
    """A decorator that is a class."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.__name__ = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not current_user.is_authenticated:
            abort(401)
        return self.function(*args, **kwargs)


def decorated(decorator: Any) -> Add:
    def add(app: Flask) -> None:
        app.add_url_rule("/x", "x", decorator(view))

    add.__name__ = getattr(decorator, "__qualname__", "decorator")
    return add


def before(function: Any) -> Add:
    def add(app: Flask) -> None:
        app.before_request(function)
        app.add_url_rule("/x", "x", view)

    add.__name__ = f"before {function.__name__}"
    return add


def except_public_endpoints() -> Any:
    if request.endpoint in ("sign_in", "static", "open_to_all"):
        return None
    if not current_user.is_authenticated:
        return redirect(url_for("sign_in"))
    return None


def except_public_paths() -> Any:
    for prefix in ("/sign-in", "/static/", "/open"):
        if request.path.startswith(prefix):
            return None
    if not current_user.is_authenticated:
        abort(401)
    return None


def by_marked_view() -> Any:
    function = current_app.view_functions.get(request.endpoint or "")
    if getattr(function, "is_public", False):
        return None
    return None if current_user.is_authenticated else abort(401)


def by_g_user(app: Flask) -> None:
    @app.before_request
    def load() -> None:
        g.user = current_user

    def login_required(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if g.user is None or not g.user.is_authenticated:
                return redirect("/sign-in")
            return function(*args, **kwargs)

        return wrapper

    app.add_url_rule("/x", "x", login_required(view))


def in_the_view(app: Flask) -> None:
    @app.get("/x")
    def x() -> Any:
        if not current_user.is_authenticated:
            return redirect(url_for("sign_in"))
        return "in"


def of_a_blueprint(app: Flask) -> None:
    blueprint = Blueprint("inner", __name__)
    blueprint.before_request(_require_user)
    blueprint.add_url_rule("/x", "x", view)
    app.register_blueprint(blueprint)


def by_decorators_of_a_class(app: Flask) -> None:
    class Page(MethodView):
        decorators = [require_role("admin")]

        def get(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def by_dispatch_of_a_class(app: Flask) -> None:
    class Page(View):
        def dispatch_request(self, **_: Any) -> Any:
            if not current_user.is_authenticated:
                abort(401)
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def by_a_method_of_a_class(app: Flask) -> None:
    class Page(MethodView):
        @by_token
        def get(self) -> str:
            return "in"

        @without_wraps
        def post(self) -> str:
            return "in"

    app.add_url_rule("/x", view_func=Page.as_view("x"))


def by_the_app_after_its_routes(app: Flask) -> None:
    """As Dash applications do it."""
    app.add_url_rule("/x", "x", view)
    app.view_functions["x"] = require_role("any")(app.view_functions["x"])


def by_is_accessible(app: Flask) -> dict[str, Any]:
    class Index(AdminIndexView):  # type: ignore[misc]
        def is_accessible(self) -> bool:
            return bool(current_user.is_authenticated and current_user.is_superuser)

    class Page(BaseView):  # type: ignore[misc]
        @expose("/")  # type: ignore[untyped-decorator]
        def index(self) -> str:
            return "in"

        def is_accessible(self) -> bool:
            return not current_user.is_anonymous

    admin = Admin(app, index_view=Index())
    admin.add_view(Page(url="/x", endpoint="x"))
    return {"admin": admin}


GUARDED: list[Add] = [
    decorated(require_role("any")),
    decorated(require_role("admin")),
    decorated(without_wraps),
    decorated(by_token),
    decorated(by_verify),
    decorated(by_a_function_it_calls),
    decorated(by_an_attribute_that_anonymous_users_lack),
    decorated(by_login_required_within),
    decorated(by_a_proxy_without_an_object_now),
    decorated(by_an_own_decorator_within),
    decorated(by_a_function_that_calls_the_view),
    decorated(RequireUser),
    before(except_public_endpoints),
    before(except_public_paths),
    before(_require_user),
    by_g_user,
    in_the_view,
    of_a_blueprint,
    by_decorators_of_a_class,
    by_dispatch_of_a_class,
    by_a_method_of_a_class,
    by_the_app_after_its_routes,
    by_is_accessible,
]


@pytest.mark.parametrize("add", GUARDED, ids=lambda add: add.__name__)
def test_routes_behind_the_applications_own_checks_are_not_reported(
    make_host: MakeHost, sqlite_url: str, add: Add
) -> None:
    host = made(make_host, sqlite_url, add)
    token = host.issue(host.add_user("admin", is_superuser=True))
    path = "/x/" if add is by_is_accessible else "/x"

    findings = examine(host)

    for code, finding in findings.items():
        assert path not in paths(findings, code), code
        assert code.startswith("routes-own-check") is False, finding
    assert findings["routes-guarded"]["level"] == "ok"
    assert __name__ in findings["routes-guarded"]["meaning"]
    assert host.client().get(path).status_code in (302, 401, 403, 404)
    assert host.client().get(path, headers=bearer(token)).text == "in"
    host.force_logout("1")
    assert host.client().get(path, headers=bearer(token)).status_code in (302, 401, 403, 404)


def shows_the_user(app: Flask) -> None:
    @app.get("/x")
    def x() -> str:
        return f"Hello {current_user.username if current_user.is_authenticated else 'you'}"


def shows_an_attribute(app: Flask) -> None:
    @app.get("/x")
    def x() -> str:
        return f"Hello {getattr(current_user, 'username', '')} {current_user.is_anonymous}"


def sends_users_on(app: Flask) -> None:
    @app.get("/x")
    def x() -> Any:
        if current_user.is_authenticated:
            return redirect("/page")
        return "a page for visitors"


def author() -> str | None:
    return current_user.username if current_user.is_authenticated else None


def redirects_everybody(app: Flask) -> None:
    @app.get("/x")
    def x() -> Any:
        g.author = author()
        return redirect("/page")


def redirects_everybody_after_a_form(app: Flask) -> None:
    @app.get("/x")
    def x() -> Any:
        if request.form.get("title"):
            g.author = author()
            return redirect("/page")
        return redirect("/")


def signs_out(app: Flask) -> None:
    @app.get("/x")
    def x() -> str:
        logout_user()
        return "signed out"


def remember_the_visit() -> Any:
    """As in *Flask Web Development*: it refuses users who have not confirmed their address."""
    if current_user.is_authenticated:
        g.seen = True
        if not getattr(current_user, "confirmed", True) and request.endpoint != "confirm":
            return redirect("/confirm")
    return None


def only_for_posts() -> Any:
    if request.method == "POST" and not current_user.is_authenticated:
        abort(401)


def only_for_one_endpoint() -> Any:
    if request.endpoint == "page" and not current_user.is_authenticated:
        abort(401)


def only_sometimes() -> Any:
    if "strict" in request.args and not current_user.is_authenticated:
        abort(401)


def that_swallows(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            if not current_user.is_authenticated:
                abort(401)
        except Exception:
            g.failed = True
        return function(*args, **kwargs)

    return wrapper


def that_admits_on_an_error(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            int(request.args.get("level", "none"))
            if not current_user.is_authenticated:
                abort(401)
        except ValueError:
            return function(*args, **kwargs)
        return function(*args, **kwargs)

    return wrapper


def that_only_notes(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        g.name = getattr(current_user, "username", None)
        result = function(*args, **kwargs)
        if not current_user.is_authenticated:
            g.anonymous = True
        return result

    return wrapper


def that_refuses_users(function: Any) -> Any:
    """The guard the wrong way round."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if current_user.is_authenticated:
            abort(403)
        return function(*args, **kwargs)

    return wrapper


def that_calls_first(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        if not current_user.is_authenticated:
            abort(401)
        return answer

    return wrapper


def that_applies_one_which_only_notes(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if request.headers.get("X-Verify"):
            return by_verify(function)(*args, **kwargs)
        return that_only_notes(function)(*args, **kwargs)

    return wrapper


def with_an_open_rule(app: Flask) -> dict[str, Any]:
    class Page(BaseView):  # type: ignore[misc]
        @expose("/")  # type: ignore[untyped-decorator]
        def index(self) -> str:
            return f"in {current_user.is_authenticated}"

    admin = Admin(app)
    admin.add_view(Page(url="/x", endpoint="x"))
    return {"admin": admin}


UNGUARDED: list[Add] = [
    shows_the_user,
    shows_an_attribute,
    sends_users_on,
    redirects_everybody,
    redirects_everybody_after_a_form,
    signs_out,
    before(remember_the_visit),
    before(only_for_posts),
    before(only_for_one_endpoint),
    before(only_sometimes),
    before(by_marked_view),
    decorated(that_swallows),
    decorated(that_admits_on_an_error),
    decorated(that_only_notes),
    decorated(that_refuses_users),
    decorated(that_calls_first),
    decorated(that_applies_one_which_only_notes),
    with_an_open_rule,
]


@pytest.mark.parametrize("add", UNGUARDED, ids=lambda add: add.__name__)
def test_a_use_of_the_user_that_refuses_no_caller_is_no_guard(
    make_host: MakeHost, sqlite_url: str, add: Add
) -> None:
    host = made(make_host, sqlite_url, add)
    path = "/x/" if add is with_an_open_rule else "/x"

    assert path in paths(examine(host), "routes-unchecked")


def by_the_user() -> Any:
    if not current_user.is_authenticated:
        return redirect("/sign-in")
    return redirect("/page")


def by_the_token() -> Any:
    if not current_token:
        return redirect("/sign-in")
    return redirect("/page")


def by_the_user_in_g() -> Any:
    if g.user is None or not g.user.is_authenticated:
        return redirect("/sign-in")
    return redirect("/page")


@pytest.mark.parametrize("function", [by_the_user, by_the_token, by_the_user_in_g])
def test_a_view_that_redirects_its_users_elsewhere_than_others_is_guarded(
    make_host: MakeHost, sqlite_url: str, function: Any
) -> None:
    def load() -> None:
        g.user = current_user

    def add(app: Flask) -> None:
        app.before_request(load)
        app.add_url_rule("/x", "x", function, methods=["POST"])

    findings = examine(made(make_host, sqlite_url, add))

    assert "/x" not in paths(findings, "routes-unchecked")


def by_the_applications_own_session(function: Any) -> Any:
    """The guard of Flask's tutorial."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if session.get("user_id") is None:
            return redirect("/sign-in")
        return function(*args, **kwargs)

    return wrapper


def by_an_api_key(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if request.headers.get("X-API-Key") != "the key":
            abort(401)
        return function(*args, **kwargs)

    return wrapper


def by_basic_auth(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not request.authorization or request.authorization.password != "x":
            return jsonify(error="no"), 401
        return function(*args, **kwargs)

    return wrapper


def user_in_session() -> Any:
    if "user" not in session and request.endpoint != "sign_in":
        return redirect("/sign-in")
    return None


def by_the_tutorial(app: Flask) -> None:
    @app.before_request
    def load_logged_in_user() -> None:
        user_id = session.get("user_id")
        if user_id is None:
            g.user = None
        else:
            g.user = f"user {user_id}"

    def login_required(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if g.user is None:
                return redirect("/sign-in")
            return function(*args, **kwargs)

        return wrapper

    app.add_url_rule("/x", "x", login_required(view))


@pytest.mark.parametrize(
    "add",
    [
        decorated(by_the_applications_own_session),
        decorated(by_an_api_key),
        decorated(by_basic_auth),
        before(user_in_session),
        by_the_tutorial,
    ],
    ids=lambda add: add.__name__,
)
def test_a_check_that_knows_no_sessions_is_called_a_door_that_stays_open(
    make_host: MakeHost, sqlite_url: str, add: Add
) -> None:
    host = made(make_host, sqlite_url, add)

    findings = examine(host)

    assert "/x" in paths(findings, "routes-own-check")
    assert "/x" not in paths(findings, "routes-unchecked")
    assert findings["routes-own-check"]["level"] == "warning"
    assert "a force logout does not close it" in findings["routes-own-check"]["meaning"]
    assert host.client().get("/x").status_code in (302, 401)


def by_another_key(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if request.headers.get("X-API-Key") != "another key":
            abort(401)
        return function(*args, **kwargs)

    return wrapper


class TestMarks:
    @pytest.mark.parametrize(
        "decorate",
        [
            guarded_by(by_another_key),
            guarded_by("client certificates at the gateway"),
        ],
        ids=["decorator", "words"],
    )
    def test_make_a_guard_of_a_check_and_change_no_answer(
        self, make_host: MakeHost, sqlite_url: str, decorate: Any
    ) -> None:
        function = decorate(lambda: "in")
        host = made(make_host, sqlite_url, lambda app: app.add_url_rule("/x", "x", function))

        findings = examine(host)

        assert all("/x" not in paths(findings, code) for code in findings)
        expected = 200 if "client" in findings["routes-guarded"]["meaning"] else 401
        assert host.client().get("/x").status_code == expected

    def test_work_on_before_request_functions_and_on_classes(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        @guarded_by("the gateway")
        class Page(MethodView):
            def get(self) -> str:
                return "in"

        def add(app: Flask) -> None:
            blueprint = Blueprint("inner", __name__)
            blueprint.before_request(guarded_by(lambda: None))
            blueprint.add_url_rule("/x", "x", view)
            app.register_blueprint(blueprint)
            app.add_url_rule("/y", view_func=Page.as_view("y"))

        findings = examine(made(make_host, sqlite_url, add))

        assert paths(findings, "routes-unchecked") == ["/open"]

    def test_of_a_decorator_with_arguments(self, make_host: MakeHost, sqlite_url: str) -> None:
        host = made(
            make_host, sqlite_url,
            lambda app: app.add_url_rule("/x", "x", require_key("a")(lambda: "in")),
        )  # fmt: skip

        assert "/x" not in paths(examine(host), "routes-own-check")

    def test_an_open_mark_is_no_guard(self, make_host: MakeHost, sqlite_url: str) -> None:
        marked = open_to_all(by_an_api_key(lambda: "in"))
        host = made(make_host, sqlite_url, lambda app: app.add_url_rule("/x", "x", marked))

        findings = examine(host)

        assert "/x" in paths(findings, "routes-open")
        assert "/x" not in paths(findings, "routes-own-check")


@guarded_by
def require_key(key: str) -> Any:
    def decorate(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if request.headers.get("X-API-Key") != key:
                abort(401)
            return function(*args, **kwargs)

        return wrapper

    return decorate


class TestNames:
    @pytest.mark.parametrize(
        ("name", "add"),
        [
            ("by_an_api_key", decorated(by_an_api_key)),
            ("by_the_applications_own_session", decorated(by_the_applications_own_session)),
            ("user_in_session", before(user_in_session)),
            ("RequireUser", decorated(RequireUser)),
        ],
    )
    def test_in_the_configuration_make_a_guard_of_a_function(
        self, make_host: MakeHost, sqlite_url: str, name: str, add: Add
    ) -> None:
        full = f"{__name__}.{name}"
        host = made(make_host, sqlite_url, add, XGEN_SESSIONS_GUARDS=[full])

        findings = examine(host)

        assert all("/x" not in paths(findings, code) for code in findings)
        assert full in findings["routes-guarded"]["meaning"]
        assert "guards-unknown" not in findings

    def test_may_be_those_of_decorators_of_other_packages_which_are_not_read(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        def add(app: Flask) -> None:
            cached = Cache(app, config={"CACHE_TYPE": "SimpleCache"}).cached()
            app.add_url_rule("/x", "x", cached(view))

        name = "flask_caching.Cache.cached"
        unnamed = examine(made(make_host, sqlite_url, add))["routes-unchecked"]
        named = examine(made(make_host, sqlite_url, add, XGEN_SESSIONS_GUARDS=[name]))

        assert unnamed["meaning"].endswith(f"which was not read: {name} (1).")
        assert name in named["routes-guarded"]["meaning"]
        assert "/x" not in paths(named, "routes-unchecked")

    def test_that_are_in_front_of_no_route_are_reported(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        host = made(
            make_host, sqlite_url, decorated(by_an_api_key),
            XGEN_SESSIONS_GUARDS=["myapp.require_key", f"{__name__}.by_an_api"],
        )  # fmt: skip

        findings = examine(host)

        assert findings["guards-unknown"]["level"] == "warning"
        assert "myapp.require_key" in findings["guards-unknown"]["meaning"]
        assert "/x" in paths(findings, "routes-own-check")


def test_a_guard_that_uses_flask_login_counts_only_if_flask_login_knows_the_sessions(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def add(app: Flask) -> dict[str, Any]:
        app.login_manager.user_loader(lambda _: None)  # type: ignore[attr-defined]
        app.add_url_rule("/x", "x", require_role("any")(view))
        return {"login_manager": None}

    findings = examine(made(make_host, sqlite_url, add))

    assert "/x" in paths(findings, "routes-own-check")
