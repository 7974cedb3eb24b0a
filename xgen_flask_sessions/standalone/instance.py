"""The instance directory: its database and its secret, closed to other users of the machine."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import sqlalchemy as sa

from xgen_flask_sessions import ConfigurationError

MIN_SECRET_BYTES: Final = 32
"""The shortest secret for HS256 (RFC 7518, section 3.2)."""
DATABASE: Final = "xgen.db"
SECRET: Final = "secret_key"  # noqa: S105

_log: Final = logging.getLogger(__name__)
_HAS_PERMISSIONS: Final = os.name == "posix"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_SIDECARS: Final = ("", "-wal", "-shm", "-journal")
"""The endings of SQLite's files; it gives new ones the permissions of the database."""
_MAGIC: Final = b"SQLite format 3\0"
"""The beginning of a database file that is not empty (SQLite, "Database File Format")."""
_KEPT_BY_GIT: Final = (".gitkeep", ".gitignore")


def find_instance(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the instance directory, created if missing and closed to other users.

    An existing directory with files of other programs keeps its permissions: the instance's own
    files are closed to others in any case.

    :param path: The directory; otherwise ``XGEN_INSTANCE_PATH``, otherwise ``./instance``.
    :raises ConfigurationError: It cannot be created.
    """
    instance = Path(path or os.environ.get("XGEN_INSTANCE_PATH") or "instance").absolute()
    try:
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        if all(_is_own(each.name) for each in instance.iterdir()):
            _close(instance)
        elif _HAS_PERMISSIONS and instance.stat().st_mode & _OTHERS_WRITE:
            _log.warning("Other users can write to the instance directory %s.", instance)
    except OSError as error:
        raise ConfigurationError(
            f"The instance directory {instance} cannot be made ({error.strerror}); "
            "set XGEN_INSTANCE_PATH to one that can."
        ) from error
    return instance


def protect_database(url: sa.URL) -> None:
    """Close the files of a SQLite database to other users; the database is created if missing.

    A no-op for other databases, for one in memory, and for a file that is no database.

    :param url: The database, with an absolute path.
    """
    name = _path_of(url) if url.get_backend_name() == "sqlite" else ""
    if name in ("", ":memory:"):
        return
    with contextlib.suppress(OSError):  # SQLite reports a path that cannot be used
        # Before SQLite creates it with the permissions that the umask leaves.
        descriptor = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
        with os.fdopen(descriptor, "rb") as file:
            if file.read(len(_MAGIC)) not in (b"", _MAGIC):
                return
    for ending in _SIDECARS:
        _close(Path(name + ending))


def _path_of(url: sa.URL) -> str:
    """Return the path of a SQLite database, which may be a URI (SQLite's "URI Filenames")."""
    name = url.database or ""
    if not name.startswith("file:"):
        return name
    if url.query.get("mode", "rwc") != "rwc" or url.query.get("vfs") == "memdb":
        return ""  # in memory, or not to be created
    name = unquote(name.removeprefix("file:").partition("?")[0])
    return "/" + name[2:].partition("/")[2] if name.startswith("//") else name


def secret_key(instance: Path) -> str:
    """Return the secret kept in the instance directory, created at the first call.

    :raises ConfigurationError: The file cannot be read or created, or holds no secret.
    """
    path = instance / SECRET
    try:
        if not path.exists():
            _create_once(path, secrets.token_hex(32))
        _close(path)
        secret = _read(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(
            f"{path} cannot be used ({reason}); correct it, or set XGEN_SESSIONS_SECRET_KEY."
        ) from error
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"{path} holds no secret of at least {MIN_SECRET_BYTES} bytes; delete it to "
            "have a new one made. All users must then sign in again."
        )
    return secret


def _is_own(name: str) -> bool:
    """Return whether a file in the instance directory is one of the instance's."""
    databases = [DATABASE + ending for ending in _SIDECARS]
    return name in (*databases, *_KEPT_BY_GIT) or name.partition(".")[0] == SECRET


def _close(path: Path) -> None:
    """Take the permissions of other users on a file or a directory away."""
    if not _HAS_PERMISSIONS:
        return
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            path.chmod(mode & ~_OTHERS)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("Other users can read %s (%s).", path, error.strerror)


def _create_once(path: Path, text: str) -> None:
    """Write a file that appears complete or not at all; the first of several processes wins."""
    with _draft(path, text) as draft, contextlib.suppress(FileExistsError):
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")


@contextlib.contextmanager
def _draft(path: Path, text: str) -> Iterator[str]:
    descriptor, draft = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        yield draft
    finally:
        Path(draft).unlink()


def _read(path: Path) -> str:
    for _ in range(10):
        text = path.read_text(encoding="utf-8").strip()
        if text:
            break
        time.sleep(0.02)  # without hard links, another process may be about to write it
    return text
