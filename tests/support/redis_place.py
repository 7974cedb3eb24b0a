"""Separate key prefixes in the shared Redis: one deployment for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis

from tests.support.hosts import stop_relays


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A Redis, and the issuer of a deployment that one test uses."""

    url: str
    issuer: str

    def settings(self) -> dict[str, Any]:
        """Return the settings with which a host relays its feed to this place."""
        return {"XGEN_SESSIONS_REDIS_URL": self.url, "XGEN_SESSIONS_ISSUER": self.issuer}

    def flush(self) -> None:
        """Delete all of this deployment's keys; the keys of others stay."""
        with redis.Redis.from_url(self.url) as client:
            for name in (self.issuer, f"{{{self.issuer}}}"):
                if keys := list(client.scan_iter(f"xgen_sessions:{name}*")):
                    client.delete(*keys)


_places: Final[list[RedisPlace]] = []
"""The places that this process has made."""


@contextmanager
def redis_place(url: str) -> Iterator[RedisPlace]:
    """Yield a new deployment in Redis, and delete its keys at the end."""
    place = RedisPlace(url, f"xgen-test-{uuid.uuid4().hex}")
    _places.append(place)
    try:
        yield place
    finally:
        # A relay makes a feed again that was deleted.
        stop_relays(place.issuer)
        place.flush()


def leftovers() -> list[str]:
    """Return the keys that the places of this process have left in Redis."""
    found = []
    for place in _places:
        with redis.Redis.from_url(place.url, decode_responses=True) as client:
            found += list(client.scan_iter(f"*{place.issuer}*"))
    return found
