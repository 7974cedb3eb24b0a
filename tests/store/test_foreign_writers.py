"""SQLite with other programs that continuously write to the same file."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tests.support.databases import MakeHost
from xgen_flask_sessions import IssuedToken

THREADS, ROUNDS = 8, 12

WRITE = """
import sqlite3, sys, threading
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
connection = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
connection.execute("CREATE TABLE IF NOT EXISTS notes (number INTEGER, writer TEXT)")
print("begun", flush=True)
written = 0
while not ended.wait(0.001):
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO notes VALUES (?, ?)", [(written, sys.argv[2])] * 5)
    connection.execute("COMMIT")
    written += 5
print(written)
"""


@contextmanager
def writing(path: Path, *writers: str) -> Iterator[dict[str, int]]:
    """Run writers in other processes; at the end, the yielded dict has the rows that each wrote."""
    written: dict[str, int] = {}
    processes = {
        writer: subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), writer],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for writer in writers
    }  # fmt: skip
    try:
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield written
    finally:
        for writer, process in processes.items():
            written[writer] = int(process.communicate(timeout=30)[0] or -1)
            assert process.returncode == 0


def test_no_change_fails_or_is_lost_beside_foreign_writers(
    make_host: MakeHost, sqlite_url: str, tmp_path: Path
) -> None:
    # SQLite serves waiting writers in no fixed order, so one may wait for long.
    host = make_host(sqlite_url, XGEN_SESSIONS_WRITE_DEADLINE=60)
    users = [host.add_user(f"user{n}") for n in range(THREADS)]

    def work(user: str) -> tuple[list[IssuedToken], IssuedToken]:
        revoked = []
        for _ in range(ROUNDS):
            token = host.issue(user)
            assert host.status(token) == host.status(token, "/api/user") == 200
            assert host.force_logout(user).sessions_ended == 1
            assert host.status(token) == 401
            revoked.append(token)
        return revoked, host.issue(user)

    with (
        writing(tmp_path / "test.db", "first", "second") as written,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        done = list(threads.map(work, users))

    for revoked, kept in done:
        assert {host.status(token) for token in revoked} == {401}
        assert host.status(kept) == 200
    assert len(host.rows("xgen_sessions")) == THREADS * (ROUNDS + 1)
    assert len(host.rows("xgen_revocations")) == THREADS * ROUNDS
    with host.app.app_context(), host.db.engine.connect() as connection:
        counted = Counter(connection.scalars(sa.text("SELECT writer FROM notes")))
        assert counted == written
    assert all(number > 0 for number in written.values())
