"""Connections are closed: those that cannot be prepared, and all of them at a clean stop."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin_center import PASSWORD, AdminCenter
from tests.support.databases import MakeHost
from tests.support.gunicorn_server import gunicorn
from tests.support.hosts import bearer
from tests.support.scripts import run_script
from xgen_flask_sessions import DenylistUnavailable, LedgerUnavailable
from xgen_flask_sessions.connections import engine_guard, pool, side_engines

PATIENCE_S = 60


class Counted(sqlite3.Connection):
    """A connection that is counted while it is open."""

    opened: list[Counted] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.opened.append(self)

    def close(self) -> None:
        super().close()
        self.opened.remove(self)


def fail(*_: object) -> None:
    raise OSError("It cannot be prepared.")


@pytest.mark.parametrize("step", ["configure", "fast_lookup"])
def test_a_connection_that_cannot_be_prepared_is_closed(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    host = make_host(sqlite_url, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"factory": Counted}})
    token = host.issue(host.add_user())
    host.dispose()
    before = len(Counted.opened)
    with monkeypatch.context() as patch:
        patch.setattr(pool, step, fail)
        with pytest.raises(DenylistUnavailable):
            host.verify(token)

    assert len(Counted.opened) == before
    assert host.verify(token)


def test_a_connection_beside_the_hosts_that_cannot_be_prepared_is_closed(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(sqlite_url, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"factory": Counted}})
    host.dispose()
    before = len(Counted.opened)
    with host.app.app_context():
        side = side_engines.side_engine(host.db.engine)

    def fail_to_prepare(_: object) -> bool:
        raise OSError("It cannot be prepared.")

    monkeypatch.setattr(side_engines, "hasattr", fail_to_prepare, raising=False)
    with pytest.raises((OSError, TypeError)):
        side.connect()

    assert len(Counted.opened) == before


def test_a_connection_that_is_in_use_at_a_disposal_is_closed_when_it_is_given_back(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"factory": Counted}})
    host.dispose()
    before = len(Counted.opened)
    with host.app.app_context():
        engine = host.db.engine
    in_use = engine.raw_connection()
    idle = engine.raw_connection()
    idle.close()
    assert len(Counted.opened) == before + 2

    engine_guard.guard(engine).dispose()

    assert len(Counted.opened) == before + 1
    in_use.close()
    assert len(Counted.opened) == before
    engine.raw_connection().close()
    assert len(Counted.opened) == before + 1  # the new pool keeps its own
    host.dispose()


def test_a_change_in_a_file_that_cannot_be_opened_is_refused(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(sqlite_url)
    user = host.add_user()
    host.dispose()
    monkeypatch.setattr(pool, "configure", fail)
    with pytest.raises(LedgerUnavailable):
        host.force_logout(user)


# --- A clean stop --------------------------------------------------------------------------------


def cold_copy(database: Path) -> Path:
    """Copy the database file alone."""
    return Path(shutil.copy(database, database.with_name("cold.db")))


def count(database: Path, condition: str) -> int:
    """Count sessions in a database."""
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute(f"SELECT count(*) FROM xgen_sessions WHERE {condition}")
        return int(row.fetchone()[0])


@pytest.mark.slow
def test_after_a_clean_stop_the_admin_centers_file_alone_holds_all_data(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    with AdminCenter(instance) as center:
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", center.port, timeout=PATIENCE_S)
            body = f'{{"username": "admin", "password": "{PASSWORD}"}}'
            connection.request("POST", "/api/login", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
            connection.close()

    (database,) = instance.glob("*.db")
    assert not list(instance.glob("*.db-*"))
    assert count(cold_copy(database), "ended_us IS NULL") == 3


@pytest.mark.parametrize("mode", ["strict", "watch"])
def test_after_a_hosts_exit_the_file_alone_holds_all_data(tmp_path: Path, mode: str) -> None:
    database = tmp_path / "app.db"
    run_script(
        """
        import sys
        from tests.support.hosts import make_app
        from tests.support.patience import until

        host = make_app(sys.argv[1], XGEN_SESSIONS_CONSISTENCY=sys.argv[2])
        host.create_tables()
        user = host.add_user()
        token = host.issue(user)
        watch = host.app.extensions["xgen_sessions"].watch
        until(lambda: host.status(token, "/api/user") == 200 and (not watch or watch.is_fresh()))
        host.force_logout(user)
        host.issue(user)
        """,
        f"sqlite:///{database}",
        mode,
    )

    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]
    cold = cold_copy(database)
    assert (count(cold, "ended_us IS NULL"), count(cold, "ended_us > 0")) == (1, 1)


def test_the_log_is_copied_although_another_process_has_the_file_open(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """As with the master process of a server, which may end without closing it."""
    database = tmp_path / "app.db"
    host = make_host(f"sqlite:///{database}")
    host.issue(user := host.add_user())
    host.dispose()
    with closing(sqlite3.connect(database)) as other:
        other.execute("SELECT count(*) FROM users").fetchone()
        run_script(
            """
            import sys
            from tests.support.hosts import make_app

            make_app(sys.argv[1], create_all=False).issue(sys.argv[2])
            """,
            f"sqlite:///{database}",
            user,
        )

        assert count(cold_copy(database), "ended_us IS NULL") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_the_log_of_a_forked_child_is_copied_at_the_exit_of_its_parent(tmp_path: Path) -> None:
    """Such a child ends without Python's exit; the parent closed its own before the fork."""
    database = tmp_path / "app.db"
    run_script(
        """
        import multiprocessing, sys
        from tests.support.hosts import make_app

        host = make_app(sys.argv[1])
        host.create_tables()
        user = host.add_user()
        assert host.status(host.issue(user)) == 200
        forks = multiprocessing.get_context("fork")
        child = forks.Process(target=host.force_logout, args=(user,))
        child.start()
        child.join()
        """,
        f"sqlite:///{database}",
    )

    assert count(cold_copy(database), "ended_us > 0") == 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is missing")
@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_after_a_stop_of_gunicorn_the_file_alone_holds_all_data(
    make_host: MakeHost, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "app.db"
    host = make_host(f"sqlite:///{path}")
    user = host.add_user()
    token = host.issue(user)
    host.dispose()
    application = f"tests.support.served:serve({f'sqlite:///{path}'!r})"
    with gunicorn(application, *options, workers=2, patience_s=PATIENCE_S) as port:
        give_up = time.monotonic() + PATIENCE_S
        answers: list[int] = []
        while len(answers) < 20:
            assert time.monotonic() < give_up
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            try:
                connection.request("POST", "/sessions/renew", headers=bearer(token))
                answers.append(connection.getresponse().status)
            except OSError:
                time.sleep(0.1)  # real time: another process is starting
            finally:
                connection.close()

    assert 200 in answers
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]
    assert count(cold_copy(path), "1") == 1 + answers.count(200)
