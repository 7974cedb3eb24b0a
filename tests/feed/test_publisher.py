"""The feed in Redis: several relays publish at once, and it stays equal to the database's feed."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from freezegun import freeze_time

from tests.support.databases import REDIS
from tests.support.patience import at_once, within
from tests.support.relaying import SECRET, Deployment, answer, deployed
from xgen_flask_sessions.changes import Change, Event
from xgen_flask_sessions.clock import now_us
from xgen_flask_sessions.errors import ConfigurationError
from xgen_flask_sessions.feed import publisher as relay_module
from xgen_flask_sessions.feed.publisher import Publisher
from xgen_flask_sessions.feed.redis_stream import Keys, RedisFeed, RedisUnavailable, connect
from xgen_flask_sessions.feed.redis_writer import RedisWriter
from xgen_flask_sessions.feed.revoked import RevokedTokens
from xgen_flask_sessions.feed.signed_state import FeedRefused, StateSigner
from xgen_flask_sessions.feed.snapshot import Snapshot
from xgen_flask_sessions.tokens.keys import load_key

NOWHERE = "redis://127.0.0.1:1/0"
SIGNER = StateSigner([load_key(SECRET)], "xgen")


@pytest.fixture
def deployment(sqlite_url: str, redis_issuer: str) -> Iterator[Deployment]:
    with deployed(sqlite_url, redis_issuer) as made:
        yield made


def test_events_are_in_the_stream_in_their_order(deployment: Deployment) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    for user in "abc":
        deployment.force_out(user)
    relayer.beat()

    assert deployment.positions() == [0, 1, 2, 3]
    assert relayer.snapshots == 1


def test_concurrent_relays_add_each_event_once(deployment: Deployment) -> None:
    relayers = [deployment.relayer() for _ in range(4)]
    for relayer in relayers:
        relayer.beat()
    history = deployment.state.history

    def relay(index: int) -> None:
        for turn in range(25):
            if turn % 4 == index:
                deployment.force_out(f"user {turn}")
            relayers[index].beat()

    at_once(60, [lambda index=index: relay(index) for index in range(4)])  # type: ignore[misc]
    relayers[0].beat()

    assert deployment.positions() == list(range(26))
    assert deployment.state.history == history


def test_relays_that_begin_a_feed_at_once_do_not_mix_it(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    deployment.force_out("ada")
    deployment.force_out("bob")
    relayers = [deployment.relayer() for _ in range(4)]
    barrier = threading.Barrier(4)

    def begin(index: int) -> None:
        barrier.wait()
        relayers[index].beat()

    for _ in range(10):
        deployment.lose_feed()
        at_once(30, [lambda index=index: begin(index) for index in range(4)])  # type: ignore[misc]
        verifier = deployment.verifier()
        assert verifier.step()
        assert answer(verifier, token) == "forced out"
        assert deployment.positions()[0] == 2


def test_events_that_were_read_too_long_ago_change_nothing(deployment: Deployment) -> None:
    early, late = deployment.relayer(), deployment.relayer()
    early.beat()
    late.beat()
    deployment.force_out("ada")
    mark = early.relay.look()
    events = early.read()
    deployment.force_out("bob")
    late.beat()
    before = deployment.state

    early.publish(mark, events)

    assert deployment.state == before
    assert deployment.positions() == [0, 1, 2]
    early.beat()
    assert deployment.state.history == before.history
    assert deployment.positions() == [0, 1, 2]


def test_the_heartbeat_is_from_before_the_database_was_read(deployment: Deployment) -> None:
    relayer = deployment.relayer()
    relayer.beat()

    mark = relayer.relay.look()
    relayer.publish(mark, relayer.read())

    assert deployment.state.heartbeat_us == mark.now_us


def test_a_process_that_was_down_for_long_begins_a_new_feed(deployment: Deployment) -> None:
    deployment.relayer().beat()
    for user in "abc":
        deployment.force_out(user)
    late = deployment.relayer()
    heartbeat = deployment.state.heartbeat_us

    late.beat()
    # Another relay may have the events in between.
    assert deployment.state.heartbeat_us == heartbeat
    deployment.age_state(seconds=2)
    late.beat()

    assert deployment.positions() == [3]
    assert not deployment.state.is_disputed


def test_events_that_could_not_be_sent_are_sent_later(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    deployment.force_out("ada")
    events = relayer.read()
    look = relayer.relay.look()
    relayer.relay._writer._down_until = float("inf")
    with pytest.raises(RedisUnavailable):
        relayer.publish(look, events)
    relayer.relay._writer._down_until = 0

    relayer.beat()

    assert deployment.positions() == [0, 1]
    assert relayer.snapshots == 1


def test_many_events_are_published_in_pages(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "EVENTS_PER_CALL", 3)
    relayer = deployment.relayer()
    relayer.beat()
    other = deployment.relayer()
    other.beat()
    for user in range(10):
        deployment.force_out(f"user {user}")
    other.read()
    mark = relayer.relay.look()

    relayer.publish(mark, relayer.read())

    assert deployment.positions() == list(range(11))
    assert deployment.state.heartbeat_us == mark.now_us


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_restored_database_begins_a_new_feed(
    tmp_path: Path, redis_issuer: str, goes_on: bool
) -> None:
    path, backup = tmp_path / "test.db", tmp_path / "backup.db"
    with deployed(f"sqlite:///{path}", redis_issuer) as deployment:
        token = deployment.sign_in("ada")
        deployment.force_out("bob")
        deployment.engine.dispose()
        shutil.copy(path, backup)
        relayer, verifier = deployment.relayer(), deployment.verifier()
        relayer.beat()
        deployment.force_out("ada")
        relayer.beat()
        verifier.step()
        assert answer(verifier, token) == "forced out"
        history = deployment.state.history

        deployment.engine.dispose()
        for file in tmp_path.glob("test.db*"):
            file.unlink()
        shutil.copy(backup, path)
        if goes_on:  # to the same position
            deployment.force_out("eve")
        deployment.age_state(seconds=6)  # the application was stopped
        relayer.beat()
        verifier.step()

        assert deployment.state.history != history
        assert answer(verifier, token) == answer(deployment.strict, token) == "good"


def test_a_redis_restored_to_an_older_state_is_brought_up_to_date(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    relayer, verifier = deployment.relayer(), deployment.verifier()
    relayer.beat()
    bytes_client = redis.Redis.from_url(REDIS)
    dumped = {key: bytes_client.dump(key) or b"" for key in deployment.keys[:3]}
    deployment.force_out("ada")
    relayer.beat()
    verifier.step()
    for key, value in dumped.items():
        bytes_client.restore(key, 0, value, replace=True)
    bytes_client.close()

    verifier.step()
    fresh = deployment.verifier()
    fresh.step()
    relayer.beat()

    assert deployment.positions() == [0, 1]
    assert relayer.snapshots == 1
    verifier.step()
    fresh.step()
    assert answer(verifier, token) == answer(fresh, token) == "forced out"


def test_a_missing_redis_causes_no_delay(
    redis_issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Publisher(NOWHERE, redis_issuer, SIGNER)

    monkeypatch.setattr("xgen_flask_sessions.feed.redis_writer._PAUSE_S", 60)
    with pytest.raises(RedisUnavailable):
        within(1, relay.look)
    with pytest.raises(RedisUnavailable, match="a moment ago"):
        relay.look()
    with pytest.raises(RedisUnavailable):
        within(1, lambda: RedisFeed(connect(NOWHERE), redis_issuer, SIGNER.open).wait(0, 1))


def test_a_wait_ends_as_soon_as_the_stream_grows(deployment: Deployment, redis_issuer: str) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    reader = RedisFeed(connect(REDIS), redis_issuer, deployment.signer.open)
    deployment.force_out("ada")
    beat = threading.Timer(0.1, relayer.beat)
    beat.start()

    while deployment.positions() == [0]:
        within(1, lambda: reader.wait(0, 60))
    beat.join()
    within(1, lambda: reader.wait(0, 60))  # it has grown already
    reader.close()


def test_a_missing_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ConfigurationError, match=r"xgen-flask-sessions\[redis\]"):
        Publisher(NOWHERE, "xgen", SIGNER)


def test_a_wrong_url_is_reported_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="redis://host") as refused:
        Publisher("http://:secret@host", "xgen", SIGNER)

    assert "secret" not in str(refused.value)


def test_an_error_of_one_thread_closes_no_connection_that_another_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A compaction runs beside the heartbeats, through the same client."""

    def fail(*_: object, **__: object) -> None:
        raise redis.ConnectionError

    client = connect(REDIS)
    writer = RedisWriter(client, "xgen")
    with client.pipeline() as used:
        used.watch("a key")  # from now on, by a connection of its own
        connection = used.client_id()
        monkeypatch.setattr(client, "set", fail)

        with pytest.raises(RedisUnavailable):
            writer.put_draft(b"a draft")

        assert used.client_id() == connection
    client.close()


def test_answers_are_bytes_whatever_the_url_says() -> None:
    with connect(f"{REDIS}?decode_responses=True") as client:
        assert client.echo("text") == b"text"


@pytest.mark.parametrize("issuer", ["xgen", "https://id.example/{a}*?[x]", "}", "회사"])
def test_the_keys_of_an_issuer_share_a_hash_tag(issuer: str) -> None:
    tags = {key[key.index("{") + 1 : key.index("}")] for key in Keys.of(issuer)}

    assert len(tags) == 1
    assert tags != {""}
    assert Keys.of(issuer) != Keys.of(issuer + "x")


def test_another_history_is_detected_by_the_preceding_event(deployment: Deployment) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    deployment.force_out("ada")
    relayer.beat()
    history = deployment.state.history
    other = deployment.relayer()
    change = Change("user", "bob", None, 1)
    events = [Event(1, "another", change), Event(2, "its successor", change)]
    other.newest = events[-1]

    other.publish(other.relay.look(), events)

    assert deployment.state.history != history
    assert deployment.positions() == [1]


def test_a_snapshot_replaces_only_the_feed_that_it_was_made_for(deployment: Deployment) -> None:
    relayer, other = deployment.relayer(), deployment.relayer()
    relayer.beat()
    seen = relayer.relay.look()
    deployment.lose_feed()

    replace = relayer.relay._installer.replace
    other.beat()  # it makes the feed again
    before = deployment.state
    assert not replace(seen, deployment.id, deployment.snapshot)
    assert deployment.state == before

    deployment.lose_feed()
    seen = relayer.relay.look()

    def read_meanwhile() -> Snapshot:
        deployment.redis.delete(deployment.keys.lock)  # it took too long
        other.beat()
        return deployment.snapshot()

    assert not replace(seen, deployment.id, read_meanwhile)
    assert list(deployment.redis.scan_iter(f"{deployment.keys.snapshot}:*")) == []
    other.beat()
    assert other.snapshots == 2


def test_the_heartbeat_never_falls(deployment: Deployment) -> None:
    early, late = deployment.relayer(), deployment.relayer()
    early.beat()
    late.beat()
    mark = early.relay.look()
    events = early.read()
    late.beat()
    heartbeat = deployment.state.heartbeat_us

    early.publish(mark, events)

    assert heartbeat > mark.now_us
    assert deployment.state.heartbeat_us == heartbeat


def set_clock_back(deployment: Deployment) -> None:
    """Write times of an hour ahead to Redis, as if its clock had been set back since then."""
    later_us = deployment.redis_time_us() + 3600 * 10**6
    deployment.change_state(
        heartbeat_us=later_us,
        audited_us=later_us,
        snapshot=deployment.state.snapshot._replace(made_us=later_us),
    )


def test_services_recover_at_once_after_redis_s_clock_is_set_back(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    relayer, verifier = deployment.relayer(), deployment.verifier()
    relayer.beat()
    verifier.step()
    history = deployment.state.history
    set_clock_back(deployment)
    verifier.step()
    assert answer(verifier, token) == "unavailable"

    relayer.beat()
    verifier.step()

    assert answer(verifier, token) == "good"
    assert deployment.state.history == history


def test_a_restored_database_is_detected_after_the_clock_is_set_back(
    deployment: Deployment,
) -> None:
    relayer, other = deployment.relayer(), deployment.relayer()
    deployment.force_out("ada")
    relayer.beat()
    history = deployment.state.history
    set_clock_back(deployment)
    other.newest = Event(1, "another", Change("user", "bob", None, 1))

    for _ in range(2):  # the first read may be too long ago
        other.publish(other.relay.look(), [])

    assert deployment.state.history != history


def test_compaction_continues_after_the_clock_is_set_back(deployment: Deployment) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    set_clock_back(deployment)

    relayer.beat()
    relayer.beat()

    assert relayer.snapshots == 2
    assert deployment.state.snapshot.made_us <= deployment.redis_time_us()


def test_a_look_from_before_the_clock_was_set_back_is_no_heartbeat(deployment: Deployment) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    before = deployment.state
    look = relayer.relay.look()

    relayer.publish(look._replace(now_us=look.now_us + 3600 * 10**6), relayer.read())

    assert deployment.state == before


def test_events_that_do_not_follow_are_not_read(deployment: Deployment) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    begun = RedisFeed(connect(REDIS), deployment.issuer, deployment.signer.open)
    place, _ = begun.find_snapshot()
    for user in "abc":
        deployment.force_out(user)
    relayer.beat()

    read = begun.read(place)
    assert read is not None
    assert [event.position for event in read.events] == [1, 2, 3]
    assert begun.read(place._replace(history="another")) is None
    with pytest.raises(FeedRefused):
        begun.read(place._replace(id="another"))
    with pytest.raises(FeedRefused):
        begun.read(place._replace(chain="another"))
    deployment.redis.xdel(deployment.keys.stream, "2-1")
    with pytest.raises(FeedRefused):
        begun.read(place)
    begun.close()


def test_old_renewals_of_a_session_are_merged() -> None:
    with freeze_time("2026-05-25 12:00") as clock:
        revocations = RevokedTokens()
        for number in range(1, 1000):
            until_us = now_us() + 60_000_000
            revocations.apply(Change("renewed", "ada", "session", number, until_us))
            clock.tick(60)

        assert len(revocations._renewals["session"]) <= 12
        assert revocations.revoked_by("ada", "session", 1, now_us()) == "ended"
        assert revocations.revoked_by("ada", "session", 998, now_us() - 1) is None
        assert revocations.revoked_by("ada", "session", 998, now_us()) == "ended"
        assert revocations.revoked_by("ada", "session", 999, now_us()) is None
