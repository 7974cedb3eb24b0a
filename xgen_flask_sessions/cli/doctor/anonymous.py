"""Reads how a function treats a caller that is not signed in. No function of the host is called.

A function of the host may guard a route: a decorator's wrapper, a ``before_request`` function, an
``is_accessible()``, a view. Each path through its source is followed. What is known of the request
(the endpoint, the method, an anonymous ``current_user``, an empty session) decides a condition; at
any other condition, both branches are followed. So a function counts as a guard only if no path
admits the caller.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, Final, Literal

from xgen_flask_sessions.cli.doctor import known
from xgen_flask_sessions.cli.doctor.following import Foreign, Reader, tree_of
from xgen_flask_sessions.cli.doctor.known import Caller, Raised
from xgen_flask_sessions.cli.doctor.statements import Local

Role = Literal["wrapper", "before", "predicate", "view"]

_MOST_PATHS: Final = 300
_REFUSALS: Final = (401, 403, 404)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a function treats a caller that is not signed in."""

    admits: bool
    """Whether at least one path admits the caller."""
    asks: bool
    """Whether it looks at ``current_user``, ``current_token`` or a token of these sessions."""
    others: frozenset[str] = frozenset()
    """The checks of other packages that it calls."""


def _no_check(_: Any) -> None:
    return None


def read(
    function: Any, caller: Caller, role: Role, *, inner: Any = None, foreign: Foreign = _no_check
) -> Reading | None:
    """Follow a function for an anonymous caller; ``None`` if its source is not known.

    :param function: A function or a bound method.
    :param role: The meaning of its end: a wrapper admits by calling *inner*, a ``before_request``
        function by returning ``None``, a predicate by a true value, a view by its answer.
    :param inner: The function that a wrapper wraps.
    :param foreign: Returns the name of another package's check, if its argument is one.
    """
    plain, bound = _unbound(function)
    if plain is None or tree_of(plain.__code__) is None:
        return None
    reader = Reader(caller, inner, foreign, is_view=role == "view")
    ends: set[ast.Return | None] = set()
    for _ in range(_MOST_PATHS):
        reader.ended_at = None
        if _is_admitted(reader, plain, bound, role):
            return Reading(True, reader.asks, frozenset(reader.others))
        ends.add(reader.ended_at)
        if not reader.decisions.advance():
            ends.discard(None)
            admits = role == "view" and bool(ends) and ends <= _ends(plain, bound, caller)
            return Reading(admits, reader.asks, frozenset(reader.others))
    return Reading(True, reader.asks)


def _ends(plain: FunctionType, bound: tuple[Any, ...], caller: Caller) -> set[ast.Return | None]:
    """Return the statements where a view ends for a caller that is signed in.

    A redirect that those callers get too, such as the one after a form, refuses nobody.
    """
    reader = Reader(caller.signed_in(), None, _no_check, is_view=True)
    ends: set[ast.Return | None] = set()
    for _ in range(_MOST_PATHS):
        reader.ended_at = None
        _is_admitted(reader, plain, bound, "view")
        ends.add(reader.ended_at)
        if not reader.decisions.advance():
            break
    return ends


def collect_g(functions: Iterable[Any], caller: Caller) -> dict[str, Any]:
    """Return the attributes of ``flask.g`` that functions set for an anonymous caller.

    :param functions: ``before_request`` functions of the application.
    """
    found: dict[str, Any] = {}
    for function in functions:
        plain, bound = _unbound(function)
        if plain is not None and tree_of(plain.__code__) is not None:
            reader = Reader(caller, None, _no_check, is_view=False)
            _is_admitted(reader, plain, bound, "before")
            found.update(reader.g)
    return found


def _unbound(function: Any) -> tuple[FunctionType | None, tuple[Any, ...]]:
    """Return the plain function, and the values of its first parameters."""
    bound = (function.__self__,) if isinstance(function, MethodType) else ()
    plain = getattr(function, "__func__", function)
    return plain if isinstance(plain, FunctionType) else None, bound


def _is_admitted(reader: Reader, plain: FunctionType, bound: tuple[Any, ...], role: Role) -> bool:
    """Follow one path; return whether it admits the caller."""
    try:
        return _admits(reader, reader.call(plain, bound), role)
    except Raised:
        return False
    except Exception:  # it calls the decorated function, or cannot be followed to its end
        return True


def _admits(reader: Reader, value: Any, role: Role) -> bool:
    """Return whether a function that returns *value* admits the caller."""
    if role == "wrapper":
        return value is known.INNER or isinstance(value, Local)
    if role == "before":
        return value is None or value is known.UNKNOWN
    if role == "predicate":
        return value is known.UNKNOWN or reader.truth(value)
    return not _is_refusal(value)


def _is_refusal(answer: Any) -> bool:
    """Return whether a view's answer is a redirect or has a status of a refusal."""
    if isinstance(answer, tuple):
        return any(isinstance(part, int) and part in _REFUSALS for part in answer)
    return answer is known.REDIRECT
