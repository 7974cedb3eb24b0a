"""Follows one path through a function's source. No function of the host is called.

A condition that the known values do not decide asks for a decision; :class:`Decisions` takes each
of them in turn.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import flask
import flask_login
from flask_login import LoginManager
from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy

from xgen_flask_sessions.cli.doctor import known
from xgen_flask_sessions.cli.doctor.known import UNKNOWN, Caller, Raised, TooMuch, is_known
from xgen_flask_sessions.cli.doctor.statements import Frame, Function, Local
from xgen_flask_sessions.errors import TokenMissing
from xgen_flask_sessions.web import request_token

_MOST_DECISIONS: Final = 40
_MOST_DEPTH: Final = 6
_PACKAGES: Final = tuple(
    str(Path(place).resolve())
    for place in (
        *(str(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")),
        str(Path(__file__).parents[2]),
    )
)

_PACKAGE: Final = re.compile(r"[\\/](?:site|dist)-packages[\\/]")

Foreign = Callable[[Any], str | None]


class Admitted(Exception):
    """The decorated function is called."""


@lru_cache(maxsize=4000)
def tree_of(code: CodeType) -> Function | None:
    """Return the syntax tree of a function; ``None`` without its source."""
    try:
        module = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    found = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        and getattr(node, "name", "<lambda>") == code.co_name
    ]
    if code.co_name == "<lambda>" and len(found) > 1:
        return None
    return found[0] if found else None


def is_of_the_host(function: FunctionType, app: flask.Flask) -> bool:
    """Return whether a function is the application's, not of another package or of Python."""
    name = str(function.__globals__.get("__name__", ""))
    if name.partition(".")[0] == app.import_name.partition(".")[0]:
        return True
    place = str(Path(function.__code__.co_filename).resolve())
    return not place.startswith(_PACKAGES) and not _PACKAGE.search(place)


class Decisions:
    """The decisions of one path, and the next path's."""

    def __init__(self) -> None:
        self._planned: list[bool] = []
        self._taken: list[bool] = []

    def take(self) -> bool:
        """Decide a condition that the known values leave open."""
        if len(self._taken) >= _MOST_DECISIONS:
            raise TooMuch
        place = len(self._taken)
        decision = self._planned[place] if place < len(self._planned) else True
        self._taken.append(decision)
        return decision

    def advance(self) -> bool:
        """Prepare the next path; return whether there is one."""
        while self._taken and not self._taken[-1]:
            self._taken.pop()
        if not self._taken:
            return False
        self._planned, self._taken = [*self._taken[:-1], False], []
        return True


class Reader:
    """Follows functions for one caller.

    :param inner: The function that a wrapper wraps.
    :param foreign: Returns the name of another package's check that refuses callers.
    :param is_view: Whether the function is a view: a missing attribute of the anonymous user is
        then no refusal.
    """

    def __init__(self, caller: Caller, inner: Any, foreign: Foreign, *, is_view: bool) -> None:
        self.decisions = Decisions()
        self.asks = False
        self.others: set[str] = set()
        self.g: dict[str, Any] = {}
        self.ended_at: ast.Return | None = None
        self._caller = caller
        self._inner = inner
        self._foreign = foreign
        self._is_view = is_view
        self._depth = 0

    def call(
        self,
        function: FunctionType,
        arguments: Iterable[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        """Follow one path through a function, and return its value.

        :param arguments: The values of its first parameters.
        :raises Raised: The path ends with an exception.
        :raises Admitted: The path calls the decorated function.
        :raises TooMuch: There are too many paths.
        """
        tree = tree_of(function.__code__)
        if tree is None or self._depth >= _MOST_DEPTH:
            return UNKNOWN
        names = dict(_closure(function))
        code = function.__code__
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        names.update(dict.fromkeys(parameters, UNKNOWN))
        defaults = function.__defaults__ or ()
        positional = code.co_varnames[: code.co_argcount]
        names.update(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
        names.update(function.__kwdefaults__ or {})
        names.update(zip(positional, arguments, strict=False))
        given = keywords or {}
        names.update((name, given[name]) for name in parameters if name in given)
        return self._within(lambda: Frame(self, names, function.__globals__).run(tree))

    def _within(self, follow: Callable[[], Any]) -> Any:
        self._depth += 1
        try:
            return follow()
        finally:
            self._depth -= 1

    def meet(self, value: Any) -> Any:
        """Return the known value for an object that the source names."""
        if value is flask_login.current_user:
            self.asks = True
            return self._caller.user
        if value is request_token.current_token:
            self.asks = True
            return self._caller.token
        for proxy, mark in ((flask.request, known.REQUEST), (flask.g, known.G)):
            if value is proxy:
                return mark
        if value is flask.session:
            return {}
        if value is flask.current_app:
            return self._caller.app
        if self._inner is not None and value is self._inner:
            return known.INNER
        if type(value) is LocalProxy:
            return self._proxied(value)
        return value

    def _proxied(self, proxy: Any) -> Any:
        target = object.__getattribute__(proxy, "_LocalProxy__wrapped")  # without calling it
        return self._call_host(target, ()) if isinstance(target, FunctionType) else UNKNOWN

    def attribute(self, owner: Any, name: str) -> Any:
        """Return an attribute of a value."""
        if owner is self._caller.user:
            self.asks = True
            return self._of_user(name)
        if owner is None or owner is known.TOKEN:
            return self._missing()
        if owner is known.REQUEST:
            return self._caller.request_attribute(name)
        if owner is known.G:
            if name == "get":
                return known.G
            return self.g.get(name, self._caller.g.get(name, UNKNOWN))
        if isinstance(owner, known.Mark):
            return owner if owner is known.HEADERS and name == "get" else UNKNOWN
        if isinstance(owner, (*known.PURE, ModuleType, type, flask.Flask, LoginManager)):
            return self.meet(_attribute(owner, name))
        return self._of_object(owner, name)

    def _of_user(self, name: str) -> Any:
        found = inspect.getattr_static(self._caller.user, name, UNKNOWN)
        if found is UNKNOWN:
            return self._missing()
        return self._of_object(self._caller.user, name)

    def _of_object(self, owner: Any, name: str) -> Any:
        if name in getattr(owner, "__dict__", {}):
            return self.meet(owner.__dict__[name])
        found = inspect.getattr_static(owner, name, UNKNOWN)
        if isinstance(found, property):
            return self._call_host(found.fget, (owner,), everywhere=True)
        if isinstance(found, staticmethod | classmethod):
            return found.__func__
        if isinstance(found, FunctionType):
            return MethodType(found, owner)
        return UNKNOWN if inspect.isdatadescriptor(found) else self.meet(found)

    def _missing(self) -> Any:
        if self._is_view:
            return UNKNOWN
        raise Raised(AttributeError)

    def called(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Return the value of a call."""
        if function is known.INNER:
            raise Admitted
        if function is known.CHECKED:
            raise Raised(TokenMissing)
        if getattr(function, "__name__", "") == "abort":  # of Flask, Werkzeug and others
            raise Raised(HTTPException)
        self._note_foreign(function)
        if known.is_one_of(function, known.CHECKS):
            self.asks = True
            return known.CHECKED
        if known.is_one_of(function, known.VERIFYING):
            self.asks = True
            raise Raised(TokenMissing)
        result = self._result(function, arguments, keywords)
        if result is UNKNOWN and known.is_one_of(known.INNER, [*arguments, *keywords.values()]):
            return known.INNER  # such as current_app.ensure_sync(view)
        return result

    def _note_foreign(self, function: Any) -> None:
        name = self._foreign(function)
        if name is not None:
            self.others.add(name)
            raise Raised(None)

    def _result(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if isinstance(function, Local):
            if self._depth >= _MOST_DEPTH:
                raise TooMuch
            return self._within(lambda: function.call(self, arguments, keywords))
        plain = getattr(function, "__func__", function)
        try:
            answer = known.ANSWERS.get(plain)
        except TypeError:  # not hashable
            return UNKNOWN
        if answer is not None:
            return answer
        if function is known.HEADERS:
            is_secret = isinstance(arguments[0], str) and known.SECRET_HEADER.search(arguments[0])
            return (arguments[1] if len(arguments) > 1 else None) if is_secret else UNKNOWN
        if function is known.G:
            return self.attribute(known.G, arguments[0]) if is_known(arguments) else UNKNOWN
        if known.is_one_of(function, (hasattr, getattr, isinstance)):
            return self._ask_builtin(function, arguments)
        if _is_pure(function) and is_known(arguments) and is_known(keywords):
            return _tried(function, *arguments, **keywords)
        if isinstance(function, MethodType):
            everywhere = function.__self__ is self._caller.user
            own = (function.__self__, *arguments)
            return self._call_host(function.__func__, own, keywords, everywhere=everywhere)
        return self._call_host(function, arguments, keywords)

    def _ask_builtin(self, function: Any, arguments: list[Any]) -> Any:
        if len(arguments) < 2:
            return UNKNOWN
        value = arguments[0]
        if function is getattr and value is known.G and isinstance(arguments[1], str):
            return self.attribute(known.G, arguments[1])
        is_there = value is self._caller.user or isinstance(value, known.PURE)
        if not is_there or (function is not isinstance and not isinstance(arguments[1], str)):
            return UNKNOWN
        if function is getattr and value is self._caller.user:
            found = inspect.getattr_static(value, arguments[1], UNKNOWN)
            if found is UNKNOWN:
                return arguments[2] if len(arguments) > 2 else self._missing()
            return self.attribute(value, arguments[1])
        return _tried(function, *arguments)

    def _call_host(
        self,
        function: Any,
        arguments: Iterable[Any],
        keywords: Mapping[str, Any] | None = None,
        *,
        everywhere: bool = False,
    ) -> Any:
        if not isinstance(function, FunctionType):
            return UNKNOWN
        if everywhere or is_of_the_host(function, self._caller.app):
            return self.call(function, arguments, keywords)
        return UNKNOWN

    def truth(self, value: Any) -> bool:
        """Return whether a value is true; decide, if that is not known."""
        if value is known.TOKEN:
            return False
        if known.is_one_of(value, (known.INNER, known.ANSWER, known.REDIRECT, known.CHECKED)):
            return True
        if isinstance(value, Local):
            return True
        if isinstance(value, known.Mark):
            return self.decisions.take()
        if isinstance(value, (*known.PURE, re.Match)):
            return bool(value)
        return True if value is self._caller.user else self.decisions.take()


def _closure(function: FunctionType) -> Iterable[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except Exception:  # a descriptor of the host may raise anything
        return UNKNOWN


def _is_pure(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, known.PURE) and not isinstance(owner, type) and owner is not None:
        return True
    if isinstance(owner, re.Pattern) or getattr(function, "__module__", "") == "re":
        return True
    return known.is_one_of(function, (bool, len, any, all, str, int, set, list, tuple, sorted))


def _tried(function: Any, *arguments: Any, **keywords: Any) -> Any:
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        raise Raised(type(error)) from None
