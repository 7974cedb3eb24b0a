"""The sign-in pages that Flask-Login's ``login_view`` names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, current_app, url_for
from flask_login import LoginManager
from werkzeug.routing import BuildError

HOW_TO_MEND: Final = (
    "Set login_view to the endpoint of the sign-in page, such as 'auth.login' for a view of the "
    "blueprint 'auth', or to its URL."
)


def expand(view: object) -> str | None:
    """Return the URL of a ``login_view``; ``None`` if there is no such page.

    :param view: An endpoint, a URL, or a path that begins with a slash.
    """
    if not isinstance(view, str):  # such as the view function itself
        return None
    try:
        if view.startswith(("https://", "http://", "/")):
            return urlsplit(view).geturl()
        return url_for(view)
    except (BuildError, ValueError):  # no endpoint, one that needs arguments, or no URL
        return None


def find_wrong(manager: LoginManager) -> Iterator[object]:
    """Yield each ``login_view`` that names no page; needs a request of the application."""
    for view in _unique([manager.login_view, *manager.blueprint_login_views.values()]):
        is_relative = isinstance(view, str) and view.startswith(".")  # to a blueprint
        if view and not is_relative and expand(view) is None:
            yield view


def warn_of_wrong(app: Flask) -> None:
    """Log each ``login_view`` that names no page; needs a request of the application."""
    manager = getattr(app, "login_manager", None)
    for view in find_wrong(manager) if manager is not None else ():
        current_app.logger.error(
            "Flask-Login's login_view %r is no page of this application: browsers without a "
            "session get a bare 401. %s", view, HOW_TO_MEND,
        )  # fmt: skip


def _unique(views: list[Any]) -> list[Any]:
    found: list[Any] = []
    for view in views:
        if view not in found:
            found.append(view)
    return found
