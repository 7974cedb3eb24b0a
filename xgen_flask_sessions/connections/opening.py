"""Opening connections as the host's pool does, without the pool; and limits on the wait for one."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from ..errors import ConfigurationError, UnsupportedDatabase, XgenSessionsError
from ..text import cause_of
from .borrowed import in_transaction
from .engine_guard import guard

_WITH_TIMEOUT: Final = frozenset({"psycopg", "psycopg2", "pymysql", "mysqldb", "mariadbconnector"})
"""Drivers that accept ``connect_timeout``, in whole seconds."""


class _Limits(NamedTuple):
    """Limits on the connections that the current context opens."""

    check: Callable[[], None] | None = None
    timeout_s: float | None = None
    made: list[Any] | None = None
    """Receives the connections that the driver makes for the plugin."""


_EXPLAINED: Final = (ConfigurationError, XgenSessionsError)
_NO_LIMITS: Final = _Limits()
_listening: Final = threading.Lock()
_CAME_IN_TRANSACTION: Final = "xgen_sessions_came_in_transaction"
_limits: ContextVar[_Limits] = ContextVar("xgen_sessions_connecting", default=_NO_LIMITS)


class Opened(NamedTuple):
    """A connection outside the host's pool."""

    dbapi_connection: Any
    """The driver's own connection object, or the wrapper of another pool."""
    is_own: bool = True
    """Whether it was made for the plugin; otherwise the host's code handed it out."""
    is_shared: bool = False
    """Whether it came with a transaction of the host's, which must go on."""


class ConnectionSource:
    """Opens connections as the host's pool does, and keeps them out of the pool.

    :param engine: The host's engine.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.guard = guard(engine)  # first: the new pool copies the listeners
        self._pool = engine.pool.recreate()
        # First, because the host's listeners may begin a transaction.
        event.listen(self._pool, "connect", _note_transaction, insert=True)

    @property
    def is_foreign(self) -> bool:
        """Whether the host's code may hand out connections that are used elsewhere, too."""
        creator = getattr(self._pool, "_creator", None)
        if getattr(creator, "__module__", None) != "sqlalchemy.engine.create":
            return True
        return any(
            not each.__module__.startswith(f"{__package__}.")
            for each in self._engine.dialect.dispatch.do_connect
        )

    def open(self, *, timeout_s: float | None = None) -> Opened:
        """Open a connection.

        :param timeout_s: Seconds after which the driver itself gives up.
        :raises UnsupportedDatabase: SQLAlchemy does not know the server.
        :raises UnusableFile: The file was deleted, or a fork left it open.
        """
        self.guard.require_usable()
        made: list[Any] = []
        with (
            closing_on_error(made),  # SQLAlchemy 2.0 leaves one open that it cannot prepare
            limiting_connects(self._engine, timeout_s=timeout_s, made=made),
            explaining_failures(self._engine.dialect),
        ):
            borrowed = self._pool.connect()
        dbapi_connection: Any = borrowed.dbapi_connection
        is_own = any(each is dbapi_connection for each in made)
        is_shared = not is_own and borrowed.info.get(_CAME_IN_TRANSACTION, False)
        borrowed.detach()
        if not is_shared:
            with closing_on_error([dbapi_connection]):
                dbapi_connection.commit()  # a listener of the host's may have begun a transaction
        return Opened(dbapi_connection, is_own, is_shared)


_shared: Final[weakref.WeakKeyDictionary[sa.Engine, bool]] = weakref.WeakKeyDictionary()


def has_one_connection(engine: sa.Engine) -> bool:
    """Return whether all that use an engine share one connection, as with SQLite in memory.

    :param engine: The host's engine.
    """
    if isinstance(engine.pool, sa.StaticPool | sa.SingletonThreadPool):
        return True
    if engine.dialect.name != "sqlite":
        return False
    if engine not in _shared:
        source = ConnectionSource(engine)
        try:
            _shared[engine] = source.is_foreign and _hands_out_one(source)
        except Exception:  # it cannot be opened now: the call that needs it says why
            return False
    return _shared[engine]


def _hands_out_one(source: ConnectionSource) -> bool:
    first, second = (source.open() for _ in range(2))
    if first.dbapi_connection is second.dbapi_connection:
        return True
    for opened in (first, second):
        opened.dbapi_connection.close()
    return False


def _note_transaction(dbapi_connection: Any, record: Any) -> None:
    record.info[_CAME_IN_TRANSACTION] = in_transaction(dbapi_connection)


@contextmanager
def explaining_failures(dialect: sa.Dialect) -> Iterator[None]:
    """Explain why a connection cannot be opened.

    Drivers raise ``TypeError``, and others, for an option that they do not know; a host's
    ``creator=`` may raise any error. Each is raised as the driver's error, so that it is handled as
    a refusal of the server is. ``OSError`` stays as it is.

    :raises UnsupportedDatabase: SQLAlchemy cannot read the server's version at the first connect:
        CockroachDB is one, if the URL says PostgreSQL.
    """
    try:
        yield
    except AssertionError as error:
        raise UnsupportedDatabase(
            f"The database server is not supported; change SQLALCHEMY_DATABASE_URI. {error}"
        ) from error
    except (dialect.loaded_dbapi.Error, SQLAlchemyError, OSError, *_EXPLAINED):
        raise
    except Exception as error:
        raise _failure(dialect, error) from None


def _connect(dialect: sa.Dialect, args: Any, options: Any) -> Any:
    """Let the driver connect; see :func:`explaining_failures`.

    :raises Exception: The driver's error. A certificate that cannot be read is one, too.
    """
    try:
        return dialect.connect(*args, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:
        raise _failure(dialect, error) from None


def _failure(dialect: sa.Dialect, error: Exception) -> Exception:
    failure: Exception = dialect.loaded_dbapi.InterfaceError(
        "no connection can be opened as SQLALCHEMY_DATABASE_URI and SQLALCHEMY_ENGINE_OPTIONS say: "
        f"{type(error).__name__}: {cause_of(error)}"
    )
    return failure


@contextmanager
def closing_on_error(dbapi_connections: Iterable[Any]) -> Iterator[None]:
    """Close a driver's connections if the block fails."""
    try:
        yield
    except BaseException:
        for each in dbapi_connections:
            with suppress(Exception):
                each.close()
        raise


@contextmanager
def limiting_connects(
    engine: sa.Engine,
    *,
    check: Callable[[], None] | None = None,
    timeout_s: float | None = None,
    made: list[Any] | None = None,
) -> Iterator[None]:
    """Limit the wait for each connection that the engine opens within the block.

    A driver waits for minutes where a network drops every packet, and no deadline cuts off a
    connection that is still being opened.

    :param engine: The host's engine.
    :param check: Called before the driver connects; an error that it raises prevents the connect.
    :param timeout_s: Seconds after which the driver itself gives up; a shorter timeout of the
        host's stays in force.
    :param made: Receives the connections that the driver makes. Others are the host's: of its
        ``creator=``, or of its own listener for ``do_connect``.
    """
    _listen_last(engine)
    token = _limits.set(_Limits(check, timeout_s, made))
    try:
        yield
    finally:
        _limits.reset(token)


def prepare(engine: sa.Engine) -> None:
    """Guard an engine and listen to its connects, before several threads use it.

    SQLAlchemy fails in a thread that connects while another one adds a listener.

    :param engine: The host's engine.
    """
    guard(engine)
    _listen_last(engine)


def _listen_last(engine: sa.Engine) -> None:
    """Listen for ``do_connect`` after the host's listeners, which may change the options.

    A no-op but for the first call, and after the host added a listener.
    """
    with _listening:
        present = list(engine.dialect.dispatch.do_connect)
        if present and present[-1] is _do_connect:
            return
        if _do_connect in present:
            event.remove(engine, "do_connect", _do_connect)
        event.listen(engine, "do_connect", _do_connect)


def _do_connect(dialect: sa.Dialect, _: object, args: Any, options: Any) -> Any:
    limits = _limits.get()
    if limits is _NO_LIMITS and list(dialect.dispatch.do_connect)[-1] is not _do_connect:
        return None  # a listener that the host added since has its turn
    if limits.check is not None:
        limits.check()
    options = _with_timeout(dialect, options, limits.timeout_s)
    if limits.made is None:
        return _connect(dialect, args, options)
    if dialect.name == "sqlite":  # the thread that opens it is not the one that uses it
        options = {**options, "check_same_thread": False}
    limits.made.append(_connect(dialect, args, options))
    return limits.made[-1]


def _with_timeout(dialect: sa.Dialect, options: Any, timeout_s: float | None) -> Any:
    if timeout_s is None or dialect.driver not in _WITH_TIMEOUT:
        return options
    whole = max(2, math.ceil(timeout_s))  # libpq rounds 1 up to 2
    own = options.get("connect_timeout")
    try:
        is_shorter = own is not None and 0 < float(own) < whole
    except (TypeError, ValueError):
        return options  # the driver refuses it
    return options if is_shorter else {**options, "connect_timeout": whole}
