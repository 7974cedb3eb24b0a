"""The server of the command ``serve``: waitress, with limits against exhausting it.

waitress receives requests without a thread for each connection, but it keeps any connection that
sends a byte now and then, and accepts no further one at its limit. Its threads wait for a client
that sends many requests at once and reads no answer. Here a request has a time limit, at the limit
the connection that has waited longest makes room for a new one, and a connection has few requests
at a time.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import Any, Final

from flask import Flask, Response
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import MultiSocketServer, TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from xgen_flask_sessions.standalone.extensions import sessions

THREADS: Final = 8
MAX_CONNECTIONS: Final = 500
"""Fewer if the process may not open that many files."""
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_PIPELINED: Final = 4
"""Requests that a client sends without waiting for an answer (RFC 9112, section 9.3.2)."""
IDLE_S: Final = 60
"""Seconds for which a connection without a request stays open."""
REQUEST_S: Final = 20
"""Seconds from the first byte of a request to its last one."""
_LINGER_S: Final = 5
_GRACE_S: Final = 1
_CLEANUP_S: Final = 5

_DETAILS: Final = {
    413: "The request is too large.",
    431: "The headers of the request are too large.",
}


def create_server(app: Flask, *, host: str, port: int) -> Any:
    """Return the server, which listens already; ``run()`` answers requests.

    :param app: The Admin Center.
    :param host: The name or address to listen on.
    :param port: The port; 0 for a free one.
    :raises OSError: The address cannot be listened on.
    :raises ValueError: *host* is not a name or an address.
    """
    adjustments = Adjustments(
        host=host,
        port=port,
        threads=THREADS,
        ident=None,
        # waitress drops the headers of proxies unless it is told not to.
        clear_untrusted_proxy_headers=not app.config["TRUSTED_PROXIES"],
        # waitress refuses a body of this size, and Flask one that is longer than its limit. Below
        # the limit, a body is never written to a file.
        max_request_body_size=app.config["MAX_CONTENT_LENGTH"] + 1,
        inbuf_overflow=app.config["MAX_CONTENT_LENGTH"] + 1,
        max_request_header_size=MAX_HEADER_BYTES,
        connection_limit=_connection_limit(),
        channel_timeout=IDLE_S,
        cleanup_interval=_CLEANUP_S,
        asyncore_use_poll=hasattr(select, "poll"),
        log_socket_errors=False,
    )
    dispatcher = ThreadedTaskDispatcher()
    sockets: dict[int, Any] = {}
    servers = [
        _Server(app, sockets, dispatcher=dispatcher, adj=adjustments, sockinfo=each)
        for each in adjustments.listen
    ]
    dispatcher.set_thread_count(THREADS)
    if len(servers) == 1:
        return servers[0]
    addresses = [(each.effective_host, each.effective_port) for each in servers]
    return MultiSocketServer(sockets, adjustments, addresses, dispatcher, servers[0].log_info)


def _connection_limit() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return MAX_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A connection may hold static files, which its client has not read yet.
    return (
        MAX_CONNECTIONS
        if files < 0
        else min(MAX_CONNECTIONS, max(32, files // (2 + MAX_PIPELINED)))
    )


class _Refusal(ErrorTask):  # type: ignore[misc]
    """Answers a request that never reaches the application, with problem details (RFC 9457)."""

    def execute(self) -> None:
        """Write the answer; the connection ends after it."""
        self.channel.refused = True
        error = self.request.error
        problem = {
            "type": "about:blank",
            "title": error.reason,
            "status": error.code,
            "detail": _DETAILS.get(error.code, error.body),
            "code": "http_error",
        }
        body = json.dumps(problem).encode()
        response = sessions.with_security_headers(
            Response(status=error.code, content_type="application/problem+json")
        )
        del response.headers["Content-Length"]
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(response.headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """One request while it arrives."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the headers; a number that Python does not convert is a bad request."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("The headers are malformed.") from error


class _Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    parser_class = _Parser
    error_task_class = _Refusal
    refused = False
    """Whether a request was refused before all of it was received."""

    _had_more = False
    """Whether requests were dropped, which the client must send again."""
    _partial: object = None
    _began_s = 0.0
    _lingers_since_s: float | None = None

    def received(self, data: bytes) -> bool:
        """Take in data, and note the beginning of a request."""
        taken: bool = super().received(data)
        with self.requests_lock:
            if len(self.requests) > MAX_PIPELINED:
                self._had_more = True
                for dropped in self.requests[MAX_PIPELINED:]:
                    dropped.close()
                del self.requests[MAX_PIPELINED:]
        if self.request is not self._partial:
            self._partial = self.request
            self._began_s = time.time()
        return taken

    def service(self) -> None:
        """Answer a request; the connection ends after the last one if further ones were dropped."""
        super().service()
        with self.requests_lock:
            if self._had_more and not self.requests:
                self.close_when_flushed = True
        if self._had_more:
            self.server.pull_trigger()

    def send_continue(self) -> None:
        """Ask for the body (RFC 9110, section 10.1.1), unless the request is refused already."""
        if self.request.error is None:
            super().send_continue()

    @property
    def waiting_since_s(self) -> float:
        """When the server began to wait for the client."""
        since: float = self.last_activity if self._partial is None else self._began_s
        return since if self._lingers_since_s is None else self._lingers_since_s

    @property
    def is_waiting(self) -> bool:
        """Whether no request of this connection is being answered."""
        return not self.requests

    def is_overdue(self, now_s: float) -> bool:
        """Return whether the client has taken too long to send a request or to go away."""
        if self._lingers_since_s is not None:
            return now_s - self._lingers_since_s > _LINGER_S
        limit_s = IDLE_S if self._partial is None else REQUEST_S
        return self.is_waiting and now_s - self.waiting_since_s > limit_s

    def end(self) -> None:
        """Close the connection now.

        waitress itself closes one at the next write, which never comes if the client does not read.
        """
        self.refused = False
        self.handle_close()

    def readable(self) -> bool:
        """Return whether to read; what a refused client still sends is discarded."""
        if self._fileno is None:  # it was closed within this turn
            return False
        return self._lingers_since_s is not None or bool(super().readable())

    def writable(self) -> bool:
        """Return whether to write."""
        return self._fileno is not None and bool(super().writable())

    def handle_read(self) -> None:
        """Take in data, or discard it."""
        if self._lingers_since_s is None:
            super().handle_read()
            return
        with contextlib.suppress(OSError):
            self.recv(self.adj.recv_bytes)  # closes the connection at its end

    def handle_close(self) -> None:
        """Close the connection; a refused client first reads its answer.

        A socket that is closed with unread data is reset, and the client may lose the answer
        (RFC 9112, section 9.6).
        """
        if self.refused and self._lingers_since_s is None and self.connected:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                self._lingers_since_s = time.time()
                self.will_close = False
                return
        super().handle_close()


class _Server(TcpWSGIServer):  # type: ignore[misc]
    """One listening socket."""

    channel_class = _Channel

    def readable(self) -> bool:
        """Return whether to accept a connection, and make room for it."""
        limit = self.adj.connection_limit
        room = max(1, limit // 16)
        if len(self._map) >= limit - room:
            self._make_room(room)
        return bool(super().readable())

    def _make_room(self, number: int) -> None:
        """Close the connections that have kept the server waiting longest.

        A new one may not have had the time to send its request: while all others are being
        answered, it would be the one that waits longest.
        """
        channels = [each for each in list(self._map.values()) if isinstance(each, _Channel)]
        since_s = time.time() - _GRACE_S
        waiting = [each for each in channels if each.is_waiting and each.waiting_since_s < since_s]
        for channel in sorted(waiting, key=lambda each: each.waiting_since_s)[:number]:
            channel.end()

    def maintenance(self, now: float) -> None:
        """Close connections that are idle, or whose request takes too long to arrive."""
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(now):
                channel.end()
