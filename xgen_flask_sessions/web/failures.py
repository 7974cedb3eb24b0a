"""The log of the answers with 5xx: each cause at once, and then once a minute at most."""

from __future__ import annotations

import time
from typing import Any, Final

from flask import has_request_context, request

from ..errors import XgenSessionsError
from ..state import get_app
from ..text import cause_of, innermost

_INTERVAL_S: Final = 60.0
_MOST_CAUSES: Final = 50
"""Causes that are told apart within an interval; the others count as one."""
_REPORTS: Final = "xgen_sessions_failures"
_NOTED: Final = "_xgen_sessions_noted"


class _Reports:
    """The causes that were logged, so that an outage does not flood the log."""

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def admit(self, cause: str) -> int | None:
        """Return how often a cause was not logged since its last report; ``None``: not now."""
        now_s = time.monotonic()
        if cause not in self._due_s and len(self._due_s) >= _MOST_CAUSES:
            over = [each for each, due_s in list(self._due_s.items()) if due_s <= now_s]
            for each in over:
                self._due_s.pop(each, None)
                self._silent.pop(each, None)
            if not over:
                cause = ""
        if self._due_s.get(cause, now_s) > now_s:
            self._silent[cause] = self._silent.get(cause, 0) + 1
            return None
        self._due_s[cause] = now_s + _INTERVAL_S
        return self._silent.pop(cause, 0)


def note_failure(error: XgenSessionsError) -> None:
    """Log an error that is answered with 5xx, with its cause; other errors are ignored.

    The cause is the exception's class and its message, without a statement's parameters.
    """
    if error.status < 500 or getattr(error, _NOTED, False):
        return
    setattr(error, _NOTED, True)  # it passes several doors
    app = get_app()
    reports: _Reports = app.extensions.setdefault(_REPORTS, _Reports())
    cause = _describe(error)
    silent = reports.admit(f"{error.code} {cause}")
    if silent is None:
        return
    more = f" ({silent} more since the last report)" if silent else ""
    app.logger.error("%s: %d %s. %s%s", _place(), error.status, error.code, cause, more)


def _describe(error: XgenSessionsError) -> str:
    inner = innermost(error)
    return error.detail if inner is error else f"{type(inner).__name__}: {cause_of(error)}"


def _place() -> str:
    """Return the method and the rule of the request; its path may hold a secret."""
    if not has_request_context():
        return "Outside of a request"
    rule: Any = request.url_rule
    return f"{request.method} {'(no route)' if rule is None else rule.rule}"
