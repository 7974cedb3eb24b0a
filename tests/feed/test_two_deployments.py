"""Two deployments with one issuer on one Redis: neither replaces or uses the other's feed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.databases import REDIS, MakeHost
from tests.support.hosts import SECRET as HOST_SECRET
from tests.support.hosts import Host
from tests.support.patience import until
from tests.support.relaying import SECRET, Deployment, answer, deployed
from xgen_flask_sessions import TokenInvalid
from xgen_flask_sessions.feed.redis_stream import Keys
from xgen_flask_sessions.feed.signed_state import ForeignFeed
from xgen_flask_sessions.tokens.keys import load_key
from xgen_flask_sessions.verifier import Verifier

OTHER_SECRET = b"a secret of another deployment, long enough"


@pytest.fixture(params=["the same secret", "different secrets"])
def pair(
    request: pytest.FixtureRequest, tmp_path: object, redis_issuer: str
) -> Iterator[tuple[Deployment, Deployment]]:
    """Yield two deployments with databases of their own."""
    secret = SECRET if request.param == "the same secret" else OTHER_SECRET
    with (
        deployed(f"sqlite:///{tmp_path}/first.db", redis_issuer) as first,
        deployed(f"sqlite:///{tmp_path}/second.db", redis_issuer, [load_key(secret)]) as second,
    ):
        yield first, second


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_relay_never_replaces_the_feed_of_another_deployment(
    pair: tuple[Deployment, Deployment], in_turn: bool
) -> None:
    first, second = reversed(pair) if in_turn else pair
    token, other = first.sign_in("ada"), second.sign_in("ada")
    relayer, late = first.relayer(), second.relayer()
    relayer.beat()

    for _ in range(3):  # also while the first one is stopped
        second.force_out("ada")
        with pytest.raises(ForeignFeed) as refused:
            late.beat()
        assert refused.value.deployment == first.id
    assert late.snapshots == 0

    assert first.state.deployment == first.id
    for each in pair:
        service = each.verifier(secret_key=each.signing_keys[0].signing)
        service.step()
        assert answer(service, other) in ("invalid", "unavailable")
    first.force_out("ada")
    relayer.beat()
    service = first.verifier(secret_key=first.signing_keys[0].signing)
    service.step()
    assert answer(service, token) == "forced out"


def test_a_service_follows_only_a_feed_that_its_key_proves(
    pair: tuple[Deployment, Deployment], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    first.relayer().beat()
    service = second.verifier(secret_key=second.signing_keys[0].signing)
    token = second.sign_in("ada")
    same_secret = first.signing_keys[0] == second.signing_keys[0]

    assert service.step() == same_secret

    if not same_secret:
        assert answer(service, token) == "unavailable"
        assert "is signed by a key that is unknown here" in caplog.text
        return
    for _ in range(2):
        with pytest.raises(TokenInvalid, match="Another deployment"):
            service.verify(token)
    (record,) = caplog.records
    assert first.id in record.getMessage()
    assert second.id in record.getMessage()


def test_a_token_of_an_earlier_release_is_judged_by_the_feed(
    sqlite_url: str, redis_issuer: str
) -> None:
    with deployed(sqlite_url, redis_issuer) as deployment:
        tokens = [
            deployment.codec.encode(
                replace(deployment.claims(deployment.sign_in(user)), deployment=None)
            )
            for user in ("ada", "bob")
        ]
        deployment.force_out("ada")
        deployment.relayer().beat()
        service = deployment.verifier()
        service.step()

        assert [answer(service, token) for token in tokens] == ["forced out", "good"]


def test_a_deployment_that_no_longer_exists_can_be_removed(
    pair: tuple[Deployment, Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, left = pair
    gone.relayer().beat()
    token = left.sign_in("ada")
    left.force_out("bob")
    relayer = left.relayer()
    with pytest.raises(ForeignFeed):
        relayer.beat()

    assert not relayer.relay.remove(left.id)
    assert not relayer.relay.remove("another")
    assert relayer.relay.remove(gone.id)
    assert not relayer.relay.remove(gone.id)
    relayer.beat()
    assert not left.redis.exists(left.keys.meta)  # the other one may publish it again
    monkeypatch.setattr("xgen_flask_sessions.feed.publisher._FOREIGN_S", 0)  # time passes
    relayer.beat()

    service = left.verifier(secret_key=left.signing_keys[0].signing)
    assert service.step()
    assert answer(service, token) == "good"


def test_a_deployment_keeps_its_place_when_redis_loses_the_feed(
    pair: tuple[Deployment, Deployment],
) -> None:
    first, second = pair
    relayer, late = first.relayer(), second.relayer()
    relayer.beat()
    with pytest.raises(ForeignFeed):
        late.beat()

    first.lose_feed()
    late.beat()
    relayer.beat()

    assert first.state.deployment == first.id


@pytest.fixture
def copies(tmp_path: Path, redis_issuer: str) -> Iterator[tuple[Deployment, Deployment, str]]:
    """Yield a deployment, a copy of it, and a token that only the original has revoked."""
    with deployed(f"sqlite:///{tmp_path}/original.db", redis_issuer) as original:
        token = original.sign_in("ada")
        original.force_out("bob")
        original.engine.dispose()
        shutil.copy(tmp_path / "original.db", tmp_path / "copy.db")
        with deployed(f"sqlite:///{tmp_path}/copy.db", redis_issuer) as copy:
            assert copy.id == original.id
            original.force_out("ada")
            yield original, copy, token


def test_no_token_passes_while_a_copy_of_the_database_publishes_too(
    copies: tuple[Deployment, Deployment, str], caplog: pytest.LogCaptureFixture
) -> None:
    original, copy, token = copies
    copy.force_out("eve")
    relayer, other, second = original.relayer(), copy.relayer(), copy.relayer()
    relayer.beat()
    services = [original.verifier()]
    for each in (other, second, relayer, other, relayer):
        each.beat()
        services.append(original.verifier())
        for service in services:
            service.step()
            assert answer(service, token) == "unavailable"
    assert "id publishes it" in caplog.text
    assert "two databases with one deployment's id" in caplog.text

    original.age_state(seconds=6)  # the copy was stopped
    relayer.beat()

    for service in services:
        service.step()
        assert answer(service, token) == "forced out"


def test_a_copy_with_more_events_waits_for_the_original(
    copies: tuple[Deployment, Deployment, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy, token = copies
    for user in ("eve", "mallory"):
        copy.force_out(user)
    relayer, other = original.relayer(), copy.relayer()
    relayer.beat()
    service = original.verifier()

    for each in (other, relayer, other):
        each.beat()
        service.step()
        assert answer(service, token) == "forced out"
    monkeypatch.setattr("xgen_flask_sessions.feed.publisher.DISPUTED_US", 0)  # time passes
    other.beat()

    service.step()
    assert answer(service, token) == "unavailable"


def test_the_command_prints_json(make_host: MakeHost, sqlite_url: str, redis_issuer: str) -> None:
    settings: dict[str, Any] = {
        "XGEN_SESSIONS_REDIS_URL": REDIS,
        "XGEN_SESSIONS_ISSUER": redis_issuer,
    }
    with deployed(sqlite_url, redis_issuer, [load_key(HOST_SECRET.encode())]) as deployment:
        deployment.relayer().beat()
        host = make_host(sqlite_url, **settings)

        code, printed = invoke(host, "remove-feed", deployment.id, "--json")

        assert (code, json.loads(printed)) == (0, {"removed": deployment.id})
        assert deployment.redis.exists(*deployment.keys) == 0


def test_a_deployment_removes_its_own_feed_and_publishes_it_again(
    sqlite_url: str, redis_issuer: str
) -> None:
    with deployed(sqlite_url, redis_issuer) as deployment:
        relayer = deployment.relayer()
        relayer.beat()
        history = deployment.state.history

        assert relayer.relay.remove(deployment.id)
        assert deployment.redis.exists(*deployment.keys) == 0
        relayer.beat()

        assert deployment.state.history != history


@pytest.fixture
def hosts(make_host: MakeHost, tmp_path: object, redis_issuer: str) -> list[Host]:
    """Return two applications with the same settings, on databases of their own."""
    settings: dict[str, Any] = {
        "XGEN_SESSIONS_REDIS_URL": REDIS,
        "XGEN_SESSIONS_ISSUER": redis_issuer,
    }
    return [make_host(f"sqlite:///{tmp_path}/{name}.db", **settings) for name in ("a", "b")]


def invoke(host: Host, *args: str) -> tuple[int, str]:
    result = host.app.test_cli_runner().invoke(args=["xgen-sessions", *args])
    return result.exit_code, result.output


def test_an_application_says_whose_feed_is_there_and_how_to_change_it(
    hosts: list[Host], redis_issuer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "xgen_flask_sessions.feed")
    first, second = hosts
    users = [host.add_user() for host in hosts]
    tokens = [host.issue(user).token for host, user in zip(hosts, users, strict=True)]
    service = Verifier(redis_url=REDIS, secret_key=HOST_SECRET, issuer=redis_issuer)
    with service:
        assert first.status(tokens[0]) == 200
        until(lambda: answer(service, tokens[0]) == "good")

        assert second.status(tokens[1]) == 200
        until(lambda: "another deployment" in caplog.text)
        with pytest.raises(TokenInvalid):
            service.verify(tokens[1])
        second.force_logout(users[1])
        assert answer(service, tokens[0]) == "good"

        (error,) = [each for each in caplog.records if each.levelno == logging.ERROR]
        code, printed = invoke(second, "relay")
        assert code == 1
        assert error.getMessage() in printed.replace("\n", " ")
        foreign = printed.split("remove-feed ")[1].split()[0]
        code, printed = invoke(second, "doctor")
        assert code == 1
        assert foreign in printed
        assert "feed" not in invoke(first, "doctor")[1].partition("problem")[2]

        relay = first.app.extensions["xgen_sessions"].relay
        relay.stop()
        until(lambda: not relay.follower.is_running)
        assert invoke(second, "remove-feed", "another")[0] == 1
        assert invoke(second, "remove-feed", redis_issuer, "--json")[0] == 1
        assert invoke(second, "remove-feed", foreign) == (
            0,
            f"The feed of {foreign} was removed from Redis.\n",
        )
        until(lambda: answer(service, second.issue(users[1]).token) == "good")
        assert "feed of this deployment again" in caplog.text


@pytest.mark.parametrize("kind", ["hash", "list"])
def test_a_feed_of_an_earlier_release_is_replaced(
    sqlite_url: str, redis_issuer: str, kind: str
) -> None:
    with deployed(sqlite_url, redis_issuer) as deployment:
        token = deployment.sign_in("ada")
        deployment.force_out("ada")
        keys = Keys.of(redis_issuer)
        with redis.Redis.from_url(REDIS) as client:
            client.hset(keys.meta, mapping={"history": "h", "epoch": "e", "position": 0, "id": "",
                                            "heartbeat": 10**18, "chunks": 1, "made": 1,
                                            "changed": 1, "snapshot_position": 0,
                                            "snapshot_id": ""})  # fmt: skip
            client.rpush(keys.snapshot, "[]")
            client.xadd(keys.stream, {"id": "", "kind": "begin"}, id="0-1")
        service = deployment.verifier()
        assert not service.step()

        deployment.relayer().beat()

        assert service.step()
        assert answer(service, token) == "forced out"
