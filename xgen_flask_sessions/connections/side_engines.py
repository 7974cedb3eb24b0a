"""Engines for the host's database whose connections do not count in the host's pool."""

from __future__ import annotations

import sqlite3
import weakref
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry

from .engine_guard import guard
from .opening import ConnectionSource, Opened, closing_on_error

_FOREIGN: Final = "xgen_sessions_foreign"
_FORMER: Final = "xgen_sessions_former"


class _SideEngines:
    """One pooled engine beside each engine of a host."""

    def __init__(self) -> None:
        self._engines: weakref.WeakKeyDictionary[sa.Engine, sa.Engine] = weakref.WeakKeyDictionary()

    def get(self, engine: sa.Engine) -> sa.Engine:
        own = self._engines.get(engine)
        if own is None:
            own = _engine_like(
                engine,
                poolclass=sa.QueuePool,
                pool_size=2,
                max_overflow=-1,  # one for each thread that uses one at the same time
                pool_pre_ping=True,
            )
            own = self._engines.setdefault(engine, own)
            beside = guard(own, beside=engine)
            event.listen(engine, "engine_disposed", lambda _: beside.dispose())
        return own


_side_engines: Final = _SideEngines()


def side_engine(engine: sa.Engine) -> sa.Engine:
    """Return an engine for the same database with a small pool of its own.

    Its connections are opened as the host's are; those that the host's code hands out are given
    back after each use. Each statement sees all data that was committed
    before it.

    :param engine: The host's engine.
    """
    return _side_engines.get(engine)


def unpooled_engine(engine: sa.Engine) -> sa.Engine:
    """Return an engine like :func:`side_engine` that closes each connection after its use.

    It never touches the host's engine, which another thread may be disposing of.

    :param engine: The host's engine.
    """
    return _engine_like(engine, poolclass=sa.NullPool)


def _engine_like(engine: sa.Engine, **pooling: Any) -> sa.Engine:
    source = ConnectionSource(engine)

    def connect(record: ConnectionPoolEntry) -> Any:
        opened = source.open()
        with closing_on_error([opened.dbapi_connection]):
            record.info[_FOREIGN] = not opened.is_own
            _prepare(opened, engine.dialect, record)
        return opened.dbapi_connection

    like = sa.create_engine(
        engine.url,
        creator=connect,
        execution_options=dict(engine.get_execution_options()),
        hide_parameters=engine.hide_parameters,
        **pooling,
    )
    event.listen(like, "checkin", _return_borrowed)
    return like


def _prepare(opened: Opened, dialect: sa.Dialect, record: ConnectionPoolEntry) -> None:
    """Begin transactions implicitly, and read what others commit.

    The isolation level of a connection that the host handed out stays as it is.
    """
    dbapi_connection = opened.dbapi_connection
    if isinstance(dbapi_connection, sqlite3.Connection):
        record.info[_FORMER] = _begin_implicitly(dbapi_connection)
    elif dialect.name != "sqlite" and opened.is_own:
        dialect.set_isolation_level(dbapi_connection, "READ COMMITTED")


def _begin_implicitly(connection: sqlite3.Connection) -> dict[str, Any]:
    """Let sqlite3 begin transactions implicitly, and return the former settings."""
    wanted: dict[str, Any] = {"isolation_level": "DEFERRED"}
    if hasattr(connection, "autocommit"):  # Python 3.12
        wanted = {"autocommit": -1, **wanted}  # LEGACY_TRANSACTION_CONTROL
    former = {name: getattr(connection, name) for name in wanted}
    _set(connection, wanted)
    return former


def _set(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(connection, name, value)


def _return_borrowed(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    """Give a connection back to the host's own pool after each use, as it was."""
    if dbapi_connection is None or not record.info.pop(_FOREIGN, False):
        return
    former = record.info.pop(_FORMER, {})
    _set(dbapi_connection, dict(reversed(former.items())))
    record.close()
