"""Finds routes that admit every caller, by examining the application; no view is called.

A route is checked if a check that knows revoked sessions runs before the view: ``token_required``,
Flask-Login's ``login_required``, or one of the plugin's own; on the view, on its class or method,
or in a ``before_request`` function of the application or of the view's blueprint. A check does not
count for ``OPTIONS`` if it admits preflights, as ``token_required`` and Flask-Login's do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from flask import Flask
from flask.views import MethodView, View, http_method_funcs
from flask_admin import BaseView
from flask_login import LoginManager, fresh_login_required, login_required
from flask_login.config import EXEMPT_METHODS
from werkzeug.routing import Rule

from xgen_flask_sessions.cli.doctor.findings import Finding, Route
from xgen_flask_sessions.cli.terminal import counted
from xgen_flask_sessions.web.login_bridge import LoginBridge
from xgen_flask_sessions.web.login_views import HOW_TO_MEND, find_wrong
from xgen_flask_sessions.web.marks import PREFLIGHT, is_checking_caller, is_open_to_all
from xgen_flask_sessions.web.request_token import token_required
from xgen_flask_sessions.web.same_site import SAFE_METHODS

RouteStatus = Literal["checked", "own rule", "open", "unchecked"]

_LOGIN_CHECKS = (login_required, fresh_login_required)


def unknown_endpoints(app: Flask, endpoints: Iterable[str]) -> list[str]:
    """Return those of *endpoints* that the application does not have."""
    return [endpoint for endpoint in endpoints if endpoint not in app.view_functions]


def examine_routes(app: Flask, opened: Collection[str]) -> Iterator[Finding]:
    """Examine the checks in front of every route.

    :param app: The application.
    :param opened: Endpoints that are meant to be open.
    """
    yield from _examine_login_manager(app)
    survey = _Survey(app, opened)
    routes: dict[RouteStatus, list[Route]] = {status: [] for status in get_args(RouteStatus)}
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        if view is not None and not rule.build_only:
            status, methods = survey.status(rule, view)
            shown = ("WEBSOCKET",) if rule.websocket else tuple(methods)
            found = Route(methods=shown, path=rule.rule, endpoint=rule.endpoint)
            routes[status].append(found)
    yield from _report(routes)


def _examine_login_manager(app: Flask) -> Iterator[Finding]:
    manager = getattr(app, "login_manager", None)
    if manager is not None and not LoginBridge.knows(manager):
        yield Finding(
            level="warning",
            code="login-manager-apart",
            meaning="Flask-Login is not connected to these sessions: login_required accepts no "
            "token, and a user who was forced out can still open its pages.",
            mend="Pass login_manager= to init_app.",
        )
    if manager is not None:
        yield from _examine_login_views(app, manager)
    if manager is not None and app.config.get("LOGIN_DISABLED"):
        yield Finding(
            level="problem",
            code="login-disabled",
            meaning="LOGIN_DISABLED is on: Flask-Login's login_required admits every caller.",
            mend="Remove LOGIN_DISABLED from the configuration.",
        )


def _examine_login_views(app: Flask, manager: LoginManager) -> Iterator[Finding]:
    with app.test_request_context():
        wrong = list(find_wrong(manager))
    for view in wrong:
        yield Finding(
            level="problem",
            code="login-view-unknown",
            meaning=f"login_view {str(view)!r} is no page of this application: browsers without a "
            "session get a bare 401.",
            mend=HOW_TO_MEND,
        )


def _report(routes: dict[RouteStatus, list[Route]]) -> Iterator[Finding]:
    yield Finding(
        level="ok",
        code="routes-checked",
        meaning=f"{counted(len(routes['checked']), 'route')} with a check: only callers with an "
        "active session get in.",
    )
    if routes["open"]:
        yield Finding(
            level="ok",
            code="routes-open",
            meaning=f"{counted(len(routes['open']), 'route')} meant to be open.",
            routes=_sorted(routes["open"]),
        )
    if routes["own rule"]:
        yield Finding(
            level="ok",
            code="routes-own-rule",
            meaning=f"{counted(len(routes['own rule']), 'route')} of Flask-Admin with a rule of "
            "the application, which was not examined.",
            routes=_sorted(routes["own rule"]),
        )
    if routes["unchecked"]:
        yield Finding(
            level="warning",
            code="routes-unchecked",
            meaning=f"{counted(len(routes['unchecked']), 'route')} without a check: every caller "
            "gets in, even after a force logout.",
            mend="Put @token_required or @login_required (which admit OPTIONS) directly above the "
            "function, or give the view of Flask-Admin an is_accessible(). If it is meant to be "
            "open, mark it with @open_to_all or name it with --open.",
            routes=_sorted(routes["unchecked"]),
        )


def _sorted(routes: list[Route]) -> tuple[Route, ...]:
    """Return the routes, those with unsafe methods first."""
    return tuple(
        sorted(routes, key=lambda route: (SAFE_METHODS.issuperset(route.methods), route.path))
    )


class _Survey:
    """The checks in front of an application's views.

    :param app: The application.
    :param opened: Endpoints that are meant to be open.
    """

    def __init__(self, app: Flask, opened: Collection[str]) -> None:
        self._app = app
        manager = getattr(app, "login_manager", None)
        self._login_counts = (
            manager is not None
            and LoginBridge.knows(manager)
            and not app.config.get("LOGIN_DISABLED")
        )
        self._open_endpoints = {*opened, *_static_endpoints(app)}
        self._sign_in_places = set(_sign_in_places(app, manager))

    def status(self, rule: Rule, view: Any) -> tuple[RouteStatus, list[str]]:
        """Return a route's status, and the methods that have it."""
        methods = _methods_of(rule, view)
        unchecked = [
            method for method in methods if not self._is_checked(rule.endpoint, view, method)
        ]
        if not unchecked:
            return "checked", methods
        admin_view = _admin_view(view)
        if admin_view is not None and _has_own_rule(admin_view):
            return "own rule", unchecked
        if (
            rule.endpoint in self._open_endpoints
            or _place(rule) in self._sign_in_places
            or any(map(is_open_to_all, _layers(view)))
        ):
            return "open", unchecked
        return "unchecked", unchecked

    def _is_checked(self, endpoint: str, view: Any, method: str) -> bool:
        admin_view = _admin_view(view)
        return (
            self._is_checked_before(endpoint, method)
            or self._has_check(view, method)
            or (admin_view is not None and self._has_check(admin_view.is_accessible, method))
            or self._is_checked_by_class(view, method)
        )

    def _is_checked_before(self, endpoint: str, method: str) -> bool:
        """Return whether a ``before_request`` function checks the caller."""
        functions = self._app.before_request_funcs
        blueprint = endpoint.rpartition(".")[0]
        while True:
            for function in functions.get(blueprint or None, ()):
                if self._has_check(function, method):
                    return True
            if not blueprint:
                return False
            blueprint = blueprint.rpartition(".")[0]  # the outer blueprint

    def _is_checked_by_class(self, view: Any, method: str) -> bool:
        """Return whether a class-based view checks the caller by itself."""
        view_class = _view_class(view)
        if view_class is None:
            return False
        if any(self._is_decorator(decorator, method) for decorator in view_class.decorators):
            return True
        if self._has_check(view_class.dispatch_request, method):
            return True
        if not issubclass(view_class, MethodView):
            return False
        return self._has_check(getattr(view_class, method.lower(), None), method)

    def _has_check(self, function: Any, method: str) -> bool:
        login_counts = self._login_counts_for(method)
        return any(
            is_checking_caller(layer, method) or (login_counts and _is_login_check(layer))
            for layer in _layers(function)
        )

    def _is_decorator(self, decorator: Any, method: str) -> bool:
        if decorator is token_required:
            return method != PREFLIGHT
        return self._login_counts_for(method) and decorator in _LOGIN_CHECKS

    def _login_counts_for(self, method: str) -> bool:
        return self._login_counts and method not in EXEMPT_METHODS


def _layers(function: Any) -> Iterator[Any]:
    """Yield a function and the functions that its decorators wrap."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        else:
            function = getattr(function, "__wrapped__", None)


def _is_login_check(layer: Any) -> bool:
    """Return whether *layer* is a wrapper by Flask-Login, even if another decorator renamed it."""
    code = getattr(layer, "__code__", None)
    if code is None or layer.__globals__.get("__name__") != login_required.__module__:
        return False
    maker, _, local = code.co_qualname.partition(".")
    return bool(local) and maker in {check.__name__ for check in _LOGIN_CHECKS}


def _admin_view(view: Any) -> Any | None:
    """Return the view of Flask-Admin that *view* is a method of, if it is one."""
    for layer in _layers(view):
        owner = getattr(layer, "__self__", None)
        if isinstance(owner, BaseView):
            return owner
    return None


def _has_own_rule(admin_view: Any) -> bool:
    return any(
        not str(getattr(admin_view, name).__module__).startswith("flask_admin.")
        for name in ("is_accessible", "_handle_view")
    )


def _view_class(view: Any) -> type[View] | None:
    view_class = getattr(view, "view_class", None)
    is_one = isinstance(view_class, type) and issubclass(view_class, View)
    return view_class if is_one else None


def _methods_of(rule: Rule, view: Any) -> list[str]:
    """Return the view's methods, without a ``HEAD`` that Flask answers with ``GET``."""
    if rule.websocket:
        return ["GET"]  # the method of every handshake
    methods = rule.methods
    if methods is None:  # a rule of Werkzeug that accepts all methods
        methods = getattr(view, "methods", None) or {name.upper() for name in http_method_funcs}
    answered = set(methods)
    if getattr(rule, "provide_automatic_options", False):
        answered.discard("OPTIONS")
    view_class = _view_class(view) or View
    has_head = issubclass(view_class, MethodView) and hasattr(view_class, "head")
    if "GET" in answered and not has_head:
        answered.discard("HEAD")
    return sorted(answered)


def _static_endpoints(app: Flask) -> Iterator[str]:
    if app.has_static_folder:
        yield "static"
    for name, blueprint in app.blueprints.items():
        if blueprint.has_static_folder:
            yield f"{name}.static"


def _place(rule: Rule) -> tuple[str | None, str | None, str]:
    return rule.host, rule.subdomain, rule.rule


def _sign_in_places(app: Flask, manager: Any) -> Iterator[tuple[str | None, str | None, str]]:
    """Yield the places of the sign-in pages in the application, which also receive the forms."""
    if manager is None:
        return
    named = (manager.login_view, *manager.blueprint_login_views.values())
    views = {view for view in named if view and isinstance(view, str)}
    paths = {urlsplit(view).path for view in views if view.startswith("/") and view[:2] != "//"}
    for rule in app.url_map.iter_rules():
        if rule.endpoint in views or rule.rule in paths:
            yield _place(rule)
