"""Engines for the host's database whose connections do not count in the host's pool."""

from __future__ import annotations

import sqlite3
import weakref
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from .engine_guard import guard
from .opening import closing_on_error, open_unpooled


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

    Its connections are opened as the host's are. Each statement sees all data that was committed
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
    host = guard(engine)  # first: the new pool copies the listeners
    source = engine.pool.recreate()

    def connect() -> Any:
        host.require_usable()
        return _with_implicit_begin(open_unpooled(source))

    isolation = {} if engine.dialect.name == "sqlite" else {"isolation_level": "READ COMMITTED"}
    return sa.create_engine(
        engine.url,
        creator=connect,
        execution_options=dict(engine.get_execution_options()),
        hide_parameters=engine.hide_parameters,
        **pooling,
        **isolation,
    )


def _with_implicit_begin(dbapi_connection: Any) -> Any:
    """Let sqlite3 begin transactions implicitly, whatever the host set for its own connections."""
    with closing_on_error(dbapi_connection):
        if isinstance(dbapi_connection, sqlite3.Connection):
            if hasattr(dbapi_connection, "autocommit"):  # Python 3.12
                dbapi_connection.autocommit = -1  # LEGACY_TRANSACTION_CONTROL
            dbapi_connection.isolation_level = "DEFERRED"
    return dbapi_connection
