"""An SQLite file that is replaced or deleted under a running application."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.patience import until
from tests.support.scripts import force_logout_elsewhere, run_script
from xgen_flask_sessions import DenylistUnavailable, LedgerUnavailable
from xgen_flask_sessions.connections.sqlite_files import DatabaseFile


class Scene(NamedTuple):
    """A running application, and a backup of its database."""

    host: Host
    path: Path
    backup: Path
    user: str
    kept: str
    """A token from before the backup."""
    late: str
    """A token from after the backup."""

    @property
    def log(self) -> Path:
        return Path(f"{self.path}-wal")

    def restore(self) -> None:
        """Replace the database by the backup, and leave the journals where they are."""
        self.backup.replace(self.path)

    def names(self) -> list[str]:
        """Return the usernames that the host's own queries find."""
        with self.host.app.app_context():
            model = self.host.model
            return sorted(self.host.db.session.scalars(sa.select(model.username)))

    def names_in_file(self) -> list[str]:
        """Return the usernames that another process reads."""
        return run_script(
            """
            import sqlite3, sys
            connection = sqlite3.connect(sys.argv[1])
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            print(*(name for name, in connection.execute("SELECT username FROM users ORDER BY 1")))
            connection.close()
            """,
            str(self.path),
        ).split()


def copy(path: Path, target: Path) -> Path:
    """Back up a database that is in use."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copied:
        source.backup(copied)
    return target


def scene_at(host: Host, path: Path) -> Scene:
    """Sign a user in before a backup, and after it; add a user after it."""
    user = host.add_user("alice")
    kept = host.issue(user).token
    backup = copy(path, path.with_name("backup.db"))
    late = host.issue(user).token
    host.add_user("late")
    for token in (kept, late):
        assert host.status(token, "/api/user") == host.status(token) == 200
    return Scene(host, path, backup, user, kept, late)


@pytest.fixture(params=["strict", "watch", "link"])
def scene(request: pytest.FixtureRequest, make_host: MakeHost, tmp_path: Path) -> Iterator[Scene]:
    path = opened = tmp_path / "app.db"
    mode = request.param
    if mode == "link":  # SQLite puts the journals beside the file, not beside the link to it
        mode, opened = "strict", tmp_path / "links" / "linked.db"
        opened.parent.mkdir()
        path.touch()
        opened.symlink_to(path)
    host = make_host(f"sqlite:///{opened}", XGEN_SESSIONS_CONSISTENCY=mode)
    yield scene_at(host, path)
    host.dispose()


def expect_the_backup(scene: Scene) -> None:
    """Check that reads and writes concern the restored file."""
    host = scene.host
    until(lambda: host.status(scene.late) == 401)  # watching: within the staleness bound
    assert host.status(scene.kept) == host.status(scene.kept, "/api/user") == 200
    assert scene.names() == ["alice"]
    host.add_user("new")
    assert host.status(host.issue(scene.user).token) == 200
    host.force_logout(scene.user)
    assert host.status(scene.kept) == 401
    assert scene.names_in_file() == ["alice", "new"]


def test_a_restored_file_is_read_and_written_at_once(scene: Scene) -> None:
    scene.restore()

    expect_the_backup(scene)


def test_the_log_of_the_old_file_is_not_applied_to_the_new_one(scene: Scene) -> None:
    old = scene.log.stat()
    assert old.st_size > 0
    scene.restore()

    expect_the_backup(scene)

    (aside,) = scene.path.parent.glob("app.db-wal.*")
    assert (aside.stat().st_ino, aside.stat().st_size) == (old.st_ino, old.st_size)


def test_a_restore_without_journals_is_noticed(scene: Scene) -> None:
    scene.restore()
    for end in ("-wal", "-shm"):
        Path(f"{scene.path}{end}").unlink()

    expect_the_backup(scene)


def test_the_hosts_queries_notice_first(scene: Scene) -> None:
    scene.restore()

    assert scene.names() == ["alice"]
    expect_the_backup(scene)


def test_a_write_notices_first(scene: Scene) -> None:
    scene.restore()

    scene.host.force_logout(scene.user)

    assert scene.host.status(scene.kept) == 401
    assert scene.names_in_file() == ["alice"]


def test_another_process_revokes_in_the_restored_file(make_host: MakeHost, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    url = f"sqlite:///{path}"
    scene = scene_at(make_host(url), path)
    watching = make_host(url, create_all=False, XGEN_SESSIONS_CONSISTENCY="watch")
    hosts = (scene.host, watching)
    assert [host.status(scene.late) for host in hosts] == [200, 200]
    scene.restore()
    until(lambda: [host.status(scene.late) for host in hosts] == [401, 401])

    force_logout_elsewhere(url, scene.user)

    until(lambda: [host.status(scene.kept) for host in hosts] == [401, 401])


def let_the_log_be_deleted(scene: Scene) -> None:
    """Copy the file within this process, which ends SQLite's locks; let another one close it."""
    shutil.copy(scene.path, scene.path.with_name("copy.db"))
    subprocess.run(
        [sys.executable, "-c", CLOSE.replace("PATH", repr(str(scene.path)))], check=True, timeout=60
    )
    assert not scene.log.exists()


CLOSE = """
import sqlite3
connection = sqlite3.connect(PATH)
connection.execute("SELECT count(*) FROM users").fetchall()
connection.close()
"""


def test_a_log_deleted_under_a_connection_is_noticed(scene: Scene) -> None:
    let_the_log_be_deleted(scene)

    force_logout_elsewhere(f"sqlite:///{scene.path}", scene.user)

    until(lambda: scene.host.status(scene.kept) == 401)
    assert scene.host.status(scene.host.issue(scene.user).token) == 200


def test_no_token_passes_while_a_connection_has_a_deleted_log(
    make_host: MakeHost, tmp_path: Path
) -> None:
    path = tmp_path / "app.db"
    scene = scene_at(host := make_host(f"sqlite:///{path}"), path)
    with host.app.app_context():
        assert host.db.session.get(host.model, int(scene.user)) is not None
        let_the_log_be_deleted(scene)
        until(lambda: host.status(scene.kept) == 503)
        assert [host.status(scene.kept) for _ in range(3)] == [503, 503, 503]
        with pytest.raises(LedgerUnavailable):
            host.issue(scene.user)

    until(lambda: host.status(scene.kept, "/api/user") == 200)
    host.force_logout(scene.user)
    assert host.status(scene.kept) == 401
    host.dispose()


def test_every_application_of_a_process_leaves_a_deleted_log(
    make_host: MakeHost, tmp_path: Path
) -> None:
    path = tmp_path / "app.db"
    url = f"sqlite:///{path}"
    scene = scene_at(host := make_host(url), path)
    idle = make_host(url, create_all=False)
    assert idle.status(scene.kept, "/api/user") == 200
    let_the_log_be_deleted(scene)
    force_logout_elsewhere(url, scene.user)

    until(lambda: host.status(scene.kept) == 401)

    assert idle.status(scene.kept) == 401
    token = idle.issue(scene.user).token
    assert [each.status(token, "/api/user") for each in (host, idle)] == [200, 200]
    for each in (host, idle):
        each.dispose()


def test_a_deleted_file_is_not_created_anew(scene: Scene) -> None:
    host = scene.host
    away = scene.path.rename(scene.path.with_name("away.db"))

    until(lambda: host.status(scene.kept) == 503)  # watching: within the staleness bound
    assert host.status(scene.kept, "/api/user") == 503
    with pytest.raises(LedgerUnavailable):
        host.issue(scene.user)
    with pytest.raises(LedgerUnavailable):
        host.force_logout(scene.user)
    with pytest.raises(sa.exc.OperationalError, match="cannot be found"):
        scene.names()
    assert not scene.path.exists()

    away.rename(scene.path)

    assert host.status(scene.kept) == host.status(scene.late) == 200
    assert scene.names() == ["alice", "late"]


def test_the_host_may_create_the_file_again_after_a_disposal(scene: Scene) -> None:
    host = scene.host
    for end in ("", "-wal", "-shm"):
        Path(f"{scene.path}{end}").unlink(missing_ok=True)
    host.dispose()  # afterwards: a thread that watches connects again at once

    host.create_tables()

    assert host.status(host.issue(host.add_user("new")).token) == 200


def test_a_transaction_on_the_old_file_is_not_taken_for_a_change(scene: Scene) -> None:
    host = scene.host
    with host.app.app_context():
        assert host.db.session.get(host.model, int(scene.user)) is not None
        scene.restore()
        with pytest.raises(LedgerUnavailable):
            host.sessions.force_logout(scene.user)
    until(lambda: host.status(scene.late) == 401)

    host.force_logout(scene.user)

    assert host.status(scene.kept) == 401


def test_a_file_replaced_during_a_change_is_not_taken_for_the_changed_one(scene: Scene) -> None:
    host = scene.host

    def replace(*_: object) -> None:
        if scene.backup.exists():
            scene.restore()

    with host.app.app_context():
        sa.event.listen(host.db.session(), "before_commit", replace)
        with pytest.raises(LedgerUnavailable, match="Check whether the change was made"):
            host.sessions.force_logout(scene.user)

    until(lambda: host.status(scene.late) == 401)
    assert host.status(scene.kept) == 200


def test_a_link_to_another_file_is_noticed(make_host: MakeHost, tmp_path: Path) -> None:
    first, link = tmp_path / "first.db", tmp_path / "app.db"
    first.touch()
    link.symlink_to(first)
    host = make_host(f"sqlite:///{link}")
    scene = scene_at(host, link)

    new = tmp_path / "new link"
    new.symlink_to(scene.backup)
    new.replace(link)

    expect_the_backup(scene)
    host.dispose()


@pytest.mark.parametrize("options", ["uri=true", "uri=true&cache=private"])
def test_a_uri_is_understood(make_host: MakeHost, tmp_path: Path, options: str) -> None:
    path = tmp_path / "an app.db"
    host = make_host(f"sqlite:///file:{str(path).replace(' ', '%20')}?{options}")
    scene = scene_at(host, path)
    scene.restore()

    expect_the_backup(scene)
    host.dispose()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:////var/app.db", "/var/app.db"),
        ("sqlite:///file:/var/an%20app.db?uri=true", "/var/an app.db"),
        ("sqlite:///file:///var/app.db?uri=true&mode=ro", "/var/app.db"),
        ("sqlite:///file://localhost/var/app.db?uri=true", "/var/app.db"),
        ("sqlite:///file::memory:?uri=true&cache=shared", None),
        ("sqlite:///file:/var/shared?uri=true&mode=memory&cache=shared", None),
        ("sqlite:///file:/shared?uri=true&vfs=memdb", None),
    ],
)
def test_the_path_of_a_url(url: str, path: str | None) -> None:
    assert DatabaseFile(sa.make_url(url)).path == path


def test_a_named_database_in_memory_is_used(make_host: MakeHost) -> None:
    host = make_host(
        "sqlite:///file:/named?mode=memory&cache=shared&uri=true",
        SQLALCHEMY_ENGINE_OPTIONS={
            "poolclass": sa.QueuePool,
            "connect_args": {"check_same_thread": False},
        },
    )
    user = host.add_user()
    token = host.issue(user)

    assert host.status(token) == 200
    host.force_logout(user)
    assert host.status(token) == 401


def test_a_function_that_connects_is_understood(make_host: MakeHost, tmp_path: Path) -> None:
    path = tmp_path / "app.db"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, check_same_thread=False)

    host = make_host(
        "sqlite:///unused.db",
        SQLALCHEMY_ENGINE_OPTIONS={"creator": connect, "poolclass": sa.QueuePool},
    )
    scene = scene_at(host, path)
    scene.restore()

    expect_the_backup(scene)
    host.dispose()


def test_a_relative_path_survives_a_change_of_directory(
    make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    host = make_host("sqlite:///app.db", create_all=False)
    host.create_tables()
    token = host.issue(host.add_user())
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)

    assert [host.status(token) for _ in range(3)] == [200, 200, 200]
    assert not list(elsewhere.iterdir())


def test_a_read_only_file_is_checked_and_not_created(make_host: MakeHost, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    scene = scene_at(make_host(f"sqlite:///{path}"), path)
    reader = make_host(f"sqlite:///file:{path}?mode=ro&uri=true", create_all=False)
    assert reader.status(scene.kept) == 200

    scene.restore()

    assert (reader.status(scene.kept), reader.status(scene.late)) == (200, 401)
    path.unlink()
    with pytest.raises(DenylistUnavailable):
        reader.verify(scene.kept)
    assert not path.exists()
    for host in (reader, scene.host):
        host.dispose()


@pytest.mark.parametrize("replace", [Path.mkdir, Path.touch])
def test_what_is_no_database_is_refused(scene: Scene, replace: Callable[[Path], object]) -> None:
    scene.path.unlink()
    replace(scene.path)

    until(lambda: scene.host.status(scene.kept) == 503)
    with pytest.raises(LedgerUnavailable):
        scene.host.force_logout(scene.user)
