"""The files of SQLite databases: whether a connection may be used, and what a fork inherits.

SQLite's locks belong to a process, and one process has one record of them for each file. A forked
child inherits the record without the locks. So if a file was open at a fork, no connection of the
child can lock it, whether inherited or new: another process may delete the write-ahead log while
the child reads it. The child must not use that file.

A file that was replaced or deleted stays open, and a connection reads the old one for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import sqlalchemy as sa

from ..runtime import reset_after_fork

fcntl: Any
try:
    fcntl = import_module("fcntl")
except ImportError:  # Windows has neither forks nor this module
    fcntl = None

_log = logging.getLogger(__name__)

_DESCRIPTORS: Final = Path("/dev/fd")
_HEADER: Final = b"SQLite format 3\0"
_SHARED_FIRST: Final = 0x40000002
_SHARED_SIZE: Final = 510
"""The bytes that each connection in WAL mode locks (SQLite's "File Locking And Concurrency")."""


class Identity(NamedTuple):
    """What tells a file from its replacement."""

    inode: int
    device: int


_lost_logs: Final[set[Identity]] = set()
"""Databases whose write-ahead log was deleted under a connection of this process, whatever engine
made the connection."""


class UnusableFile(sqlite3.OperationalError, OSError):
    """The database's file was replaced or deleted, or a fork inherited it."""


def identity(path: str) -> Identity:
    """Return the identity of the file at *path* now.

    :raises OSError: There is none.
    """
    found = os.stat(path)  # noqa: PTH116 - a Path takes longer
    return Identity(found.st_ino, found.st_dev)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """The file that a connection has open."""

    path: str
    identity: Identity
    _name: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_name", os.fsencode(self.path))

    def require_current(self) -> None:
        """Check that the file is still the database.

        :raises UnusableFile: It was replaced or deleted.
        """
        try:
            found = os.stat(self._name)  # noqa: PTH116 - bytes are fastest, at each check
        except OSError as error:
            raise UnusableFile(f"The database {self.path} cannot be found: {error}.") from error
        if found[1:3] != self.identity:  # st_ino and st_dev
            raise UnusableFile(f"The database {self.path} was replaced by another file.")

    def require_usable(self) -> None:
        """Check that the file is still the database, and that this process can lock it.

        :raises UnusableFile: It was replaced or deleted, or a fork left it open.
        """
        self.require_current()
        if _inherited.files:
            _inherited.require_absence(self)


class DatabaseFile:
    """The file of an engine's database.

    :param url: The engine's URL. The path is the one that the first connection has open if the
        URL names another one, as with a function that makes the connections.
    """

    def __init__(self, url: sa.URL) -> None:
        self.path = _path_of(url)
        """The path; ``None`` if it is not known yet, or there is no file."""
        self._is_confirmed = False
        self.may_create = True
        """Whether a missing file may be created: until it was seen."""
        self._last: Identity | None = None
        self._log: Identity | None = None
        """The identity of the write-ahead log of the file that was open last."""

    @property
    def has_lost_log(self) -> bool:
        """Whether the write-ahead log was deleted under a connection of this process."""
        return bool(_lost_logs) and self._last in _lost_logs

    def note_lost_log(self) -> bool:
        """Note that the write-ahead log was deleted; return whether that is new."""
        is_new = self._last not in _lost_logs
        if self._last is not None:
            _lost_logs.add(self._last)
        return is_new

    def require_usable(self) -> None:
        """Check before a connection is opened that the file exists, and that a fork closed it.

        :raises UnusableFile: It does not, or did not.
        """
        if self.path is not None:
            try:
                found = identity(self.path)
            except OSError as error:
                raise UnusableFile(f"The database {self.path} cannot be found: {error}.") from error
            _inherited.require_absence(OpenFile(self.path, found))
            self._begin(self.path, found)

    @property
    def has_log(self) -> bool:
        """Whether this process has opened the file, and it has a write-ahead log now."""
        return self.path is not None and self._last is not None and _log_of(self.path).exists()

    def last(self) -> OpenFile | None:
        """Return the file that was opened last; ``None`` if there is none."""
        if self.path is None:
            return None
        try:
            return OpenFile(self.path, self._last or identity(self.path))
        except OSError:
            return None

    def prepare(self) -> Identity | None:
        """Prepare the opening of a connection, and return the file's identity.

        :returns: ``None`` if the path is not known, or the file may be created.
        :raises UnusableFile: The file was deleted.
        """
        if self.path is None:
            return None
        try:
            found = identity(self.path)
        except OSError as error:
            if self.may_create:
                return None
            raise UnusableFile(f"The database {self.path} cannot be found: {error}.") from error
        self._begin(self.path, found)
        return found

    def opened(self, dbapi_connection: Any, expected: Identity | None = None) -> OpenFile | None:
        """Return the file that a new connection has open; ``None`` if it is in memory.

        :param dbapi_connection: The driver's own connection object.
        :param expected: The result of :meth:`prepare`.
        :raises UnusableFile: The file was replaced meanwhile.
        """
        if not self._is_confirmed:
            self._confirm(_path_in_use(dbapi_connection))
        if self.path is None:
            return None
        file = OpenFile(self.path, expected or identity(self.path))
        if file.identity != identity(self.path):
            raise UnusableFile(f"The database {self.path} was replaced by another file.")
        self._last = file.identity
        self.may_create = False
        return file

    def note_log(self, dbapi_connection: Any) -> WriteAheadLog | None:
        """Return the write-ahead log of a connection; ``None`` if it has none.

        :param dbapi_connection: The driver's own connection object.
        """
        if self.path is None:
            return None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA schema_version")  # the first read makes the log
        cursor.close()
        name = str(_log_of(self.path))
        try:
            self._log = identity(name)
        except OSError:
            return None
        return WriteAheadLog(self, OpenFile(name, self._log))

    def _confirm(self, used: str | None) -> None:
        if not used:
            self.path = None
        elif self.path is None or os.path.realpath(self.path) != os.path.realpath(used):
            self.path = used
        self._is_confirmed = True

    def _begin(self, path: str, found: Identity) -> None:
        if found in _lost_logs:
            # A new connection would share the index of the deleted log with those that are open.
            if found in open_databases():
                raise UnusableFile(f"A connection has a deleted log of the database {path} open.")
            _lost_logs.discard(found)
        if self._last is not None and self._last != found:
            _lost_logs.discard(self._last)
            self._set_log_aside(path)

    def _set_log_aside(self, path: str) -> None:
        """Rename the journals of the replaced file, which SQLite would apply to the new one."""
        if self._log is None:
            return
        log = _log_of(path)
        aside = log.with_name(f"{log.name}.{self._log.inode}")
        with contextlib.suppress(OSError), _directory_lock(log.parent):
            if identity(str(log)) == self._log:
                log.rename(aside)
                log.with_name(f"{log.name.removesuffix('-wal')}-shm").unlink()
                _log.warning(
                    "The database %s was replaced while it was in use. The write-ahead log of the "
                    "old file was renamed to %s.",
                    path,
                    aside,
                )


class WriteAheadLog:
    """The write-ahead log of a connection, which stays while the connection is open.

    If it does not, the connection reads the deleted one for ever. SQLite's locks are lost as soon
    as other code of the process closes the file, such as a copy of it; then the next process that
    closes the database deletes the log.

    :param database: The database.
    :param file: The log.
    """

    def __init__(self, database: DatabaseFile, file: OpenFile) -> None:
        self._database = database
        self._file = file

    def require_current(self) -> None:
        """Check that the log is still there.

        :raises UnusableFile: It was deleted.
        """
        try:
            self._file.require_current()
        except UnusableFile as error:
            if self._database.note_lost_log():
                _log.error(
                    "%s was deleted while it was in use. Connections are opened anew. Delete no "
                    "such file, and copy a database by SQLite's own backup: any other reading of "
                    "the file within this process ends its locks.",
                    self._file.path,
                )
            raise UnusableFile(f"{self._file.path} was deleted.") from error


@contextmanager
def _directory_lock(path: Path) -> Iterator[None]:
    """Let one process at a time rename files in a directory."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _path_of(url: sa.URL) -> str | None:
    name = url.database
    if not name or name == ":memory:":
        return None
    if name.startswith("file:") and url.query.get("uri"):
        if url.query.get("mode") == "memory" or url.query.get("vfs") == "memdb":
            return None
        name = unquote(name.removeprefix("file:").partition("?")[0].partition("#")[0])
        if name.startswith("//"):  # an authority: empty, or "localhost"
            name = "/" + name[2:].partition("/")[2]
        if name == ":memory:":
            return None
    return os.path.abspath(name)  # noqa: PTH100 - a link stays one: it may be changed


def _log_of(path: str) -> Path:
    """Return the path of a database's write-ahead log: SQLite puts it beside the linked file."""
    return Path(f"{os.path.realpath(path)}-wal")


def _path_in_use(dbapi_connection: Any) -> str | None:
    """Return the path of the file that a connection has open, with links resolved."""
    cursor = dbapi_connection.cursor()
    try:
        # As bytes: the driver decodes text as UTF-8, whatever the encoding of file names is.
        cursor.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'")
        for (path,) in cursor.fetchall():
            return os.fsdecode(path) if path else None
    finally:
        cursor.close()
    return None


class _Inherited:
    """The files that were open when this process was forked."""

    def __init__(self) -> None:
        self.files: frozenset[Identity] = frozenset()
        self._told: set[Identity] = set()
        reset_after_fork(self._note, phase=2)

    def _note(self) -> None:
        self.files |= open_databases()

    def require_absence(self, file: OpenFile) -> None:
        """Check that a file was not open when this process was forked.

        :raises UnusableFile: It was.
        """
        if file.identity not in self.files:
            return
        if file.identity not in self._told:
            self._told.add(file.identity)
            _log.error(
                "This process cannot use the database %s: it was forked while a connection to it "
                "was in use, so SQLite cannot lock the file here. No token passes. End sessions "
                "and close connections before the fork, or open the database after it.",
                file.path,
            )
        raise UnusableFile(f"The database {file.path} was open when this process was forked.")


_inherited: Final = _Inherited()


def open_databases() -> frozenset[Identity]:
    """Return the databases of SQLite that this process has open, by whatever library.

    Windows does not tell, and has no forks.
    """
    if not hasattr(os, "fork"):
        return frozenset()
    try:
        names = [each.name for each in _DESCRIPTORS.iterdir()]
    except OSError:  # pragma: no cover: a system without it
        names = list(map(str, range(1024)))
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if stat.S_ISREG(status.st_mode) and os.pread(int(name), 16, 0) == _HEADER:
                found.add(Identity(status.st_ino, status.st_dev))
    return frozenset(found)


def may_close_inherited(file: OpenFile | None) -> bool:
    """Return whether a forked child may close an idle connection that it inherited.

    The close is not noticed by the parent's connections, unless SQLite takes it for the last one:
    then it deletes the write-ahead log. So another process must hold its lock.
    """
    if file is None or fcntl is None or not _log_of(file.path).exists():
        return file is not None
    try:
        if identity(file.path) != file.identity:
            return True  # SQLite leaves the log of a replaced file alone
        descriptor = os.open(file.path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
    except OSError:
        return True
    finally:
        os.close(descriptor)  # with it, a lock just taken
    return False
