"""The order of sign-ins and force logouts: stamps, and the locks that make them.

One row per user in ``xgen_user_logins`` is locked by every sign-in and every force logout of that
user, and hands out a stamp that only rises; the row ``*`` is locked shared by every sign-in and
exclusively by a force logout of everyone. So each sign-in is before or after each force logout,
whatever the clocks of the machines say.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Literal, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from ..connections.drivers import schema_options
from .tables import EVERYONE, SessionRecord, UserLogin

MYSQL = ("mysql", "mariadb")

_EVERYONE_KEY = 0x7867656E_2A
"""Of the advisory lock that stands for the row ``*`` on PostgreSQL."""

_logins = cast("sa.Table", UserLogin.__table__)
_row = _logins.c

_everyone = sa.select(_row.invalid_before_us).where(_row.user_id == EVERYONE)
_lock_shared = _everyone.with_for_update(read=True)
_lock_exclusively = _everyone.with_for_update()
_key = sa.literal(_EVERYONE_KEY, sa.BigInteger)
_queue_shared = sa.select(sa.func.pg_advisory_xact_lock_shared(_key))
_queue_exclusively = sa.select(sa.func.pg_advisory_xact_lock(_key))
_write = (
    sa.update(_logins)
    .where(_row.user_id == EVERYONE)
    .values(invalid_before_us=_row.invalid_before_us)
    .returning(_row.invalid_before_us)
)

_with_everyone: Final[weakref.WeakSet[sa.Engine]] = weakref.WeakSet()
"""Where the row ``*`` was seen."""

_made: Final[weakref.WeakKeyDictionary[sa.Engine, dict[Any, str]]] = weakref.WeakKeyDictionary()
"""What locks the row ``*`` at once, as PostgreSQL takes it."""

_LOCK_WAIT: Final = "xgen_sessions_lock_wait"
"""Where a connection keeps what its wait was set to; on PostgreSQL, what it is still to be."""


def connection_of(session: Session) -> sa.Connection:
    """Return the session's connection to the database that holds the tables."""
    return session.connection(bind_arguments={"clause": _logins})


def dialect_of(session: Session) -> str:
    """Return the name of the database's dialect."""
    return session.get_bind(clause=_logins).dialect.name


def write_first(session: Session) -> None:
    """Take SQLite's write lock before anything is read, so that what is read is the latest.

    The other databases lock the rows that are read.
    """
    if dialect_of(session) == "sqlite":
        connection_of(session).execute(_write).close()


def limit_lock_wait(connection: sa.Connection, milliseconds: int, *, later: bool = False) -> None:
    """Have the database give up in time when it waits for a lock.

    Nothing cuts off SQLite's wait for its write lock; and a server process of PostgreSQL's that
    waits for one does not notice that nobody waits for it any more.

    :param later: Whether :func:`lock_everyone` comes next, which may see to it at no cost.
    """
    if connection.dialect.name == "postgresql":
        if later and _takes_several_statements(connection):
            connection.info[_LOCK_WAIT] = milliseconds
        else:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
    elif connection.dialect.name == "sqlite" and connection.info.get(_LOCK_WAIT) != milliseconds:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
        connection.info[_LOCK_WAIT] = milliseconds


def forget_lock_wait(connection: sa.Connection) -> None:
    """Note that somebody else has set how long a connection waits for a lock."""
    connection.info.pop(_LOCK_WAIT, None)


def _takes_several_statements(connection: sa.Connection) -> bool:
    """Say whether a connection to PostgreSQL takes several in one message, without preparing it."""
    driver: Any = connection.connection.dbapi_connection
    return connection.dialect.driver == "psycopg" and driver.prepare_threshold != 0


def lock_everyone(session: Session, *, exclusively: bool = False) -> int:
    """Lock the row ``*`` and return everyone's invalidation timestamp."""
    connection = connection_of(session)
    lock: Any = _lock_exclusively if exclusively else _lock_shared
    if connection.dialect.name == "postgresql":
        # Its row locks are unfair: who wants it exclusively is overtaken by who shares it.
        queue = _queue_exclusively if exclusively else _queue_shared
        milliseconds = connection.info.pop(_LOCK_WAIT, None)
        if milliseconds is not None:
            everyone_us = _lock_at_once(connection, queue, lock, milliseconds)
            if everyone_us is not None:
                return everyone_us
        connection.execute(queue)
    if connection.dialect.name == "sqlite":
        lock = _write
    elif connection.engine not in _with_everyone:
        # A migration makes it, create_all() does not; and to lock a row that is not there locks
        # its neighbours.
        if connection.scalar(_everyone) is None:
            _upsert(connection, "lock", new_login(EVERYONE))
        _with_everyone.add(connection.engine)
    everyone_us = connection.scalar(lock)
    if everyone_us is None:
        _upsert(connection, "lock", new_login(EVERYONE))
        everyone_us = connection.scalar(lock)
    return cast("int", everyone_us)


def _lock_at_once(
    connection: sa.Connection, queue: Any, lock: Any, milliseconds: int
) -> int | None:
    """Do in one round trip what else takes three; return ``None`` if the row is not there.

    They stay three statements, so that the row is read as it is after the wait in the queue.
    """
    made = _made.setdefault(connection.engine, {})
    if lock not in made:
        made[lock] = "; ".join(_compiled(each, connection) for each in (queue, lock))
    limit = f"SELECT set_config('lock_timeout', '{milliseconds}', true)"
    result = connection.exec_driver_sql(f"{limit}; {made[lock]}")
    cursor: Any = result.cursor
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    result.close()
    return None if row is None else cast("int", row[0])


def _compiled(statement: Any, connection: sa.Connection) -> str:
    options = schema_options(connection.engine)
    values = {"literal_binds": True}
    return str(statement.compile(dialect=connection.dialect, compile_kwargs=values, **options))


def next_stamp(
    session: Session, user_id: str, now: int, *, everyone_us: int, expires_us: int
) -> tuple[int, int]:
    """Lock the user's row and take its next stamp; also return the invalidation timestamp."""
    new = new_login(user_id, last_issued_us=max(now, everyone_us + 1), active_until_us=expires_us)
    return _upsert(connection_of(session), "stamp", new)


def invalidate(session: Session, user_id: str, now: int) -> int:
    """Raise a row's invalidation timestamp over everything issued, and return it."""
    new = new_login(user_id, invalid_before_us=now)
    _, invalid_before_us = _upsert(connection_of(session), "invalidate", new)
    return invalid_before_us


def invalidate_everyone(session: Session, now: int) -> int:
    """Raise everyone's invalidation timestamp over everything issued, and return it.

    The row ``*`` must be locked exclusively: then nobody is signing in.
    """
    newest = sa.select(sa.func.max(_row.last_issued_us))
    if dialect_of(session) in MYSQL:  # a plain read there may see an older snapshot
        newest = newest.with_for_update()
    return invalidate(session, EVERYONE, max(now, session.scalar(newest) or 0))


def new_login(user_id: str, **values: Any) -> dict[str, Any]:
    """Return the values of a user's first row of ``xgen_user_logins``."""
    zeros = {"last_issued_us": 0, "invalid_before_us": 0, "active_until_us": 0}
    return {"user_id": user_id, **zeros, **values}


Change = Literal["lock", "stamp", "sign in", "invalidate"]
"""What is done to a user's row: nothing, or a stamp is taken from it, or it is invalidated."""


def _upsert(connection: sa.Connection, change: Change, new: Mapping[str, Any]) -> tuple[int, int]:
    """Insert a row of ``xgen_user_logins`` or change it, in one statement that locks it.

    :returns: Its ``last_issued_us`` and ``invalid_before_us`` afterwards.
    """
    statement = upsert(connection.dialect.name, change)
    last_issued_us, invalid_before_us = connection.execute(statement, bound(new)).one()
    return last_issued_us, invalid_before_us


def bound(new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a first row as the parameters of :func:`upsert`."""
    return {f"login_{name}": value for name, value in new.items()}


@cache
def upsert(dialect: str, change: Change) -> Any:
    """Return the statement that inserts a user's row or changes it, and locks it.

    It returns ``last_issued_us`` and ``invalid_before_us`` as they are afterwards. It is made
    once: to make it takes longer than to run it.
    """
    names = ["user_id", "last_issued_us", "invalid_before_us", "active_until_us"]
    if change == "sign in":
        names += ["last_login_us", "last_ip"]
    values = {name: sa.bindparam(f"login_{name}", type_=_row[name].type) for name in names}
    returning = (_row.last_issued_us, _row.invalid_before_us)
    if dialect in MYSQL:
        made = mysql.insert(_logins).values(values)
        # MariaDB assigns from left to right, and reads what it assigned: the stamp comes last.
        updates = _CHANGES[change](dialect, made.inserted)
        return made.on_duplicate_key_update(list(updates.items())).returning(*returning)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(_logins).values(values)
    return statement.on_conflict_do_update(
        index_elements=["user_id"], set_=_CHANGES[change](dialect, statement.excluded)
    ).returning(*returning)


def _nothing(_: str, __: Any) -> dict[str, Any]:
    return {"last_issued_us": _row.last_issued_us}


def _stamp(dialect: str, new: Any) -> dict[str, Any]:
    stamp = _greatest(
        dialect, _row.last_issued_us + 1, _row.invalid_before_us + 1, new.last_issued_us
    )
    return {
        "active_until_us": _greatest(dialect, _row.active_until_us, new.active_until_us),
        "last_issued_us": stamp,
    }


def _sign_in(dialect: str, new: Any) -> dict[str, Any]:
    updates = _stamp(dialect, new)
    return {
        "last_login_us": updates["last_issued_us"],
        "last_ip": sa.func.coalesce(new.last_ip, _row.last_ip),
        **updates,
    }


def _invalidate(dialect: str, new: Any) -> dict[str, Any]:
    raised = _greatest(dialect, _row.invalid_before_us, _row.last_issued_us, new.invalid_before_us)
    return {"active_until_us": 0, "invalid_before_us": raised}


_CHANGES: Final[Mapping[Change, Callable[[str, Any], dict[str, Any]]]] = {
    "lock": _nothing,
    "stamp": _stamp,
    "sign in": _sign_in,
    "invalidate": _invalidate,
}


def _greatest(dialect: str, *values: Any) -> sa.ColumnElement[int]:
    greatest = sa.func.max if dialect == "sqlite" else sa.func.greatest
    return greatest(*values, type_=sa.BigInteger())


def of_session(session_id: str, dialect: str) -> sa.ColumnElement[bool]:
    """Return the condition for all rows of a session.

    The first has the session's id for its key; on PostgreSQL, only the others are indexed by it.
    """
    own = SessionRecord.session_id == session_id
    if dialect != "postgresql":
        return own
    first = SessionRecord.jti == session_id
    return (own & first) | (own & (SessionRecord.session_id != SessionRecord.jti))


def by_index(statement: Any, table: sa.Table, name: str) -> Any:
    """Keep MariaDB from reading a whole small table, and so from locking other users' rows."""
    for dialect in MYSQL:
        statement = statement.with_hint(
            text=f"FORCE INDEX ({name})", selectable=table, dialect_name=dialect
        )
    return statement
