"""A deployment of a test's own in the Redis that all share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A Redis, and a deployment of one's own there."""

    url: str
    issuer: str

    def settings(self) -> dict[str, Any]:
        """Return what has a host bring its feed there."""
        return {"XGEN_SESSIONS_REDIS_URL": self.url, "XGEN_SESSIONS_ISSUER": self.issuer}

    def flush(self) -> None:
        """Have Redis forget all that it keeps for the deployment; others' keys stay."""
        with redis.Redis.from_url(self.url) as client:
            for name in (self.issuer, f"{{{self.issuer}}}"):
                if keys := list(client.scan_iter(f"xgen_sessions:{name}*")):
                    client.delete(*keys)


@contextmanager
def redis_place(url: str) -> Iterator[RedisPlace]:
    """Lend a deployment's place in Redis, and leave nothing behind there."""
    place = RedisPlace(url, f"xgen-test-{uuid.uuid4().hex}")
    try:
        yield place
    finally:
        place.flush()
