"""Addresses as administrators type them, as ranges of the keys that order stored addresses.

An address, the beginning of one, or a CIDR network, in any spelling. Stored addresses are
canonical, and an IPv4 address within an IPv6 one is stored as IPv4: so it is here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final

from ..store.address_keys import key_of

Range = tuple[str, str]
"""The lowest and the highest key."""

MAX_ADDRESS: Final = 64
"""The longest text that is read."""

_Numbers = tuple[int, int, int]
"""The IP version, the lowest and the highest number."""

_EMBEDDINGS: Final = (0xFFFF << 32, 0x64FF9B << 96)
"""The beginnings of mapped (RFC 4291, section 2.5.5.2) and translated addresses (RFC 6052)."""
_IPV4_LIKE: Final = re.compile(r"(?:\d{1,3}\.){0,3}\d{0,3}", re.ASCII)
_IPV6_LIKE: Final = re.compile(r"[0-9a-f]{1,4}(?:(?::[0-9a-f]{0,4})+)?|::?[0-9a-f:]*", re.ASCII)
_EMBEDDED: Final = re.compile(
    r"(?:::ffff:|0{0,4}64:ff9b::)(?P<ipv4>(?:\d{1,3}\.)+\d{0,3})", re.ASCII
)
_GROUPS: Final = 8


def parse_address(text: str) -> list[Range] | None:
    """Return the ranges of keys for an address, a prefix or a network; ``None`` if it is none.

    A complete address is itself, not the beginning of longer ones. A prefix stands for every
    address with a spelling that begins with it: "203.0.11" for 203.0.11.* and 203.0.110.* to
    203.0.119.*. The host bits of a network are ignored.
    """
    text = text.strip().lower()
    if not text or len(text) > MAX_ADDRESS:
        return None
    numbers = _network(text) if "/" in text else _address(text) or _prefix(text)
    return [_keys(*each) for each in _merged(numbers)] if numbers else None


def is_address_like(text: str) -> bool:
    """Return whether a text for a search reads as an address or the beginning of one.

    Digits alone, or letters from a to f, are rather a part of a name.
    """
    return any(separator in text for separator in ".:") and parse_address(text) is not None


def _keys(version: int, low: int, high: int) -> Range:
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return key_of(str(make(low))), key_of(str(make(high)))


def _network(text: str) -> list[_Numbers] | None:
    address, _, length = text.partition("/")
    if not (length.isascii() and length.isdigit() and len(length) <= 3):
        return None
    try:
        network = ipaddress.ip_network(f"{address}/{int(length)}", strict=False)
    except ValueError:
        return None
    if "%" in address:
        return None
    return [_embedded(network.version, int(network[0]), int(network[-1]))]


def _embedded(version: int, low: int, high: int) -> _Numbers:
    """Return the range of IPv4 addresses if an IPv6 one has only such."""
    for start in _EMBEDDINGS if version == 6 else ():
        if start <= low and high < start + 2**32:
            return 4, low - start, high - start
    return version, low, high


def _address(text: str) -> list[_Numbers] | None:
    """Return a complete address; a trailing ``::`` begins longer ones."""
    if "%" in text or text.endswith("::"):
        return None
    return _network(f"{text}/128") if ":" in text else _network(f"{text}/32")


def _prefix(text: str) -> list[_Numbers] | None:
    embedded = _EMBEDDED.fullmatch(text)
    if embedded is not None:
        return _ipv4_prefix(embedded["ipv4"])
    return [*(_ipv4_prefix(text) or ()), *(_ipv6_prefix(text) or ())] or None


def _ipv4_prefix(text: str) -> list[_Numbers] | None:
    *whole, partial = text.split(".")
    if not _IPV4_LIKE.fullmatch(text) or len(whole) > 3 or not all(map(_is_octet, whole)):
        return None
    above = 0
    for octet in whole:
        above = above << 8 | int(octet)
    bits = 32 - 8 * len(whole)
    if not partial:
        return [(4, above << bits, (above + 1 << bits) - 1)]
    octets = [each for each in range(256) if str(each).startswith(partial)]
    bits -= 8
    return [
        (4, (above << 8 | octet) << bits, ((above << 8 | octet) + 1 << bits) - 1)
        for octet in octets
    ]


def _is_octet(text: str) -> bool:
    return text.isdigit() and str(int(text)) == text and int(text) <= 255


def _ipv6_prefix(text: str) -> list[_Numbers] | None:
    if not _IPV6_LIKE.fullmatch(text) or ":::" in text or text.count("::") > 1 or text == ":":
        return None
    if "::" not in text:
        *whole, partial = text.split(":")
        return list(_beginnings(whole, partial))
    head, tail = text.split("::")
    before = head.split(":") if head else []
    *after, partial = tail.split(":")
    if partial or any(len(group) > 4 for group in (*before, *after)):
        return None  # it would be a complete address
    # The colons stand for one group of zeros or more; without a group after them, one is enough.
    most = _GROUPS - 1 - len(before) - len(after) if after else 1
    return [
        _embedded(*each)
        for zeros in range(1, most + 1)
        for each in _beginnings([*before, *["0"] * zeros, *after], "")
    ]


def _beginnings(whole: list[str], partial: str) -> Iterator[_Numbers]:
    """Yield the ranges of addresses that begin with whole groups and a part of the next one."""
    if len(whole) >= _GROUPS or not all(whole):
        return
    above = 0
    for group in whole:
        above = above << 16 | int(group, 16)
    bits = 128 - 16 * len(whole)
    if not partial:
        yield 6, above << bits, (above + 1 << bits) - 1
        return
    bits -= 16
    for low, high in _group_range(partial):
        yield 6, (above << 16 | low) << bits, ((above << 16 | high) + 1 << bits) - 1


def _group_range(partial: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a group that begins with *partial*, with leading zeros or without."""
    value = int(partial, 16)
    longest = 4 - len(partial)
    for digits in [longest] if partial.startswith("0") else range(longest + 1):
        yield value << 4 * digits, (value + 1 << 4 * digits) - 1


def _merged(numbers: Iterable[_Numbers]) -> list[_Numbers]:
    """Return ranges without overlaps, in order; neighbours become one."""
    merged: list[_Numbers] = []
    for version, low, high in sorted(numbers):
        if merged and merged[-1][0] == version and low <= merged[-1][2] + 1:
            merged[-1] = (version, merged[-1][1], max(merged[-1][2], high))
        else:
            merged.append((version, low, high))
    return merged
