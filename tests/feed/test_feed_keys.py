"""The keys that sign the feed: every algorithm, rotation, and Redis users that only read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.support.databases import REDIS, MakeHost
from tests.support.relaying import LONG_S, SECRET, answer, deployed
from tests.support.tokens import private_pem, public_pem
from xgen_flask_sessions import ConfigurationError
from xgen_flask_sessions.feed.signed_state import FeedRefused, StateSigner
from xgen_flask_sessions.tokens.codec import TokenCodec
from xgen_flask_sessions.tokens.keys import Key, load_key, to_jwks
from xgen_flask_sessions.verifier import Verifier

NEW_SECRET = b"a new secret of the deployment, long enough"
ASYMMETRIC = ("RS256", "ES256", "EdDSA")


def key_for(algorithm: str) -> Key:
    material = SECRET if algorithm == "HS256" else private_pem(algorithm)
    return load_key(material, algorithm)


@pytest.mark.parametrize("algorithm", ["HS256", *ASYMMETRIC])
def test_a_service_follows_a_feed_signed_by_its_key(
    sqlite_url: str, redis_issuer: str, algorithm: str
) -> None:
    if algorithm == "HS256":
        options: dict[str, Any] = {}
    else:
        options = {"secret_key": None, "public_keys": [public_pem(private_pem(algorithm))]}
    with deployed(sqlite_url, redis_issuer, [key_for(algorithm)]) as deployment:
        tokens = [deployment.sign_in(user) for user in ("ada", "bob")]
        relayer, service = deployment.relayer(), deployment.verifier(**options)
        relayer.beat()
        assert service.step()
        deployment.force_out("ada")
        relayer.beat()
        assert service.step()

        assert [answer(service, token) for token in tokens] == ["forced out", "good"]


def test_a_feed_signed_by_another_key_is_refused(sqlite_url: str, redis_issuer: str) -> None:
    with deployed(sqlite_url, redis_issuer, [load_key(NEW_SECRET)]) as deployment:
        token = TokenCodec([load_key(SECRET)], issuer=redis_issuer).encode(
            deployment.claims(deployment.sign_in("ada"))
        )
        deployment.relayer().beat()
        service = deployment.verifier(secret_key=SECRET)

        assert not service.step()
        assert answer(service, token) == "unavailable"


def test_a_token_is_no_state_and_a_state_is_no_token(sqlite_url: str, redis_issuer: str) -> None:
    with deployed(sqlite_url, redis_issuer, [key_for("ES256")]) as deployment:
        token = deployment.sign_in("ada")
        deployment.relayer().beat()
        service = deployment.verifier(
            secret_key=None, public_keys=[public_pem(private_pem("ES256"))]
        )
        service.step()

        assert answer(service, deployment.redis.get(deployment.keys.meta)) == "invalid"
        with pytest.raises(FeedRefused):
            deployment.signer.open(token.encode())


@pytest.mark.parametrize("in_turn", [False, True])
def test_processes_with_the_old_and_the_new_key_share_a_feed(
    sqlite_url: str, redis_issuer: str, in_turn: bool
) -> None:
    """The rotation of the guide: first every process knows both keys, then the new one signs."""
    keys = [load_key(SECRET), load_key(NEW_SECRET)]
    with (
        deployed(sqlite_url, redis_issuer, keys) as before,
        deployed(sqlite_url, redis_issuer, keys[::-1]) as after,
    ):
        tokens = [each.sign_in("ada") for each in (before, after)]
        services = [
            before.verifier(secret_key=SECRET, previous_keys=[NEW_SECRET]),
            after.verifier(secret_key=NEW_SECRET, previous_keys=[SECRET]),
        ]
        relayers = [before.relayer(), after.relayer()]
        for relayer in relayers:
            relayer.beat()
        history = before.state.history
        for turn in range(4):
            before.force_out(f"user {turn}")
            relayers[(turn + in_turn) % 2].beat()
            assert all(service.step() for service in services)
            assert [answer(service, each) for service in services for each in tokens] == [
                "good"
            ] * 4

        assert after.state.history == history
        before.force_out("ada")
        relayers[0].beat()
        for service in services:
            service.step()
            assert answer(service, tokens[1]) == "forced out"


def test_processes_that_know_only_their_own_key_replace_each_others_feed_once_in_a_while(
    sqlite_url: str, redis_issuer: str
) -> None:
    with (
        deployed(sqlite_url, redis_issuer) as before,
        deployed(sqlite_url, redis_issuer, [load_key(NEW_SECRET)]) as after,
    ):
        old, new = before.relayer(), after.relayer()
        for _ in range(20):
            old.beat()
            new.beat()

    assert old.snapshots + new.snapshots < 10


def test_a_feed_follows_a_changed_jwks_file(
    sqlite_url: str, redis_issuer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xgen_flask_sessions.verifier._KEYS_S", 0)
    old, new = load_key(private_pem("ES256")), load_key(private_pem("ES256", 2))
    file = tmp_path / "jwks.json"

    def write(keys: Sequence[Key]) -> None:
        file.write_text(json.dumps(to_jwks(keys)))
        os.utime(file, ns=(time.time_ns(), time.time_ns()))

    write([old])
    with (
        deployed(sqlite_url, redis_issuer, [old]) as before,
        deployed(sqlite_url, redis_issuer, [new, old]) as after,
    ):
        token = before.sign_in("ada")
        before.relayer().beat()
        service = before.verifier(secret_key=None, jwks_file=file)
        assert service.step()
        write([new, old])
        relayer = after.relayer()
        relayer.beat()
        relayer.beat()
        assert service.step()
        assert answer(service, token) == "good"
        after.force_out("ada")
        relayer.beat()
        assert service.step()
        assert answer(service, token) == "forced out"

        write([new])  # the old key was stolen
        before.redis.set(before.keys.meta, before.signer.sign(after.state))
        assert not service.step()
        relayer.beat()
        assert service.step()
        assert answer(service, token) == "invalid"


def test_an_application_without_a_private_key_publishes_no_feed(
    make_host: MakeHost, sqlite_url: str, redis_issuer: str
) -> None:
    settings: dict[str, Any] = {
        "XGEN_SESSIONS_ALGORITHM": "ES256",
        "XGEN_SESSIONS_PUBLIC_KEY": public_pem(private_pem("ES256")),
        "XGEN_SESSIONS_REDIS_URL": REDIS,
    }
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_PRIVATE_KEY"):
        make_host(sqlite_url, **settings)


@pytest.fixture
def reader_url(redis_issuer: str) -> Iterator[str]:
    """Yield the URL of a Redis user that may only read, as the documentation describes it."""
    name = redis_issuer.rpartition("-")[2]
    rules = "+@read +@connection +@transaction +time ~xgen_sessions:*"
    with redis.Redis.from_url(REDIS) as client:
        client.execute_command("ACL", "SETUSER", name, "on", ">word", *rules.split())
        yield REDIS.replace("redis://", f"redis://{name}:word@")
        client.execute_command("ACL", "DELUSER", name)


def test_a_service_needs_read_permission_only(
    sqlite_url: str, redis_issuer: str, reader_url: str
) -> None:
    with deployed(sqlite_url, redis_issuer) as deployment:
        tokens = [deployment.sign_in(user) for user in ("ada", "bob")]
        deployment.force_out("ada")
        deployment.relayer().beat()
        service = Verifier(
            redis_url=reader_url, secret_key=SECRET, issuer=redis_issuer, max_staleness=LONG_S
        )
        with service:
            assert service.ready(30)
            assert [answer(service, token) for token in tokens] == ["forced out", "good"]
        with redis.Redis.from_url(reader_url) as client, pytest.raises(NoPermissionError):
            client.set(deployment.keys.meta, "x")


def test_an_entry_that_vanished_is_noticed_by_the_length(
    sqlite_url: str, redis_issuer: str
) -> None:
    with deployed(sqlite_url, redis_issuer) as deployment:
        relayer = deployment.relayer()
        relayer.beat()
        for user in "abc":
            deployment.force_out(user)
        relayer.beat()
        before = deployment.state
        relayer.relay._audit.step = lambda _, at: at  # type: ignore[assignment, method-assign]
        deployment.redis.xdel(deployment.keys.stream, "2-1")
        relayer.beat()

        assert deployment.state.history != before.history


def test_a_state_of_another_release_or_issuer_is_refused() -> None:
    signer = StateSigner([load_key(SECRET)], "xgen")
    for claims in ({"iss": "xgen", "position": 5}, {"position": 5}, {"iss": "another"}):
        with pytest.raises(FeedRefused):
            signer.open(signer._states.encode(claims).encode())


@pytest.mark.parametrize("until", [None, "5", 0, 10**18, 6 * 10**6])
def test_a_turn_counts_for_a_short_time_only(until: object) -> None:
    signer = StateSigner([load_key(SECRET)], "xgen")
    other = StateSigner([load_key(SECRET)], "another")

    assert signer.is_turn(signer.sign_turn(1), 1)
    assert not signer.is_turn(signer.sign_turn(1), 10**8)
    assert not signer.is_turn(other.sign_turn(1), 1)
    assert not signer.is_turn(b"\xff", 1)
    claims = {"iss": "xgen", "until": until}
    assert not signer.is_turn(signer._turns.encode(claims).encode(), 1)
