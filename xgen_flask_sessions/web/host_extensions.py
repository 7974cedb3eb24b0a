"""Getting along with what else the host set up, be it before us or after us."""

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
    """Look now, and once more at the first request, at what the host has.

    :param guarded: Blueprints and Flask-Admin views of ours, which have guards of their own
        against cross-site requests.
    :param login: The bridge to Flask-Login, if the host has that.
    :param with_flask_admin: Whether the host has Flask-Admin.
    """
    waiting = list(guarded)

    def exempt_from_csrf_protect() -> None:
        waiting[:] = [each for each in waiting if not _exempt(app, each)]

    looked = False
    lock = threading.Lock()

    def look_again() -> None:
        nonlocal looked
        with lock:  # the other first requests wait until it is done
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

    # Ahead of the host's, which may ask who is calling.
    app.before_request_funcs.setdefault(None, []).insert(0, before_each_request)


def _exempt(app: Flask, guarded: Any) -> bool:
    """Take a blueprint or view out of Flask-WTF's guard; return whether that is done.

    Its tokens live in the Flask session and run out after an hour; ours do neither.
    """
    host_csrf = app.extensions.get("csrf")
    blueprint = guarded if isinstance(guarded, Blueprint) else guarded.blueprint
    if host_csrf is None or blueprint is None:  # as long as Flask-Admin has no application
        return False
    host_csrf.exempt(blueprint)
    return True


def _set_up_flask_babel(app: Flask) -> None:
    """Give Flask-Babel its defaults if it is installed and the host left it alone.

    Flask-Admin calls it wherever it can be imported, and each of its pages fails if it was not
    set up.
    """
    if "babel" not in app.extensions and importlib.util.find_spec("flask_babel"):
        from flask_babel import Babel

        Babel(app)
