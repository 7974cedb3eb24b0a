"""The server of the command serve: requests that are too large, and connections held open."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask
from freezegun import freeze_time

from tests.support.admin_center import AdminCenter
from xgen_flask_sessions.standalone import server as standalone_server

LIMIT = 64 * 1024
"""The longest body."""
LARGE_FILE = "/admin/static/vendor/fontawesome-free-5.1.0-web/metadata/icons.json"
"""The largest file of Flask-Admin, 2 MB."""
POST = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminCenter]:
    """Yield a running Admin Center in another process."""
    with AdminCenter(tmp_path_factory.mktemp("server") / "instance") as center:
        yield center


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 30)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read one answer, and return its status and body."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def status_of(port: int, path: str = "/login") -> int:
    """Return the status of a request on a new connection."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(client):
        client.request("GET", path)
        return client.getresponse().status


def deleted_files(process: int) -> list[str]:
    """Return the deleted files that a process has open, such as temporary ones; none on macOS."""
    found: list[str] = []
    for each in Path(f"/proc/{process}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(str(each.readlink()))
    return [name for name in found if name.endswith("(deleted)")]


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"G",
        b"GET /login HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        POST + b"Content-Length: 1000\r\n\r\n{",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n",
    ],
)
def test_connections_held_open_keep_no_other_client_out(
    served: AdminCenter, beginning: bytes
) -> None:
    with ExitStack() as held:
        for _ in range(standalone_server.MAX_CONNECTIONS + 100):
            connection = held.enter_context(connect(served.port))
            with contextlib.suppress(OSError):  # it may have made room already
                connection.sendall(beginning)

        assert [status_of(served.port) for _ in range(10)] == [200] * 10


def test_clients_that_send_many_requests_and_read_no_answer_keep_no_thread(
    served: AdminCenter,
) -> None:
    """Without the limit, each of them holds a thread until it goes away."""
    request = f"GET {LARGE_FILE} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with ExitStack() as held:
        for _ in range(2 * standalone_server.THREADS):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", served.port))
            connection.sendall(request * 60)

        assert [status_of(served.port) for _ in range(10)] == [200] * 10


def test_clients_that_read_no_answer_keep_no_other_client_out(served: AdminCenter) -> None:
    """Waitress closes no connection to which it cannot write."""
    request = f"GET {LARGE_FILE} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with ExitStack() as held:
        for _ in range(standalone_server.MAX_CONNECTIONS + 100):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", served.port))
            with contextlib.suppress(OSError):  # it may have made room already
                connection.sendall(request)

        assert [status_of(served.port) for _ in range(10)] == [200] * 10


def test_requests_sent_at_once_are_answered_or_the_connection_ends(served: AdminCenter) -> None:
    with connect(served.port) as connection:
        connection.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))

    assert standalone_server.MAX_PIPELINED <= answers.count(b"HTTP/1.1 200 OK") <= 20
    assert answers.rstrip().endswith(b"</html>")


def test_a_long_body_is_refused_before_it_is_sent(served: AdminCenter) -> None:
    with connect(served.port) as connection:
        connection.sendall(POST + b"Content-Length: 5000000000\r\n\r\n")

        status, body = read_answer(connection)

    problem = json.loads(body)
    assert (status, problem["status"], problem["code"]) == (413, 413, "http_error")


def test_a_length_that_python_does_not_convert_is_a_bad_request(served: AdminCenter) -> None:
    with connect(served.port) as connection:
        connection.sendall(POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n")

        status, _ = read_answer(connection)

    assert status == 400


def test_a_client_that_waits_to_send_a_long_body_is_not_told_to_send_it(
    served: AdminCenter,
) -> None:
    with connect(served.port) as connection:
        connection.sendall(POST + b"Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n")

        received = connection.recv(100)

    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_a_long_body_at_once_reads_the_answer(served: AdminCenter) -> None:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    with contextlib.closing(client):
        client.request("POST", "/api/login", b"x" * 20_000_000)

        assert client.getresponse().status == 413


def test_a_chunked_body_is_refused_at_the_limit_and_never_written_to_a_file(
    served: AdminCenter,
) -> None:
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    with connect(served.port) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(LIMIT // 1024 - 2):
            connection.sendall(chunk)
        before = deleted_files(served.process_id)
        for _ in range(2):
            connection.sendall(chunk)
        status, _ = read_answer(connection)

    assert status == 413
    assert before == []


def test_a_body_at_the_limit_reaches_the_application(served: AdminCenter) -> None:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    with contextlib.closing(client):
        client.request("POST", "/api/login", b"x" * LIMIT)
        at_the_limit = client.getresponse()
        assert json.loads(at_the_limit.read())["detail"] == "The body is not JSON."
        client.request("POST", "/api/login", b"x" * (LIMIT + 1))
        beyond = client.getresponse()

        assert (at_the_limit.status, beyond.status) == (400, 413)


def test_long_headers_are_refused(served: AdminCenter) -> None:
    with connect(served.port) as connection:
        head = b"GET /login HTTP/1.1\r\nX-Long: " + b"x" * standalone_server.MAX_HEADER_BYTES
        connection.sendall(head)

        assert read_answer(connection)[0] == 431


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /login HTTP/1.1\r\nBad Header\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1, 2\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_not_http_is_answered_with_problem_details(
    served: AdminCenter, request_head: bytes, status: int
) -> None:
    with connect(served.port) as connection:
        connection.sendall(request_head)
        answer = http.client.HTTPResponse(connection)
        answer.begin()

        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert json.loads(answer.read())["status"] == status


def test_pipelined_requests_are_answered_in_order(served: AdminCenter) -> None:
    one = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(served.port) as connection:
        connection.sendall(one % b"/login" + one % b"/api/me" + one % b"/nowhere")
        received = b""
        while received.count(b"HTTP/1.1 ") < 3:
            part = connection.recv(65536)
            assert part
            received += part

    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"401", b"404"]


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(b"", standalone_server.IDLE_S), (b"G", standalone_server.REQUEST_S)],
)
def test_a_request_that_does_not_arrive_in_time_ends_the_connection(
    sent: bytes, seconds: int
) -> None:
    app = Flask("nothing")
    app.config.update(TRUSTED_PROXIES=0, MAX_CONTENT_LENGTH=LIMIT)
    with freeze_time("2026-01-01 12:00:00") as clock:
        server = standalone_server.create_server(app, host="127.0.0.1", port=0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        with connect(server.effective_port) as connection:
            connection.settimeout(0.2)
            received = None
            for _ in range(100):  # the server may take its time to notice the connection
                with contextlib.suppress(TimeoutError):
                    connection.sendall(sent[:1])
                    received = connection.recv(10)
                    break
                clock.tick(seconds / 3)
        server.asyncore.close_all(server._map)
        thread.join(30)

    assert received == b""
