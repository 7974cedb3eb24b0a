"""The behaviour that databases share, one method for each difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..tables import (
    EVERYONE,
    FORCE_LOGOUT,
    FeedEvent,
    FeedHead,
    RevocationRecord,
    SessionRecord,
    UserLogin,
)

LoginUpdate = Literal["lock", "stamp", "sign in", "invalidate"]
"""The update of a user's row: none, a new stamp, a sign-in, or a new invalidation timestamp."""


class LoginState(NamedTuple):
    """A row of ``xgen_user_logins`` after an update."""

    last_issued_us: int
    invalid_before_us: int
    account_mark: str | None


LOCK_WAIT: Final = "xgen_sessions_lock_wait"
"""Key in ``connection.info``: the lock wait that is still to be set on PostgreSQL."""

MARIADB: Final = ("mysql", "mariadb")
"""The names that SQLAlchemy has for MariaDB's dialect."""

LOGINS: Final = cast("sa.Table", UserLogin.__table__)
SESSIONS: Final = cast("sa.Table", SessionRecord.__table__)
REVOCATIONS: Final = cast("sa.Table", RevocationRecord.__table__)
EVENTS: Final = cast("sa.Table", FeedEvent.__table__)
_HEAD: Final = cast("sa.Table", FeedHead.__table__)
_row = LOGINS.c

PRIMARY: Final = sa.update(LOGINS)
"""The clause that finds the database for changes, where a session reads from replicas."""

SELECT_EVERYONE: Final = sa.select(_row.invalid_before_us).where(_row.user_id == EVERYONE)
LOCK_SHARED: Final = SELECT_EVERYONE.with_for_update(read=True)
LOCK_EXCLUSIVELY: Final = SELECT_EVERYONE.with_for_update()
INSERT_SESSION: Final = sa.insert(SESSIONS)
INSERT_REVOCATION: Final = sa.insert(REVOCATIONS)


def by_index(statement: Any, table: sa.Table, name: str) -> Any:
    """Make MariaDB use an index, so that it does not scan and lock a whole small table."""
    for dialect in MARIADB:
        statement = statement.with_hint(
            text=f"FORCE INDEX ({name})", selectable=table, dialect_name=dialect
        )
    return statement


# A renewed token's row stays as it is: the timestamp revokes it, and it is not counted.
# Expiry is kept out of the index: MariaDB would also lock the row next to the range, which may be
# another user's, and two such users would wait for each other.
_now = sa.bindparam("new_revoked_us", type_=sa.BigInteger())
_end_reason = sa.bindparam("new_end_reason", FORCE_LOGOUT, type_=SESSIONS.c.end_reason.type)
END_ALL: Final = (
    sa.update(SESSIONS)
    .where(SESSIONS.c.ended_us.is_(None), SESSIONS.c.expires_us + 0 > _now)
    .values(ended_us=_now, end_reason=_end_reason)
)
"""Marks every active session as ended; parameters ``new_revoked_us`` and ``new_end_reason``, which
is a force logout if it is left out."""
END_ALL_OF_USER: Final = by_index(
    END_ALL.where(SESSIONS.c.user_id == sa.bindparam("new_user_id")),
    SESSIONS,
    "ix_xgen_sessions_user",
)


_user_ids = sa.bindparam("new_user_ids", expanding=True, type_=SESSIONS.c.user_id.type)
END_ALL_OF_USERS: Final = END_ALL.where(SESSIONS.c.user_id.in_(_user_ids))
COUNT_OF_USERS: Final = (
    sa.select(SESSIONS.c.user_id, sa.func.count())
    .where(
        SESSIONS.c.user_id.in_(_user_ids),
        SESSIONS.c.ended_us.is_(None),
        SESSIONS.c.expires_us + 0 > _now,
    )
    .group_by(SESSIONS.c.user_id)
)


def connection_of(session: Session) -> sa.Connection:
    """Return the session's connection to the database that holds the tables."""
    return session.connection(bind_arguments={"clause": PRIMARY})


def new_login(user_id: str, **values: Any) -> dict[str, Any]:
    """Return the values of a user's first row of ``xgen_user_logins``."""
    zeros = {"last_issued_us": 0, "invalid_before_us": 0, "active_until_us": 0}
    return {"user_id": user_id, **zeros, **values}


def prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def parameters(table: sa.Table, names: Iterable[str], prefix: str = "new") -> list[Any]:
    return [sa.bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in names]


class Dialect:
    """The behaviour that most databases share."""

    lock_out_upgrades: Callable[[sa.Connection], AbstractContextManager[None]]
    """Make other upgrades wait within the block, or until the transaction ends."""

    names: tuple[str, ...] = ()
    title = ""
    """The database's name."""
    oldest: tuple[int, ...] = ()
    """The oldest version that is supported."""
    driver = ""
    """The driver to use, as an SQLAlchemy URL names it."""
    character_sets = ""
    """The query for the character sets of a connection; empty if all texts pass."""
    unicode = ""
    """The only character set that holds all texts."""
    unicode_fix = ""
    """The advice for another character set."""
    deadlocks: frozenset[Any] = frozenset()
    conflicts: frozenset[Any] = frozenset()
    delays: frozenset[Any] = frozenset()
    """Codes of errors; see :func:`code_of`, and the methods that read them."""
    current_time_us: sa.ColumnElement[int] | None = None
    """The server's own time in microseconds; ``None`` if the database has no clock of its own."""
    hashes_tables = False
    """Whether the planner hashes whole tables, so that one grouped query beats a look-up by index
    for each row."""
    compares_text_with_numbers = True
    """Whether a cast of text to a number succeeds if the text is not a number."""
    pads_char = True
    """Whether spaces at the end of a ``CHAR`` are padding, and no part of the value."""

    def find_unsupported(self, dialect: sa.Dialect) -> str | None:
        """Return the name and version of a database that is not supported, or ``None``.

        :param dialect: Its dialect; without a server's version before it is connected.
        """
        version = self._version(dialect)
        if version is None or version >= self.oldest:
            return None
        return f"{self.title} {'.'.join(map(str, version))}"

    def _version(self, dialect: sa.Dialect) -> tuple[Any, ...] | None:
        return dialect.server_version_info

    @contextmanager
    def lock_wait(self, connection: sa.Connection, milliseconds: int) -> Iterator[None]:  # noqa: ARG002
        """Limit the wait for each lock within the block, on the server's side.

        A server may not notice that its client has given up.
        """
        yield

    def begin_write(self, connection: sa.Connection) -> None:
        """Prepare a transaction that reads rows before it changes them."""

    def is_held_by(self, host: Session, own: Session, *, shared: bool) -> bool:  # noqa: ARG002
        """Return whether the uncommitted changes of one session keep another from writing.

        :param host: The session that may hold the lock.
        :param own: The session that is about to write.
        :param shared: Whether both use the same connection.
        """
        return False

    def require_read_committed(self, session: Session) -> None:
        """Make the session's transaction read rows that others commit while it waits.

        :raises LedgerUnavailable: The host has begun a transaction that reads a snapshot.
        """

    def refuses_old_snapshots(self, connection: sa.Connection) -> bool:  # noqa: ARG002
        """Return whether statements fail at rows that changed since the snapshot was taken."""
        return False

    def integer_bits(self, kind: sa.types.TypeEngine[Any]) -> int:  # noqa: ARG002
        """Return the size of the numbers, with their sign, that a column of this type compares."""
        return 64

    def lock_everyone(self, connection: sa.Connection, *, exclusively: bool = False) -> int:
        """Lock the row ``*`` and return everyone's invalidation timestamp."""
        everyone_us = self._lock_everyone(connection, exclusively)
        if everyone_us is None:  # a migration makes the row, create_all() does not
            self.update_login(connection, "lock", new_login(EVERYONE))
            everyone_us = self._lock_everyone(connection, exclusively)
        return cast("int", everyone_us)

    def _lock_everyone(self, connection: sa.Connection, exclusively: bool) -> int | None:
        return connection.scalar(LOCK_EXCLUSIVELY if exclusively else LOCK_SHARED)

    def update_login(
        self, connection: sa.Connection, update: LoginUpdate, new: Mapping[str, Any]
    ) -> LoginState:
        """Insert or update a row of ``xgen_user_logins``, in one statement that locks it.

        :param update: The update.
        :param new: The values of the row if it is the user's first.
        :returns: Its state afterwards.
        """
        statement = self._login_statements[update]
        return LoginState(*connection.execute(statement, prefixed("login", new)).one())

    def insert_sign_in(
        self, connection: sa.Connection, login: Mapping[str, Any], row: Mapping[str, Any]
    ) -> LoginState:
        """Lock the user's row, take its next stamp, and insert the session.

        :param login: The user's row if it is the first.
        :param row: The session's row without its stamp.
        :returns: The state of the user's row afterwards.
        """
        state = self.update_login(connection, "sign in", login)
        connection.execute(INSERT_SESSION, {**row, "issued_us": state.last_issued_us})
        return state

    def end_sessions(
        self,
        connection: sa.Connection,
        user_id: str,
        revocation: Mapping[str, Any],
        end_reason: str,
    ) -> int:
        """End a user's active sessions, record the revocation, and return how many ended.

        :param revocation: The audit record without ``sessions_ended``.
        :param end_reason: The ``end_reason`` of the sessions.
        """
        values = {
            "new_user_id": user_id,
            "new_revoked_us": revocation["revoked_us"],
            "new_end_reason": end_reason,
        }
        ended = connection.execute(END_ALL_OF_USER, values).rowcount
        connection.execute(INSERT_REVOCATION, {**revocation, "sessions_ended": ended})
        return ended

    def invalidate_many(
        self, connection: sa.Connection, new: Sequence[Mapping[str, Any]]
    ) -> dict[str, int]:
        """Raise the invalidation timestamps of several users, in one statement that locks the rows.

        :param new: The values of each user's row if it is the first, in the order of the locks.
        :returns: The invalidation timestamps, by user id.
        """
        return {row[0]: row[1] for row in connection.execute(self._invalidate_many, new)}

    def end_sessions_of_users(
        self, connection: sa.Connection, user_ids: Sequence[str], now: int, end_reason: str
    ) -> dict[str, int]:
        """End several users' active sessions, and return how many ended, by user id.

        The users' rows of ``xgen_user_logins`` must be locked: no count changes before the update.
        """
        values = {"new_user_ids": user_ids, "new_revoked_us": now}
        ended: dict[str, int] = {
            row[0]: row[1] for row in connection.execute(COUNT_OF_USERS, values)
        }
        if ended:
            connection.execute(END_ALL_OF_USERS, values | {"new_end_reason": end_reason})
        return ended

    def append_events(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Append events to the feed, and return the position of the last one.

        The feed's head stays locked until the transaction ends.

        :param rows: The events without their positions.
        """
        position: int = connection.execute(self._advance_head, {"count": len(rows)}).scalar_one()
        first = position - len(rows) + 1
        numbered = [{**row, "position": first + index} for index, row in enumerate(rows)]
        connection.execute(sa.insert(EVENTS), numbered)
        return position

    def name_deployment(self, connection: sa.Connection, deployment_id: str) -> str:
        """Record the deployment's id unless it has one, and return its id."""
        found: str = connection.execute(
            self._name_deployment, {"deployment_id": deployment_id}
        ).scalar_one()
        return found

    def same_text(
        self, host: sa.ColumnElement[str], own: sa.ColumnElement[str]
    ) -> sa.ColumnElement[bool]:
        """Compare text of the host's with the plugin's byte by byte, whatever the host's collation.

        Indexes of both sides stay usable.

        :param host: The host's column.
        :param own: The plugin's.
        """
        return sa.and_(host == own, own == self.plain_text(host))

    def plain_text(self, host: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return text of the host's that compares byte by byte with the plugin's."""
        return host

    def searched_text(self, host: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return text of the host's that can be searched for any text."""
        return host

    def newest_stamp(self, connection: sa.Connection) -> int:
        """Return the newest stamp of all users; the row ``*`` must be locked exclusively."""
        return connection.scalar(sa.select(sa.func.max(_row.last_issued_us))) or 0

    def of_session(self, session_id: str) -> sa.ColumnElement[bool]:
        """Return the condition for all rows of a session."""
        return SessionRecord.session_id == session_id

    def of_sessions(self, session_ids: Sequence[str]) -> sa.ColumnElement[bool]:
        """Return the condition for all rows of some sessions."""
        return SessionRecord.session_id.in_(session_ids)

    def order_of_index(self, columns: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the part of an index's columns to order by, so that the index is used."""
        return columns

    def lock_free_logins(self, connection: sa.Connection, user_ids: set[str]) -> set[str]:
        """Lock the users' rows that are not locked, and return the ids of these users."""
        key = _row.user_id
        query = sa.select(key).where(key.in_(user_ids)).with_for_update(skip_locked=True)
        return set(connection.scalars(query))

    def delete_rows(self, connection: sa.Connection, key: sa.Column[str], ids: list[str]) -> int:
        """Delete rows by their key, and return how many there were."""
        return connection.execute(sa.delete(key.table).where(key.in_(ids))).rowcount

    def is_of_another_charset(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Return whether a text was looked up that the column's character set does not have."""
        return False

    def is_deadlock(self, error: BaseException | None) -> bool:
        """Return whether a driver's error means that the database broke a deadlock."""
        return code_of(error) in self.deadlocks

    def is_conflict(self, error: BaseException | None) -> bool:
        """Return whether another row, which may be new or gone, excludes the change."""
        return code_of(error) in self.conflicts

    def is_refusal(self, error: BaseException | None) -> bool:
        """Return whether the database answered a statement with a refusal that it would repeat.

        A ``CHECK``, a trigger, a missing privilege or table, a full disk; neither a delay nor a
        conflict.
        """
        code = code_of(error)
        return not (code is None or code in self.conflicts or self.is_delay(code))

    def is_delay(self, code: Any) -> bool:
        """Return whether an error's code means a wait that was cut off, or a lost connection."""
        return code in self.delays or code in self.deadlocks

    def is_transaction_lost(self, error: BaseException) -> bool:  # noqa: ARG002
        """Return whether a driver's error means that the whole transaction was rolled back."""
        return False

    def is_commit_undone(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Return whether a driver's error at a commit proves that it did not happen."""
        return False

    @cached_property
    def _login_statements(self) -> dict[LoginUpdate, Any]:
        updates: tuple[LoginUpdate, ...] = ("lock", "stamp", "sign in", "invalidate")
        return {update: self._login_statement(update) for update in updates}

    @cached_property
    def _invalidate_many(self) -> Any:
        return self._upsert(LOGINS, None, lambda new: self._set("invalidate", new)).returning(
            _row.user_id, _row.invalid_before_us
        )

    def _login_statement(self, update: LoginUpdate) -> Any:
        names = ["user_id", "last_issued_us", "invalid_before_us", "active_until_us"]
        if update == "sign in":
            names += ["last_login_us", "last_ip", "last_ip_key", "account_mark"]
        values = dict(zip(names, parameters(LOGINS, names, "login"), strict=True))
        returning = (_row.last_issued_us, _row.invalid_before_us, _row.account_mark)
        return self._upsert(LOGINS, values, lambda new: self._set(update, new)).returning(
            *returning
        )

    def _set(self, update: LoginUpdate, new: Any) -> dict[str, Any]:
        """Return the columns that an update sets, if the row exists."""
        if update == "lock":
            return {"last_issued_us": _row.last_issued_us}
        if update == "invalidate":
            raised = self._greatest(
                _row.invalid_before_us, _row.last_issued_us, new.invalid_before_us
            )
            return {"active_until_us": 0, "invalid_before_us": raised}
        stamp = self._greatest(
            _row.last_issued_us + 1, _row.invalid_before_us + 1, new.last_issued_us
        )
        active = self._greatest(_row.active_until_us, new.active_until_us)
        login = {
            "last_login_us": new.last_login_us,
            "last_ip": sa.func.coalesce(new.last_ip, _row.last_ip),
            "last_ip_key": sa.func.coalesce(new.last_ip_key, _row.last_ip_key),
            "account_mark": sa.func.coalesce(_row.account_mark, new.account_mark),
        }
        # MariaDB assigns from left to right and reads assigned values: the stamp comes last.
        return {
            **(login if update == "sign in" else {}),
            "active_until_us": active,
            "last_issued_us": stamp,
        }

    @cached_property
    def _advance_head(self) -> Any:
        count: sa.ColumnElement[int] = sa.bindparam("count", type_=sa.BigInteger())
        values = {"name": "head", "position": count}
        updated = {"position": _HEAD.c.position + count}
        return self._upsert(_HEAD, values, lambda _: updated).returning(_HEAD.c.position)

    @cached_property
    def _name_deployment(self) -> Any:
        name = _HEAD.c.deployment_id
        values = {"name": "head", "position": 0, "deployment_id": sa.bindparam("deployment_id")}
        return self._upsert(
            _HEAD, values, lambda new: {"deployment_id": sa.func.coalesce(name, new.deployment_id)}
        ).returning(name)

    def _upsert(self, table: sa.Table, values: Any, updated: Any) -> Any:
        """Return the statement that inserts or updates a row.

        :param values: The row; ``None`` for several rows, passed at the execution.
        """
        statement = self._insert(table)
        if values is not None:
            statement = statement.values(values)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=updated(statement.excluded)
        )

    def _insert(self, table: sa.Table) -> Any:
        from sqlalchemy.dialects.postgresql import insert  # loaded for this database only

        return insert(table)

    def _greatest(self, *values: Any) -> sa.ColumnElement[int]:
        return sa.func.greatest(*values, type_=sa.BigInteger())


def code_of(error: BaseException | None) -> Any:
    """Return the database's code of a driver's error; ``None`` if the driver itself raised it.

    PostgreSQL's is the SQLSTATE, MariaDB's the number, SQLite's the name of the result code.
    """
    first = first_argument(error)
    if isinstance(first, dict):  # pg8000's
        return first.get("C")
    number = getattr(error, "errno", first)  # the connector of MariaDB has a text first
    if isinstance(number, int):
        return number if number > 0 else None  # -1: the connector of MySQL raised it
    names = ("sqlite_errorname", "pgcode", "sqlstate")
    return next((getattr(error, name) for name in names if hasattr(error, name)), None)


def first_argument(error: BaseException | None) -> Any:
    return (getattr(error, "args", None) or (None,))[0]
