"""SQLite: one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from ..tables import EVERYONE
from .base import LOGINS, Dialect, code_of, connection_of, first_argument

_FORMER_WAIT: Final = "xgen_sessions_former_wait"
"""Key in ``connection.info`` of the host's own wait, in milliseconds."""


class SQLite(Dialect):
    """SQLite: one writer at a time, whose lock a transaction takes with its first write."""

    names = ("sqlite",)
    title = "SQLite"
    oldest = (3, 35)  # RETURNING
    driver = "pysqlite"
    pads_char = False
    conflicts = frozenset(
        f"SQLITE_CONSTRAINT_{kind}" for kind in ("UNIQUE", "PRIMARYKEY", "ROWID", "FOREIGNKEY")
    )
    _take_lock = (
        sa.update(LOGINS)
        .where(LOGINS.c.user_id == EVERYONE)
        .values(invalid_before_us=LOGINS.c.invalid_before_us)
        .returning(LOGINS.c.invalid_before_us)
    )

    @contextmanager
    def lock_wait(self, connection: sa.Connection, milliseconds: int) -> Iterator[None]:
        """Limit SQLite's wait for its write lock; no deadline interrupts that wait."""
        _set_busy_timeout(connection, milliseconds)
        try:
            yield
        finally:
            # A connection that was returned meanwhile may be another caller's now.
            if not (connection.closed or connection.invalidated):
                _reset_busy_timeout(connection.connection.dbapi_connection, connection.info)

    def begin_write(self, connection: sa.Connection) -> None:
        """Take the write lock before a row is read, so that no read is stale."""
        connection.execute(self._take_lock).close()

    def is_held_by(self, host: Session, own: Session, *, shared: bool) -> bool:
        """Return whether the host's transaction holds the write lock."""
        if not host.in_transaction() or (not shared and self._is_lock_free(own)):
            return False
        connection: Any = connection_of(host).connection.dbapi_connection
        return bool(connection.in_transaction)

    def _is_lock_free(self, session: Session) -> bool:
        try:
            connection = session.connection()
            _set_busy_timeout(connection, 0)
            self.begin_write(connection)
        except exc.OperationalError:
            return False
        finally:
            session.rollback()
        return True

    @contextmanager
    def lock_out_upgrades(self, connection: sa.Connection) -> Iterator[None]:
        """Take the write lock; the driver begins no transaction for ``CREATE TABLE``."""
        if not getattr(connection.connection.dbapi_connection, "in_transaction", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield

    def lock_free_logins(self, connection: sa.Connection, user_ids: set[str]) -> set[str]:  # noqa: ARG002
        """Return all users: this transaction is the only writer."""
        return user_ids

    def is_transaction_lost(self, error: BaseException) -> bool:
        """Return whether SQLite rolled back: the disk is full, or a wait was interrupted."""
        return str(first_argument(error)).startswith("no such savepoint")

    def is_commit_undone(self, error: BaseException | None) -> bool:
        """Return whether SQLite failed before it wrote the commit."""
        return code_of(error) in ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR_WRITE")

    def is_delay(self, code: Any) -> bool:
        """Return whether another program holds a lock, or the wait was cut off."""
        return str(code).startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT"))

    def _version(self, dialect: sa.Dialect) -> tuple[Any, ...] | None:
        """Return the version of the library, which needs no connection."""
        return getattr(dialect.loaded_dbapi, "sqlite_version_info", None)

    def _lock_everyone(self, connection: sa.Connection, exclusively: bool) -> int | None:  # noqa: ARG002
        everyone_us: int | None = connection.scalar(self._take_lock)
        return everyone_us

    def _insert(self, table: sa.Table) -> Any:
        from sqlalchemy.dialects.sqlite import insert  # loaded for this database only

        return insert(table)

    def _greatest(self, *values: Any) -> sa.ColumnElement[int]:
        return sa.func.max(*values, type_=sa.BigInteger())


def _set_busy_timeout(connection: sa.Connection, milliseconds: int) -> None:
    """Set the wait until the connection is returned to its pool."""
    pool = connection.engine.pool
    if not event.contains(pool, "checkin", _before_return):
        event.listen(pool, "checkin", _before_return)
    driver: Any = connection.connection.dbapi_connection
    (former,) = driver.execute("PRAGMA busy_timeout").fetchone()
    connection.info.setdefault(_FORMER_WAIT, former)
    driver.execute(f"PRAGMA busy_timeout = {milliseconds}").close()


def _reset_busy_timeout(driver: Any, info: dict[str, Any]) -> None:
    driver.execute(f"PRAGMA busy_timeout = {info.pop(_FORMER_WAIT)}").close()


def _before_return(driver: Any, record: ConnectionPoolEntry) -> None:
    if _FORMER_WAIT in record.info:
        with suppress(Exception):  # it was closed
            _reset_busy_timeout(driver, record.info)
