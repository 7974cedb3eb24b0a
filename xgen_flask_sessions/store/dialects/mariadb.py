"""MariaDB: locks gaps between rows, and rolls a whole transaction back after a deadlock."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ..tables import EVERYONE
from .base import LOGINS, MARIADB, SELECT_EVERYONE, SESSIONS, Dialect, code_of, new_login

_IDS: Final = (
    "JSON_TABLE(:ids, '$[*]' COLUMNS (id VARCHAR(255) "
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$')) AS due"
)
"""A table of ids: for ``IN``, MariaDB may read and lock a whole table."""
_OPEN: Final = (
    f"{_IDS} STRAIGHT_JOIN {SESSIONS} FORCE INDEX (ix_xgen_sessions_user) ON "
    f"{SESSIONS.c.user_id} = due.id AND {SESSIONS.c.ended_us} IS NULL "
    f"AND {SESSIONS.c.expires_us} + 0 > :now"
)
_COUNT_OF_USERS: Final = sa.text(  # it locks: a plain read may see an older snapshot
    f"SELECT {SESSIONS.c.user_id}, COUNT(*) FROM {_OPEN} GROUP BY {SESSIONS.c.user_id} FOR UPDATE"  # noqa: S608
)
_END_ALL_OF_USERS: Final = sa.text(
    f"UPDATE {_OPEN} SET {SESSIONS.c.ended_us} = :now, {SESSIONS.c.end_reason} = :reason"  # noqa: S608
)


class MariaDB(Dialect):
    """MariaDB: locks gaps between rows, and rolls the whole transaction back after a deadlock."""

    names = MARIADB
    title = "MariaDB"
    oldest = (10, 6)  # SKIP LOCKED, JSON_TABLE
    driver = "pymysql"
    character_sets = "SELECT @@character_set_client"
    unicode = "utf8mb4"
    unicode_fix = "add ?charset=utf8mb4 to SQLALCHEMY_DATABASE_URI"
    current_time_us = sa.func.timestampdiff(
        sa.text("MICROSECOND"), "1970-01-01", sa.func.utc_timestamp(6), type_=sa.BigInteger()
    )
    _UPGRADE_LOCK: Final = "xgen_sessions_upgrade"
    deadlocks = frozenset({1213})
    conflicts = frozenset({1020, 1062, 1216, 1217, 1451, 1452})
    delays = frozenset(
        {
            *(1053, 1205, 1317, 1927, 1969),
            *(1040, 1047, 1203, 1226),  # too many connections; Galera: the node is not ready
        }
    )
    _NO_SAVEPOINT: Final = 1305

    def __init__(self) -> None:
        self._with_everyone: weakref.WeakSet[sa.Engine] = weakref.WeakSet()

    def find_unsupported(self, dialect: sa.Dialect) -> str | None:
        """Return the name and version of a server that is MySQL, or too old."""
        version: Any = dialect.server_version_info
        if version is not None and not dialect.is_mariadb:  # type: ignore[attr-defined]
            return f"MySQL {'.'.join(map(str, version))}"
        return super().find_unsupported(dialect)

    def refuses_old_snapshots(self, connection: sa.Connection) -> bool:
        """Return whether ``innodb_snapshot_isolation`` is in force (default from 11.6 on)."""
        query = sa.text("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
        variable = connection.execute(query).one_or_none()
        is_on = variable is not None and variable[1] in ("ON", "1")
        return is_on and connection.get_isolation_level() == "REPEATABLE READ"

    def integer_bits(self, kind: sa.types.TypeEngine[Any]) -> int:  # noqa: ARG002
        """Return the size that holds signed and unsigned numbers."""
        return 65

    @contextmanager
    def lock_out_upgrades(self, connection: sa.Connection) -> Iterator[None]:
        """Take a lock of the connection: ``CREATE TABLE`` commits.

        It ends with the connection, which a pool of the host's may keep open.
        """
        connection.detach()
        connection.execute(sa.select(sa.func.get_lock(self._UPGRADE_LOCK, 3600)))
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.release_lock(self._UPGRADE_LOCK)))

    def same_text(
        self, host: sa.ColumnElement[str], own: sa.ColumnElement[str]
    ) -> sa.ColumnElement[bool]:
        """Compare by the host's collation, for its index, and byte by byte; see :meth:`_of_any`."""
        return sa.and_(host == self._of_any(own), own == self._of_any(host))

    def plain_text(self, host: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return text that adopts the plugin's collation; see :meth:`_of_any`."""
        return self._of_any(host)

    def searched_text(self, host: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return text in UTF-8: text that is not in the column's character set is an error."""
        return sa.cast(host, mysql.CHAR(charset="utf8mb4"))

    @staticmethod
    def _of_any(text: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return the same text, in the collation of the text that it is compared with.

        MariaDB refuses to compare columns of different collations (error 1267), and a ``COLLATE``
        must name the host's. The text in a JSON document has a collation that yields.
        """
        return sa.func.json_unquote(sa.func.json_quote(text), type_=sa.String())

    def end_sessions_of_users(
        self, connection: sa.Connection, user_ids: Sequence[str], now: int, end_reason: str
    ) -> dict[str, int]:
        """End several users' active sessions; see :meth:`Dialect.end_sessions_of_users`."""
        values = {"ids": json.dumps(user_ids), "now": now}
        ended: dict[str, int] = {
            row[0]: row[1] for row in connection.execute(_COUNT_OF_USERS, values)
        }
        if ended:
            connection.execute(_END_ALL_OF_USERS, values | {"reason": end_reason})
        return ended

    def newest_stamp(self, connection: sa.Connection) -> int:
        """Return the newest stamp, by a locking read: a plain one may read an older snapshot."""
        newest = sa.select(sa.func.max(LOGINS.c.last_issued_us)).with_for_update()
        return connection.scalar(newest) or 0

    def order_of_index(self, columns: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the last column: MariaDB ignores an index for columns that are always empty."""
        return columns[-1:]

    def lock_free_logins(self, connection: sa.Connection, user_ids: set[str]) -> set[str]:
        """Lock the users' rows one by one; see :meth:`_by_key`."""
        key = LOGINS.c.user_id
        found = self._by_key(connection, f"SELECT {key}", key, user_ids, "FOR UPDATE SKIP LOCKED")
        return set(found.scalars())

    def delete_rows(self, connection: sa.Connection, key: sa.Column[str], ids: list[str]) -> int:
        """Delete rows one by one; see :meth:`_by_key`."""
        return self._by_key(connection, f"DELETE {key.table}", key, ids).rowcount

    def is_of_another_charset(self, error: BaseException | None) -> bool:
        """Return whether the collations of the column and of a value exclude each other."""
        return code_of(error) in (1267, 1270, 1271)

    def is_delay(self, code: Any) -> bool:
        """Return whether a wait was cut off; the client's own numbers are of lost connections."""
        return super().is_delay(code) or 2000 <= code < 3000

    def is_transaction_lost(self, error: BaseException) -> bool:
        """Return whether MariaDB rolled back: after a deadlock, its savepoints are gone, too."""
        return code_of(error) in (*self.deadlocks, self._NO_SAVEPOINT)

    def _lock_everyone(self, connection: sa.Connection, exclusively: bool) -> int | None:
        # A lock on a row that does not exist locks its neighbours.
        if connection.engine not in self._with_everyone:
            if connection.scalar(SELECT_EVERYONE) is None:  # it may read an old snapshot
                self.update_login(connection, "lock", new_login(EVERYONE))
            self._with_everyone.add(connection.engine)
        return super()._lock_everyone(connection, exclusively)

    @staticmethod
    def _by_key(
        connection: sa.Connection,
        verb: str,
        key: sa.Column[str],
        ids: Iterable[str],
        lock: str = "",
    ) -> sa.CursorResult[Any]:
        """Look up each row by its key; see :data:`_IDS`."""
        statement = (
            f"{verb} FROM {_IDS} "
            f"STRAIGHT_JOIN {key.table} FORCE INDEX (PRIMARY) ON {key} = due.id {lock}"
        )
        # In the order of the keys: two transactions that delete the same rows never deadlock.
        return connection.execute(sa.text(statement), {"ids": json.dumps(sorted(ids))})

    def _upsert(self, table: sa.Table, values: Any, updated: Any) -> Any:
        from sqlalchemy.dialects.mysql import insert  # loaded for this database only

        statement = insert(table)
        if values is not None:
            statement = statement.values(values)
        # A list keeps the order of the assignments.
        return statement.on_duplicate_key_update(list(updated(statement.inserted).items()))
