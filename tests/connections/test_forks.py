"""Forks: a child shares no connection, and does not use an SQLite file that it cannot lock."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.databases import MakeHost
from tests.support.forked import Forked
from tests.support.hosts import Host
from tests.support.patience import until
from tests.support.scripts import run_script
from xgen_flask_sessions import runtime

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks"),
]


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the C library's fork is called")


class Scene(NamedTuple):
    """A database with two users who are signed in, and no connection open."""

    host: Host
    url: str
    path: Path
    user: str
    other: str
    token: str
    others_token: str

    @property
    def log(self) -> Path:
        return Path(f"{self.path}-wal")


@pytest.fixture
def scene(make_host: MakeHost, tmp_path: Path) -> Iterator[Scene]:
    path = tmp_path / "app.db"
    url = f"sqlite:///{path}"
    host = make_host(url)
    user, other = host.add_user("alice"), host.add_user("bob")
    token, others_token = host.issue(user).token, host.issue(other).token
    host.dispose()
    yield Scene(host, url, path, user, other, token, others_token)
    host.dispose()


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("strict", "daemon"),
        ("strict", "busy+hook"),
        ("watch", "daemon"),
        pytest.param("watch", "bare", marks=on_linux),
        ("watch", "querying+hook"),
    ],
)
def test_a_forked_process_keeps_its_log_hears_of_revocations_and_ends(
    scene: Scene, mode: str, how: str
) -> None:
    with Forked(scene.url, mode, how, scene.token) as forked:
        assert forked.verify(scene.token) == "ok"
        if mode == "watch":  # in a thread of its own, from the first or the second check on
            until(
                lambda: (
                    forked.verify(scene.token) == "ok"
                    and "xgen-sessions-watch" in forked.ask("threads").split(",")
                )
            )

        with closing(sqlite3.connect(scene.path)) as last:
            last.execute("SELECT count(*) FROM xgen_sessions").fetchall()

        assert scene.log.exists(), "the child holds its lock"
        scene.host.force_logout(scene.user)
        until(lambda: forked.verify(scene.token) == "revoked")
        assert forked.ask("force", scene.other) == "ok"
        assert scene.host.status(scene.others_token) == 401
        assert forked.ask("query") == "2"
        assert forked.stop() == ""


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("strict", "held+daemon"),
        pytest.param("strict", "held+bare", marks=on_linux),
        ("watch", "held+hook"),
    ],
)
def test_a_process_that_inherited_an_open_file_refuses_every_token(
    scene: Scene, mode: str, how: str
) -> None:
    with Forked(scene.url, mode, how, scene.token) as forked:
        for _ in range(3):
            assert forked.verify(scene.token) == "unavailable"
        assert forked.ask("force", scene.other) == "unavailable"
        assert forked.ask("issue", scene.other) == "unavailable"
        log = forked.stop()

    assert scene.host.status(scene.others_token) == 200, "nothing was half done"
    assert log.count("cannot use the database") == 1


def test_each_fork_of_a_busy_process_leaves_a_child_that_answers(scene: Scene) -> None:
    """No child inherits a lock that a thread held at the fork."""
    result = run_script(
        """
        import os, sys, threading
        from tests.support.hosts import make_app

        host = make_app(sys.argv[1], create_all=False)

        def work():
            while True:
                host.status(sys.argv[2], "/api/user")

        # A fork during a thread's first import leaves the child Python's lock of that module.
        assert host.status(sys.argv[2], "/api/user") == 200
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(25):
            child = os.fork()
            if child == 0:
                os._exit(host.status(sys.argv[2]) // 4)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) * 4)
        """,
        scene.url,
        scene.token,
    )

    answers = result.split()
    assert len(answers) == 25
    assert set(answers) <= {"200", "500"}  # 503 // 4 * 4
    assert "200" in answers


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_parent_goes_on_after_a_fork(scene: Scene) -> None:
    host = scene.host
    assert host.status(scene.token) == 200
    child = os.fork()
    if child == 0:  # pragma: no cover: coverage does not follow
        os._exit(0)
    os.waitpid(child, 0)

    assert host.status(scene.token) == 200
    host.force_logout(scene.user)
    assert host.status(scene.token) == 401


@on_linux
def test_a_child_may_use_the_file_whatever_it_does_first(scene: Scene) -> None:
    """Without Python's hooks, or with those after the fork only, as in uWSGI."""
    result = run_script(
        """
        import ctypes, os, sys
        from tests.support.forked import answer, bare_fork
        from tests.support.hosts import make_app

        url, token = sys.argv[1:]
        host = make_app(url, create_all=False)

        def first(step):
            assert host.status(token, "/api/user") == 200
            if step == "open a connection":
                with host.app.app_context():
                    host.db.engine.pool.dispose()
            if (child := bare_fork(host)) == 0:
                if step == "run the hooks":
                    ctypes.pythonapi.PyOS_AfterFork_Child()
                elif step != "check":
                    assert answer(host, "query") == "2"
                os._exit(host.status(token) // 4)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) * 4

        steps = ["check", "use a connection", "open a connection"]
        if sys.version_info < (3, 13):  # later, Python aborts if the hooks before it did not run
            steps.append("run the hooks")
        print(*{first(step) for step in steps})
        """,
        scene.url,
        scene.token,
    )

    assert result == "200"


@on_linux
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_workers_forked_without_hooks_share_no_connection(
    kind: str, request: pytest.FixtureRequest, make_host: MakeHost
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    host = make_host(url)
    tokens = [host.issue(host.add_user(name)).token for name in ("alice", "bob")]
    with host.app.app_context():
        url = host.db.engine.url.render_as_string(hide_password=False)

    result = run_script(
        """
        import os, sys
        from tests.support.forked import bare_fork
        from tests.support.hosts import make_app

        url, *tokens = sys.argv[1:]
        host = make_app(url, create_all=False)
        for token in tokens:
            assert host.status(token, "/api/user") == 200
        children = []
        for token in tokens:
            child = bare_fork(host)
            if child == 0:
                answers = [host.status(token, "/api/user") for _ in range(100)]
                os._exit(0 if answers == [200] * 100 else 1)
            children.append(child)
        print(*(os.waitpid(child, 0)[1] for child in children))
        assert [host.status(token, "/api/user") for token in tokens] == [200, 200]
        """,
        url,
        *tokens,
    )

    assert result == "0 0"


def test_a_connection_of_another_library_is_noticed(scene: Scene) -> None:
    result = run_script(
        """
        import os, sqlite3, sys, threading
        from tests.support.hosts import make_app

        url, path, token = sys.argv[1:]
        host = make_app(url, create_all=False)
        assert threading.active_count() == 1  # the limits' memory begins at the first use
        other = sqlite3.connect(path)
        other.execute("SELECT count(*) FROM users").fetchone()
        child = os.fork()
        if child == 0:
            os._exit(host.status(token) // 4)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) * 4, host.status(token))
        """,
        scene.url,
        str(scene.path),
        scene.token,
    )

    assert result == "500 200"  # 503 // 4 * 4


def test_one_thread_resets_the_state_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[bool] = []

    class Owner:
        def reset(self) -> None:
            resets.append(runtime.fork_was_prepared())
            runtime.notice_fork()  # a reset may use what notices forks

    owner = Owner()
    runtime.reset_after_fork(owner.reset)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "process_id", -1)
        runtime.notice_fork()
    runtime.notice_fork()

    assert resets == [False]
