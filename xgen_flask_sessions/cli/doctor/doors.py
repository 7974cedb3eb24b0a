"""Checks of other packages, whose tokens a force logout does not end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from flask import Flask


@dataclass(frozen=True, slots=True)
class Door:
    """A check that a user who was forced out still passes."""

    code: str
    """A stable name for programs."""
    name: str
    """The check, for people."""


OWN: Final = Door("routes-own-check", "a check of the application's own that knows no sessions")
_JWT_EXTENDED: Final = Door("routes-flask-jwt-extended", "Flask-JWT-Extended's @jwt_required")
_SECURITY: Final = "routes-flask-security"
_HTTPAUTH: Final = Door("routes-flask-httpauth", "Flask-HTTPAuth's @auth.login_required")
_AUTHLIB: Final = Door("routes-authlib", "Authlib's ResourceProtector")

_OTHERS: Final = {
    "flask_jwt": ("Flask-JWT", ("jwt_required",)),
    "flask_praetorian": (
        "flask-praetorian",
        ("auth_required", "roles_required", "roles_accepted"),
    ),
    "flask_oidc": ("Flask-OIDC", ("OpenIDConnect",)),
    "flask_pyoidc": ("Flask-pyoidc", ("OIDCAuthentication",)),
    "flask_basicauth": ("Flask-BasicAuth", ("BasicAuth",)),
    "flask_simplelogin": ("Flask-SimpleLogin", ("login_required",)),
    "flask_httpauth": (None, ("HTTPAuth", "HTTPBasicAuth", "HTTPTokenAuth", "MultiAuth")),
}
"""For each module: the package, and the decorators or the classes that have them."""

AsksSessions = Callable[[Any], bool]
"""Returns whether a callback of the host verifies a token of these sessions."""


def door_of(layer: Any, app: Flask, asks: AsksSessions) -> Door | None:
    """Return the door that a wrapper is, if another package made it.

    :param layer: One of the functions in front of a view.
    :param asks: Returns whether a callback of the host verifies a token of these sessions.
    """
    if not isinstance(layer, FunctionType):
        return None
    module = str(layer.__globals__.get("__name__", ""))
    package = module.partition(".")[0]
    maker, _, inner = layer.__code__.co_qualname.partition(".<locals>")
    if not inner:
        return None
    cells = dict(cells_of(layer))
    if cells.get("optional") is True:
        return None  # every caller gets in
    if package == "flask_jwt_extended" and maker == "jwt_required":
        return None if asks(_blocklist(app)) and not _skips(cells) else _JWT_EXTENDED
    if package == "flask_security":
        return _door_of_flask_security(layer, maker, cells)
    if module.startswith("authlib.") and maker.startswith("ResourceProtector."):
        return _AUTHLIB
    if package == "flask_httpauth":
        return None if any(map(asks, _callbacks(cells))) else _HTTPAUTH
    name, makers = _OTHERS.get(package, (None, ()))
    if name is not None and maker.partition(".")[0] in makers:
        return Door(f"routes-{package.replace('_', '-')}", f"a decorator of {name}")
    return None


def is_connected(layer: Any, app: Flask, asks: AsksSessions) -> bool:
    """Return whether another package's wrapper verifies these sessions by the host's callback."""
    if not isinstance(layer, FunctionType):
        return False
    package = str(layer.__globals__.get("__name__", "")).partition(".")[0]
    maker = layer.__code__.co_qualname.partition(".<locals>")[0]
    cells = dict(cells_of(layer))
    if cells.get("optional") is True:
        return False
    if package == "flask_jwt_extended" and maker == "jwt_required":
        return asks(_blocklist(app)) and not _skips(cells)
    if package == "flask_httpauth":
        return any(map(asks, _callbacks(cells)))
    return package == "flask_security" and (
        maker in ("roles_required", "roles_accepted", "permissions_required",
                  "permissions_accepted")
        or (maker == "auth_required" and _mechanisms(layer, cells) == {"session"})
    )  # fmt: skip


def called_door(function: Any) -> str | None:
    """Return the name of another package's check that refuses callers when it is called."""
    module = str(getattr(function, "__module__", "") or "")
    name = getattr(function, "__name__", "")
    if module.startswith("flask_jwt_extended") and name == "verify_jwt_in_request":
        return _JWT_EXTENDED.code
    if module.startswith("authlib.") and name in ("acquire_token", "acquire"):
        return _AUTHLIB.code
    return None


BY_CODE: Final = {door.code: door for door in (_JWT_EXTENDED, _AUTHLIB)}


def _door_of_flask_security(layer: FunctionType, maker: str, cells: dict[str, Any]) -> Door | None:
    if maker == "auth_token_required":
        return Door(f"{_SECURITY}-token", "Flask-Security's @auth_token_required")
    if maker == "http_auth_required":
        return Door(f"{_SECURITY}-basic", "Flask-Security's @http_auth_required")
    if maker != "auth_required":
        return None
    mechanisms = _mechanisms(layer, cells)
    others = [each for each in ("token", "basic") if each in mechanisms]
    if not others:
        return None
    named = ", ".join(f'"{each}"' for each in sorted(mechanisms))
    return Door(f"{_SECURITY}-{others[0]}", f"Flask-Security's @auth_required({named})")


def _mechanisms(layer: FunctionType, cells: dict[str, Any]) -> set[str]:
    given = (layer.__kwdefaults__ or {}).get("auth_methods") or cells.get("auth_methods") or ()
    found = {each if isinstance(each, str) else "token" for each in given}
    return found or {"session", "token"}  # its default


def _blocklist(app: Flask) -> Any:
    manager = app.extensions.get("flask-jwt-extended")
    return getattr(manager, "_token_in_blocklist_callback", None)


def _skips(cells: dict[str, Any]) -> bool:
    return cells.get("skip_revocation_check") is True


def _callbacks(cells: dict[str, Any]) -> Iterator[Any]:
    """Yield the host's functions that verify passwords or tokens for Flask-HTTPAuth."""
    for value in cells.values():
        autos = [value, getattr(value, "main_auth", None), *getattr(value, "additional_auth", ())]
        for auth in autos:
            for name in ("verify_token_callback", "verify_password_callback"):
                callback = getattr(auth, name, None)
                if callback is not None:
                    yield callback


def cells_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names and the values that a function has from the functions around it."""
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue
