"""Finds routes that admit every caller, by examining the application; no view is called.

A route is checked if a check that knows revoked sessions runs before the view: ``token_required``,
Flask-Login's ``login_required``, one of the plugin's own, or one of the application's own; on the
view, on its class or method, or in a ``before_request`` function of the application or of the
view's blueprint. A check does not count for ``OPTIONS`` if it admits preflights, as
``token_required`` and Flask-Login's do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from flask import Flask
from flask.views import MethodView, View, http_method_funcs
from flask_admin import BaseView
from flask_login import LoginManager
from werkzeug.routing import Rule

from xgen_flask_sessions.cli.doctor.doors import Door
from xgen_flask_sessions.cli.doctor.findings import Finding, Route
from xgen_flask_sessions.cli.doctor.guards import (
    CHECKED,
    Check,
    Guards,
    Place,
    layers_of,
    name_of,
    strongest,
    unread_decorators,
)
from xgen_flask_sessions.cli.terminal import counted
from xgen_flask_sessions.state import get_state
from xgen_flask_sessions.web.login_bridge import LoginBridge
from xgen_flask_sessions.web.login_views import HOW_TO_MEND, find_wrong
from xgen_flask_sessions.web.marks import guard_of, is_open_to_all
from xgen_flask_sessions.web.same_site import SAFE_METHODS

RouteStatus = Literal["checked", "guarded", "own rule", "open", "other", "unchecked"]


def unknown_endpoints(app: Flask, endpoints: Iterable[str]) -> list[str]:
    """Return those of *endpoints* that the application does not have."""
    return [endpoint for endpoint in endpoints if endpoint not in app.view_functions]


def examine_routes(
    app: Flask, opened: Collection[str], guards: Collection[str] = ()
) -> Iterator[Finding]:
    """Examine the checks in front of every route.

    :param app: The application.
    :param opened: Endpoints that are meant to be open.
    :param guards: Names of the host's functions that guard: ``XGEN_SESSIONS_GUARDS``.
    """
    yield from _examine_login_manager(app)
    survey = _Survey(app, opened, guards)
    routes: dict[RouteStatus, list[Route]] = {status: [] for status in get_args(RouteStatus)}
    doors: dict[Door, list[Route]] = {}
    names: set[str] = set()
    unread: Counter[str] = Counter()
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        if view is None or rule.build_only:
            continue
        for status, methods, check in survey.examine(rule, view):
            shown = ("WEBSOCKET",) if rule.websocket else tuple(methods)
            found = Route(methods=shown, path=rule.rule, endpoint=rule.endpoint)
            routes[status].append(found)
            if status == "other" and check.door is not None:
                doors.setdefault(check.door, []).append(found)
            if status == "guarded":
                names.add(check.name)
            if status == "unchecked":
                unread.update(set(unread_decorators(view, app)))
    yield from _report(routes, sorted(names), unread)
    yield from map(_report_door, doors, doors.values())
    yield from _examine_loader(app, survey.guards)
    yield from _report_unused(set(guards) - survey.guards.used_names)


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


def _examine_loader(app: Flask, guards: Guards) -> Iterator[Finding]:
    bridge = LoginBridge.find(getattr(app, "login_manager", None))
    loader = bridge.loader_of_requests() if bridge is not None else None
    if loader is None or guards.knows_sessions(loader):
        return
    meaning = (
        f"{name_of(loader)} signs callers in by what it reads from the request: a force logout "
        "does not end that, so login_required admits a user who was forced out."
    )
    mend = (
        "Have it refuse such users, for example by deleting their keys at the signal "
        "user_forced_out, and mark it with @guarded_by."
    )
    if "headers" in get_state().settings.token_locations:
        meaning += " It is not called for a request with a Bearer token."
        mend += " If it reads Bearer tokens, set XGEN_SESSIONS_TOKEN_LOCATIONS to ['cookies']."
    yield Finding(level="warning", code="request-loader", meaning=meaning, mend=mend)


def _report_door(door: Door, routes: list[Route]) -> Finding:
    return Finding(
        level="warning",
        code=door.code,
        meaning=f"{counted(len(routes), 'route')} behind {door.name}: a force logout does not "
        "close it, so a user who was forced out gets in until the token expires there.",
        mend="Put @token_required or @login_required there, or call sessions.verify() in the "
        "check. If the check refuses such users by other means, mark it with @guarded_by or name "
        "it in XGEN_SESSIONS_GUARDS.",
        routes=_sorted(routes),
    )


def _report_unused(names: Collection[str]) -> Iterator[Finding]:
    if names:
        yield Finding(
            level="warning",
            code="guards-unknown",
            meaning=f"XGEN_SESSIONS_GUARDS names {', '.join(sorted(names))}, which is in front of "
            "no route.",
            mend="Name a function by its module, such as myapp.auth.require_role.",
        )


def _report(
    routes: dict[RouteStatus, list[Route]], guards: list[str], unread: Counter[str]
) -> Iterator[Finding]:
    yield Finding(
        level="ok",
        code="routes-checked",
        meaning=f"{counted(len(routes['checked']), 'route')} with a check: only callers with an "
        "active session get in.",
    )
    if routes["guarded"]:
        yield Finding(
            level="ok",
            code="routes-guarded",
            meaning=f"{counted(len(routes['guarded']), 'route')} guarded by the application's own "
            f"checks: {', '.join(guards)}.",
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
            f"gets in, even after a force logout{_describe_unread(unread)}.",
            mend="Put @token_required or @login_required (which admit OPTIONS) directly above the "
            "function, or give the view of Flask-Admin an is_accessible(). If it is meant to be "
            "open, mark it with @open_to_all or name it with --open; if it has a check that "
            "doctor does not recognize, mark the check with @guarded_by, or name it in "
            "XGEN_SESSIONS_GUARDS.",
            routes=_sorted(routes["unchecked"]),
        )


def _describe_unread(unread: Counter[str]) -> str:
    """Return a clause about decorators of other packages, each with the number of its routes."""
    if not unread:
        return ""
    names = ", ".join(f"{name} ({number})" for name, number in unread.most_common())
    return f", unless a decorator of another package guards them, which was not read: {names}"


def _sorted(routes: list[Route]) -> tuple[Route, ...]:
    """Return the routes, those with unsafe methods first."""
    return tuple(
        sorted(routes, key=lambda route: (SAFE_METHODS.issuperset(route.methods), route.path))
    )


class _Survey:
    """The checks in front of an application's views.

    :param app: The application.
    :param opened: Endpoints that are meant to be open.
    :param guards: Names of the host's functions that guard.
    """

    def __init__(self, app: Flask, opened: Collection[str], guards: Collection[str]) -> None:
        self._app = app
        manager = getattr(app, "login_manager", None)
        login_counts = (
            manager is not None
            and LoginBridge.knows(manager)
            and not app.config.get("LOGIN_DISABLED")
        )
        self.guards = Guards(app, guards, login_counts=login_counts)
        self._open_endpoints = {*opened, *_static_endpoints(app)}
        self._sign_in_places = set(_sign_in_places(app, manager))

    def examine(self, rule: Rule, view: Any) -> Iterator[tuple[RouteStatus, list[str], Check]]:
        """Yield a route's statuses, the methods that have each, and one of their checks."""
        path = None if rule.arguments else rule.rule
        found = {
            method: self._strongest(Place(endpoint=rule.endpoint, method=method, path=path), view)
            for method in _methods_of(rule, view)
        }
        if not found:
            yield "checked", [], CHECKED
        is_open = self._is_open(rule, view)
        admin_view = _admin_view(view)
        has_own_rule = admin_view is not None and _has_own_rule(admin_view)
        groups: dict[tuple[RouteStatus, Door | None], list[str]] = {}
        for method, check in found.items():
            status: RouteStatus = "unchecked"
            if check.strength in ("checked", "guarded"):
                status = "checked" if check.strength == "checked" else "guarded"
            elif has_own_rule:
                status = "own rule"
            elif is_open:
                status = "open"
            elif check.door is not None:
                status = "other"
            groups.setdefault((status, check.door), []).append(method)
        best = {"checked", "guarded"}
        is_listed = any(status not in best for status, _ in groups)
        for (status, door), methods in groups.items():
            if status not in best or not is_listed:
                yield status, methods, Check("door", door=door) if door else found[methods[0]]

    def _is_open(self, rule: Rule, view: Any) -> bool:
        return (
            rule.endpoint in self._open_endpoints
            or _place(rule) in self._sign_in_places
            or any(map(is_open_to_all, layers_of(view)))
        )

    def _strongest(self, place: Place, view: Any) -> Check:
        """Return the strongest check in front of a view."""
        checks = list(self._before(place))
        admin_view = _admin_view(view)
        if admin_view is not None:
            checks.append(self.guards.strongest(admin_view.is_accessible, place, "predicate"))
        checks.append(self.guards.strongest(view, place, "view"))
        checks += self._of_class(place, view)
        return strongest(checks)

    def _before(self, place: Place) -> Iterator[Check]:
        """Yield the checks of ``before_request`` functions."""
        functions = self._app.before_request_funcs
        blueprint = place.endpoint.rpartition(".")[0]
        while True:
            for function in functions.get(blueprint or None, ()):
                yield self.guards.strongest(function, place, "before")
            if not blueprint:
                return
            blueprint = blueprint.rpartition(".")[0]  # the outer blueprint

    def _of_class(self, place: Place, view: Any) -> Iterator[Check]:
        """Yield the checks of a class-based view."""
        view_class = _view_class(view)
        if view_class is None:
            return
        for decorator in [*view_class.decorators, *_method_decorators(view_class, place.method)]:
            yield self.guards.of_decorator(decorator, place)
        marked = guard_of(view_class)
        if marked is not None:
            yield Check("guarded", marked)
        yield self.guards.strongest(view_class.dispatch_request, place, "view")
        if issubclass(view_class, MethodView):
            method = getattr(view_class, place.method.lower(), None)
            if method is None and place.method == "HEAD":
                method = getattr(view_class, "get", None)
            if method is not None:
                yield self.guards.strongest(method, place, "view")


def _method_decorators(view_class: type[View], method: str) -> list[Any]:
    """Return the decorators that a resource of Flask-RESTful applies at each call."""
    found = getattr(view_class, "method_decorators", ())
    if isinstance(found, dict):
        found = found.get(method.lower(), ())
    return list(found) if isinstance(found, list | tuple) else []


def _admin_view(view: Any) -> Any | None:
    """Return the view of Flask-Admin that *view* is a method of, if it is one."""
    for layer in layers_of(view):
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
