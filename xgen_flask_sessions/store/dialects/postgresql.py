"""PostgreSQL: joined statements save round trips, and commits notify listeners."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import Session

from ...connections.drivers import schema_options
from ...errors import LedgerUnavailable
from ..tables import SessionRecord
from .base import (
    END_ALL_OF_USER,
    EVENTS,
    LOCK_EXCLUSIVELY,
    LOCK_SHARED,
    LOCK_WAIT,
    PRIMARY,
    REVOCATIONS,
    SESSIONS,
    Dialect,
    LoginState,
    LoginUpdate,
    code_of,
    parameters,
    prefixed,
)

CHANNEL: Final = "xgen_sessions"
"""The channel of LISTEN and NOTIFY on which the feed announces events."""

_EVERYONE_KEY: Final = 0x7867656E_2A
"""The advisory lock for the row ``*``."""

_UPGRADE_KEY: Final = 0x7867656E
"""The advisory lock for upgrades of the tables."""

_SET_LOCK_WAIT: Final = sa.text("SELECT set_config('lock_timeout', :value, true)")
_SWAP_LOCK_WAIT: Final = sa.text(
    "WITH own AS MATERIALIZED (SELECT current_setting('lock_timeout') AS former) "
    "SELECT former, set_config('lock_timeout', :value, true) FROM own"
)
"""Sets the limit for this transaction, and returns the former one."""

_NEEDS_READ_COMMITTED: Final = (
    "Nothing was done. A force logout of everyone must read rows that others have committed: use "
    "READ COMMITTED, or the command force-logout --everyone."
)


@dataclass(eq=False)
class _Pending:
    """A limit of the lock wait that is still to be sent."""

    milliseconds: int
    former: str | None = None
    """The host's own limit, once this one was sent."""

    @property
    def text(self) -> str:
        """The limit as PostgreSQL reads it."""
        return str(self.milliseconds)


class PostgreSQL(Dialect):
    """PostgreSQL: joined statements save round trips, and commits notify listeners."""

    names = ("postgresql",)
    title = "PostgreSQL"
    oldest = (12,)
    driver = "psycopg"
    deadlocks = frozenset({"40P01"})
    conflicts = frozenset({"23503", "23505", "23P01"})
    delays = frozenset({"25P03", "25P04", "55P03", "53300"})
    character_sets = "SELECT current_setting('client_encoding'), current_setting('server_encoding')"
    unicode = "UTF8"
    unicode_fix = "use a database with the encoding UTF8, and client_encoding=utf8"
    # now() is the start of the transaction
    current_time_us = sa.cast(
        sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger
    )
    hashes_tables = True
    compares_text_with_numbers = False
    _key = sa.literal(_EVERYONE_KEY, sa.BigInteger)
    _queue_shared = sa.select(sa.func.pg_advisory_xact_lock_shared(_key))
    _queue_exclusively = sa.select(sa.func.pg_advisory_xact_lock(_key))

    def __init__(self) -> None:
        self._joined: weakref.WeakKeyDictionary[sa.Engine, dict[bool, str]] = (
            weakref.WeakKeyDictionary()
        )

    @contextmanager
    def lock_wait(self, connection: sa.Connection, milliseconds: int) -> Iterator[None]:
        """Limit the wait for each lock; the limit is sent with the first statement.

        It lasts until the transaction ends; in a transaction of the host's, until the block ends.
        """
        info, pending = connection.info, _Pending(milliseconds)
        info[LOCK_WAIT] = pending
        transaction = connection.get_transaction()
        try:
            yield
        finally:
            # After the commit, another thread may use the connection.
            if info.get(LOCK_WAIT) is pending:
                del info[LOCK_WAIT]
            elif pending.former is not None and connection.get_transaction() is transaction:
                with suppress(sa.exc.DBAPIError):  # the host's transaction has failed
                    connection.execute(_SET_LOCK_WAIT, {"value": pending.former})

    def begin_write(self, connection: sa.Connection) -> None:
        """Send the limit of the lock wait, if that is still to be done."""
        pending = connection.info.pop(LOCK_WAIT, None)
        if pending is not None:
            pending.former = connection.execute(_SWAP_LOCK_WAIT, {"value": pending.text}).scalar()

    def require_read_committed(self, session: Session) -> None:
        """Begin the transaction as READ COMMITTED, or check the one that the host has begun."""
        bind = {"clause": PRIMARY}
        if not session.in_transaction():
            options = {"isolation_level": "READ COMMITTED"}
            session.connection(bind_arguments=bind, execution_options=options)
            return
        if self.refuses_old_snapshots(session.connection(bind_arguments=bind)):
            raise LedgerUnavailable(_NEEDS_READ_COMMITTED)

    def refuses_old_snapshots(self, connection: sa.Connection) -> bool:
        """Return whether the isolation level is above READ COMMITTED."""
        return connection.get_isolation_level() in ("REPEATABLE READ", "SERIALIZABLE")

    def integer_bits(self, kind: sa.types.TypeEngine[Any]) -> int:
        """Return the size of the column's type; a comparison with a larger number fails."""
        inner = getattr(kind, "impl_instance", kind)
        if isinstance(inner, sa.BigInteger):
            return 64
        return 16 if isinstance(inner, sa.SmallInteger) else 32

    @contextmanager
    def lock_out_upgrades(self, connection: sa.Connection) -> Iterator[None]:
        """Take an advisory lock until the transaction ends."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_KEY)))
        yield

    def update_login(
        self, connection: sa.Connection, update: LoginUpdate, new: Mapping[str, Any]
    ) -> LoginState:
        """Insert or update a row; see :meth:`Dialect.update_login`."""
        self.begin_write(connection)
        return super().update_login(connection, update, new)

    def insert_sign_in(
        self, connection: sa.Connection, login: Mapping[str, Any], row: Mapping[str, Any]
    ) -> LoginState:
        """Take the stamp and insert the session in one statement."""
        values = prefixed("login", login) | prefixed("new", row)
        return LoginState(*connection.execute(self._sign_in, values).one())

    def end_sessions(
        self,
        connection: sa.Connection,
        user_id: str,
        revocation: Mapping[str, Any],
        end_reason: str,
    ) -> int:
        """End the sessions and record the revocation in one statement, if it has no details."""
        if "details" in revocation:
            return super().end_sessions(connection, user_id, revocation, end_reason)
        values = prefixed("new", {**revocation, "user_id": user_id, "end_reason": end_reason})
        ended: int = connection.execute(self._end_sessions, values).scalar_one()
        return ended

    def append_events(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Append one event in one statement; notify the listeners."""
        if len(rows) == 1:
            values = {"count": 1, **prefixed("new", rows[0])}
            position: int = connection.execute(self._append_one, values).scalar_one()
            return position
        position = super().append_events(connection, rows)
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))
        return position

    def of_session(self, session_id: str) -> sa.ColumnElement[bool]:
        """Return the condition for all rows of a session.

        The first row has the session's id as its key; the index holds only the others.
        """
        own = SessionRecord.session_id == session_id
        first = SessionRecord.jti == session_id
        return (own & first) | (own & (SessionRecord.session_id != SessionRecord.jti))

    def of_sessions(self, session_ids: Sequence[str]) -> sa.ColumnElement[bool]:
        """Return the condition for all rows of some sessions; see :meth:`of_session`."""
        row = SessionRecord
        first = row.jti.in_(session_ids) & (row.session_id == row.jti)
        return first | (row.session_id.in_(session_ids) & (row.session_id != row.jti))

    def plain_text(self, host: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return text of the default collation: others may ignore case, and ``citext`` does."""
        if isinstance(host.type, CITEXT) or getattr(host.type, "collation", None):
            return sa.cast(host, sa.Text).collate("default")
        return host

    def searched_text(self, host: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return text of the default collation: some do not allow ``LIKE``."""
        return self.plain_text(host)

    def is_delay(self, code: Any) -> bool:
        """Return whether a wait was cut off, or the connection: SQLSTATE's classes say so."""
        return super().is_delay(code) or str(code)[:2] in ("08", "40", "57")

    def is_commit_undone(self, error: BaseException | None) -> bool:
        """Return whether a deferred constraint or trigger, or a conflict, prevented the commit."""
        code = str(code_of(error))
        return code[:2] in ("22", "23", "25", "40", "42", "P0") and code != "40003"

    def _lock_everyone(self, connection: sa.Connection, exclusively: bool) -> int | None:
        # Its row locks are unfair: shared ones overtake an exclusive one that waits.
        queue = self._queue_exclusively if exclusively else self._queue_shared
        if connection.info.get(LOCK_WAIT) is not None and _takes_several_statements(connection):
            return self._lock_in_one_message(connection, queue, exclusively)
        self.begin_write(connection)
        connection.execute(queue)
        return super()._lock_everyone(connection, exclusively)

    def _lock_in_one_message(
        self, connection: sa.Connection, queue: Any, exclusively: bool
    ) -> int | None:
        """Set the lock wait, queue and lock the row ``*`` in one round trip instead of three.

        They stay three statements, so that the row is read after the wait in the queue.
        """
        joined = self._joined.setdefault(connection.engine, {})
        if exclusively not in joined:
            lock = LOCK_EXCLUSIVELY if exclusively else LOCK_SHARED
            joined[exclusively] = "; ".join(_literal(each, connection) for each in (queue, lock))
        milliseconds = connection.info.pop(LOCK_WAIT).milliseconds
        limit = f"SELECT set_config('lock_timeout', '{milliseconds}', true)"
        result = connection.exec_driver_sql(f"{limit}; {joined[exclusively]}")
        cursor: Any = result.cursor
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        result.close()
        return None if row is None else cast("int", row[0])

    @cached_property
    def _sign_in(self) -> Any:
        login = self._login_statements["sign in"].cte("login")
        generated = ("issued_us", "ended_us", "end_reason")
        names = [column.name for column in SESSIONS.c if column.name not in generated]
        values = sa.select(*parameters(SESSIONS, names), login.c.last_issued_us)
        state = [sa.select(login.c[name]).scalar_subquery() for name in LoginState._fields]
        return sa.insert(SESSIONS).from_select([*names, "issued_us"], values).returning(*state)

    @cached_property
    def _end_sessions(self) -> Any:
        ended = END_ALL_OF_USER.returning(SESSIONS.c.jti).cte("ended")
        others = ("sessions_ended", "details")
        names = [column.name for column in REVOCATIONS.c if column.name not in others]
        count = sa.select(sa.func.count()).select_from(ended).scalar_subquery()
        values = sa.select(*parameters(REVOCATIONS, names), count)
        return (
            sa.insert(REVOCATIONS)
            .from_select([*names, "sessions_ended"], values)
            .returning(REVOCATIONS.c.sessions_ended)
        )

    @cached_property
    def _append_one(self) -> Any:
        head = self._advance_head.cte("head")
        names = [column.name for column in EVENTS.c if column.name != "position"]
        values = sa.select(head.c.position, *parameters(EVENTS, names))
        return (
            sa.insert(EVENTS)
            .from_select(["position", *names], values)
            .returning(EVENTS.c.position, sa.func.pg_notify(CHANNEL, ""))
        )


def _takes_several_statements(connection: sa.Connection) -> bool:
    """Return whether psycopg sends several statements in one message: not where it prepares all."""
    driver: Any = connection.connection.dbapi_connection
    return connection.dialect.driver == "psycopg" and driver.prepare_threshold != 0


def _literal(statement: Any, connection: sa.Connection) -> str:
    options = schema_options(connection.engine)
    values = {"literal_binds": True}
    return str(statement.compile(dialect=connection.dialect, compile_kwargs=values, **options))
