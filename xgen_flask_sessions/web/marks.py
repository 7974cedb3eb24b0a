"""Marks on functions for ``doctor``: those that check the caller, and those meant to be open.

They do not change requests. ``flask xgen-sessions doctor`` reads them, through any decorator that
uses :func:`functools.wraps`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])

PREFLIGHT: Final = "OPTIONS"
"""The method of CORS preflights, which carry no credentials (Fetch standard, section 3.2.2)."""

_CHECKS_CALLER = "_xgen_sessions_checks_caller"
_ADMITS_PREFLIGHTS = "_xgen_sessions_admits_preflights"
_OPEN_TO_ALL = "_xgen_sessions_open_to_all"
_GUARD = "_xgen_sessions_guard"


def checks_caller(function: _F) -> _F:
    """Mark *function* as one that refuses callers without a valid token."""
    setattr(function, _CHECKS_CALLER, True)
    return function


def admits_preflights(function: _F) -> _F:
    """Mark *function* as one that does not check the caller of an ``OPTIONS`` request."""
    setattr(function, _ADMITS_PREFLIGHTS, True)
    return function


def open_to_all(view: _F) -> _F:
    """Mark *view* as one that needs no sign-in on purpose, such as a webhook.

    ``flask xgen-sessions doctor`` then does not warn of its routes. The mark removes no protection:
    a view under ``token_required`` or ``login_required`` stays protected.
    """
    setattr(view, _OPEN_TO_ALL, True)
    return view


@overload
def guarded_by(guard: _F) -> _F: ...
@overload
def guarded_by(guard: str) -> Callable[[_F], _F]: ...
def guarded_by(guard: str | _F) -> Any:
    """Mark what guards a route by a check of the application's own.

    ``flask xgen-sessions doctor`` finds most such checks by itself: those that refuse a caller who
    is not signed in by ``current_user`` or ``sessions.verify``. The mark is for the others. Put
    ``@guarded_by`` above a decorator, a decorator factory, a ``before_request`` function or an
    ``is_accessible()``; or ``@guarded_by("the gateway")`` above a view, with the guard in words.
    The mark itself refuses no caller.

    :param guard: The function that guards, or the guard of a view in words.
    """
    if isinstance(guard, str):
        return partial(_mark_guarded, guard)
    name = f"{guard.__module__}.{guard.__qualname__}"
    return _mark_guarded(name, guard)


def _mark_guarded(guard: str, function: _F) -> _F:
    setattr(function, _GUARD, guard)
    return function


def guard_of(function: object) -> str | None:
    """Return the guard that :func:`guarded_by` marked *function* with."""
    found = getattr(function, _GUARD, None)
    return found if isinstance(found, str) else None


def is_checking_caller(function: object, method: str) -> bool:
    """Return whether *function* has the mark of :func:`checks_caller`, for requests of *method*."""
    if method == PREFLIGHT and getattr(function, _ADMITS_PREFLIGHTS, False) is True:
        return False
    return getattr(function, _CHECKS_CALLER, False) is True


def is_open_to_all(function: object) -> bool:
    """Return whether *function* has the mark of :func:`open_to_all`."""
    return getattr(function, _OPEN_TO_ALL, False) is True
