"""Ports to listen on, for servers that are told which."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections, which come and go all the time."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("Every port is taken.")
