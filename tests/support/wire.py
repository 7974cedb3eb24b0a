"""A TCP proxy in front of a database server: it counts messages, and can hold them up."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa


class Wire:
    """Forwards connections to a server, and counts the messages of the clients.

    All the work is done in :meth:`forward`, in one thread.

    :param target: The server's address.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        """The number of messages from clients: one for each round trip."""
        self._clients: set[socket.socket] = set()
        self._other_end: dict[socket.socket, socket.socket] = {}
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False

    def hold_up(self) -> None:
        """Stop forwarding and keep the connections open, as if the network had failed silently."""
        self._flowing.clear()

    def let_go(self) -> None:
        """Forward again, beginning with the messages that were held up."""
        self._flowing.set()

    def redirect(self, target: tuple[str, int]) -> None:
        """Forward new connections to another server; the open ones stay, as after a fail-over."""
        self._target = target

    def close(self) -> None:
        """Close every connection, and accept no more."""
        self._closed = True
        self._flowing.set()

    def forward(self) -> None:
        """Accept and forward connections until :meth:`close`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed:
                ready = [key.fileobj for key, _ in selector.select(_TICK_S)]
                for each in ready:
                    assert isinstance(each, socket.socket)
                    if each is self._listener:
                        self._accept(selector)
                    elif each in self._other_end:
                        self._forward(each, selector)
            for each in (self._listener, *self._other_end):
                each.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target)
        except ConnectionRefusedError:  # the server is down
            client.close()
            return
        self._clients.add(client)
        self._other_end |= {client: server, server: client}
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)

    def _forward(self, source: socket.socket, selector: selectors.BaseSelector) -> None:
        sink = self._other_end[source]
        data = b""
        with suppress(OSError):
            data = source.recv(65536)
            if data:
                self.sent += source in self._clients
                self._flowing.wait()
                sink.sendall(data)
                return
        for each in (source, sink):
            selector.unregister(each)
            self._clients.discard(each)
            del self._other_end[each]
            each.close()


_TICK_S = 0.05


@contextmanager
def wire_to(url: str) -> Iterator[tuple[Wire, str]]:
    """Yield a wire to a database server, and the URL that leads through it."""
    parsed = sa.make_url(url)
    default = {"postgresql": 5432, "redis": 6379}.get(parsed.get_backend_name(), 3306)
    wire = Wire((parsed.host or "127.0.0.1", parsed.port or default))
    threading.Thread(target=wire.forward, daemon=True).start()
    try:
        through = parsed.set(host="127.0.0.1", port=wire.port)
        yield wire, through.render_as_string(hide_password=False)
    finally:
        wire.close()
