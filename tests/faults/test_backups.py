"""A force logout of everyone repairs the loss of revocations after a restore or a fail-over."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.databases import MakeHost, require_service
from tests.support.hosts import Host
from tests.support.private_server import PrivateServer
from tests.support.server_kinds import PrivatePostgreSQL
from xgen_flask_sessions import IssuedToken

pytestmark = pytest.mark.slow

NOW = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Past:
    """Tokens issued before the database was restored."""

    user: str
    other: str
    kept: IssuedToken
    """Issued before the backup, and not revoked."""
    forced_out: IssuedToken
    """Issued before the backup, and revoked after it."""
    late: IssuedToken
    """Issued after the backup."""

    @property
    def tokens(self) -> list[IssuedToken]:
        return [self.kept, self.forced_out, self.late]


def revoke_after_backup(host: Host, back_up: Callable[[], object]) -> Past:
    """Sign two users in, take a backup, and force one of them out."""
    user, other = host.add_user("alice"), host.add_user("bob")
    forced_out, kept = host.issue(user), host.issue(other)
    back_up()
    host.force_logout(user)
    late = host.issue(user)
    assert [host.status(token) for token in (kept, forced_out, late)] == [200, 401, 200]
    return Past(user=user, other=other, kept=kept, forced_out=forced_out, late=late)


def force_everyone_out(host: Host) -> None:
    """Run the command that the documentation prescribes after a restore."""
    result = host.app.test_cli_runner().invoke(
        args=["xgen-sessions", "force-logout", "--everyone", "--reason", "restored a backup"]
    )
    assert result.exit_code == 0, result.output


def expect_loss_and_repair(host: Host, past: Past) -> None:
    """Check that the revocation is lost, and that a force logout of everyone repairs that."""
    assert host.status(past.forced_out) == 200  # its revocation is lost
    assert host.status(past.late) == 401  # its row is lost

    force_everyone_out(host)

    everyone_us = host.login_row("*")["invalid_before_us"]
    assert everyone_us >= max(past.kept.issued_us, past.forced_out.issued_us)
    assert [host.status(token) for token in past.tokens] == [401, 401, 401]
    for user in (past.user, past.other):
        fresh = host.issue(user)
        assert host.status(fresh) == host.status(fresh, "/api/user") == 200
    assert [host.status(token) for token in past.tokens] == [401, 401, 401]


# --- SQLite ----------------------------------------------------------------------------------


def copy_sqlite(source: Path, target: Path) -> None:
    """Back up a SQLite database that is in use."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def restore(backup: Path, path: Path) -> None:
    """Replace the database with the backup, and delete its journals."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    shutil.copy(backup, path)


def test_a_force_logout_of_everyone_makes_a_restored_sqlite_file_safe(
    make_host: MakeHost, tmp_path: Path
) -> None:
    path, backup = tmp_path / "live.db", tmp_path / "backup.db"
    host = make_host(f"sqlite:///{path}")
    past = revoke_after_backup(host, partial(copy_sqlite, path, backup))
    host.dispose()

    restore(backup, path)

    expect_loss_and_repair(make_host(f"sqlite:///{path}"), past)


@pytest.mark.parametrize("hours", [-30, 30])
def test_the_force_logout_is_effective_with_a_wrong_clock(
    make_host: MakeHost, tmp_path: Path, hours: int
) -> None:
    path, backup = tmp_path / "live.db", tmp_path / "backup.db"
    with freeze_time(NOW):
        host = make_host(f"sqlite:///{path}", XGEN_SESSIONS_LIFETIME=timedelta(days=7))
        past = revoke_after_backup(host, partial(copy_sqlite, path, backup))
        host.dispose()
    restore(backup, path)

    with freeze_time(NOW + timedelta(hours=hours)):
        expect_loss_and_repair(make_host(f"sqlite:///{path}"), past)


# --- Dumps -----------------------------------------------------------------------------------


def program(name: str) -> str:
    """Return the path of a database's program, which the test requires."""
    found = PrivatePostgreSQL.program(name)
    require_service(None if shutil.which(found) else f"{name} is not installed")
    return found


def run(*command: str, stdin: Path | None = None, stdout: Path | None = None) -> None:
    """Run a program, with files as its standard input and output."""
    with (
        (stdin or Path(os.devnull)).open("rb") as source,
        (stdout or Path(os.devnull)).open("wb") as target,
    ):
        subprocess.run(
            command, check=True, stdin=source, stdout=target, stderr=subprocess.PIPE, timeout=60
        )


def postgresql(name: str, url: sa.URL) -> Sequence[str]:
    """Return the command line of one of PostgreSQL's programs for a database."""
    assert url.database is not None
    return [
        program(name), "-h", str(url.host), "-p", str(url.port), "-U", str(url.username),
        "-d", url.database,
    ]  # fmt: skip


def mariadb(name: str, url: sa.URL) -> Sequence[str]:
    """Return the command line of one of MariaDB's programs for a database."""
    assert url.database is not None
    return [
        program(name), "--no-defaults", "-h", str(url.host), "-P", str(url.port),
        "-u", str(url.username), url.database,
    ]  # fmt: skip


def dump(url: sa.URL, file: Path) -> None:
    """Dump a database that is in use."""
    if url.drivername.startswith("postgresql"):
        run(*postgresql("pg_dump", url), stdout=file)
    else:
        database = mariadb("mariadb-dump", url)
        run(*database[:-1], "--single-transaction", database[-1], stdout=file)


def load(url: sa.URL, file: Path) -> None:
    """Load a dump into an empty database."""
    if url.drivername.startswith("postgresql"):
        run(*postgresql("psql", url), "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file))
    else:
        run(*mariadb("mariadb", url), stdin=file)


def test_a_force_logout_of_everyone_makes_a_restored_dump_safe(
    make_host: MakeHost, private_server: PrivateServer, tmp_path: Path
) -> None:
    url, restored = private_server.empty_database(), private_server.empty_database()
    file = tmp_path / "dump.sql"
    past = revoke_after_backup(make_host(url), lambda: dump(sa.make_url(url), file))

    load(sa.make_url(restored), file)

    expect_loss_and_repair(make_host(restored, create_all=False), past)


# --- Fail-over -------------------------------------------------------------------------------


@contextmanager
def standby_of(primary: PrivatePostgreSQL) -> Iterator[PrivatePostgreSQL]:
    """Yield a server that replicates another one asynchronously."""
    standby = PrivatePostgreSQL(standby_of=primary)
    try:
        standby.set_up()
        yield standby
    finally:
        standby.close()


def test_a_force_logout_of_everyone_makes_a_promoted_replica_safe(
    make_host: MakeHost, private_servers: Callable[[str], PrivateServer]
) -> None:
    primary = private_servers("postgresql")
    assert isinstance(primary, PrivatePostgreSQL)
    program("pg_basebackup")
    url = primary.empty_database()
    name = sa.make_url(url).database
    assert name is not None
    with standby_of(primary) as standby:

        def fall_behind() -> None:
            standby.await_replay(str(primary.query("SELECT pg_current_wal_lsn()")))
            standby.stop()

        past = revoke_after_backup(make_host(url), fall_behind)
        primary.stop()
        standby.start()
        standby.promote()
        promoted = make_host(standby.url(name), create_all=False)

        expect_loss_and_repair(promoted, past)

        promoted.dispose()
    primary.restore()
