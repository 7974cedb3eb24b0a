"""The verifier for services without the database: its answers, and when they change."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from tests.support.databases import REDIS
from tests.support.patience import until, within
from tests.support.relaying import LONG_S, SECRET, Deployment, Stepped, answer, deployed
from xgen_flask_sessions.errors import SessionRevoked
from xgen_flask_sessions.feed import publisher as relay_module
from xgen_flask_sessions.feed.redis_stream import (
    Place,
    Read,
    RedisFeed,
    RedisUnavailable,
    connect,
)
from xgen_flask_sessions.runtime import elapsed
from xgen_flask_sessions.verifier import Verifier

NOON = datetime(2026, 5, 25, 12, tzinfo=UTC)

TIMED = ("xgen_flask_sessions.verifier", "xgen_flask_sessions.feed.redis_denylist")
"""The modules of a service that measure elapsed time."""


@pytest.fixture
def deployment(sqlite_url: str, redis_issuer: str) -> Iterator[Deployment]:
    with deployed(sqlite_url, redis_issuer) as made:
        yield made


@pytest.fixture
def each_deployment(database_url: str, redis_issuer: str) -> Iterator[Deployment]:
    with deployed(database_url, redis_issuer) as made:
        yield made


@pytest.mark.parametrize("seed", range(2))
def test_it_agrees_with_the_database(each_deployment: Deployment, seed: int) -> None:
    deployment = each_deployment
    chance = random.Random(seed)
    relayers = [deployment.relayer() for _ in range(3)]
    verifiers = [deployment.verifier() for _ in range(2)]
    with freeze_time(NOON) as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay_module, "GAP_US", 0)  # the other relayers are stopped meanwhile
        tokens = [deployment.sign_in(user) for user in "abc"]
        for turn in range(50):
            clock.tick(timedelta(microseconds=chance.choice((1, 1, 20_000_000, 100_000_000))))
            good = [token for token in tokens if answer(deployment.strict, token) == "good"]
            doing = chance.randrange(10)
            if doing < 3 or not good:
                tokens.append(deployment.sign_in(chance.choice("abc"), chance.choice((60, 3600))))
            elif doing < 6:
                tokens.append(deployment.renew(chance.choice(good)))
            elif doing < 7:
                deployment.end(chance.choice(good))
            elif doing < 8:
                deployment.force_out(chance.choice("abc"))
            elif chance.random() < 0.2:
                deployment.force_out_everyone()
            elif chance.random() < 0.3:
                deployment.lose_feed()
                verifiers[0].step()
                assert {answer(verifiers[0], token) for token in good} <= {"unavailable"}
            compacts = chance.random() < 0.2
            patch.setattr(relay_module, "COMPACT_AFTER_US", 0 if compacts else 10**15)
            relayer = chance.choice(relayers)
            relayer.beat()
            for verifier in verifiers:
                assert verifier.step()
                found = {token: answer(verifier, token) for token in tokens}
                assert found == {token: answer(deployment.strict, token) for token in tokens}, turn
            if chance.random() < 0.1:
                verifiers[1] = deployment.verifier()


def followed(deployment: Deployment) -> tuple[str, Stepped]:
    """Return a token, and a verifier that has read the whole feed."""
    token = deployment.sign_in("ada")
    deployment.relayer().beat()
    verifier = deployment.verifier()
    verifier.step()
    return token, verifier


def test_a_good_token_returns_its_claims(deployment: Deployment) -> None:
    token, verifier = followed(deployment)

    verified = verifier.verify(token)

    assert verified == deployment.strict.verify(token)


def test_a_refusal_names_the_forced_out_user(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    deployment.force_out("ada")
    deployment.relayer().beat()
    verifier = deployment.verifier()
    verifier.step()

    with pytest.raises(SessionRevoked) as refused:
        verifier.verify(token)

    assert (refused.value.forced, refused.value.user_id) == (True, "ada")


def test_every_token_is_refused_before_a_feed_is_published(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    verifier = deployment.verifier()

    assert not verifier.step()

    assert answer(verifier, token) == "unavailable"


def test_every_token_is_refused_after_the_relays_have_stalled(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, verifier = followed(deployment)
    assert answer(verifier, token) == "good"

    # Redis still answers, but the heartbeat is too old.
    past = deployment.redis_time_us() - LONG_S * 10**6 - 1
    deployment.change_state(heartbeat_us=past)
    verifier.step()
    assert answer(verifier, token) == "unavailable"

    deployment.relayer().beat()
    verifier.step()
    assert answer(verifier, token) == "good"
    for module in TIMED:
        monkeypatch.setattr(f"{module}.elapsed", lambda: elapsed() + LONG_S + 0.1)
    assert answer(verifier, token) == "unavailable"


def test_a_heartbeat_ahead_of_the_clock_is_ignored(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    deployment.relayer().beat()
    verifier = deployment.verifier()
    deployment.change_state(heartbeat_us=deployment.redis_time_us() + 600 * 10**6)

    verifier.step()

    assert answer(verifier, token) == "unavailable"


def test_a_clock_set_back_makes_no_heartbeat_younger(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, verifier = followed(deployment)
    read = RedisFeed.read

    def read_set_back(feed: RedisFeed, place: Place) -> Read | None:
        found = read(feed, place)
        assert found is not None
        return found._replace(now_us=found.state.heartbeat_us + 1)

    monkeypatch.setattr(RedisFeed, "read", read_set_back)
    for module in TIMED:
        monkeypatch.setattr(f"{module}.elapsed", lambda: elapsed() + LONG_S / 2)
    verifier.step()
    assert answer(verifier, token) == "good"
    for module in TIMED:
        monkeypatch.setattr(f"{module}.elapsed", lambda: elapsed() + LONG_S + 0.1)
    verifier.step()
    assert answer(verifier, token) == "unavailable"

    verifier._denylist._lose()  # the same holds when the feed is loaded again
    verifier.step()
    assert answer(verifier, token) == "unavailable"
    deployment.relayer().beat()
    verifier.step()
    assert answer(verifier, token) == "good"


def test_the_reason_for_refusing_every_token_is_logged_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "xgen_flask_sessions")
    relayer, verifier = deployment.relayer(), deployment.verifier()

    def said(level: str) -> list[str]:
        for _ in range(3):
            verifier.step()
        found = [record.getMessage() for record in caplog.records if record.levelname == level]
        assert len(found) == len(caplog.records) <= 1
        caplog.clear()
        return found

    (reason,) = said("WARNING")
    assert f"the feed of issuer '{deployment.issuer}' is missing" in reason
    assert "XGEN_SESSIONS_REDIS_URL" in reason
    assert "xgen-sessions relay" in reason
    relayer.beat()
    assert len(said("INFO")) == 1
    assert said("INFO") == []

    with monkeypatch.context() as patch:
        later_s = elapsed() + LONG_S + 1
        for module in TIMED:
            patch.setattr(f"{module}.elapsed", lambda: later_s)
        patch.setattr(
            RedisFeed,
            "read",
            lambda _, place: Read(
                3_600_000_000, deployment.state._replace(heartbeat_us=1), place, []
            ),
        )
        (reason,) = said("WARNING")
        assert "is 3600.0 s old" in reason
    relayer.beat()
    assert len(said("INFO")) == 1

    deployment.redis.delete(deployment.keys.stream)
    (reason,) = said("WARNING")
    assert "incomplete" in reason
    deployment.lose_feed()  # another reason is logged, too
    (reason,) = said("WARNING")
    assert "is missing" in reason
    relayer.beat()
    assert len(said("INFO")) == 1


def test_a_lost_redis_is_logged_when_every_token_is_refused(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "xgen_flask_sessions")
    deployment.relayer().beat()
    asked = 0

    def read(_: RedisFeed, place: Place) -> Read | None:
        nonlocal asked
        asked += 1
        raise RedisUnavailable("Redis cannot be used: it is gone")

    service = Verifier(
        redis_url=REDIS, issuer=deployment.issuer, secret_key=SECRET, max_staleness=LONG_S
    )
    with service, monkeypatch.context() as patch:
        assert service.ready(30)
        patch.setattr("xgen_flask_sessions.feed.redis_denylist._PAUSE_S", 0.01)
        patch.setattr(RedisFeed, "read", read)

        def fails(times: int) -> None:
            while asked < times:
                threading.Event().wait(0.005)

        within(30, lambda: fails(5))
        assert service.ready()
        assert caplog.records == []  # the known revocations are within the staleness bound
        for module in TIMED:
            patch.setattr(f"{module}.elapsed", lambda: elapsed() + LONG_S + 1)
        times = asked
        within(30, lambda: fails(times + 5))

    (record,) = caplog.records
    assert "Redis cannot be used: it is gone" in record.getMessage()


@pytest.mark.parametrize("lost", ["meta", "stream", "both", "entry"])
def test_tokens_are_refused_until_a_lost_feed_is_complete_again(
    deployment: Deployment, lost: str
) -> None:
    token = deployment.sign_in("ada")
    relayer = deployment.relayer()
    relayer.beat()
    verifier = deployment.verifier()
    verifier.step()
    deployment.force_out("bob")
    relayer.beat()
    verifier.step()
    assert answer(verifier, token) == "good"

    if lost == "entry":
        deployment.redis.xdel(deployment.keys.stream, "1-1")
    else:
        names = ["meta", "stream"] if lost == "both" else [lost]
        deployment.redis.delete(*(getattr(deployment.keys, name) for name in names))
    verifier.step()
    assert answer(verifier, token) == "unavailable"

    deployment.force_out("ada")
    relayer.beat()
    verifier.step()
    assert answer(verifier, token) == "forced out"


def test_a_lost_snapshot_is_made_again_for_new_verifiers(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    deployment.force_out("ada")
    relayer = deployment.relayer()
    relayer.beat()
    deployment.redis.delete(deployment.keys.snapshot)
    assert not deployment.verifier().step()

    relayer.beat()

    verifier = deployment.verifier()
    assert verifier.step()
    assert answer(verifier, token) == "forced out"


def test_compaction_interrupts_no_verifier(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = deployment.sign_in("ada")
    relayer = deployment.relayer()
    relayer.beat()
    verifier = deployment.verifier()
    verifier.step()
    before = deployment.state
    monkeypatch.setattr(relay_module, "COMPACT_AFTER_US", 0)
    deployment.force_out("ada")
    relayer.beat()

    assert deployment.state.history == before.history
    assert deployment.state.snapshot.epoch != before.snapshot.epoch
    assert not verifier._denylist._follow(verifier.source)  # there is a newer snapshot
    assert answer(verifier, token) == "forced out"
    assert verifier._denylist._load(verifier.source)
    assert answer(verifier, token) == "forced out"


def test_memory_of_expired_revocations_is_freed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "COMPACT_AFTER_US", 0)
    verifier = deployment.verifier()
    relayer = deployment.relayer()
    with freeze_time(NOON) as clock:
        for user in range(30):
            deployment.end(deployment.sign_in(f"ended {user}", 60))
            deployment.sign_in(f"forced {user}", 60)
            deployment.force_out(f"forced {user}")
            deployment.renew(deployment.sign_in(f"renewed {user}", 60))
        relayer.beat()
        verifier.step()
        assert verifier._denylist._reading is not None
        assert verifier._denylist._reading.revoked.size == 90

        clock.tick(timedelta(minutes=15))
        relayer.beat()
        verifier.step()

        assert verifier._denylist._reading.revoked.size == 0


def test_a_snapshot_of_several_parts_is_whole(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xgen_flask_sessions.feed.redis_stream.CHANGES_PER_LINE", 3)
    monkeypatch.setattr("xgen_flask_sessions.feed.redis_stream.PAGE_BYTES", 100)
    monkeypatch.setattr("xgen_flask_sessions.feed.redis_writer.PAGE_BYTES", 70)
    tokens = [deployment.sign_in(f"user {number}") for number in range(50)]
    for number in range(0, 50, 2):
        deployment.force_out(f"user {number}")
    deployment.relayer().beat()
    verifier = deployment.verifier()
    verifier.step()

    assert [answer(verifier, token) for token in tokens] == ["forced out", "good"] * 25
    assert deployment.redis.get(deployment.keys.snapshot).count("\n") == 9


def test_many_events_are_read_in_pages(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xgen_flask_sessions.feed.redis_stream.EVENTS_PER_CALL", 3)
    relayer, verifier = deployment.relayer(), deployment.verifier()
    relayer.beat()
    verifier.step()
    tokens = [deployment.sign_in(f"user {number}") for number in range(10)]
    for number in range(10):
        deployment.force_out(f"user {number}")
    relayer.beat()

    assert verifier.step()

    assert [answer(verifier, token) for token in tokens] == ["forced out"] * 10


def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xgen_flask_sessions.feed.redis_stream.PAGE_BYTES", 10)
    token = deployment.sign_in("ada")
    deployment.force_out("ada")
    relayer, verifier = deployment.relayer(), deployment.verifier()
    relayer.beat()
    place, snapshot = verifier.source.find_snapshot()
    parts = verifier.source.read_snapshot(snapshot)
    assert next(parts)
    deployment.lose_feed()
    deployment.relayer().beat()
    assert list(parts) == [None]
    assert place.history != deployment.state.history

    def read_part(source: RedisFeed, _: object) -> Iterator[bytes | None]:
        yield None

    with monkeypatch.context() as patch:
        patch.setattr(RedisFeed, "read_snapshot", read_part)
        assert not verifier._denylist._load(verifier.source)
    assert verifier.step()
    assert answer(verifier, token) == "forced out"


def test_a_fault_of_the_thread_is_logged_and_the_thread_goes_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deployment.relayer().beat()
    token = deployment.sign_in("ada")

    def fail(_: RedisFeed, place: Place) -> Read | None:
        raise RuntimeError("a fault")

    service = Verifier(
        redis_url=REDIS, issuer=deployment.issuer, secret_key=SECRET, max_staleness=LONG_S
    )
    with monkeypatch.context() as patch, service:
        assert service.ready(30)
        patch.setattr(RedisFeed, "read", fail)
        until(lambda: not service.ready())
        patch.undo()
        deployment.relayer().beat()
        until(service.ready)

        assert answer(service, token) == "good"

    (record,) = caplog.records
    assert "a fault" in record.getMessage()


def test_an_error_of_redis_is_not_taken_for_an_altered_feed(deployment: Deployment) -> None:
    feed = RedisFeed(connect(REDIS), deployment.issuer, deployment.signer.open)

    with pytest.raises(RedisUnavailable, match="unknown command"):
        feed._query(("TIME",), ("NO SUCH COMMAND",))
    with pytest.raises(RedisUnavailable, match="not an integer"):
        feed._query(("GETRANGE", deployment.keys.meta, "x", "y"))
    feed.close()
