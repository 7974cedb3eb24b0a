"""The example of a service: it learns from a running Admin Center through Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.admin_center import PASSWORD, AdminCenter
from tests.support.databases import REDIS
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.ports import free_port
from xgen_flask_sessions.feed.redis_stream import Keys

pytestmark = pytest.mark.slow

SECRET = "a secret of the deployment, of enough bytes"
BOUND_S = 2.0
"""The verifier's staleness bound."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "service.py"


@contextmanager
def served(**environment: str) -> Iterator[httpx.Client]:
    """Run the example and yield an HTTP client for it."""
    port = free_port()
    command = [sys.executable, "-W", "error", "-m", "uvicorn", "service:app", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=EXAMPLE.parent, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            eventually(lambda: client.get("/openapi.json").status_code == 200)
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=15)


def sign_in(center: AdminCenter, name: str) -> dict[str, str]:
    body = {"username": name, "password": PASSWORD}
    answer = httpx.post(f"{center.url}/api/login", json=body)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def center(tmp_path: Path, redis_issuer: str) -> Iterator[AdminCenter]:
    """Yield a running Admin Center that relays its feed to Redis."""
    environment = {
        "XGEN_SESSIONS_SECRET_KEY": SECRET,
        "XGEN_SESSIONS_ISSUER": redis_issuer,
        "XGEN_SESSIONS_REDIS_URL": REDIS,
    }
    with AdminCenter(tmp_path / "instance", **environment) as running:
        running.add_user("ada")
        yield running


def test_the_service_refuses_a_user_who_was_forced_out(
    center: AdminCenter, redis_issuer: str
) -> None:
    environment = {
        "XGEN_SESSIONS_SECRET_KEY": SECRET,
        "XGEN_SESSIONS_REDIS_URL": REDIS,
        "XGEN_SESSIONS_ISSUER": redis_issuer,  # other tests use the same Redis
    }
    with served(**environment) as api:
        ada, admin = sign_in(center, "ada"), sign_in(center, "admin")

        def orders(headers: dict[str, str]) -> Any:
            return api.get("/orders", headers=headers)

        eventually(lambda: orders(ada).status_code == 200)
        assert orders(ada).json() == {"orders_of": "2"}
        missing = orders({})
        assert missing.status_code == 401
        assert missing.headers["WWW-Authenticate"] == 'Bearer realm="xgen"'

        center.run("xgen-sessions", "force-logout", "ada")
        over = time.monotonic() + BOUND_S
        refused = orders(ada)
        while refused.status_code != 401:
            late = time.monotonic() > over
            refused = orders(ada)
            assert refused.status_code == (503 if late else 200) or refused.status_code == 401
        assert refused.json()["code"] == "session_revoked"
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="xgen", error="invalid_token"'
        eventually(lambda: orders(admin).status_code == 200)

        again = sign_in(center, "ada")
        client = redis.Redis.from_url(REDIS)
        client.delete(*Keys.of(redis_issuer))  # as FLUSHALL would
        client.close()
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and (now := orders(again)).status_code != 200:
            assert now.status_code == 503
            assert now.headers["Retry-After"] == "1"
            assert orders(ada).status_code in (401, 503)
        eventually(lambda: orders(again).status_code == 200)
        eventually(lambda: orders(ada).status_code == 401)
