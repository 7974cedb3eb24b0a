"""Tests of the rooms above the database run on SQLite, and two of three on one of the servers.

A third of them runs on PostgreSQL and a third on MariaDB: the statements are tested by the rooms of
the database, which run on every kind. With ``XGEN_TEST_EVERY_DATABASE=1`` all of them do.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Final
from zlib import crc32

import pytest

from tests.support.tracing import DIFFERS, TESTS

SERVERS: Final = ("postgresql", "mariadb")
ABOVE: Final = {
    *("admin", "api", "attacks", "cli", "docs", "standalone", "web"),
    "test_rate_limits.py",
}
"""Rooms and modules without statements of their own."""


def repeated(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests that repeat on a server what they test on another database."""
    if os.environ.get("XGEN_TEST_EVERY_DATABASE") == "1":
        return []
    variants: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
    for item in items:
        parts = item.path.relative_to(TESTS).parts
        is_above = parts[0] in ABOVE and DIFFERS.isdisjoint(parts)
        if is_above and (server := _server_of(item)):
            variants[item.nodeid.replace(server, "*")][server] = item
    return [
        item
        for name, both in variants.items()
        if len(both) == len(SERVERS)
        for server, item in both.items()
        if server != (*SERVERS, None)[crc32(name.encode()) % 3]
    ]


def _server_of(item: pytest.Item) -> str | None:
    """Return the kind of the only server that a test's id names."""
    _, _, parameters = item.nodeid.partition("[")
    named = [server for server in SERVERS if server in parameters.rstrip("]").split("-")]
    return named[0] if len(named) == 1 else None
