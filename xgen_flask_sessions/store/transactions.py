"""Write transactions: their commit, their rollback, and their deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Session, SessionTransaction

from ..connections.deadlines import watchdog
from ..connections.engine_guard import require_own_connection
from ..connections.opening import has_one_connection
from ..connections.side_engines import side_engine
from ..connections.sqlite_files import UnusableFile
from ..errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DenylistUnavailable,
    LedgerUnavailable,
)
from ..text import cause_of, gettext_noop
from . import commit_hooks, dialects
from .reachability import Reachability
from .tables import TABLES

_T = TypeVar("_T")

UNREACHABLE = (
    sa_exc.DatabaseError,  # whatever it says: drivers do not agree on the classes below this one
    sa_exc.InterfaceError,
    sa_exc.TimeoutError,
)
"""Errors that :func:`is_unreachable` may accept, for handlers of an application."""


_RETRIES: Final = 3
_COMMIT_UNKNOWN: Final = gettext_noop(
    "The database went away during the commit. Check whether the change was made."
)
_REPLACED: Final = gettext_noop(
    "The database file was replaced during the change. Check whether the change was made."
)
_ALL_UNDONE: Final = gettext_noop(
    "The database rolled back the whole transaction. Nothing was done."
)


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
        read_committed: bool = False,
    ) -> Iterator[Session]:
        """Lend the host's session for a change.

        :param commit: Commit at the end; otherwise work in a savepoint of the host's transaction.
        :param bounded: Apply the deadline.
        :param read_committed: The change must see rows that others committed while it waited.
        :raises LedgerUnavailable: The database cannot be written in time. The change is rolled
            back, within the host's transaction to the savepoint.
        """
        session = self.get_session()
        limit = self._in_time(session) if bounded else self._unbounded(session)
        with _changing(session, commit, limit):
            if read_committed:
                dialects.of(session).require_read_committed(session)
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
                original = getattr(error.__cause__, "orig", None)
                if not retries or not dialects.of(self.get_session()).is_deadlock(original):
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
        shared = has_one_connection(engine)
        with Session(engine if shared else side_engine(engine)) as session:
            host = self.get_session()
            if dialects.of(session).is_held_by(host, session, shared=shared):
                if not join:
                    raise HeldByHost
                session = host
            commit = session is not host
            with _changing(session, commit, self._in_time(session)):
                yield session
        self.reachability.note_answer()

    @contextmanager
    def _in_time(self, session: Session) -> Iterator[None]:
        """Apply the deadline to every call of the session within the block."""
        due = time.monotonic() + self.deadline_s
        try:
            connection = self.reachability.connection(session)
        except DenylistUnavailable as error:
            raise LedgerUnavailable from error
        # Before the cut: a wait that the server itself ends costs no connection.
        milliseconds = int(self.deadline_s * 900)
        with (
            _on_own_file(connection),
            watchdog.limit(connection.connection, due),
            dialects.of(connection).lock_wait(connection, milliseconds),
        ):
            yield

    @contextmanager
    def _unbounded(self, session: Session) -> Iterator[None]:
        """Check that the database answers; the work itself takes as long as it likes."""
        limit: AbstractContextManager[None] = nullcontext()
        try:
            if self.get_engine().dialect.name == "sqlite":
                limit = _on_own_file(self.reachability.connection(session))
            elif not session.in_transaction():  # nor is one begun: its isolation level may be set
                self.reachability.require()
        except DenylistUnavailable as error:
            raise LedgerUnavailable from error
        with limit:
            yield


@contextmanager
def _on_own_file(connection: sa.Connection) -> Iterator[None]:
    """Check before and after the block that an SQLite file is still the database."""
    try:
        file = require_own_connection(connection)
    except UnusableFile as error:
        raise LedgerUnavailable from error
    yield
    if file is not None:
        try:
            file.require_current()
        except UnusableFile as error:
            raise LedgerUnavailable(_REPLACED) from error


@contextmanager
def _changing(
    session: Session, commit: bool, limit: AbstractContextManager[object]
) -> Iterator[None]:
    with ExitStack() as limits:
        limits.enter_context(commit_hooks.changing(session))
        try:
            limits.enter_context(limit)
            with nullcontext() if commit else _savepoint(session):
                yield
        except BaseException as error:
            _hide_parameters(error)
            lost = not commit and _is_transaction_lost(session, error)
            if commit or lost:
                _roll_back(session)
            if is_unreachable(error):
                refused = _is_refused(session, error)
                raise LedgerUnavailable(_ALL_UNDONE if lost else None, refused=refused) from error
            misfit = _misfit_of(error)
            if misfit is not None:
                raise LedgerUnavailable(_ALL_UNDONE if lost else None, refused=True) from misfit
            raise
        if commit:
            _commit(session)


def _commit(session: Session) -> None:
    try:
        commit_hooks.take_last_steps(session)
    except BaseException as error:
        _hide_parameters(error)
        _roll_back(session)
        if is_unreachable(error):
            raise LedgerUnavailable(refused=_is_refused(session, error)) from error
        raise
    try:
        session.commit()
    except BaseException as error:
        _hide_parameters(error)
        _roll_back(session)
        if not is_unreachable(error):
            raise
        if dialects.of(session).is_commit_undone(getattr(error, "orig", None)):
            raise LedgerUnavailable(refused=_is_refused(session, error)) from error
        raise LedgerUnavailable(_COMMIT_UNKNOWN, undone=False) from error


def is_unreachable(error: BaseException) -> bool:
    """Return whether the database could not be used; a host handles what its own rows violate."""
    return isinstance(error, UNREACHABLE) and not dialects.is_violation(error)


@contextmanager
def reporting_unreachable() -> Iterator[None]:
    """Turn an error of a database that cannot be used into the package's own.

    :raises DatabaseUnavailable: The database cannot be used.
    """
    try:
        yield
    except UNREACHABLE as error:
        if not is_unreachable(error):
            raise
        raise DatabaseUnavailable from error


def _is_refused(session: Session, error: BaseException) -> bool:
    """Return whether the database answered, and refused."""
    lost = getattr(error, "connection_invalidated", False)
    return not lost and dialects.of(session).is_refusal(getattr(error, "orig", None))


def _misfit_of(error: BaseException) -> ConfigurationError | None:
    """Return the fault of the plugin's tables if they refused a value, or ``None``.

    A column may be too short, or of another type, after a migration that was changed by hand.
    """
    if not isinstance(error, sa_exc.StatementError) or not dialects.is_violation(error):
        return None
    named = set(re.findall(r"\w+", error.statement or ""))
    own = [name for name in TABLES if name in named]
    if not own:
        return None
    return ConfigurationError(
        f"{' or '.join(own)} does not take a value ({cause_of(error)}); compare the table with "
        "this release's migrations."
    )


def _hide_parameters(error: BaseException) -> None:
    """Keep the statement's parameters, such as a host's password hashes, out of the message."""
    if isinstance(error, sa_exc.StatementError):
        error.hide_parameters = True


def _roll_back(session: Session) -> None:
    """Roll a transaction back, whether or not its connection still answers.

    If it does not, SQLAlchemy drops the connection, and the session keeps its objects: they are
    read again on another connection.
    """
    with suppress(*UNREACHABLE):
        session.rollback()


def _is_transaction_lost(session: Session, error: BaseException | None) -> bool:
    """Return whether the whole transaction is lost: with its connection, or rolled back."""
    dialect = dialects.of(session)
    while error is not None:
        if getattr(error, "connection_invalidated", False):
            return True
        original = getattr(error, "orig", None)
        if original is not None and dialect.is_transaction_lost(original):
            return True
        error = error.__context__
    return False


def _savepoint(session: Session) -> SessionTransaction:
    # SQLite's driver begins at the first write: otherwise the savepoint's end would commit.
    connection = dialects.connection_of(session)
    dialects.of(connection).begin_write(connection)
    return session.begin_nested()
