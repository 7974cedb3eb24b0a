"""Web origins, in the one spelling in which they can be compared."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^][:/?#@\\\s]+))"
    r"(?::(?P<port>[0-9]{0,5}))?",
    re.IGNORECASE,
)
_HOST: Final = re.compile(r"[a-z0-9_.*~-]+")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def canonical_origin(value: object) -> str | None:
    """Return an origin as browsers send it (RFC 6454, section 6.2); ``None`` if it is none.

    Scheme and host become lower-case, names become ASCII (IDNA), and a default port is left out.

    :param value: Such as ``HTTPS://App.Example.com:443``.
    """
    match = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    host = _v6(match["v6"]) if match["v6"] else _name(match["name"])
    if host is None:
        return None
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS.get(scheme)
    if port is not None and port > 65535:
        return None
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS.get(scheme) else f":{port}")


def _v6(text: str) -> str | None:
    try:
        return f"[{IPv6Address(text).compressed}]"
    except AddressValueError:
        return None


def _name(text: str) -> str | None:
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    host = text.lower()
    return host if _HOST.fullmatch(host) else None
