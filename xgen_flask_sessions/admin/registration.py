"""Adding Login Management to a Flask-Admin, which may serve several applications."""

from __future__ import annotations

from flask import Flask
from flask_admin import Admin

from ..errors import ConfigurationError
from .list_page import ENDPOINT
from .login_management import LoginManagementView


def add_login_management(admin: Admin, app: Flask) -> None:
    """Add Login Management to *admin* and, if *admin* has been set up on it, to *app*.

    ``admin.init_app(app)`` may come later. An ``Admin`` object at module level keeps its views for
    every application that it is set up on, and its ``app`` is the newest one: it has one view for
    all of them.

    :raises ConfigurationError: Another blueprint of the application has the name of the view.
    """
    view = next((each for each in admin._views if isinstance(each, LoginManagementView)), None)
    is_set_up = admin in app.extensions.get("admin", ())
    if view is None:
        if is_set_up:
            _require_free_name(app)
        view = LoginManagementView()
        # While it is not set up on the application, admin.init_app() registers its views.
        newest, admin.app = admin.app, app if is_set_up else None
        try:
            admin.add_view(view)
        finally:
            admin.app = newest
    elif is_set_up and not _has_view(app):
        _require_free_name(app)
        app.register_blueprint(view.create_blueprint(admin), host=admin.host)


def _has_view(app: Flask) -> bool:
    """Return whether the application has Login Management, of any ``Admin`` object."""
    index = app.view_functions.get(f"{ENDPOINT}.index")
    return isinstance(getattr(index, "__self__", None), LoginManagementView)


def _require_free_name(app: Flask) -> None:
    if ENDPOINT in app.blueprints:
        raise ConfigurationError(
            f"This application has a blueprint {ENDPOINT!r} of its own, and Login Management needs "
            "that name; rename the blueprint."
        )
