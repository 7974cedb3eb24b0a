"""Marks on functions for ``doctor``: those that check the caller, and those meant to be open.

They do not change requests. ``flask xgen-sessions doctor`` reads them, through any decorator that
uses :func:`functools.wraps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

PREFLIGHT: Final = "OPTIONS"
"""The method of CORS preflights, which carry no credentials (Fetch standard, section 3.2.2)."""

_CHECKS_CALLER = "_xgen_sessions_checks_caller"
_ADMITS_PREFLIGHTS = "_xgen_sessions_admits_preflights"
_OPEN_TO_ALL = "_xgen_sessions_open_to_all"


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


def is_checking_caller(function: object, method: str) -> bool:
    """Return whether *function* has the mark of :func:`checks_caller`, for requests of *method*."""
    if method == PREFLIGHT and getattr(function, _ADMITS_PREFLIGHTS, False) is True:
        return False
    return getattr(function, _CHECKS_CALLER, False) is True


def is_open_to_all(function: object) -> bool:
    """Return whether *function* has the mark of :func:`open_to_all`."""
    return getattr(function, _OPEN_TO_ALL, False) is True
