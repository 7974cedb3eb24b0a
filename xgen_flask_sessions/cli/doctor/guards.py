"""The checks in front of a route: those of the plugin, of Flask-Login, of the host, of others."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from types import FunctionType, MethodType
from typing import Any, Final, Literal

import flask_login
from flask import Flask
from flask_login import AnonymousUserMixin, login_required
from flask_login.config import EXEMPT_METHODS

from xgen_flask_sessions.cli.doctor.anonymous import Reading, Role, collect_g, read
from xgen_flask_sessions.cli.doctor.doors import (
    BY_CODE,
    OWN,
    Door,
    called_door,
    cells_of,
    door_of,
    is_connected,
)
from xgen_flask_sessions.cli.doctor.following import is_of_the_host
from xgen_flask_sessions.cli.doctor.known import Caller
from xgen_flask_sessions.web.marks import PREFLIGHT, guard_of, is_checking_caller
from xgen_flask_sessions.web.request_token import token_required

Strength = Literal["checked", "guarded", "door", "none"]
"""From the strongest to none; of several checks in front of a route, the strongest counts."""

_STRENGTHS: Final[tuple[Strength, ...]] = ("checked", "guarded", "door", "none")
_LOGIN_CHECKS: Final = (login_required, flask_login.fresh_login_required)
_READ: Final = (
    *("flask", "flask_admin", "flask_login", __name__.partition(".")[0]),
    *("flask_jwt_extended", "flask_security", "flask_httpauth", "authlib"),
)
"""Packages whose decorators are known."""
_VIEW_NAMES: Final = ("f", "fn", "func", "function", "view", "view_func", "wrapped", "method")


@dataclass(frozen=True, slots=True)
class Check:
    """A check in front of a route."""

    strength: Strength
    name: str = ""
    """The host's guard, in words."""
    door: Door | None = None

    def rank(self) -> int:
        """Return a number that is lower for a stronger check."""
        return _STRENGTHS.index(self.strength)


NONE: Final = Check("none")
CHECKED: Final = Check("checked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A route and one of its methods."""

    endpoint: str
    method: str
    path: str | None
    """The path; ``None`` if it has variables."""


class Guards:
    """Finds the checks of functions in front of routes.

    :param app: The application.
    :param names: Names of the host's functions that guard: ``XGEN_SESSIONS_GUARDS``.
    :param login_counts: Whether Flask-Login knows these sessions.
    """

    def __init__(self, app: Flask, names: Collection[str], *, login_counts: bool) -> None:
        self._app = app
        self._names = names
        self._login_counts = login_counts
        manager = getattr(app, "login_manager", None)
        make_user = getattr(manager, "anonymous_user", AnonymousUserMixin)
        self._user = make_user() if callable(make_user) else AnonymousUserMixin()
        self.used_names: set[str] = set()
        self._callers: dict[Place, Caller] = {}

    def strongest(self, function: Any, place: Place, role: Role) -> Check:
        """Return the strongest check among a function and those that it wraps.

        :param role: The meaning of the innermost function's end; the others are wrappers.
        """
        layers = list(layers_of(function))
        checks = [
            self._check(layer, place, role if is_last else "wrapper", inner)
            for layer, inner, is_last in zip(
                layers,
                [*layers[1:], None],
                [*[False] * (len(layers) - 1), True],
                strict=True,
            )
        ]
        return strongest(checks)

    def of_decorator(self, decorator: Any, place: Place) -> Check:
        """Return the check of a decorator that a class applies at each call."""
        if decorator is token_required:
            return CHECKED if place.method != PREFLIGHT else NONE
        if decorator in _LOGIN_CHECKS:
            return CHECKED if self._login_counts_for(place) else NONE

        def decorated(*_: Any, **__: Any) -> None:
            """Stand for the view."""

        try:
            wrapper = decorator(decorated)
        except Exception:  # a decorator that needs another kind of view
            return NONE
        return self.strongest(wrapper, place, "view")

    def knows_sessions(self, callback: Any) -> bool:
        """Return whether a callback of the host verifies these sessions, or is a named guard."""
        return self._named_guard(callback) is not None or self._asks(callback)

    def _check(self, layer: Any, place: Place, role: Role, inner: Any) -> Check:
        if is_checking_caller(layer, place.method):
            return CHECKED
        if _is_login_check(layer):
            return CHECKED if self._login_counts_for(place) else NONE
        name = self._named_guard(layer)
        if name is not None:
            return Check("guarded", name)
        if is_connected(layer, self._app, self._asks):
            return Check("guarded", "a check of another package that is connected to the sessions")
        door = door_of(layer, self._app, self._asks)
        if door is not None:
            return Check("door", door=door)
        return self._check_by_reading(layer, place, role, inner)

    def _login_counts_for(self, place: Place) -> bool:
        return self._login_counts and place.method not in EXEMPT_METHODS

    def _named_guard(self, layer: Any) -> str | None:
        """Return the mark of a layer or of its maker, or its name in the configuration."""
        marked = guard_of(layer) or guard_of(_maker(layer))
        if marked is not None:
            return marked
        own = name_of(layer)
        for name in self._names:
            if f"{own}.".startswith(f"{name}."):
                self.used_names.add(name)
                return name
        return None

    def _check_by_reading(self, layer: Any, place: Place, role: Role, inner: Any) -> Check:
        layer = _as_function(layer)
        plain = getattr(layer, "__func__", layer)
        if not isinstance(plain, FunctionType) or not is_of_the_host(plain, self._app):
            return NONE
        found = read(layer, self._caller(place), role, inner=inner, foreign=called_door)
        if found is None or found.admits:
            return NONE
        return self._weighed(found, role, name_of(layer))

    def _weighed(self, found: Reading, role: Role, name: str) -> Check:
        if found.asks and self._login_counts:
            return Check("guarded", name)
        if found.others:
            return Check("door", door=BY_CODE[min(found.others)])
        if role in ("wrapper", "before"):
            return Check("door", door=OWN)
        return NONE

    def _asks(self, callback: Any) -> bool:
        place = Place(endpoint="", method="GET", path=None)
        found = read(callback, self._caller(place), "predicate") if callback is not None else None
        return found is not None and found.asks

    def _caller(self, place: Place) -> Caller:
        if place not in self._callers:
            caller = Caller(
                app=self._app,
                user=self._user,
                endpoint=place.endpoint,
                method=place.method,
                path=place.path,
            )
            before = chain.from_iterable(self._app.before_request_funcs.values())
            self._callers[place] = replace(caller, g=collect_g(before, caller))
        return self._callers[place]


def strongest(checks: list[Check]) -> Check:
    """Return the strongest of some checks."""
    return min(checks, key=Check.rank, default=NONE)


def layers_of(function: Any) -> Iterator[Any]:
    """Yield a function and the functions that its decorators wrap."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        else:
            function = getattr(function, "__wrapped__", None) or _wrapped_unnamed(function)


def unread_decorators(view: Any, app: Flask) -> Iterator[str]:
    """Yield the names of a view's decorators that other packages made and that are not read."""
    for layer in layers_of(view):
        plain = getattr(layer, "__func__", layer)
        if not isinstance(plain, FunctionType) or is_of_the_host(plain, app):
            continue
        package = str(plain.__globals__.get("__name__", "")).partition(".")[0]
        is_wrapper = "<locals>" in plain.__code__.co_qualname
        if is_wrapper and package not in _READ and package not in sys.stdlib_module_names:
            yield name_of(layer)


def _as_function(layer: Any) -> Any:
    """Return the method of an object that is called as a function."""
    call = vars(type(layer)).get("__call__")
    is_object = isinstance(call, FunctionType) and not isinstance(layer, FunctionType | MethodType)
    return MethodType(call, layer) if is_object else layer


def _wrapped_unnamed(function: Any) -> Any:
    """Return the function that a wrapper without ``functools.wraps`` calls."""
    if isinstance(function, FunctionType):
        is_wrapper = "<locals>" in function.__code__.co_qualname
        found = dict(cells_of(function)) if is_wrapper else {}
    elif isinstance(function, MethodType | type):
        return None
    else:
        found = getattr(function, "__dict__", {})
    functions = {name: each for name, each in found.items() if isinstance(each, FunctionType)}
    if len(functions) > 1:
        functions = {name: each for name, each in functions.items() if name in _VIEW_NAMES}
    return next(iter(functions.values())) if len(functions) == 1 else None


def name_of(layer: Any) -> str:
    """Return the name of a function, or of the decorator that made it, as it was written."""
    plain = getattr(layer, "__func__", layer)
    code = getattr(plain, "__code__", None)
    if code is None:  # an object with __call__
        return f"{type(layer).__module__}.{type(layer).__qualname__}"
    owner = getattr(layer, "__self__", None)
    if owner is not None and not isinstance(owner, type):  # also a method that a class inherited
        return f"{type(owner).__module__}.{type(owner).__qualname__}.{code.co_name}"
    module = plain.__globals__.get("__name__", "")
    return f"{module}.{code.co_qualname.partition('.<locals>')[0]}"


def _maker(layer: Any) -> Any:
    """Return the decorator that made a wrapper, if it is at the top of its module."""
    code = getattr(layer, "__code__", None)
    if code is None:
        return type(layer)
    maker, _, local = code.co_qualname.partition(".<locals>")
    return layer.__globals__.get(maker) if local else None


def _is_login_check(layer: Any) -> bool:
    """Return whether *layer* is a wrapper by Flask-Login, even if another decorator renamed it."""
    code = getattr(layer, "__code__", None)
    if code is None or layer.__globals__.get("__name__") != login_required.__module__:
        return False
    maker, _, local = code.co_qualname.partition(".")
    return bool(local) and maker in {check.__name__ for check in _LOGIN_CHECKS}
