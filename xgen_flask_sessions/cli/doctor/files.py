"""Who can read the file of an embedded database."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.connections.sqlite_files import DatabaseFile


def examine_files(engine: sa.Engine) -> Iterator[Finding]:
    """Examine the permissions of a SQLite database's file; no connection is opened.

    :param engine: The database.
    """
    name = DatabaseFile(engine.url).path if engine.dialect.name == "sqlite" else None
    if name is None:
        return
    path = Path(name)
    try:
        readable = os.name == "posix" and _is_readable_by_all(path)
    except OSError:  # it does not exist yet
        return
    if readable:
        yield Finding(
            level="warning",
            code="database-readable",
            meaning=f"Every user of this machine can read {path}: sessions, addresses, and the "
            "users' password hashes if they are in it.",
            mend="Take the permission away with chmod o-rwx, from its files -wal and -shm too.",
        )


def _is_readable_by_all(path: Path) -> bool:
    resolved = path.resolve(strict=True)
    reachable = all(each.stat().st_mode & stat.S_IXOTH for each in resolved.parents)
    return reachable and bool(resolved.stat().st_mode & stat.S_IROTH)
