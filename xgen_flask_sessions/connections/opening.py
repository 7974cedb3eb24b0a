"""Opening connections as the host's pool does, without the pool; and limits on the wait for one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event

from ..errors import UnsupportedDatabase

_WITH_TIMEOUT: Final = frozenset({"psycopg", "psycopg2", "pymysql"})
"""Drivers that accept ``connect_timeout``, in whole seconds."""


class _Limits(NamedTuple):
    """Limits on the connections that the current context opens."""

    check: Callable[[], None] | None = None
    timeout_s: float | None = None


_NO_LIMITS: Final = _Limits()
_limits: ContextVar[_Limits] = ContextVar("xgen_sessions_connecting", default=_NO_LIMITS)


def open_unpooled(source: sa.Pool) -> Any:
    """Open a connection as a pool does, and keep it out of the pool.

    :param source: A pool of the host's kind.
    :returns: The driver's own connection object, in no transaction.
    :raises UnsupportedDatabase: SQLAlchemy does not know the server.
    """
    with refusing_unknown_servers():
        borrowed = source.connect()
    dbapi_connection: Any = borrowed.dbapi_connection
    borrowed.detach()
    with closing_on_error(dbapi_connection):
        dbapi_connection.commit()  # a listener of the host's may have begun a transaction
    return dbapi_connection


@contextmanager
def refusing_unknown_servers() -> Iterator[None]:
    """Explain the failure of the first connect to a server whose version SQLAlchemy cannot read.

    CockroachDB is one, if the URL says PostgreSQL.

    :raises UnsupportedDatabase: The server is such a one.
    """
    try:
        yield
    except AssertionError as error:
        raise UnsupportedDatabase(
            f"The database server is not supported; change SQLALCHEMY_DATABASE_URI. {error}"
        ) from error


@contextmanager
def closing_on_error(dbapi_connection: Any) -> Iterator[None]:
    """Close a driver's connection if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            dbapi_connection.close()
        raise


@contextmanager
def limiting_connects(
    engine: sa.Engine,
    *,
    check: Callable[[], None] | None = None,
    timeout_s: float | None = None,
) -> Iterator[None]:
    """Limit the wait for each connection that the engine opens within the block.

    A driver waits for minutes where a network drops every packet, and no deadline cuts off a
    connection that is still being opened.

    :param engine: The host's engine.
    :param check: Called before the driver connects; an error that it raises prevents the connect.
    :param timeout_s: Seconds after which the driver itself gives up; a shorter timeout of the
        host's stays in force.
    """
    if not event.contains(engine, "do_connect", _do_connect):
        event.listen(engine, "do_connect", _do_connect)
    token = _limits.set(_Limits(check, timeout_s))
    try:
        yield
    finally:
        _limits.reset(token)


def _do_connect(dialect: sa.Dialect, _: object, args: Any, options: Any) -> Any:
    check, timeout_s = _limits.get()
    if check is not None:
        check()
    if timeout_s is None or dialect.driver not in _WITH_TIMEOUT:
        return None
    whole = max(2, math.ceil(timeout_s))  # libpq rounds 1 up to 2
    own = options.get("connect_timeout")
    if own is not None and 0 < float(own) < whole:
        return None
    return dialect.connect(*args, **{**options, "connect_timeout": whole})
