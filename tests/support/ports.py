"""Free ports, for servers that need a port number before they start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

_PORTS: Final = range(20_000, 32_000)
"""Below the ephemeral ports, which outgoing connections take at any time."""


def free_port() -> int:
    """Return a port without a listener."""
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("Every port is taken.")
