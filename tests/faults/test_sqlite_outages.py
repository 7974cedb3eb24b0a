"""SQLite: the disk is full, another program holds the write lock, the file cannot be read."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.outages import (
    WRITE_DEADLINE_S,
    Scene,
    expect_503,
)
from tests.support.patience import in_spite_of_stalls, within
from xgen_flask_sessions import IssuedToken, LedgerUnavailable

pytestmark = pytest.mark.slow

DISK_BYTES = 2 * 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def scene(make_host: MakeHost, path: Path) -> Scene:
    return Scene.set(make_host, f"sqlite:///{path}")


# --- Full ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the directory of a file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "xgen-test", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")  # the other tests need no root
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """Fill a directory's file system."""
    filler = directory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(directory).free < 4096
    yield
    filler.unlink()


@contextmanager
def limited_pages(host: Host) -> Iterator[None]:
    """Prevent the application's connections from adding pages to the database."""

    def limit(connection: Any, _: object, __: object) -> None:
        connection.execute("PRAGMA max_page_count = 1").close()  # raised to the present count

    def lift(connection: Any, _: object, __: object) -> None:
        connection.execute("PRAGMA max_page_count = 1000000").close()

    with host.app.app_context():
        engine = host.db.engine
    sa.event.listen(engine, "checkout", limit)
    yield
    sa.event.remove(engine, "checkout", limit)
    sa.event.listen(engine, "checkout", lift)


@contextmanager
def limited_file_size(path: Path) -> Iterator[None]:
    """Prevent this process from making a file longer than the longest in the database's folder."""
    allowed, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    longest = max(each.stat().st_size for each in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, most))


def fill_by_sign_ins(scene: Scene) -> list[IssuedToken]:
    """Sign in until the space is used up; return the tokens."""
    tokens = []
    for _ in range(3000):
        try:
            issue = partial(scene.host.issue, scene.user)
            tokens.append(in_spite_of_stalls(WRITE_DEADLINE_S, issue))
        except LedgerUnavailable:
            break
    else:
        raise AssertionError("There is still space.")
    with pytest.raises(LedgerUnavailable, match=r"Nothing was done\."):
        within(WRITE_DEADLINE_S, lambda: scene.host.issue(scene.user))
    return tokens


def check_shortage(scene: Scene, shortage: AbstractContextManager[None]) -> None:
    """Check that tokens are verified and no row changes in the shortage, and the recovery."""
    with shortage:
        tokens = fill_by_sign_ins(scene)
        full = scene.rows()
        assert len(full["xgen_sessions"]) == len(tokens) + 2
        scene.expect_verified()
        answer = within(
            WRITE_DEADLINE_S,
            lambda: scene.host.client().post("/sign-in", data={"user_id": scene.user}),
        )
        expect_503(answer, "ledger_unavailable")
        answer = within(
            WRITE_DEADLINE_S,
            lambda: scene.admin().post(f"/sessions/users/{scene.user}/force-logout"),
        )
        expect_503(answer, "ledger_unavailable")
        assert scene.rows() == full
    assert all(scene.status(token) == 200 for token in tokens[-3:])
    scene.expect_recovery()
    assert {scene.host.status(token) for token in tokens} <= {401}


def test_tokens_are_verified_and_no_row_changes_on_a_full_disk(
    make_host: MakeHost, small_disk: Path
) -> None:
    scene = Scene.set(make_host, f"sqlite:///{small_disk / 'test.db'}")

    check_shortage(scene, full_disk(small_disk))

    scene.host.dispose()


def test_tokens_are_verified_and_no_row_changes_at_the_page_limit(scene: Scene) -> None:
    check_shortage(scene, limited_pages(scene.host))


def test_tokens_are_verified_and_no_row_changes_at_the_file_size_limit(
    scene: Scene, path: Path
) -> None:
    check_shortage(scene, limited_file_size(path))


def test_an_error_says_that_a_full_database_rolled_back_the_hosts_transaction(
    scene: Scene,
) -> None:
    host = scene.host
    with limited_pages(host):
        fill_by_sign_ins(scene)
        with host.app.app_context():
            host.find_user(scene.user).department = "changed"
            with pytest.raises(LedgerUnavailable, match="rolled back the whole transaction"):
                host.sessions.issue(scene.user, commit=False)
            host.db.session.commit()

    with host.app.app_context():
        assert host.find_user(scene.user).department is None


# --- Locked ----------------------------------------------------------------------------------

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"BEGIN {sys.argv[2]}")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def held_by_another_program(path: Path, mode: str) -> Iterator[None]:
    """Hold the write lock in another process within the block."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate(timeout=60)


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_tokens_are_verified_while_another_program_holds_the_write_lock(
    scene: Scene, path: Path, mode: str
) -> None:
    before = scene.rows()

    with held_by_another_program(path, mode):
        scene.expect_verified()
        scene.expect_unchanged(verifiable=True)

    assert scene.rows() == before
    scene.expect_recovery()


# --- Unreadable ------------------------------------------------------------------------------


def by_a_directory(path: Path) -> None:
    path.mkdir()


def by_random_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(64 * 1024))


@pytest.mark.parametrize("replace", [by_a_directory, by_random_bytes])
def test_no_token_is_accepted_while_the_file_cannot_be_read(
    scene: Scene, make_host: MakeHost, path: Path, replace: Callable[[Path], None]
) -> None:
    scene.host.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    connection.close()
    before = scene.rows()
    kept = path.rename(path.with_name("kept"))
    replace(path)

    scene.expect_unverified()
    scene.expect_unchanged(verifiable=False)

    path.rmdir() if path.is_dir() else path.unlink()
    kept.rename(path)
    assert scene.rows() == before
    scene.expect_recovery()
