"""Working with the host's other extensions, whether the host sets them up before or after."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Flask

from ..state import get_state
from .login_bridge import LoginBridge, begin_request


def coexist(
    app: Flask, guarded: Iterable[Any], *, login: LoginBridge | None, with_flask_admin: bool
) -> None:
    """Adapt to the host's extensions now, and again at the first request.

    :param guarded: Blueprints and Flask-Admin views of the plugin, which have their own guards
        against cross-site requests.
    :param login: The bridge to Flask-Login, if the host has it.
    :param with_flask_admin: Whether the host has Flask-Admin.
    """
    waiting = list(guarded)

    def exempt_from_csrf_protect() -> None:
        waiting[:] = [each for each in waiting if not _exempt(app, each)]

    looked = False
    lock = threading.Lock()

    def look_again() -> None:
        nonlocal looked
        with lock:  # concurrent first requests wait
            exempt_from_csrf_protect()
            if login is not None:
                login.attach(app)
            get_state().denylist.warm_up()
            if with_flask_admin:
                _set_up_flask_babel(app)
            looked = True

    exempt_from_csrf_protect()
    if login is not None:
        login.attach(app)

    def before_each_request() -> None:
        if not looked:
            look_again()
        if login is not None:
            begin_request()

    # Before the host's functions, which may read current_user.
    app.before_request_funcs.setdefault(None, []).insert(0, before_each_request)


def _exempt(app: Flask, guarded: Any) -> bool:
    """Exempt a blueprint or view from Flask-WTF's guard; return whether that succeeded.

    Flask-WTF's tokens need the Flask session and expire after an hour; the plugin's do neither.
    """
    host_csrf = app.extensions.get("csrf")
    blueprint = guarded if isinstance(guarded, Blueprint) else guarded.blueprint
    if host_csrf is None or blueprint is None:  # Flask-Admin has no application yet
        return False
    host_csrf.exempt(blueprint)
    return True


def _set_up_flask_babel(app: Flask) -> None:
    """Initialize Flask-Babel if it is installed and the host has not done so.

    Flask-Admin uses it whenever it can be imported, and its pages fail without initialization.
    """
    if "babel" not in app.extensions and importlib.util.find_spec("flask_babel"):
        from flask_babel import Babel

        Babel(app)
