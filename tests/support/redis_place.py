"""Separate key prefixes in the shared Redis: one deployment for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis


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


@contextmanager
def redis_place(url: str) -> Iterator[RedisPlace]:
    """Yield a new deployment in Redis, and delete its keys at the end."""
    place = RedisPlace(url, f"xgen-test-{uuid.uuid4().hex}")
    try:
        yield place
    finally:
        place.flush()
