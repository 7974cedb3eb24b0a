"""A fail-over of Redis that moves its address and leaves connections to the former primary open."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from tests.support.patience import until
from tests.support.ports import free_port
from tests.support.relaying import SECRET, Deployment, Relayer, answer, deployed
from tests.support.wire import Wire, wire_to
from xgen_flask_sessions.errors import RateLimited
from xgen_flask_sessions.feed.publisher import Publisher
from xgen_flask_sessions.feed.redis_stream import RedisUnavailable, connect
from xgen_flask_sessions.rate_limits import RateLimits
from xgen_flask_sessions.settings import Settings
from xgen_flask_sessions.verifier import Verifier

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


class Pair(NamedTuple):
    """Two servers, and the address, which is that of the first one."""

    first: Any
    second: Any
    wire: Wire
    url: str

    def fail_over(self, *, demoting: bool) -> None:
        """Move the address to the second server.

        :param demoting: Whether the first one becomes a replica; otherwise it stays a primary.
        """
        self.wire.redirect(("127.0.0.1", _port_of(self.second)))
        if demoting:
            self.first.replicaof("127.0.0.1", free_port())


def _port_of(server: Any) -> int:
    return int(server.connection_pool.connection_kwargs["port"])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    programs, clients = [], []
    for _ in range(2):
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        programs.append(
            subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
        )
        clients.append(redis.Redis(port=port))
    for client in clients:
        until(lambda client=client: _answers(client))  # type: ignore[misc]
    with wire_to(f"redis://127.0.0.1:{_port_of(clients[0])}/0") as (wire, url):
        yield Pair(clients[0], clients[1], wire, url)
    for client, program in zip(clients, programs, strict=True):
        client.close()
        program.kill()
        program.wait()


def _answers(client: Any) -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


@pytest.fixture
def deployment(sqlite_url: str) -> Iterator[Deployment]:
    with deployed(sqlite_url, "failing-over") as deployment:
        yield deployment


def relayer_at(deployment: Deployment, url: str) -> Relayer:
    relayer = deployment.relayer()
    relayer.relay.close()
    relayer.relay = Publisher(url, deployment.issuer, deployment.signer)
    return relayer


def is_published(relayer: Relayer, server: Any) -> bool:
    """Write a heartbeat, and return whether a server has the feed."""
    with suppress(RedisUnavailable):
        relayer.beat()
    return bool(server.exists(relayer._deployment.keys.meta))


def test_a_relay_goes_to_the_new_primary(deployment: Deployment, pair: Pair) -> None:
    relayer = relayer_at(deployment, pair.url)
    assert is_published(relayer, pair.first)

    pair.fail_over(demoting=True)

    until(lambda: is_published(relayer, pair.second))
    relayer.relay.close()


def test_a_service_leaves_a_server_without_heartbeats(deployment: Deployment, pair: Pair) -> None:
    token = deployment.sign_in("ada")
    first = relayer_at(deployment, f"redis://127.0.0.1:{_port_of(pair.first)}/0")
    second = relayer_at(deployment, f"redis://127.0.0.1:{_port_of(pair.second)}/0")
    with Verifier(
        redis_url=pair.url, secret_key=SECRET, issuer=deployment.issuer, max_staleness=3
    ) as service:
        until(lambda: is_published(first, pair.first) and answer(service, token) == "good")
        deployment.force_out("ada")

        pair.fail_over(demoting=False)

        until(lambda: is_published(second, pair.second) and answer(service, token) == "forced out")
    for each in (first, second):
        each.relay.close()


def test_a_script_that_a_replica_of_redis_6_refuses_runs_on_the_new_primary(pair: Pair) -> None:
    error = (
        "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: "
        "-READONLY You can't write against a read only replica."
    )
    script = "return redis.call('GET', 'refusal') and redis.error_reply(ARGV[1]) or 'done'"
    pair.first.set("refusal", "1")
    client = connect(pair.url)
    with pytest.raises(redis.ReadOnlyError):  # on both attempts
        client.eval(script, 0, error)
    assert client.ping()

    pair.fail_over(demoting=False)

    assert client.eval(script, 0, error) == b"done"
    client.close()


def test_force_logouts_are_limited_by_the_new_primary(pair: Pair) -> None:
    settings = {
        "SECRET_KEY": SECRET.decode(),
        "XGEN_SESSIONS_RATE_LIMIT_STORAGE": pair.url,
        "XGEN_SESSIONS_FORCE_LOGOUT_LIMIT": "2/minute",
    }
    limits = RateLimits(Settings.from_config(settings))
    limits.force_logout.take("ada")

    pair.fail_over(demoting=True)

    for _ in range(2):
        limits.force_logout.take("ada")
    with pytest.raises(RateLimited):
        limits.force_logout.take("ada")
