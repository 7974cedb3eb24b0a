"""Guards a pool of SQLAlchemy's: a fork shares none of its connections, and none has an old file.

The guard is on the host's engines and on the engines beside them. Before a fork it closes idle
connections to SQLite files; a forked child leaves inherited connections to the parent and begins
with a new pool. A connection to a file that was replaced is closed at its next checkout, and a file
that was deleted is not created anew.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError

from .. import runtime
from ..runtime import fork_was_prepared, notice_fork, reset_after_fork
from .borrowed import give_back_broken
from .sqlite_files import DatabaseFile, OpenFile, UnusableFile, may_close_inherited

_PROCESS: Final = "xgen_sessions_process"
_FILE: Final = "xgen_sessions_file"
"""Keys of a pooled connection's ``info``."""

_FORK_S: Final = 2.0
"""Seconds that a new connection waits for a fork."""

_inherited: Final[list[Any]] = []
"""Connections of the parent process, and pools: closing one here would close it there, too."""


class _Forks:
    """Lets other threads open no connection to a file while one thread forks."""

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._forking: int | None = None
        self._over = threading.Event()
        self._over.set()

    def begin(self) -> None:
        """Begin the wait of the other threads."""
        self._forking = threading.get_ident()
        self._over.clear()

    def end(self) -> None:
        """End the wait of the other threads."""
        self._over.set()

    def wait(self) -> None:
        """Wait until no other thread forks."""
        if not self._over.is_set() and self._forking != threading.get_ident():
            self._over.wait(_FORK_S)


forks: Final = _Forks()
"""The forks of this process."""


class EngineGuard:
    """Guards one engine's pool; use :func:`guard`.

    :param engine: The engine.
    :param beside: The guard of the host's engine, if *engine* is one beside it.
    """

    def __init__(self, engine: sa.Engine, beside: EngineGuard | None = None) -> None:
        self._engine = weakref.ref(engine)
        self.file: DatabaseFile | None
        """The database's file; ``None`` if the database is a server."""
        if beside is not None:
            self.file = beside.file
        else:
            self.file = DatabaseFile(engine.url) if engine.dialect.name == "sqlite" else None
        self._expected = threading.local()
        self._disposing = False
        self._replacing = threading.RLock()
        event.listen(engine, "do_connect", self._connecting)
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "checkout", self._checked_out)
        event.listen(engine, "close", _closing)
        event.listen(engine, "engine_disposed", self._disposed)
        # The engines beside the host's first: the host's disposes of them.
        reset_after_fork(self._reset, phase=1 if beside is None else 0)

    @property
    def has_file(self) -> bool:
        """Whether the database is a file of SQLite."""
        return self.file is not None and self.file.path is not None

    def last_file(self) -> OpenFile | None:
        """Return the file that was opened last; ``None`` without any."""
        return None if self.file is None else self.file.last()

    def require_usable(self) -> None:
        """Check before a connection is opened that the file exists, and that a fork closed it.

        :raises UnusableFile: It does not, or did not.
        """
        notice_fork()
        if self.file is not None:
            self._close_replaced()
            self.file.require_usable()

    def dispose(self) -> None:
        """Close the pool's connections: idle ones now, those in use when they are given back.

        A deleted file is still not created.
        """
        engine = self._engine()
        if engine is None:
            return
        with self._replacing:  # so that each pool that was in use gets the listener
            previous = engine.pool
            self._dispose(engine, close=True)
            event.listen(previous, "checkin", _close_returned)
        previous.dispose()  # what was given back meanwhile

    def _close_replaced(self) -> None:
        """Close what is not in use, of all engines, if a log was deleted under it."""
        if self.file is not None and self.file.has_lost_log:
            for each in guards_of_files():
                if each.file is not None and each.file.has_lost_log:
                    each.dispose()

    def _dispose(self, engine: sa.Engine, *, close: bool) -> None:
        self._disposing = True
        try:
            engine.dispose(close=close)
        finally:
            self._disposing = False

    def _disposed(self, _: object) -> None:
        if self.file is not None and not self._disposing:
            self.file.may_create = True  # the host may begin with a new file

    def _connecting(self, dialect: sa.Dialect, *_: object) -> None:
        notice_fork()  # first: a new connection would keep the inherited state of SQLite
        if self.file is None:
            return
        forks.wait()
        self._close_replaced()
        try:
            self._expected.identity = self.file.prepare()
        except UnusableFile as error:
            raise dialect.loaded_dbapi.OperationalError(str(error)) from error

    def _connected(self, dbapi_connection: Any, record: Any) -> None:
        notice_fork()
        record.info[_PROCESS] = runtime.process_id
        if self.file is not None:
            expected = self._expected.__dict__.pop("identity", None)
            record.info[_FILE] = self.file.opened(dbapi_connection, expected)

    def _checked_out(self, dbapi_connection: Any, record: Any, fairy: Any) -> None:
        info = record.info
        info.setdefault(_PROCESS, runtime.process_id)
        if _is_inherited(info) and self._is_shared:
            _leave_to_parent(record)
            fairy.dbapi_connection = None
            notice_fork()
            raise DisconnectionError("The connection belongs to the parent process.")
        if self.file is None:
            return
        if _FILE not in info:  # it was opened before the guard
            info[_FILE] = self.file.opened(dbapi_connection)
        file: OpenFile | None = info[_FILE]
        if file is not None:
            try:
                file.require_current()
                if self.file.has_lost_log:
                    raise UnusableFile(f"The write-ahead log of {file.path} was deleted.")
            except UnusableFile as error:
                with contextlib.suppress(UnusableFile):
                    self.file.prepare()
                raise InvalidatePoolError(str(error)) from error

    @property
    def _is_shared(self) -> bool:
        """Whether parent and child have one database: all but SQLite in memory."""
        return self.file is None or self.file.path is not None

    def _reset(self) -> None:
        self._replacing = threading.RLock()
        engine = self._engine()
        if engine is None or not self._is_shared:
            return
        may_close = _may_close(self.last_file())
        if not may_close:
            keep_for_parent(engine.pool)
        self._dispose(engine, close=may_close)


def _close_returned(dbapi_connection: Any, record: Any) -> None:
    if dbapi_connection is None:
        return
    if _is_inherited(record.info):
        _leave_to_parent(record)
    else:
        record.invalidate()


def _is_inherited(info: Any) -> bool:
    """Return whether a pooled connection was opened by the parent process."""
    return bool(info.get(_PROCESS, runtime.process_id) != os.getpid())


def _leave_to_parent(record: Any) -> None:
    leave_to_parent(record.dbapi_connection, record.info.get(_FILE))
    record.dbapi_connection = None


def _closing(dbapi_connection: Any, _: object) -> None:
    give_back_broken(dbapi_connection)


_guards: Final[weakref.WeakKeyDictionary[sa.Engine, EngineGuard]] = weakref.WeakKeyDictionary()


def guard(engine: sa.Engine, *, beside: sa.Engine | None = None) -> EngineGuard:
    """Return the guard of an engine, which is made at the first call.

    :param engine: The engine.
    :param beside: The host's engine, if *engine* is one beside it.
    """
    found = _guards.get(engine)
    if found is None:
        found = EngineGuard(engine, None if beside is None else guard(beside))
        found = _guards.setdefault(engine, found)
    return found


def guards_of_files() -> list[EngineGuard]:
    """Return the guards of engines whose database is a file of SQLite."""
    return [each for each in list(_guards.values()) if each.has_file]


def require_own_connection(connection: sa.Connection) -> OpenFile | None:
    """Check that this process may write on a connection that is already in use.

    :returns: The file that it has open, with SQLite.
    :raises UnusableFile: It has an old file, a fork left its file open, or it belongs to the
        parent process.
    """
    info: Any = connection.connection.info
    if _is_inherited(info):
        raise UnusableFile("The connection belongs to the parent process.")
    file: OpenFile | None = info.get(_FILE)
    if file is not None:
        file.require_usable()
    return file


def leave_to_parent(dbapi_connection: Any, file: OpenFile | None) -> None:
    """Close an idle connection that a forked child inherited, if that is safe; else keep it."""
    if _may_close(file):
        with contextlib.suppress(Exception):
            dbapi_connection.close()
    else:
        keep_for_parent(dbapi_connection)


def keep_for_parent(inherited: object) -> None:
    """Keep a connection or pool of the parent process open in this one, and never close it."""
    _inherited.append(inherited)


def _may_close(file: OpenFile | None) -> bool:
    # After a prepared fork, the connections that could be closed are, and a thread that did not
    # survive may have held SQLite's locks in memory.
    return not fork_was_prepared() and may_close_inherited(file)
