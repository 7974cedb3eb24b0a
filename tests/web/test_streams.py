"""Streaming responses: a stream opened before a force logout ends soon after it."""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.serving import make_server

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import token_required

EVERY_S = 0.2
BOUND_S = EVERY_S + 6
"""The interval of the checks, and 6 seconds for the check itself on a busy machine."""


class Streaming:
    """A host with streaming responses, behind a real HTTP server."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events: queue.Queue[str] = queue.Queue()
        self.closed = threading.Event()
        self._connections: list[Any] = []
        add_streams(self, host.app)
        server: Any = make_server("127.0.0.1", 0, host.app, threaded=True)
        server.daemon_threads, server.block_on_close = False, True  # wait for the threads
        self._server = server
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def open(self, path: str, token: Any) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=20)
        self._connections.append(connection)
        connection.request("GET", path, headers=bearer(token))
        answer = connection.getresponse()
        self._connections.append(answer)
        return answer

    def stop(self) -> None:
        for each in self._connections:
            each.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def add_streams(streaming: Streaming, app: Flask) -> None:
    sessions = streaming.host.sessions

    def busy() -> Iterator[str]:
        try:
            while True:
                yield "data: more\n\n"
                time.sleep(0.01)  # the interval of an application's events
        finally:
            streaming.closed.set()

    def idle() -> Iterator[str]:
        yield "data: first\n\n"
        while True:
            yield f"data: {streaming.events.get()}\n\n"

    def short() -> Iterator[str]:
        yield from ("data: 1\n\n", "data: 2\n\n")

    def broken() -> Iterator[str]:
        yield "data: first\n\n"
        raise RuntimeError("the source broke")

    sources = {"busy": busy, "idle": idle, "short": short, "broken": broken}

    @app.get("/stream/<name>")
    @token_required
    def stream(name: str) -> Response:
        heartbeat = ": still here\n\n" if "heartbeat" in request.args else None
        source = sources[name]()
        stream = sessions.while_valid(source, every=EVERY_S, heartbeat=heartbeat)
        return Response(stream, mimetype="text/event-stream")

    @app.get("/unchecked")
    def unchecked() -> Response:
        return Response(sessions.while_valid(busy()))


@pytest.fixture
def streaming(make_host: MakeHost, database_url: str) -> Iterator[Streaming]:
    """Yield a host with streaming responses, on each supported kind of database."""
    made = Streaming(make_host(database_url))
    yield made
    made.events.put("unblocks the source")
    made.stop()


def seconds_until_end(answer: http.client.HTTPResponse) -> float:
    start = time.monotonic()
    answer.read()
    return time.monotonic() - start


@pytest.mark.parametrize("name", ["busy", "idle"])
def test_a_stream_ends_soon_after_a_force_logout(streaming: Streaming, name: str) -> None:
    user = streaming.host.add_user()
    answer = streaming.open(f"/stream/{name}", streaming.host.issue(user))
    assert answer.status == 200
    assert answer.readline().startswith(b"data: ")

    streaming.host.force_logout(user)

    assert seconds_until_end(answer) < BOUND_S


def test_a_stream_continues_when_another_user_is_forced_out(streaming: Streaming) -> None:
    user, other = streaming.host.add_user(), streaming.host.add_user("bob")
    answer = streaming.open("/stream/idle?heartbeat=1", streaming.host.issue(user))
    assert answer.readline() == b"data: first\n"

    streaming.host.force_logout(other)

    beats = [line for line in (answer.readline() for _ in range(9)) if line.startswith(b":")]
    assert len(beats) >= 3
    streaming.events.put("news")
    while answer.readline() != b"data: news\n":
        pass
    answer.close()


def test_a_stream_ends_when_the_token_expires(streaming: Streaming) -> None:
    user = streaming.host.add_user()
    answer = streaming.open("/stream/idle", streaming.host.issue(user, lifetime=6))
    assert answer.status == 200

    assert seconds_until_end(answer) < 6 + BOUND_S


def test_a_stream_ends_when_the_token_cannot_be_checked(streaming: Streaming) -> None:
    host = streaming.host
    answer = streaming.open("/stream/busy", host.issue(host.add_user()))
    assert answer.status == 200

    with host.app.app_context(), host.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE xgen_sessions RENAME TO away")

    assert seconds_until_end(answer) < BOUND_S
    assert streaming.closed.wait(5)


def test_a_stream_ends_with_its_source(streaming: Streaming) -> None:
    token = streaming.host.issue(streaming.host.add_user())

    assert streaming.open("/stream/short", token).read() == b"data: 1\n\ndata: 2\n\n"


def test_a_source_is_closed_when_the_client_disconnects(streaming: Streaming) -> None:
    answer = streaming.open("/stream/busy", streaming.host.issue(streaming.host.add_user()))
    answer.readline()

    answer.close()

    assert streaming.closed.wait(5)


def test_without_a_valid_token_there_is_no_stream(streaming: Streaming) -> None:
    user = streaming.host.add_user()
    token = streaming.host.issue(user)
    streaming.host.force_logout(user)

    assert streaming.open("/stream/busy", token).status == 401
    assert streaming.open("/unchecked", token).status == 401


def test_an_error_of_the_source_is_raised_by_the_stream(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url)
    token = host.issue(host.add_user())

    def broken() -> Iterator[str]:
        yield "first"
        raise RuntimeError("the source broke")

    with host.app.test_request_context(headers=bearer(token)):
        stream = host.sessions.while_valid(broken())
        assert next(stream) == "first"
        with pytest.raises(RuntimeError, match="the source broke"):
            next(stream)
        with pytest.raises(ValueError, match="over 0"):
            host.sessions.while_valid(broken(), every=0)


class Closing:
    """A source that is longer than the tests read, and that records the call of ``close``."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[str]:
        return iter(["more"] * 1000)

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_source_is_closed_when_the_stream_is_closed_early(
    make_host: MakeHost, sqlite_url: str, taken: int
) -> None:
    host = make_host(sqlite_url)
    source = Closing()

    with host.app.test_request_context(headers=bearer(host.issue(host.add_user()))):
        stream = host.sessions.while_valid(source)
    for _ in range(taken):
        next(stream)
    stream.close()  # type: ignore[attr-defined]

    assert source.closed.wait(5)
