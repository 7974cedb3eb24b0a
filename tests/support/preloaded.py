"""An application in watch mode that is warmed up before the server forks its workers."""

from __future__ import annotations

import os
import time

from flask import Flask, Response

from tests.support.hosts import make_app
from xgen_flask_sessions.state import State


def warm(database_url: str, token: str) -> Flask:
    """Return the application after it has followed the feed and has a token in memory.

    Each answer has two more headers: ``X-Worker``, the worker's process id, and ``X-Fresh``,
    whether the memory is valid.
    """
    host = make_app(database_url, create_all=False, XGEN_SESSIONS_CONSISTENCY="watch")
    state: State = host.app.extensions["xgen_sessions"]
    watch = state.watch
    assert watch is not None
    while not (host.verify(token) and watch.is_fresh() and watch.size):
        time.sleep(0.002)

    @host.app.after_request
    def tell(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        response.headers["X-Fresh"] = str(watch.is_fresh())
        return response

    return host.app
