"""Write transactions: what commits them, and what an error undoes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Session, SessionTransaction

from ..connections.deadlines import watchdog
from ..connections.side_engines import side_engine
from ..errors import DenylistUnavailable, LedgerUnavailable
from . import commit_hooks
from .reachability import Reachability
from .stamps import (
    dialect_of,
    forget_lock_wait,
    limit_lock_wait,
    write_first,
)
from .tables import UserLogin

_T = TypeVar("_T")

UNREACHABLE = (
    sa_exc.OperationalError,
    sa_exc.InterfaceError,
    sa_exc.InternalError,  # PostgreSQL: it is read-only
    sa_exc.ProgrammingError,  # the tables are not there
    sa_exc.TimeoutError,
)
"""Errors treated as "database unavailable"."""


_RETRIES: Final = 3
_SNAPSHOTS: Final = ("REPEATABLE READ", "SERIALIZABLE")
_NEEDS_READ_COMMITTED: Final = (
    "Nothing was done. A force logout of everyone must read rows that others have committed: use "
    "READ COMMITTED, or the command force-logout --everyone."
)
_COMMIT_UNKNOWN: Final = (
    "The database went away during the commit. Check whether the change was made."
)

_BIND: Final = {"clause": UserLogin.__table__}
"""Selects the database that holds the tables."""


class HeldByHost(Exception):
    """The host's transaction holds SQLite's only write lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """Write transactions: in the host's session, or on a separate connection.

    :param get_session: Returns the host's current session.
    :param get_engine: Returns the engine of the database that holds the tables.
    :param reachability: Checks the database before a call waits for it.
    :param deadline_s: Seconds that the database may take for one change.
    """

    get_session: Callable[[], Session]
    get_engine: Callable[[], sa.Engine]
    reachability: Reachability
    deadline_s: float

    @contextmanager
    def write(
        self,
        *,
        commit: bool,
        bounded: bool = True,
        locks_everyone: bool = False,
        read_committed: bool = False,
    ) -> Iterator[Session]:
        """Lend the host's session for a change.

        :param commit: Commit at the end; otherwise work in a savepoint of the host's transaction.
        :param bounded: Apply the deadline.
        :param locks_everyone: The change begins with :func:`~.stamps.lock_everyone`.
        :param read_committed: The change must see rows that others committed while it waited.
        :raises LedgerUnavailable: The database cannot be written in time. The change is rolled
            back, within the host's transaction to the savepoint.
        """
        session = self.get_session()
        later = locks_everyone and commit  # else a savepoint comes before
        limit = self._in_time(session, later=later) if bounded else nullcontext()
        with _changing(session, commit, limit):
            if read_committed:
                _require_read_committed(session)
            yield session
        self.reachability.note_answer()

    def retry_after_deadlock(self, commit: bool, change: Callable[[], _T]) -> _T:
        """Make a change, and retry it after a deadlock.

        There is no retry within a transaction that the host began: its part is lost, too.

        :param commit: Whether the change commits.
        :param change: Makes the change by :meth:`write`.
        :raises LedgerUnavailable: As :meth:`write`.
        """
        retries = _RETRIES if commit and not self.get_session().in_transaction() else 0
        while True:
            try:
                return change()
            except LedgerUnavailable as error:
                if not retries or not _is_deadlock(error):
                    raise
                retries -= 1

    @contextmanager
    def write_separately(self, *, join: bool) -> Iterator[Session]:
        """Lend a separate session, on a connection outside the host's pool, and commit it.

        SQLite has one write lock. While the host's transaction holds it, a separate session
        cannot write.

        :param join: Join the host's transaction in that case: the host's commit makes the change.
        :raises HeldByHost: The host's transaction holds the write lock, and *join* is false.
        :raises LedgerUnavailable: As :meth:`write`.
        """
        engine = self.get_engine()
        shared = isinstance(engine.pool, sa.StaticPool | sa.SingletonThreadPool)
        with Session(engine if shared else side_engine(engine)) as session:
            if self._is_held_by_host(session, shared=shared):
                if not join:
                    raise HeldByHost
                session = self.get_session()
            commit = session is not self.get_session()
            with _changing(session, commit, self._in_time(session, later=False)):
                yield session
        self.reachability.note_answer()

    def _is_held_by_host(self, own: Session, *, shared: bool) -> bool:
        """Return whether the host's uncommitted changes keep *own* from writing (SQLite only)."""
        host = self.get_session()
        if dialect_of(own) != "sqlite" or not host.in_transaction():
            return False
        if shared:
            return _is_writing(host)
        try:
            own.execute(sa.text("PRAGMA busy_timeout = 0"))
            forget_lock_wait(own.connection())
            write_first(own)
        except sa_exc.OperationalError:
            return _is_writing(host)
        finally:
            own.rollback()
        return False

    @contextmanager
    def _in_time(self, session: Session, *, later: bool) -> Iterator[None]:
        """Apply the deadline to every call of the session within the block."""
        due = time.monotonic() + self.deadline_s
        try:
            connection = self.reachability.connection(session)
        except DenylistUnavailable as error:
            raise LedgerUnavailable from error
        with watchdog.limit(connection.connection, due):
            # Before the cut: a wait that the server itself ends costs no connection.
            limit_lock_wait(connection, int(self.deadline_s * 900), later=later)
            yield


def _is_writing(session: Session) -> bool:
    connection: Any = session.connection(bind_arguments=_BIND).connection.dbapi_connection
    return bool(connection.in_transaction)


def _require_read_committed(session: Session) -> None:
    """Make PostgreSQL read rows as they are now, not as they were when the transaction began.

    :raises LedgerUnavailable: The host has begun a transaction that reads a snapshot.
    """
    if dialect_of(session) != "postgresql":
        return
    if not session.in_transaction():
        options = {"isolation_level": "READ COMMITTED"}
        session.connection(bind_arguments=_BIND, execution_options=options)
    elif session.connection(bind_arguments=_BIND).get_isolation_level() in _SNAPSHOTS:
        raise LedgerUnavailable(_NEEDS_READ_COMMITTED)


def _is_deadlock(error: LedgerUnavailable) -> bool:
    original = getattr(error.__cause__, "orig", None)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    arguments = getattr(original, "args", None) or (None,)
    return state == _PG_DEADLOCK or arguments[0] == _DEADLOCK


@contextmanager
def _changing(
    session: Session, commit: bool, limit: AbstractContextManager[object]
) -> Iterator[None]:
    with ExitStack() as limits:
        try:
            limits.enter_context(limit)
            with nullcontext() if commit else _savepoint(session):
                yield
        except BaseException as error:
            lost = not commit and _is_transaction_lost(error)
            if commit or lost:
                _roll_back(session)
            if isinstance(error, UNREACHABLE):
                raise LedgerUnavailable(_ALL_UNDONE if lost else None) from error
            raise
        if commit:
            _commit(session)


def _commit(session: Session) -> None:
    try:
        commit_hooks.take_last_steps(session)
    except BaseException as error:
        _roll_back(session)
        if isinstance(error, UNREACHABLE):
            raise LedgerUnavailable from error
        raise
    try:
        session.commit()
    except UNREACHABLE as error:
        _roll_back(session)
        if _sqlite_error(error) in _NOT_COMMITTED:
            raise LedgerUnavailable from error
        raise LedgerUnavailable(_COMMIT_UNKNOWN) from error
    except BaseException:
        _roll_back(session)
        raise


def _roll_back(session: Session) -> None:
    """Roll a transaction back; drop a connection that no longer answers."""
    try:
        session.rollback()
    except UNREACHABLE:
        session.invalidate()


def _sqlite_error(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlite_errorname", "")


_NOT_COMMITTED = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR_WRITE")
"""Errors of SQLite after which the commit has certainly not happened."""

_DEADLOCK, _NO_SAVEPOINT = 1213, 1305
_PG_DEADLOCK: Final = "40P01"
_ALL_UNDONE = "The database undid the whole transaction. Nothing of it was done."


def _is_transaction_lost(error: BaseException | None) -> bool:
    """Return whether the whole transaction is lost: with its connection, or rolled back.

    MariaDB rolls it back after a deadlock; SQLite when the disk is full or a wait was interrupted.
    """
    while error is not None:
        if getattr(error, "connection_invalidated", False):
            return True
        arguments = getattr(getattr(error, "orig", None), "args", None) or (None,)
        if arguments[0] in (_DEADLOCK, _NO_SAVEPOINT):
            return True
        if str(arguments[0]).startswith("no such savepoint"):
            return True
        error = error.__context__
    return False


def _savepoint(session: Session) -> SessionTransaction:
    # SQLite's driver begins at the first write: without one, the savepoint's end would commit.
    write_first(session)
    return session.begin_nested()
