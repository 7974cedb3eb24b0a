"""Working with the host's other extensions, whether the host sets them up before or after."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable

from flask import Flask, Response

from ..runtime import notice_fork, reset_after_fork
from ..state import State, get_state
from . import login_browser, login_recorder, refusals, request_scope
from .host_header import require_usable_host
from .host_routes import require_free_paths, warn_of_paths
from .host_set_up import require_set_up
from .login_bridge import LoginBridge
from .login_views import warn_of_wrong


class HostExtensions:
    """Adapts to Flask-Login, Flask-WTF and Flask-Babel: at once, and again at the first request.

    :param guarded: Names of the plugin's blueprints, which have their own guards against cross-site
        requests.
    :param login: The bridge to Flask-Login, if the host has it.
    :param with_flask_admin: Whether the host has Flask-Admin.
    """

    def __init__(
        self,
        app: Flask,
        guarded: Iterable[str],
        *,
        login: LoginBridge | None,
        with_flask_admin: bool,
    ) -> None:
        self._app = app
        self._not_exempt = list(guarded)
        self._login = login
        self._with_flask_admin = with_flask_admin
        self._state: State | None = None
        """The plugin's objects, once all is adapted."""
        self._reset_lock()
        reset_after_fork(self._reset_lock)

    def _reset_lock(self) -> None:
        self._lock = threading.Lock()

    def attach(self) -> None:
        """Adapt now, and register the second time."""
        self._adapt()
        refusals.watch(self._app)
        # Before the host's functions, which may read current_user.
        self._app.before_request_funcs.setdefault(None, []).insert(0, self._before_request)
        self._app.after_request(self._after_request)
        self._app.teardown_request(_end_failed)

    def _after_request(self, response: Response) -> Response:
        noted = request_scope.end()
        if noted is not None and self._login is not None:
            return login_recorder.record(noted, response)
        return response

    def _before_request(self) -> None:
        current = request_scope.get_request()
        request_scope.begin(current, self._state or get_state())
        require_usable_host(current)
        if self._state is None:
            self._complete()
        if self._login is not None and "HTTP_COOKIE" in current.environ:
            login_browser.drop_unreadable_remember_cookie()

    def _complete(self) -> None:
        notice_fork()
        with self._lock:  # concurrent first requests wait
            self._adapt(complete=True)
            state = get_state()
            require_set_up(self._app, state.db, state.login_manager, complete=True)
            require_free_paths(self._app, state)
            warn_of_paths(self._app, state)
            warn_of_wrong(self._app)
            state.denylist.warm_up()
            if self._with_flask_admin:
                _set_up_flask_babel(self._app)
            self._state = state

    def _adapt(self, *, complete: bool = False) -> None:
        refusals.convert_errors(self._app)
        self._not_exempt = [each for each in self._not_exempt if not _exempt(self._app, each)]
        if self._login is not None:
            self._login.attach(complete=complete)


def _end_failed(error: BaseException | None) -> None:
    """End the state of a request that failed: functions after the request may not be called.

    The page for the error is made by now: it sees the user as the view did. A copied context of a
    request that still runs is torn down without an error.
    """
    if error is not None:
        request_scope.end()


def _exempt(app: Flask, name: str) -> bool:
    """Exempt a blueprint from Flask-WTF's guard; return whether that succeeded.

    Flask-WTF's form tokens need the Flask session and expire after an hour; the plugin's last as
    long as their session.
    """
    host_csrf = app.extensions.get("csrf")
    blueprint = app.blueprints.get(name)
    if host_csrf is None or blueprint is None:  # Flask-Admin is not set up yet
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
