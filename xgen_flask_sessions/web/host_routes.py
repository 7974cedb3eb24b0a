"""The host's own routes at the paths of the JSON API: one of two routes would never be called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from flask import Flask
from werkzeug.routing import Rule

from ..errors import ConfigurationError
from ..state import State

_BLUEPRINT: Final = "xgen_sessions"
_VARIABLE = re.compile(r"<(?:(?P<converter>\w+)(?:\(.*?\))?:)?\w+>")
_NO_SLASH: Final = ("default", "string", "int", "float", "uuid", "any")
"""Converters that accept no slash; one of the host's own may."""
_PATTERNS: Final = {"int": r"-?\d+", "float": r"-?\d+\.\d+", "uuid": r"[\da-fA-F-]{36}"}
_AUTOMATIC: Final = frozenset({"HEAD", "OPTIONS"})


def require_free_blueprint(app: Flask) -> None:
    """Check that the name of the API's blueprint is free.

    :raises ConfigurationError: The host has a blueprint of that name.
    """
    if _BLUEPRINT in app.blueprints:
        raise ConfigurationError(
            f"This application has a blueprint {_BLUEPRINT!r} of its own, and the plugin needs "
            "that name; rename the blueprint."
        )


def require_free_paths(app: Flask, state: State) -> None:
    """Check that no route of the host has a path and a method of the JSON API.

    :raises ConfigurationError: A route of the host has a path and a method of the API.
    """
    prefix = state.settings.url_prefix
    ours = _ours(app)
    for rule in _under(app, prefix):
        if any(_share_a_call(rule, each) for each in ours):
            raise ConfigurationError(
                f"The route {rule.rule} of this application ({rule.endpoint}) and the plugin's "
                f"JSON API have the same path; set XGEN_SESSIONS_URL_PREFIX to another path than "
                f"{prefix}, such as {prefix}-api."
            )


def warn_of_paths(app: Flask, state: State) -> None:
    """Log the host's other routes under the path of the API: a later release may use theirs."""
    for rule in _under(app, state.settings.url_prefix):
        app.logger.warning(
            "The route %s of this application (%s) is under the path of the plugin's JSON API; "
            "set XGEN_SESSIONS_URL_PREFIX to a path of its own.", rule.rule, rule.endpoint,
        )  # fmt: skip


def _ours(app: Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if _is_ours(rule)]


def _is_ours(rule: Rule) -> bool:
    return str(rule.endpoint).startswith(f"{_BLUEPRINT}.")


def _under(app: Flask, prefix: str) -> Iterator[Rule]:
    """Yield the host's routes under *prefix*, on the same host or subdomain."""
    for rule in app.url_map.iter_rules():
        if (
            f"{rule.rule}/".startswith(f"{prefix}/")
            and not _is_ours(rule)
            and _is_same_place(rule, _ours(app)[0])
        ):
            yield rule


def _is_same_place(one: Rule, other: Rule) -> bool:
    """Return whether both routes are for the same host or subdomain."""
    by_host = one.map is not None and one.map.host_matching
    places = [(rule.host if by_host else rule.subdomain) or "" for rule in (one, other)]
    return places[0] == places[1] or any("<" in place for place in places)


def _share_a_call(one: Rule, other: Rule) -> bool:
    """Return whether there may be a call, by method and path, that both routes match."""
    if one.methods is not None and other.methods is not None:
        methods = (one.methods & other.methods) - _AUTOMATIC
        if not methods:
            return False
    return _share_a_path(_segments(one), _segments(other))


def _segments(rule: Rule) -> list[str]:
    return rule.rule.strip("/").split("/")


def _share_a_path(one: list[str], other: list[str]) -> bool:
    if _has_any_length(one[:1]):
        return any(_share_a_path(one[1:], other[start:]) for start in range(1, len(other) + 1))
    if _has_any_length(other[:1]):
        return _share_a_path(other, one)
    if not one or not other:
        return one == other
    return _may_be_equal(one[0], other[0]) and _share_a_path(one[1:], other[1:])


def _may_be_equal(one: str, other: str) -> bool:
    if "<" in one and "<" in other:
        return True
    variable, text = (one, other) if "<" in one else (other, one)
    found = _VARIABLE.search(variable)
    if found is None or found[0] != variable:  # text alone, or text around a variable
        return one == other or found is not None
    pattern = _PATTERNS.get(found["converter"] or "default", ".+")
    return re.fullmatch(pattern, text) is not None


def _has_any_length(segments: list[str]) -> bool:
    """Return whether the first segment has a variable that accepts slashes."""
    found = _VARIABLE.search(segments[0]) if segments else None
    return found is not None and (found["converter"] or "default") not in _NO_SLASH
