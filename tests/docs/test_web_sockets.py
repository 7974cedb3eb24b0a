"""The code of the guide on web sockets, with real servers and clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import simple_websocket
import socketio
from werkzeug.serving import make_server

from tests.docs.blocks import PYTHON
from tests.support.databases import MakeHost
from tests.support.eventually import eventually
from tests.support.hosts import Host, bearer

pytestmark = pytest.mark.slow


def run_guide(host: Host, word: str) -> dict[str, Any]:
    """Run the block of the guide that has *word*, in the host's application."""
    (block,) = (b for b in PYTHON if b.page.name == "websockets.md" and f"from {word} " in b.code)
    names = {"app": host.app, "sessions": host.sessions, "__name__": "guide"}
    exec(compile(block.code, block.place, "exec"), names)
    return names


@pytest.fixture
def serve(make_host: MakeHost, sqlite_url: str) -> Iterator[Callable[[str], tuple[Host, int, Any]]]:
    """Yield a function that serves a host with a block of the guide on a port."""
    servers: list[Any] = []
    stops: list[Callable[[], object]] = []

    def start(word: str) -> tuple[Host, int, Any]:
        host = make_host(sqlite_url)
        names = run_guide(host, word)
        if "socketio" in names:
            stops.append(names["socketio"].server.shutdown)
        server = make_server("127.0.0.1", 0, host.app, threaded=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return host, server.port, names

    yield start
    for stop in stops:
        stop()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_flask_socketio_refuses_and_closes_after_a_force_logout(
    serve: Callable[[str], tuple[Host, int, Any]],
) -> None:
    host, port, names = serve("flask_socketio")
    names["socketio"].default_exception_handler = lambda error: error.code
    user, other = host.add_user(), host.add_user("bob")
    clients = {}
    for each in (user, other):
        clients[each] = socketio.Client(reconnection=False)
        clients[each].connect(
            f"http://127.0.0.1:{port}",
            headers=bearer(host.issue(each)),
            transports=["websocket"],
        )
        assert clients[each].call("say", "hello") == f"{each}: hello"

    with requests.Session() as connections, pytest.raises(socketio.exceptions.ConnectionError):
        socketio.Client(reconnection=False, http_session=connections).connect(
            f"http://127.0.0.1:{port}", headers=bearer("nonsense"), transports=["polling"]
        )
    host.force_logout(user)

    eventually(lambda: not clients[user].connected)
    assert clients[other].call("say", "still here") == f"{other}: still here"
    clients[other].disconnect()


def test_flask_sock_closes_after_a_force_logout(
    serve: Callable[[str], tuple[Host, int, Any]],
) -> None:
    host, port, _ = serve("flask_sock")
    user, other = host.add_user(), host.add_user("bob")
    url = f"ws://127.0.0.1:{port}/live"
    sockets = {
        each: simple_websocket.Client(url, headers=bearer(host.issue(each)))
        for each in (user, other)
    }
    for each, socket in sockets.items():
        socket.send("hello")
        assert socket.receive(timeout=20) == f"{each}: hello"

    handshake = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    refused = requests.get(
        f"http://127.0.0.1:{port}/live", headers=handshake | bearer("nonsense"), timeout=20
    )
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
    host.force_logout(user)

    with pytest.raises(simple_websocket.ConnectionClosed) as closed:  # without a message
        sockets[user].receive(timeout=20)
    assert (closed.value.reason, closed.value.message) == (1008, "The session has ended.")
    sockets[other].send("still here")
    assert sockets[other].receive(timeout=20) == f"{other}: still here"
    sockets[other].close()
