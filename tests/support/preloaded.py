"""An application that has checked a token before the server forks its workers."""

from __future__ import annotations

import os
import time

from flask import Flask, Response

from tests.support.hosts import make_app
from xgen_flask_sessions.connections.deadlines import watchdog
from xgen_flask_sessions.state import State


def warm(database_url: str, token: str, consistency: str = "watch") -> Flask:
    """Return the application after it has checked a token and, if it watches, followed the feed.

    Each answer has two more headers: ``X-Worker``, the worker's process id, and ``X-Fresh``,
    whether the memory is valid.
    """
    host = make_app(database_url, create_all=False, XGEN_SESSIONS_CONSISTENCY=consistency)
    state: State = host.app.extensions["xgen_sessions"]
    watch = state.watch
    while not (host.verify(token) and (watch is None or (watch.is_fresh() and watch.size))):
        time.sleep(0.002)
    while watch is None and not watchdog._asleep:  # no thread is busy then
        time.sleep(0.01)

    @host.app.after_request
    def tell(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        response.headers["X-Fresh"] = str(watch is None or watch.is_fresh())
        return response

    return host.app
