"""Addresses as they are typed: prefixes, networks and spellings, compared with ``ipaddress``."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xgen_flask_sessions.roster.address_ranges import is_address_like, parse_address
from xgen_flask_sessions.roster.devices import clean_address
from xgen_flask_sessions.store.address_keys import key_of


def found(text: str, ip: str) -> bool:
    """Return whether the ranges of *text* have an address."""
    ranges = parse_address(text)
    assert ranges is not None, text
    return any(low <= key_of(ip) <= high for low, high in ranges)


@settings(deadline=None)
@given(st.ip_addresses(), st.ip_addresses())
def test_keys_order_as_the_addresses_do(one: Any, other: Any) -> None:
    order = [(each.version, int(each)) for each in (one, other)]

    assert (key_of(str(one)) < key_of(str(other))) == (order[0] < order[1])


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.integers(1, 12))
def test_the_beginning_of_an_ipv4_address_stands_for_all_that_begin_so(
    address: ipaddress.IPv4Address, length: int
) -> None:
    text = str(address)[:length]

    if text.count(".") < 3:  # it may be complete, and another address
        assert found(text, str(address))


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(1, 12))
def test_no_other_ipv4_address_is_found(one: Any, other: Any, length: int) -> None:
    text = str(one)[:length]

    if text.count(".") < 3:
        assert found(text, str(other)) == str(other).startswith(text)


@settings(deadline=None)
@given(st.ip_addresses(v=6), st.integers(1, 38), st.booleans())
def test_the_beginning_of_an_ipv6_address_stands_for_all_that_begin_so(
    address: ipaddress.IPv6Address, length: int, upper: bool
) -> None:
    assume(clean_address(str(address)) == str(address))  # others are stored as IPv4
    for spelling in (str(address), address.exploded):
        text = spelling[:length]
        text = text.upper() if upper else text
        ranges = parse_address(text)
        is_complete = ranges is not None and len(ranges) == 1 and ranges[0][0] == ranges[0][1]
        if ranges is not None and not is_complete and not text.startswith("::"):
            assert found(text, str(address)), text


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
def test_a_network_has_its_addresses_whatever_the_host_bits(
    address: Any, length: int, other: Any
) -> None:
    length = min(length, address.max_prefixlen)
    text = f"{address}/{length}"
    network = ipaddress.ip_network(text, strict=False)

    mapped = getattr(network[0], "ipv4_mapped", None) and length >= 96
    if not mapped:
        assert found(text, str(other)) == (other.version == network.version and other in network)
        assert found(text, str(address))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("203.0.11", ["203.0.11.1", "203.0.110.9", "203.0.119.255"], ["203.0.12.1", "203.0.1.1"]),
        ("203.0.113.7", ["203.0.113.7"], ["203.0.113.70", "203.0.113.71"]),
        (" 203.0.113. ", ["203.0.113.0"], ["203.0.114.0"]),
        ("2001:db8:", ["2001:db8::1", "2001:db8:ffff::"], ["2001:db80::1", "2001:db9::"]),
        ("2001:0DB8:0:", ["2001:db8::1"], ["2001:db8:1::"]),
        ("2001:db8::", ["2001:db8::", "2001:db8:0:5::1"], ["2001:db8:1::"]),
        ("2001:db8::5:", ["2001:db8::5:1", "2001:db8:0:5::"], ["2001:db8::6:1"]),
        ("2001:db8:1", ["2001:db8:1::", "2001:db8:1fff::"], ["2001:db8:2::"]),
        ("::ffff:10.1.2.3", ["10.1.2.3"], ["10.1.2.4"]),
        ("::ffff:10.1.", ["10.1.2.3"], ["10.2.0.0"]),
        ("::ffff:", ["10.1.2.3"], ["2001:db8::"]),
        ("::ffff:a01:203", ["10.1.2.3"], ["10.1.2.4"]),
        ("::ffff:10.0.0.0/104", ["10.9.9.9"], ["11.0.0.0"]),
        ("64:ff9b::10.1.2.3", ["10.1.2.3"], ["10.1.2.4"]),
        ("::/0", ["::1", "ffff::"], ["10.0.0.1"]),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::1"]),
    ],
)
def test_examples(text: str, inside: list[str], outside: list[str]) -> None:
    assert [found(text, ip) for ip in inside] == [True] * len(inside)
    assert [found(text, ip) for ip in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", ":", ":::", ":1", "1:::2", "::1::", "256.", "1.256.", "01.", "1.2.3.4.",
        "1.2.3.4.5", "10.0.0.0/33", "2001:db8::/129", "10.0.0.0/", "/8", "10.0.0/8",
        "10.0.0.0/-1",
        "10.0.0.0/255.0.0.0", "fe80::1%eth0", "fe80::%1/64", "1:2:3:4:5:6:7:8:", "12345:", "g:",
        "1\0", "\ud800", "²", "1.²", "\uff11.", "10.0.0.0/\uff18", "9" * 64, "1." * 200, "zoe",
        "1.2.3.4:80",
        "[::1]", "1:2:3:4:5:6:7:8:9", "::1:2:3:4:5:6:7:8:",
    ],
)  # fmt: skip
def test_other_texts_are_no_address(text: str) -> None:
    assert parse_address(text) is None


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_is_an_error(text: str) -> None:
    parse_address(text)
    is_address_like(text)


def test_a_search_takes_names_for_names() -> None:
    taken = [text for text in ("2001", "ada", "min.kim", "1.", "fe80:", "::1") if
             is_address_like(text)]  # fmt: skip

    assert taken == ["1.", "fe80:", "::1"]
