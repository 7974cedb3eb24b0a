"""The application's processes relay the feed to Redis, and Redis wakes their watches."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from tests.support.databases import REDIS, MakeHost
from tests.support.hosts import SECRET, Host
from tests.support.patience import until
from xgen_flask_sessions import ConfigurationError, DenylistUnavailable, SessionRevoked
from xgen_flask_sessions.feed import publisher as relay_module
from xgen_flask_sessions.feed import relay as relaying_module
from xgen_flask_sessions.feed.redis_stream import SHORTEST_STALENESS_S, Keys
from xgen_flask_sessions.feed.signed_state import FeedState, StateSigner
from xgen_flask_sessions.feed.snapshot import Snapshot, read_snapshot
from xgen_flask_sessions.state import State
from xgen_flask_sessions.tokens.keys import load_key
from xgen_flask_sessions.verifier import Verifier

ROOT = Path(__file__).parents[2]


@pytest.fixture
def relaying(make_host: MakeHost, database_url: str, redis_issuer: str) -> Host:
    return make_host(database_url, XGEN_SESSIONS_REDIS_URL=REDIS, XGEN_SESSIONS_ISSUER=redis_issuer)


@pytest.fixture
def verifier(redis_issuer: str) -> Iterator[Verifier]:
    with Verifier(redis_url=REDIS, secret_key=SECRET, issuer=redis_issuer) as service:
        yield service


def passes(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except (SessionRevoked, DenylistUnavailable):
        return False
    return True


def refused(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except SessionRevoked:
        return True
    except DenylistUnavailable:
        return False
    return False


def test_a_service_without_the_database_refuses_revoked_tokens(
    relaying: Host, verifier: Verifier
) -> None:
    user = relaying.add_user()
    token = relaying.issue(user)
    assert relaying.status(token) == 200  # from the first request on, the feed is relayed
    until(lambda: passes(verifier, token.token))

    relaying.force_logout(user)

    until(lambda: refused(verifier, token.token))
    again = relaying.issue(user)
    until(lambda: passes(verifier, again.token))
    relaying.end_session(again.session_id)
    until(lambda: refused(verifier, again.token))


def test_a_feed_that_redis_has_lost_is_published_again(
    relaying: Host, verifier: Verifier, redis_issuer: str
) -> None:
    user, other = relaying.add_user("alice"), relaying.add_user("bora")
    token, good = relaying.issue(user), relaying.issue(other)
    assert relaying.status(good) == 200
    until(lambda: passes(verifier, token.token))
    relaying.force_logout(user)
    until(lambda: refused(verifier, token.token))

    with redis.Redis.from_url(REDIS) as client:
        client.delete(*Keys.of(redis_issuer))

    until(lambda: passes(verifier, good.token))
    assert not passes(verifier, token.token)
    until(lambda: refused(verifier, token.token))


def test_a_service_may_have_a_shorter_staleness_bound_than_the_application(
    make_host: MakeHost, database_url: str, redis_issuer: str
) -> None:
    host = make_host(
        database_url,
        XGEN_SESSIONS_REDIS_URL=REDIS,
        XGEN_SESSIONS_ISSUER=redis_issuer,
        XGEN_SESSIONS_MAX_STALENESS=timedelta(minutes=1),
    )
    token = host.issue(host.add_user())
    assert host.status(token) == 200
    service = Verifier(
        redis_url=REDIS, secret_key=SECRET, issuer=redis_issuer, max_staleness=SHORTEST_STALENESS_S
    )
    with service:
        until(lambda: passes(service, token.token))
        refusals = []
        for _ in range(20):  # a busy machine may delay heartbeats at times
            looks = []
            for _ in range(300):
                looks.append(passes(service, token.token))
                threading.Event().wait(0.005)
            refusals.append(looks.count(False))
            if refusals[-1] == 0:
                break

    assert min(refusals) < 5, refusals


def test_compaction_delays_no_heartbeat(
    relaying: Host, verifier: Verifier, redis_issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = relaying.add_user()
    token, other = relaying.issue(user), relaying.issue(relaying.add_user("other"))
    assert relaying.status(token) == 200
    until(lambda: passes(verifier, token.token))
    reading, go_on = threading.Event(), threading.Event()

    def read(connection: sa.Connection, now_us: int) -> Snapshot:
        found = read_snapshot(connection, now_us)
        reading.set()
        go_on.wait(300)
        return found

    signer = StateSigner([load_key(SECRET.encode())], redis_issuer)

    def state() -> FeedState:
        with redis.Redis.from_url(REDIS) as client:
            return signer.open(client.get(Keys.of(redis_issuer).meta) or b"")

    before = state()
    monkeypatch.setattr(relaying_module, "read_snapshot", read)
    monkeypatch.setattr(relay_module, "COMPACT_AFTER_US", 0)
    try:
        until(reading.is_set)
        since = state().heartbeat_us
        relaying.force_logout(user)
        until(lambda: refused(verifier, token.token))
        until(lambda: state().heartbeat_us > since)
    finally:
        go_on.set()

    until(lambda: state().snapshot.epoch != before.snapshot.epoch)
    assert state().history == before.history
    assert not passes(verifier, token.token)
    until(lambda: refused(verifier, token.token))
    until(lambda: passes(verifier, other.token))


def test_compaction_that_fails_is_logged_and_delays_no_event(
    relaying: Host,
    verifier: Verifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    user = relaying.add_user()
    token = relaying.issue(user)
    assert relaying.status(token) == 200
    until(lambda: passes(verifier, token.token))

    def read(connection: sa.Connection, now_us: int) -> Snapshot:
        raise RuntimeError("it took too long")

    monkeypatch.setattr(relaying_module, "read_snapshot", read)
    monkeypatch.setattr(relay_module, "COMPACT_AFTER_US", 0)
    until(lambda: "it took too long" in caplog.text)
    relaying.force_logout(user)

    until(lambda: refused(verifier, token.token))
    assert "cannot be read" not in caplog.text  # the feed itself can be read


def test_a_missing_redis_does_not_affect_the_application(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(
        sqlite_url,
        XGEN_SESSIONS_REDIS_URL="redis://127.0.0.1:1/0",
        XGEN_SESSIONS_CONSISTENCY="watch",
    )
    user = host.add_user()
    token = host.issue(user)
    assert host.status(token) == 200

    host.force_logout(user)

    assert host.status(token) == 401


def test_on_mariadb_redis_wakes_the_watch_of_another_process(
    make_host: MakeHost, mariadb_url: str, redis_issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "XGEN_SESSIONS_REDIS_URL": REDIS,
        "XGEN_SESSIONS_ISSUER": redis_issuer,
        # So long that the revocation would not arrive in time without Redis.
        "XGEN_SESSIONS_MAX_STALENESS": timedelta(minutes=1),
    }
    watching = make_host(mariadb_url, XGEN_SESSIONS_CONSISTENCY="watch", **settings)
    user = watching.add_user()
    token = watching.issue(user)
    state: State = watching.app.extensions["xgen_sessions"]
    assert state.watch is not None
    watch = state.watch
    until(lambda: watching.status(token) == 200 and watch.is_fresh())
    monkeypatch.setattr(type(watch), "committed", lambda *_: None)
    assert watching.status(token) == 200

    make_host(mariadb_url, **settings).force_logout(user)

    until(lambda: watching.status(token) == 401, within_s=10)


def test_the_command_relays_without_a_running_server(
    make_host: MakeHost, sqlite_url: str, redis_issuer: str, verifier: Verifier, tmp_path: Path
) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_ISSUER=redis_issuer)
    user = host.add_user()
    token = host.issue(user)
    (tmp_path / "app.py").write_text(
        "from tests.support.hosts import make_app\n"
        f"app = make_app({sqlite_url!r}, XGEN_SESSIONS_REDIS_URL={REDIS!r},\n"
        f"               XGEN_SESSIONS_ISSUER={redis_issuer!r}).app\n"
    )
    command = [sys.executable, "-m", "flask", "--app", str(tmp_path / "app.py")]
    with subprocess.Popen([*command, "xgen-sessions", "relay"], cwd=ROOT) as it:
        try:
            until(lambda: passes(verifier, token.token))
            host.force_logout(user)
            until(lambda: refused(verifier, token.token))
        finally:
            it.send_signal(signal.SIGTERM)


def test_the_command_needs_a_redis(make_host: MakeHost, sqlite_url: str) -> None:
    result = make_host(sqlite_url).app.test_cli_runner().invoke(args=["xgen-sessions", "relay"])

    assert result.exit_code == 1
    assert "XGEN_SESSIONS_REDIS_URL" in result.stderr


def test_sqlite_in_memory_has_no_feed_for_services(make_host: MakeHost, redis_issuer: str) -> None:
    host = make_host("sqlite://", XGEN_SESSIONS_REDIS_URL=REDIS, XGEN_SESSIONS_ISSUER=redis_issuer)
    token = host.issue(host.add_user())

    assert host.status(token) == 200
    result = host.app.test_cli_runner().invoke(args=["xgen-sessions", "relay"])
    assert (result.exit_code, "in memory" in result.stderr) == (1, True)


@pytest.mark.parametrize("url", ["", "localhost", "http://x", 5, "redis://x:port", "redis://x?a=b"])
def test_an_invalid_redis_url_is_refused_at_the_start(
    make_host: MakeHost, sqlite_url: str, url: object
) -> None:
    with pytest.raises(ConfigurationError, match=r"REDIS_URL|feed's Redis"):
        make_host(sqlite_url, XGEN_SESSIONS_REDIS_URL=url)


def test_green_threads_are_logged_once(
    relaying: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As if gunicorn had loaded the application before its workers were monkey-patched.
    monkeypatch.setattr("xgen_flask_sessions.feed.follower.has_green_threads", lambda: True)
    token = relaying.issue(relaying.add_user())

    for _ in range(3):
        assert relaying.status(token) == 200

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "needs real threads" in caplog.text


def test_the_relay_can_be_stopped(relaying: Host, verifier: Verifier) -> None:
    token = relaying.issue(relaying.add_user())
    assert relaying.status(token) == 200
    until(lambda: passes(verifier, token.token))
    state: State = relaying.app.extensions["xgen_sessions"]
    assert state.relay is not None

    state.relay.stop()

    until(lambda: not passes(verifier, token.token))
    # A request starts it again.
    until(lambda: relaying.status(token) == 200 and passes(verifier, token.token))


def test_a_snapshot_leaves_no_connection_behind(
    make_host: MakeHost, postgresql_url: str, redis_issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(
        postgresql_url, XGEN_SESSIONS_REDIS_URL=REDIS, XGEN_SESSIONS_ISSUER=redis_issuer
    )
    used: list[Any] = []

    def read(connection: sa.Connection, now_us: int) -> Snapshot:
        used.append(connection.connection.dbapi_connection)
        host.app.extensions["xgen_sessions"].relay.stop()
        with host.app.app_context():
            host.db.engine.dispose()  # the application ends during the read
        return read_snapshot(connection, now_us)

    monkeypatch.setattr(relaying_module, "read_snapshot", read)
    assert host.status(host.issue(host.add_user())) == 200

    until(lambda: bool(used) and used[0].closed)
