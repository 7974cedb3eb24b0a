"""Web sockets, with real servers and clients: each message is checked as a request is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import simple_websocket
import socketio
from flask import Blueprint, Flask
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from flask_sock import Sock
from flask_socketio import SocketIO
from werkzeug.serving import make_server

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import XgenSessionsError, current_token, token_required


@pytest.fixture
def serve() -> Iterator[Callable[[Flask], int]]:
    """Yield a function that serves an application and returns the port."""
    servers: list[Any] = []

    def start(app: Flask) -> int:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str) -> Host:
    def extras(app: Flask) -> dict[str, Any]:
        app.login_manager.user_loader(  # type: ignore[attr-defined]
            lambda user_id: app.extensions["xgen_sessions"].users.get(user_id)
        )
        return {}

    return make_host(sqlite_url, extras=extras)


def who() -> list[bool]:
    return [bool(current_token), bool(current_user.is_authenticated)]


@pytest.fixture
def events(host: Host) -> Iterator[SocketIO]:
    """Yield the events of a host with Flask-SocketIO."""
    events = SocketIO(host.app, async_mode="threading")

    @events.on_error_default  # type: ignore[untyped-decorator]
    def refuse(error: Exception) -> str:
        assert isinstance(error, XgenSessionsError)
        return error.code

    @events.on("who")  # type: ignore[untyped-decorator]
    def answer() -> list[bool]:
        return who()

    @events.on("by token")  # type: ignore[untyped-decorator]
    @token_required
    def by_token() -> str:
        return "in"

    @events.on("by user")  # type: ignore[untyped-decorator]
    @login_required  # type: ignore[untyped-decorator]
    def by_user() -> str:
        return "in"

    yield events
    events.server.shutdown()


@pytest.mark.parametrize(
    ("transport", "place"),
    [("polling", "header"), ("polling", "cookie"), ("polling", "session"), ("websocket", "header")],
)
def test_the_next_event_after_a_force_logout_is_refused(
    host: Host, events: SocketIO, serve: Callable[[Flask], int], transport: str, place: str
) -> None:
    user = host.add_user()
    with requests.Session() as connections:
        client = socketio.Client(reconnection=False, http_session=connections)
        client.connect(
            f"http://127.0.0.1:{serve(host.app)}",
            headers=credentials(host, user, place),
            transports=[transport],
        )
        before = [client.call(name) for name in ("who", "by token", "by user", "who")]

        host.force_logout(user)
        after = [client.call(name) for name in ("who", "by token", "by user", "who")]
        client.disconnect()

    assert before == [[True, True], "in", "in", [True, True]]
    assert after == [[False, False], "session_revoked", "session_revoked", [False, False]]


def credentials(host: Host, user: str, place: str) -> dict[str, str]:
    """Return the header of a signed-in user."""
    if place == "header":
        return bearer(host.issue(user))
    if place == "cookie":
        return {"Cookie": f"xgen_token={host.issue(user).token}"}

    if "login" not in host.app.view_functions:
        from flask_login import login_user

        host.app.add_url_rule("/login", "login", lambda: str(login_user(host.find_user(user))))
    client = host.client()
    client.get("/login")
    cookie = client.get_cookie("session")
    assert cookie is not None
    return {"Cookie": f"session={cookie.value}"}


@pytest.mark.parametrize("place", ["header", "cookie", "session"])
def test_the_next_message_of_a_web_socket_is_refused(
    host: Host, serve: Callable[[Flask], int], place: str
) -> None:
    blueprint = Blueprint("live", __name__)
    sock = Sock()

    @blueprint.before_request
    @token_required
    def check() -> ResponseReturnValue | None:
        return None

    @sock.route("/live", bp=blueprint)  # type: ignore[untyped-decorator]
    def live(ws: simple_websocket.Server) -> None:
        name = current_user.username
        while ws.receive():
            known = current_user._get_current_object()
            ws.send(f"{who()} {name} {getattr(known, 'username', None)}")

    host.app.register_blueprint(blueprint)
    user = host.add_user()
    headers = credentials(host, user, place)
    client = simple_websocket.Client(f"ws://127.0.0.1:{serve(host.app)}/live", headers=headers)

    client.send("first")
    assert client.receive(timeout=20) == "[True, True] alice alice"
    host.force_logout(user)
    client.send("second")
    assert client.receive(timeout=20) == "[False, False] alice None"
    client.close()
