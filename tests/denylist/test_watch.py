"""Verification in watch mode: answers from memory, within the staleness bound."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time
from sqlalchemy.orm import Session

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.patience import MARGIN_S, in_spite_of_stalls, until
from tests.support.wire import wire_to
from xgen_flask_sessions import (
    ConfigurationError,
    DenylistUnavailable,
    SessionRevoked,
    TokenInvalid,
    runtime,
)
from xgen_flask_sessions.connections.pool import DeadlinePool
from xgen_flask_sessions.denylist import watch
from xgen_flask_sessions.denylist.strict import StrictDenylist, TokenStatus
from xgen_flask_sessions.denylist.watch import Watch
from xgen_flask_sessions.feed import follower, wakeups
from xgen_flask_sessions.feed.follower import Batch, FeedReader
from xgen_flask_sessions.feed.wakeups import Notifications
from xgen_flask_sessions.state import State
from xgen_flask_sessions.store import feed_table, revocations, sign_ins
from xgen_flask_sessions.store.dialects.postgresql import CHANNEL

BOUND_S = 12.0
"""A staleness bound that a busy machine does not exceed between two lines of a test."""
PATIENCE_S = 20.0


@dataclass
class Watched:
    """A host in watch mode, its watch, and the ids of the tokens looked up in the database."""

    host: Host
    watch: Watch
    asked: list[str]

    def asks(self, call: Callable[[], object]) -> int:
        """Return the number of look-ups in the database that *call* makes."""
        before = len(self.asked)
        call()
        return len(self.asked) - before

    def warm(self, *tokens: Any) -> None:
        """Wait until the memory is valid and holds the tokens."""
        until(lambda: self._touch(tokens) and self.watch.is_fresh())
        until(lambda: self._touch(tokens))

    def _touch(self, tokens: Any) -> bool:
        try:
            for token in tokens:
                self.host.verify(token)
        except DenylistUnavailable:
            return False
        return True

    def refused(self, token: Any) -> bool:
        """Return whether a token is refused as revoked."""
        try:
            self.host.verify(token)
        except SessionRevoked:
            return True
        return False


@pytest.fixture
def make_watched(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Watched]:
    asked: list[str] = []
    ask = StrictDenylist.status

    def counted(self: StrictDenylist, jti: str) -> TokenStatus | None:
        asked.append(jti)
        return ask(self, jti)

    monkeypatch.setattr(StrictDenylist, "status", counted)

    def make(*args: Any, **config: Any) -> Watched:
        host = make_host(*args, **{"XGEN_SESSIONS_CONSISTENCY": "watch", **config})
        state: State = host.app.extensions["xgen_sessions"]
        assert state.watch is not None
        return Watched(host, state.watch, asked)

    return make


@pytest.fixture
def watched(make_watched: Callable[..., Watched], database_url: str) -> Watched:
    return make_watched(database_url, XGEN_SESSIONS_MAX_STALENESS=int(BOUND_S))


@pytest.fixture
def polling_often(make_watched: Callable[..., Watched], database_url: str) -> Watched:
    """Return a host in watch mode whose thread polls more often."""
    return make_watched(database_url, XGEN_SESSIONS_MAX_STALENESS=2)


@pytest.fixture
def elsewhere(
    watched: Watched, make_host: MakeHost, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Host:
    """Return a host on the same database that acts as another process: only the feed links them."""
    monkeypatch.setattr(feed_table, "_listeners", set())
    return make_host(database_url)


# --- Memory ----------------------------------------------------------------------------------


def test_the_database_is_asked_once_about_a_token(watched: Watched) -> None:
    token = watched.host.issue(watched.host.add_user())
    watched.warm(token)

    assert watched.asks(lambda: [watched.host.verify(token) for _ in range(50)]) == 0


@pytest.mark.parametrize("how", ["user", "everyone", "session"])
def test_a_revocation_by_another_process_takes_effect_by_the_feed(
    watched: Watched, elsewhere: Host, how: str
) -> None:
    host, alice, bora = watched.host, watched.host.add_user("alice"), watched.host.add_user("bora")
    token, other = host.issue(alice), host.issue(bora)
    watched.warm(token, other)

    if how == "user":
        elsewhere.force_logout(alice)
    elif how == "everyone":
        with elsewhere.app.app_context():
            elsewhere.sessions.force_logout_everyone()
    else:
        elsewhere.end_session(token.session_id)

    until(lambda: watched.refused(token))
    assert watched.refused(other) == (how == "everyone")
    assert watched.asks(lambda: watched.refused(other)) == 0


def test_a_revocation_takes_effect_in_its_own_process_without_the_feed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, user = watched.host, watched.host.add_user()
    token = host.issue(user)
    watched.warm(token)
    monkeypatch.setattr(FeedReader, "read", lambda _: follower.Batch(False, []))

    host.force_logout(user)

    assert watched.refused(token)


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_an_administrator_forced_out_by_another_process_cannot_force_out(
    request: pytest.FixtureRequest,
    make_watched: Callable[..., Watched],
    make_host: MakeHost,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    url: str = request.getfixturevalue(f"{name}_url")
    watched = make_watched(url, XGEN_SESSIONS_MAX_STALENESS=int(BOUND_S))
    host = watched.host
    boss = host.add_user("boss", is_superuser=True)
    user = host.add_user("alice")
    admin, token = host.issue(boss), host.issue(user)
    watched.warm(admin, token)
    monkeypatch.setattr(feed_table, "_listeners", set())
    monkeypatch.setattr(FeedReader, "read", lambda _: follower.Batch(False, []))
    make_host(url).force_logout(boss)
    assert not watched.refused(admin)  # the memory does not know of the force logout yet

    answer = host.client().post(f"/sessions/users/{user}/force-logout", headers=bearer(admin))

    assert answer.status_code == 401
    assert not watched.refused(token)
    assert [row["user_id"] for row in host.rows("xgen_revocations")] == [boss]


def test_a_new_sign_in_is_accepted_at_once(watched: Watched) -> None:
    host, user = watched.host, watched.host.add_user()
    old = host.issue(user)
    watched.warm(old)

    host.force_logout(user)
    new = host.issue(user)

    assert host.verify(new).jti == new.jti
    until(lambda: watched.refused(old))
    watched.warm(new)
    assert not watched.refused(new)


def test_a_renewed_token_ends_after_its_grace(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = watched.host
    old = host.issue(host.add_user())
    watched.warm(old)
    new = host.renew(old)
    with host.app.app_context():
        until(lambda: getattr(watched.watch.status(old.jti), "end_reason", "") == "renewed")
    watched.warm(old, new)

    until(lambda: watched.asks(lambda: host.verify(old)) == 0)
    late = time.time() + sign_ins.RENEWAL_GRACE_US / 1e6 + 1
    with freeze_time(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(late))):
        assert watched.refused(old)
        assert not watched.refused(new)


def test_a_token_without_a_record_is_refused(watched: Watched) -> None:
    host = watched.host
    token = host.issue(host.add_user())
    with host.app.app_context():
        host.db.session.execute(sa.text("DELETE FROM xgen_sessions"))
        host.db.session.commit()

    for _ in range(2):
        with pytest.raises(TokenInvalid):
            host.verify(token)


def test_the_number_of_tokens_in_memory_is_bounded(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_TOKENS", 5)
    host, user = watched.host, watched.host.add_user()
    tokens = [host.issue(user) for _ in range(8)]
    watched.warm(*tokens)

    assert watched.watch.size == 5
    assert watched.asks(lambda: host.verify(tokens[-1])) == 0
    assert watched.asks(lambda: host.verify(tokens[0])) == 1


def test_the_number_of_changed_users_in_memory_is_bounded(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_USERS", 3)
    host = watched.host
    token = host.issue(host.add_user("alice"))
    watched.warm(token)

    for number in range(8):
        host.force_logout(host.add_user(f"user{number}"))
    until(lambda: watched.asks(lambda: host.verify(token)) == 0)

    assert len(watched.watch._changed) <= 3
    assert not watched.refused(token)


def test_a_manual_change_of_a_row_takes_effect_within_half_a_minute(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = watched.host
    token = host.issue(host.add_user())
    watched.warm(token)
    host.execute("UPDATE xgen_sessions SET ended_us = 1, end_reason = 'ended'")
    assert not watched.refused(token)

    now_s = runtime.elapsed()
    monkeypatch.setattr(runtime, "elapsed", lambda: now_s + watch.KEPT_S)

    assert watched.refused(token)


# --- The bound -------------------------------------------------------------------------------


def test_without_the_feed_the_database_is_asked_again(
    watched: Watched, elsewhere: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, user = watched.host, watched.host.add_user()
    token = host.issue(user)
    watched.warm(token)

    def fail(_: FeedReader) -> None:
        raise OSError("The feed is cut.")

    monkeypatch.setattr(FeedReader, "read", fail)
    elsewhere.force_logout(user)
    now_s = runtime.elapsed()
    assert not watched.refused(token)  # within the bound
    monkeypatch.setattr(runtime, "elapsed", lambda: now_s + BOUND_S)

    assert watched.refused(token)

    monkeypatch.undo()
    other = host.issue(host.add_user("bora"))
    watched.warm(other)
    assert watched.refused(token)


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_without_the_database_tokens_are_refused_after_the_staleness_bound(
    request: pytest.FixtureRequest, make_watched: Callable[..., Watched], name: str
) -> None:
    url: str = request.getfixturevalue(f"{name}_url")
    with wire_to(url) as (wire, through):
        watched = make_watched(through, XGEN_SESSIONS_MAX_STALENESS=1, XGEN_SESSIONS_DEADLINE=1)
        user = watched.host.add_user()
        token = in_spite_of_stalls(1, lambda: watched.host.issue(user))
        watched.warm(token)
        wire.hold_up()
        cut = time.monotonic()

        def refused() -> bool:
            try:
                watched.host.verify(token)
            except DenylistUnavailable:
                return True
            return False

        until(refused)
        assert time.monotonic() - cut < 2 + 2 * MARGIN_S
        wire.let_go()
        until(lambda: not refused())
        watched.warm(token)
        watched.host.dispose()


def test_another_history_of_the_feed_invalidates_the_memory(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, user = watched.host, watched.host.add_user()
    token = host.issue(user)
    host.force_logout(host.add_user("bora"))
    watched.warm(token)

    # As after the restore of a backup in which another revocation has this position.
    host.execute(
        f"UPDATE xgen_user_logins SET invalid_before_us = {token.issued_us}"
        f" WHERE user_id = '{user}'",
        "UPDATE xgen_feed SET id = 'another'",
    )

    until(lambda: watched.refused(token))


def test_a_reader_that_is_too_far_behind_resyncs(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_table, "KEPT", 5)
    monkeypatch.setattr(feed_table, "_TRIM_EVERY", 3)
    host, user = watched.host, watched.host.add_user()
    with host.app.app_context():
        source = watched.host.app.extensions["xgen_sessions"].denylist.source()
    reader = FeedReader(source)
    host.force_logout(user)
    assert reader.read().resync
    host.force_logout(user)
    assert [event.position for event in reader.read().events] == [2]

    for _ in range(12):
        host.force_logout(user)

    assert len(host.rows("xgen_feed")) <= 5 + 3
    assert reader.read().resync
    assert reader.newest is not None
    assert reader.newest.position == 14
    assert reader.read() == (False, [])
    reader.close()


def test_a_feed_of_many_pages_is_read_whole(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, user = watched.host, watched.host.add_user()
    with host.app.app_context():
        source = watched.host.app.extensions["xgen_sessions"].denylist.source()
        reader = FeedReader(source)
        assert reader.read().resync
        changes = [feed_table.Change("user", f"u{number}", None, number) for number in range(2500)]
        for change in changes:
            feed_table.add(host.db.session(), change)
        host.db.session.commit()

    assert [event.change for event in reader.read().events] == changes
    assert reader.read() == (False, [])
    host.force_logout(user)
    assert len(reader.read().events) == 1
    reader.close()


def test_a_page_that_is_not_full_is_the_last(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, user = watched.host, watched.host.add_user()
    with host.app.app_context():
        reader = FeedReader(host.app.extensions["xgen_sessions"].denylist.source())
    fetched: list[int] = []
    fetch = FeedReader._fetch

    def counted(self: FeedReader, sql: str, parameters: Any) -> list[feed_table.Event]:
        events = fetch(self, sql, parameters)
        if self is reader:
            fetched.append(len(events))
        return events

    reader.read()
    host.force_logout(user)
    reader.read()
    host.force_logout(user)
    monkeypatch.setattr(FeedReader, "_fetch", counted)

    assert len(reader.read().events) == 1
    assert fetched == [2]
    reader.close()


def test_a_reader_whose_connection_stays_in_a_transaction_fails(
    sqlite_host: Host,
) -> None:
    with sqlite_host.app.app_context():
        reader = FeedReader(sqlite_host.app.extensions["xgen_sessions"].denylist.source())
    reader.read()
    reader.connection.dbapi_connection.execute("BEGIN")

    with pytest.raises(OSError, match="read an old snapshot"):
        reader.read()
    sqlite_host.force_logout(sqlite_host.add_user())
    reader.read()
    assert reader.newest is not None
    reader.close()


def test_a_resync_during_a_look_up_invalidates_the_older_answer(watched: Watched) -> None:
    watch, host = watched.watch, watched.host
    token = host.issue(host.add_user())
    watched.warm(token)

    class Emptied(dict[str, int]):
        """Changed users; a resync happens in the middle of each look-up."""

        def get(self, key: str, default: Any = None) -> Any:
            watch._take(Batch(True, []))
            return super().get(key, default)

    watch._changed = Emptied(watch._changed)

    assert watched.asks(lambda: host.verify(token)) == 1


# --- Wakeups ---------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_notification_that_came_with_an_answer_ends_the_next_wait(
    postgresql_url: str, driver: str
) -> None:
    url = sa.make_url(postgresql_url).set(drivername=f"postgresql+{driver}")
    engine = sa.create_engine(url)
    connection = DeadlinePool(engine, 5).open()
    wake = Notifications()
    wake.wait(connection, 0)

    def waited(seconds: float) -> float:
        begun = time.monotonic()
        wake.wait(connection, seconds)
        return time.monotonic() - begun

    def notify() -> None:
        with engine.begin() as other:
            other.execute(sa.text(f"NOTIFY {CHANNEL}"))

    assert waited(0.05) >= 0.05
    notify()
    assert waited(PATIENCE_S) < PATIENCE_S
    for _ in range(3):
        notify()
        connection.fetch_all("SELECT 1", (), time.monotonic() + 5)
        assert waited(PATIENCE_S) < PATIENCE_S
    assert waited(0.05) >= 0.05
    with engine.begin() as other:
        other.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    with pytest.raises(engine.dialect.loaded_dbapi.OperationalError):
        list(map(waited, [PATIENCE_S] * 3))  # the server's last messages may end the first waits
    connection.close()
    engine.dispose()


def test_a_server_that_does_not_answer_listen_fails_in_time(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_LISTEN_S", 0.2)
    with wire_to(postgresql_url) as (wire, through):
        engine = sa.create_engine(through)
        connection = DeadlinePool(engine, 5).open()
        wire.hold_up()

        begun = time.monotonic()
        with pytest.raises(engine.dialect.loaded_dbapi.OperationalError):
            Notifications().wait(connection, 1)

        assert time.monotonic() - begun < PATIENCE_S
        connection.close()
        engine.dispose()


# --- Order -----------------------------------------------------------------------------------


def test_positions_are_in_the_order_of_the_commits(watched: Watched) -> None:
    if watched.host.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    host = watched.host
    alice, bora = host.add_user("alice"), host.add_user("bora")
    with host.app.app_context():
        engine = host.db.engine
        with Session(engine) as first, Session(engine) as second:
            revocations.force_logout(first, alice, revocations.Cause())
            revocations.force_logout(second, bora, revocations.Cause())
            second.commit()
            first.commit()

    told = [(row["position"], row["user_id"]) for row in host.rows("xgen_feed")]
    assert sorted(told) == [(1, bora), (2, alice)]


def test_a_force_logout_that_is_rolled_back_is_not_in_the_feed(watched: Watched) -> None:
    host, user = watched.host, watched.host.add_user()
    token = host.issue(user)
    with host.app.app_context():
        session = host.db.session()
        host.sessions.force_logout(user, commit=False)
        session.rollback()
        with session.begin_nested() as savepoint:
            host.sessions.force_logout(user, commit=False)
            savepoint.rollback()
        session.commit()

    assert host.rows("xgen_feed") == []
    assert not watched.refused(token)


def test_a_force_logout_that_the_host_commits_is_in_the_feed(watched: Watched) -> None:
    host, user = watched.host, watched.host.add_user()
    token = host.issue(user)
    watched.warm(token)
    with host.app.app_context():
        host.sessions.force_logout(user, commit=False)
        host.db.session.commit()

    assert [row["user_id"] for row in host.rows("xgen_feed")] == [user]
    until(lambda: watched.refused(token))


def test_a_force_logout_is_in_the_feed_after_a_retried_commit(
    sqlite_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, user = sqlite_host, sqlite_host.add_user()
    host.issue(user)
    append = feed_table.append

    def fail(*_: Any) -> int:
        raise OSError("The lock was not available.")

    with host.app.app_context():
        host.sessions.force_logout(user, commit=False)
        monkeypatch.setattr(feed_table, "append", fail)
        with pytest.raises(OSError, match="lock"):
            host.db.session.commit()
        monkeypatch.setattr(feed_table, "append", append)
        host.db.session.commit()

    assert len(host.rows("xgen_revocations")) == 1
    assert [row["user_id"] for row in host.rows("xgen_feed")] == [user]


# --- The thread ------------------------------------------------------------------------------


def test_the_thread_ends_without_verifications_and_starts_again(
    polling_often: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = polling_often
    host = watched.host
    token = host.issue(host.add_user())
    watched.warm(token)
    thread = watched.watch._follower._thread
    assert thread is not None

    now_s = runtime.elapsed()
    monkeypatch.setattr(runtime, "elapsed", lambda: now_s + 3600)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()

    watched.warm(token)
    assert watched.asks(lambda: host.verify(token)) == 0


def test_the_thread_can_be_stopped_and_starts_again_with_a_verification(
    polling_often: Watched,
) -> None:
    watched = polling_often
    host = watched.host
    token = host.issue(host.add_user())
    watched.warm(token)
    thread = watched.watch._follower._thread
    assert thread is not None

    watched.watch.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()

    until(lambda: bool(host.verify(token)) and watched.watch._follower.is_running)
    watched.warm(token)


def test_the_thread_ends_without_verifications_while_the_feed_fails(
    polling_often: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = polling_often
    watched.warm(watched.host.issue(watched.host.add_user()))
    thread = watched.watch._follower._thread
    assert thread is not None
    failed: list[threading.Thread] = []

    def fail(_: FeedReader) -> None:
        failed.append(threading.current_thread())
        raise OSError("The feed is cut.")

    monkeypatch.setattr(FeedReader, "read", fail)
    until(lambda: failed.count(thread) > 2)
    now_s = runtime.elapsed()
    monkeypatch.setattr(runtime, "elapsed", lambda: now_s + 3600)

    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    told = [each.getMessage() for each in caplog.records if each.thread == thread.ident]
    assert told == ["The feed cannot be read: The feed is cut."]


def test_sqlite_in_memory_is_asked_each_time(make_watched: Callable[..., Watched]) -> None:
    watched = make_watched("sqlite://")
    token = watched.host.issue(watched.host.add_user())

    assert watched.asks(lambda: [watched.host.verify(token) for _ in range(3)]) == 3


def test_a_forked_process_follows_the_feed_itself(sqlite_url: str, tmp_path: Path) -> None:
    result = run(
        """
        import os, sys
        from tests.support.hosts import make_app
        from tests.support.patience import until
        from xgen_flask_sessions import SessionRevoked

        host = make_app(
            sys.argv[1], XGEN_SESSIONS_CONSISTENCY="watch", XGEN_SESSIONS_MAX_STALENESS=12
        )
        host.create_tables()
        watch = host.app.extensions["xgen_sessions"].watch
        user = host.add_user()
        token = host.issue(user)
        until(lambda: host.verify(token) and watch.is_fresh())
        child = os.fork()
        if child == 0:
            assert not watch.is_fresh() and watch.size == 0
            until(lambda: host.verify(token) and watch.is_fresh())
            host.force_logout(user)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        def refused():
            try:
                host.verify(token)
            except SessionRevoked:
                return True

        until(refused)
        assert watch.is_fresh()
        """,
        sqlite_url,
    )

    assert result == ""


def test_a_forked_process_discards_the_memory(watched: Watched) -> None:
    """Reset without a fork, so that coverage sees it."""
    token = watched.host.issue(watched.host.add_user())
    watched.warm(token)
    watch = watched.watch
    watch.stop()
    until(lambda: not watch._follower.is_running)
    assert watch.size == 1

    with watch._lock:  # as another thread may hold it at the time of the fork
        watch._follower._reset_after_fork()

        assert (watch.is_fresh(), watch.size) == (False, 0)
        assert watched.asks(lambda: watched.host.verify(token)) == 1, "the database was asked"


@pytest.mark.parametrize("when", ["before", "after"])
def test_green_threads_are_refused(sqlite_url: str, when: str) -> None:
    patch = "from gevent import monkey; monkey.patch_all()"
    result = run(
        f"""
        import sys
        {patch if when == "before" else ""}
        from tests.support.hosts import make_app
        try:
            host = make_app(sys.argv[1], XGEN_SESSIONS_CONSISTENCY="watch")
        except Exception as error:
            print(type(error).__name__, "real threads" in str(error))
            raise SystemExit
        host.create_tables()
        {patch if when == "after" else ""}
        token = host.issue(host.add_user())
        watch = host.app.extensions["xgen_sessions"].watch
        print(host.verify(token).jti == token.jti, watch.is_fresh())
        """,
        sqlite_url,
    )

    assert result == {"before": "ConfigurationError True", "after": "True False"}[when]


def run(script: str, *arguments: str) -> str:
    """Run a script in a separate process and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_host_that_overrides_the_engine_is_refused(sqlite_url: str) -> None:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    from tests.support.hosts import SECRET
    from xgen_flask_sessions import XgenSessions

    class Tenants(SQLAlchemy):
        @property
        def engine(self) -> sa.Engine:
            return super().engine

    app = Flask("host")
    app.config |= {
        "SQLALCHEMY_DATABASE_URI": sqlite_url,
        "XGEN_SESSIONS_SECRET_KEY": SECRET,
        "XGEN_SESSIONS_CONSISTENCY": "watch",
    }
    db = Tenants(app)

    class User(db.Model):  # type: ignore[name-defined,misc]
        id = sa.Column(sa.Integer, primary_key=True)
        username = sa.Column(sa.String(50))

    with pytest.raises(ConfigurationError, match="one database"):
        XgenSessions().init_app(app, db=db, user_model=User)
