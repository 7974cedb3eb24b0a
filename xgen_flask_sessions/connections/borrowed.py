"""Connections that a pool of the host's hands out: they are left as they came.

An engine with ``creator=``, or a listener for ``do_connect``, may return connections of any pool.
The next borrower would meet each setting that is made on one. So nothing is set, each look-up is a
transaction of its own, and a transaction of the host's goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from .wrappers import unwrap

_IN_TRANSACTION: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("in_transaction", bool),  # sqlite3, MySQL's connector
    ("_in_transaction", bool),  # pg8000
    ("pgconn", lambda pgconn: pgconn.transaction_status != 0),  # psycopg
    ("get_transaction_status", lambda status: status() != 0),  # psycopg2
    ("server_status", lambda status: bool(status & 1)),  # PyMySQL, MariaDB's connector
)
"""The attributes of the drivers that tell whether a transaction is open."""


def in_transaction(dbapi_connection: Any) -> bool:
    """Return whether a connection is in a transaction; ``False`` if the driver does not tell."""
    driver = unwrap(dbapi_connection)
    for name, tells in _IN_TRANSACTION:
        if hasattr(driver, name):
            return tells(getattr(driver, name))
    return False


def give_back(dbapi_connection: Any) -> None:
    """Close a connection, which gives it back to the pool that it came from."""
    give_back_broken(dbapi_connection)
    dbapi_connection.close()


def give_back_broken(dbapi_connection: Any) -> None:
    """Give a broken connection of psycopg back to the pool that it came from.

    Its ``close()`` does so only while the connection is open, and the pool would wait for it.
    """
    pool: Any = getattr(dbapi_connection, "_pool", None)
    if getattr(dbapi_connection, "closed", False) is True and hasattr(pool, "putconn"):
        pool.putconn(dbapi_connection)


class BorrowedReader:
    """Reads on a borrowed connection, and leaves it as it was.

    :param connection: The connection, as the host's pool returned it.
    :param in_json: Whether a look-up with parameters returns one column of JSON.
    """

    def __init__(self, connection: Any, *, in_json: bool) -> None:
        self._connection = connection
        self._in_json = in_json

    def __call__(self, sql: str, parameters: Any) -> Sequence[Any] | None:
        """Return the first row, or ``None``."""
        with self._transaction(), closing(self._connection.cursor()) as cursor:
            cursor.execute(sql, parameters)
            row: Sequence[Any] | None = cursor.fetchone()
        if row is not None and self._in_json and parameters:
            return list(json.loads(row[0]))
        return row

    def fetch_all(self, sql: str, parameters: Any) -> Sequence[Sequence[Any]]:
        """Return all rows."""
        with self._transaction(), closing(self._connection.cursor()) as cursor:
            cursor.execute(sql, parameters)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
        return rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """End the transaction that the block begins; leave one that the host has begun."""
        joined = in_transaction(self._connection)
        if not joined:
            _forbid_failover(self._connection)
        yield  # after an error, the connection is closed
        if not joined:
            self._connection.rollback()


def _forbid_failover(connection: Any) -> None:
    """Tell DBUtils that a transaction begins: it would retry a call that a deadline cut off."""
    if unwrap(connection) is not connection and hasattr(connection, "begin"):
        connection.begin()
