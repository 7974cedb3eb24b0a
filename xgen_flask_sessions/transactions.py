"""Changes in the host's session: committed here or by the host, told of once they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Session, SessionTransaction

from . import outbox
from .errors import DenylistUnavailable, LedgerUnavailable
from .models import UserLogin
from .pool import engine_apart
from .reach import Reach
from .stamps import dialect_of, forget_lock_wait, limit_lock_wait, write_first
from .watchdog import watchdog

_T = TypeVar("_T")

UNREACHABLE = (
    sa_exc.OperationalError,
    sa_exc.InterfaceError,
    sa_exc.InternalError,  # PostgreSQL: it is read-only
    sa_exc.ProgrammingError,  # the tables are not there
    sa_exc.TimeoutError,
)
"""What it takes for a database that cannot be used."""


_REPEATS: Final = 3
_SNAPSHOTS: Final = ("REPEATABLE READ", "SERIALIZABLE")
_NEEDS_READ_COMMITTED: Final = (
    "Nothing was done. Everyone can be forced out only where what others commit is seen: use "
    "READ COMMITTED, or the command force-logout --everyone."
)

_BIND: Final = {"clause": UserLogin.__table__}
"""Leads to the database that holds the tables."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Where changes are made, and how long the database may take for one."""

    db: SQLAlchemy
    reach: Reach
    deadline_s: float


@contextmanager
def writing(
    changes: Changes,
    commit: bool,
    *,
    bounded: bool = True,
    locks_everyone: bool = False,
    waits_for_others: bool = False,
) -> Iterator[Session]:
    """Lend the host's session for a change, and commit it if asked to.

    :param bounded: Whether the deadline is for this change; else it takes as long as it takes.
    :param locks_everyone: Whether the change begins with :func:`~.stamps.lock_everyone`.
    :param waits_for_others: Whether it must see what those have committed whom it has waited for.
    :raises LedgerUnavailable: The database cannot be written, or not in time. What was to be
        committed here is rolled back, and what was to join the host's transaction is undone in it.
    """
    session = changes.db.session()
    later = locks_everyone and commit  # else a savepoint comes before
    limit = _in_time(changes, session, later=later) if bounded else nullcontext()
    with _changing(session, commit, limit):
        if waits_for_others:
            _see_what_others_commit(session)
        yield session
    changes.reach.heard()


def _see_what_others_commit(session: Session) -> None:
    """Have PostgreSQL read what is committed, and not what was as the transaction began.

    :raises LedgerUnavailable: The host has begun one that does not.
    """
    if dialect_of(session) != "postgresql":
        return
    if not session.in_transaction():
        options = {"isolation_level": "READ COMMITTED"}
        session.connection(bind_arguments=_BIND, execution_options=options)
    elif session.connection(bind_arguments=_BIND).get_isolation_level() in _SNAPSHOTS:
        raise LedgerUnavailable(_NEEDS_READ_COMMITTED)


def again_if_deadlocked(changes: Changes, commit: bool, change: Callable[[], _T]) -> _T:
    """Make a change, and make it again if others waited for it in a ring and it was undone.

    But what the host had begun before cannot be begun again.

    :raises LedgerUnavailable: As :func:`writing`.
    """
    repeats = _REPEATS if commit and not changes.db.session().in_transaction() else 0
    while True:
        try:
            return change()
        except LedgerUnavailable as error:
            if not repeats or not _is_deadlock(error):
                raise
            repeats -= 1


def _is_deadlock(error: LedgerUnavailable) -> bool:
    original = getattr(error.__cause__, "orig", None)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    arguments = getattr(original, "args", None) or (None,)
    return state == _PG_DEADLOCK or arguments[0] == _DEADLOCK


class HeldByHost(Exception):
    """The host is writing just now, where only one can: the rest has to wait for it."""


@contextmanager
def writing_apart(changes: Changes, *, join: bool) -> Iterator[Session]:
    """Lend a session of its own for a change, and commit it: the host's changes are the host's.

    Its connection is counted in no host's pool.

    :param join: Whether to join the host's transaction where only one can write at a time, and the
        host has begun to: the change is then made if the host commits.
    :raises HeldByHost: It has, and *join* is false.
    :raises LedgerUnavailable: As :func:`writing`.
    """
    engine = changes.db.engine
    shared = isinstance(engine.pool, sa.StaticPool | sa.SingletonThreadPool)
    with Session(engine if shared else engine_apart(engine)) as session:
        if _is_held_by_host(changes, session, shared=shared):
            if not join:
                raise HeldByHost
            session = changes.db.session()
        commit = session is not changes.db.session()
        with _changing(session, commit, _in_time(changes, session, later=False)):
            yield session
    changes.reach.heard()


def _is_held_by_host(changes: Changes, own: Session, *, shared: bool) -> bool:
    """Say whether the host's uncommitted changes keep *own* from writing: on SQLite only."""
    host = changes.db.session()
    if dialect_of(own) != "sqlite" or not host.in_transaction():
        return False
    if shared:
        connection: Any = host.connection(bind_arguments=_BIND).connection.dbapi_connection
        return bool(connection.in_transaction)
    try:
        own.execute(sa.text("PRAGMA busy_timeout = 0"))
        forget_lock_wait(own.connection())
        write_first(own)
    except sa_exc.OperationalError:
        held: Any = host.connection(bind_arguments=_BIND).connection.dbapi_connection
        return bool(held.in_transaction)
    finally:
        own.rollback()
    return False


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
        outbox.take_last_steps(session)
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
        raise LedgerUnavailable(
            "The database went away while the change was committed. Look whether it was made."
        ) from error
    except BaseException:
        _roll_back(session)
        raise


def _roll_back(session: Session) -> None:
    """Undo a transaction, be it by letting go of a connection that answers no more."""
    try:
        session.rollback()
    except UNREACHABLE:
        session.invalidate()


@contextmanager
def _in_time(changes: Changes, session: Session, *, later: bool) -> Iterator[None]:
    """Let the session wait for the database no longer than the deadline."""
    due = time.monotonic() + changes.deadline_s
    try:
        connection = changes.reach.connection(session)
    except DenylistUnavailable as error:
        raise LedgerUnavailable from error
    with watchdog.limit(connection.connection, due):
        # Sooner than it is cut: what the server ends by itself costs no connection.
        limit_lock_wait(connection, int(changes.deadline_s * 900), later=later)
        yield


def _sqlite_error(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlite_errorname", "")


_NOT_COMMITTED = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR_WRITE")
"""How SQLite fails a commit of which it has written nothing that counts."""

_DEADLOCK, _NO_SAVEPOINT = 1213, 1305
_PG_DEADLOCK: Final = "40P01"
_ALL_UNDONE = "The database undid the whole transaction. Nothing of it was done."


def _is_transaction_lost(error: BaseException | None) -> bool:
    """Say whether the transaction is gone: with the connection, or undone by the database.

    MariaDB undoes it at a deadlock; SQLite where the disk is full, or the wait was cut off.
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


def announce(changes: Changes, commit: bool, send: Callable[[Flask], object]) -> None:
    """Call *send* with the application: now if *commit*, else once the host commits."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    if commit:
        send(app)
    else:
        outbox.on_commit(changes.db.session(), partial(send, app))
