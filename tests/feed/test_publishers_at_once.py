"""Several processes publish at once, and each step of one may come between two of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.relaying import SECRET, Deployment, Relayer, answer, deployed
from xgen_flask_sessions.feed import audit as audit_module
from xgen_flask_sessions.feed import publisher as publisher_module
from xgen_flask_sessions.feed.installer import Installer
from xgen_flask_sessions.feed.redis_writer import Answer, RedisWriter
from xgen_flask_sessions.feed.signed_state import ForeignFeed, StateSigner
from xgen_flask_sessions.feed.snapshot import Snapshot
from xgen_flask_sessions.tokens.keys import load_key


@pytest.fixture
def deployment(sqlite_url: str, redis_issuer: str) -> Iterator[Deployment]:
    with deployed(sqlite_url, redis_issuer) as made:
        yield made


def begun(deployment: Deployment, count: int = 2) -> list[Relayer]:
    """Return processes that publish one feed."""
    relayers = [deployment.relayer() for _ in range(count)]
    for relayer in relayers:
        relayer.beat()
    return relayers


def late_event(deployment: Deployment, early: Relayer, late: Relayer) -> Any:
    """Let *early* publish a heartbeat after *late* has looked, and read an event that is newer."""
    look, other = late.relay.look(), early.relay.look()
    read = early.read()
    deployment.force_out("ada")
    events = late.read()
    early.publish(other, read)
    return lambda: late.publish(look, events)


def test_an_event_is_appended_after_the_heartbeat_of_a_faster_process(
    deployment: Deployment,
) -> None:
    early, late = begun(deployment)
    publish = late_event(deployment, early, late)
    heartbeat = deployment.state.heartbeat_us

    publish()

    assert deployment.positions() == [0, 1]
    assert deployment.state.heartbeat_us >= heartbeat
    assert (early.snapshots, late.snapshots) == (1, 0)


def test_a_process_that_is_never_fast_enough_tries_again_later(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = begun(deployment)
    publish = late_event(deployment, early, late)
    with monkeypatch.context() as patch:
        patch.setattr(publisher_module, "ATTEMPTS", 0)
        publish()
    assert deployment.positions() == [0]

    late.beat()

    assert deployment.positions() == [0, 1]


def test_a_heartbeat_of_another_process_is_enough(deployment: Deployment) -> None:
    _, late = begun(deployment)
    late.relay._recent_us = 3600 * 10**6
    before = deployment.state

    late.beat()
    assert deployment.state == before
    deployment.force_out("ada")
    late.beat()

    assert deployment.positions() == [0, 1]


@pytest.mark.parametrize("forged", ["", "and deleted again"])
def test_an_entry_that_is_forged_between_look_and_publication_is_noticed(
    deployment: Deployment, forged: str
) -> None:
    (relayer,) = begun(deployment, 1)
    look = relayer.relay.look()
    deployment.force_out("ada")
    entry = deployment.redis.xadd(deployment.keys.stream, {"a": "b"}, id="7-1")
    if forged:
        deployment.redis.xdel(deployment.keys.stream, entry)
    history = deployment.state.history

    relayer.publish(look, relayer.read())

    assert deployment.state.history != history
    assert deployment.positions() == [1]


def test_a_stream_that_takes_no_more_entries_is_replaced(deployment: Deployment) -> None:
    (relayer,) = begun(deployment, 1)
    service = deployment.verifier()
    assert service.step()
    token = deployment.sign_in("ada")
    deployment.force_out("ada")
    greatest = f"{2**64 - 1}-{2**64 - 1}"
    deployment.redis.execute_command("XSETID", deployment.keys.stream, greatest)

    relayer.beat()

    assert service.step()
    assert answer(service, token) == "forced out"


def test_a_full_redis_is_no_forgery(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    (relayer,) = begun(deployment, 1)
    deployment.force_out("ada")
    before = deployment.state
    publish: Any = RedisWriter.publish

    def publish_too_much(writer: RedisWriter, *args: Any) -> Any:
        *rest, events = args
        return publish(writer, *rest, [(10**20, values) for _, values in events])

    with monkeypatch.context() as patch:
        patch.setattr(RedisWriter, "publish", publish_too_much)  # XADD fails for another reason
        with pytest.raises(Exception, match="Redis cannot be used"):
            relayer.beat()
    assert deployment.state == before


def test_a_fault_that_one_process_sees_is_mended_while_others_write(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = begun(deployment)
    monkeypatch.setattr(other.relay._audit, "step", lambda _, audited_us: audited_us)
    deployment.force_out("ada")
    other.beat()
    entries = deployment.redis.xrange(deployment.keys.stream)
    deployment.redis.delete(deployment.keys.stream)
    for entry, fields in entries:
        deployment.redis.xadd(deployment.keys.stream, {**fields, "user": "nobody"}, id=entry)
    monkeypatch.setattr(audit_module, "_EVERY_US", 2)
    one.relay._audit._pause_us = 0
    before = deployment.state

    def read_snapshot() -> Snapshot:
        other.beat()
        return deployment.snapshot()

    monkeypatch.setattr(one, "_snapshot", read_snapshot)
    for _ in range(3):  # of a part of the feed each
        one.beat()

    assert deployment.state.history != before.history
    verifier = deployment.verifier()
    assert verifier.step()


def test_compaction_goes_on_while_others_write(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = deployment.sign_in("ada")
    one, other = begun(deployment)
    deployment.force_out("ada")
    one.beat()
    state = deployment.state
    install = RedisWriter.install
    installed: list[Answer] = []

    def install_late(writer: RedisWriter, *args: Any, **options: Any) -> Any:
        if not installed:
            other.beat()
        installed.append(install(writer, *args, **options))
        return installed[-1]

    monkeypatch.setattr(RedisWriter, "install", install_late)
    one.relay._installer.compact(state, deployment.snapshot)

    assert [each.status for each in installed] == ["changed", "ok"]
    assert deployment.state.snapshot.epoch != state.snapshot.epoch
    assert deployment.state.history == state.history
    verifier = deployment.verifier()
    assert verifier.step()
    assert answer(verifier, token) == "forced out"


@pytest.mark.parametrize("fault", ["another history", "a trimmed stream", "an older database"])
def test_compaction_gives_up_what_does_not_fit(deployment: Deployment, fault: str) -> None:
    (relayer,) = begun(deployment, 1)
    deployment.force_out("ada")
    relayer.beat()
    state = deployment.state
    if fault == "another history":
        deployment.lose_feed()
        deployment.relayer().beat()
    elif fault == "a trimmed stream":
        deployment.redis.xtrim(deployment.keys.stream, maxlen=0, approximate=False)
    epoch = deployment.state.snapshot.epoch

    def read_snapshot() -> Snapshot:
        found = deployment.snapshot()
        return found._replace(position=0) if fault == "an older database" else found

    deployment.redis.delete(deployment.keys.lock)
    relayer.relay._installer.compact(state, read_snapshot)

    assert deployment.state.snapshot.epoch == epoch
    assert list(deployment.redis.scan_iter(f"{deployment.keys.snapshot}:*")) == []
    assert deployment.redis.pttl(deployment.keys.lock) > 0  # the next attempt waits


def test_only_one_process_reads_a_snapshot(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = deployment.relayer(), deployment.relayer()

    def read_snapshot() -> Snapshot:
        other.beat()
        return deployment.snapshot()

    monkeypatch.setattr(one, "_snapshot", read_snapshot)
    one.beat()

    assert other.snapshots == 0
    assert deployment.positions() == [0]
    assert deployment.redis.exists(deployment.keys.lock) == 0


def test_a_snapshot_that_cannot_be_read_delays_no_other_process(deployment: Deployment) -> None:
    one, other = deployment.relayer(), deployment.relayer()

    def fail() -> Snapshot:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        one.relay.publish(one.relay.look(), deployment.id, [], None, fail)
    other.beat()

    assert other.snapshots == 1


def test_a_draft_that_was_changed_is_not_installed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    (relayer,) = begun(deployment, 1)
    put = RedisWriter.put_draft

    def put_changed(writer: RedisWriter, content: bytes) -> str:
        draft = put(writer, content)
        deployment.redis.append(draft, "x")
        return draft

    monkeypatch.setattr(RedisWriter, "put_draft", put_changed)
    look = relayer.relay.look()

    assert not Installer(relayer.relay._writer, deployment.signer).replace(
        look, deployment.id, deployment.snapshot
    )


def test_the_audit_reads_a_long_feed_in_parts(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "_EVENTS_PER_STEP", 2)
    monkeypatch.setattr("xgen_flask_sessions.feed.redis_stream.PAGE_BYTES", 10)
    (relayer,) = begun(deployment, 1)
    for user in range(5):
        deployment.force_out(f"user {user}")
    relayer.beat()
    audit = audit_module.Audit(relayer.relay._source)
    now_us = deployment.redis_time_us()
    size = deployment.state.snapshot.size

    steps = 0
    while audit.step(now_us, 0) != now_us:
        steps += 1
    assert steps == -(-size // 10) + 2
    assert audit.step(now_us, now_us) == now_us  # no round is due

    deployment.lose_feed()
    relayer.beat()
    assert audit.step(now_us + 10**6, now_us) == now_us
    deployment.lose_feed()
    relayer.beat()
    assert audit.step(now_us + 2 * 10**6, now_us) == now_us + 10**6  # the snapshot was replaced


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("key", [SECRET, b"a secret of another deployment, long enough"])
def test_a_forged_state_of_another_deployment_is_told_from_its_feed(
    deployment: Deployment, redis_issuer: str, tmp_path: Path, count: int, key: bytes
) -> None:
    relayer = deployment.relayer()
    relayer.beat()
    for user in range(count):
        deployment.force_out(f"user {user}")
        relayer.beat()
    other = StateSigner([load_key(key)], redis_issuer)

    forged = other.sign(deployment.state._replace(deployment="x"))
    deployment.redis.set(deployment.keys.meta, forged)
    relayer.beat()

    assert deployment.state.deployment == deployment.id
    deployment.lose_feed()  # then another deployment is faster
    with deployed(f"sqlite:///{tmp_path}/other.db", redis_issuer, [load_key(key)]) as faster:
        faster.relayer().beat()
        for _ in range(2):
            with pytest.raises(ForeignFeed):
                relayer.beat()
        faster.redis.delete(faster.keys.stream)
        faster.redis.set(faster.keys.stream, "no stream")
        with pytest.raises(ForeignFeed):
            relayer.beat()
