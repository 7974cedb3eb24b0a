"""Sees ``UPDATE`` and ``DELETE`` statements for the user table on connections without a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from ..state import State, find_state, get_state
from ..store import commit_hooks
from ..store.presence import has_tables
from ..store.sign_ins import Identity
from ..text import traceback_of
from .account_changes import end_sessions
from .revoke_on import HANDLED, StatementChange, change_of

_PENDING: Final = "xgen_sessions_pending_update"
_NEWS: Final = "xgen_sessions_news_of_statements"
_log = logging.getLogger(__name__)


class _Update(NamedTuple):
    """An update that is about to run."""

    statement: Any
    change: StatementChange
    user_ids: list[str]
    before: dict[str, Identity]


def watch() -> None:
    """Watch the statements of every connection."""
    if not event.contains(sa.Engine, "before_execute", _before_execute):
        event.listen(sa.Engine, "before_execute", _before_execute, retval=True)


def _before_execute(
    connection: sa.Connection,
    statement: Any,
    rows: Any,
    row: Any,
    options: Mapping[str, Any],
) -> tuple[Any, Any, Any]:
    # With the return value, SQLAlchemy calls this function without a wrapper.
    if getattr(statement, "is_update", False) or getattr(statement, "is_delete", False):
        _note_change(connection, statement, rows or row or None, options)
    return statement, rows, row


def _note_change(
    connection: sa.Connection, statement: Any, rows: Any, options: Mapping[str, Any]
) -> None:
    state = find_state()
    if state is None or HANDLED in options or _is_of_flush(state, options):
        return
    change = change_of(state, statement, rows)
    if change is None or not _is_users_database(state, connection):
        return
    if not _holds_tables(state, connection):
        _end_apart(state, connection, change)
        return
    if not has_tables(connection):
        return
    with _session_on(connection) as session:
        user_ids = change.find(state, session)
        before = change.identities(state, session, user_ids)
        if statement.is_delete:
            change.finish(state, session, user_ids, before)
            return
    if not event.contains(connection, "after_execute", _after_execute):
        event.listen(connection, "after_execute", _after_execute)
    connection.info[_PENDING] = _Update(statement, change, user_ids, before)


def _after_execute(connection: sa.Connection, statement: Any, *_: Any) -> None:
    update: _Update | None = None
    if getattr(statement, "is_update", False):
        update = connection.info.pop(_PENDING, None)
    if update is None or update.statement is not statement:
        return
    state = get_state()
    with _session_on(connection) as session:
        update.change.finish(state, session, update.user_ids, update.before)


def _is_of_flush(state: State, options: Mapping[str, Any]) -> bool:
    """Return whether a session's flush makes the statement; :mod:`.revoke_on` sees that."""
    cache = options.get("compiled_cache")
    mapper = state.triggers.mapper.base_mapper
    return cache is not None and cache is getattr(mapper, "_compiled_cache", None)


def _end_apart(state: State, connection: sa.Connection, change: StatementChange) -> None:
    """End sessions that are in another database than the users: in a transaction of their own."""
    if change.reason is None:
        return
    with _session_on(connection) as session:
        user_ids = state.users.targets.of_core(
            session, change.table, change.statement, change.rows, lock=False
        )
    with state.transactions.write_separately(join=True) as own:
        if has_tables(own.connection()):
            end_sessions(state, own, user_ids, change.reason)


def _is_users_database(state: State, connection: sa.Connection) -> bool:
    """Return whether a connection is to the users' database."""
    users = state.db.session().get_bind(mapper=state.triggers.mapper)
    return _is_same(connection.engine, users.engine)


def _holds_tables(state: State, connection: sa.Connection) -> bool:
    """Return whether a connection is to the database that holds the plugin's tables."""
    return _is_same(connection.engine, state.db.engine)


def _is_same(one: sa.Engine, other: sa.Engine) -> bool:
    return one.pool is other.pool or (one.url == other.url and not _is_in_memory(one.url))


def _is_in_memory(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


@contextmanager
def _session_on(connection: sa.Connection) -> Iterator[Session]:
    """Lend a session in the connection's transaction; its events are added to the feed at once."""
    if not connection.in_transaction():  # the session would end a transaction of its own
        connection.begin()
    with Session(connection, join_transaction_mode="rollback_only") as session:
        yield session
        commit_hooks.take_last_steps(session)
        news = commit_hooks.take_news(session)
    if news:
        _call_after_commit(connection, news)


def _call_after_commit(connection: sa.Connection, news: list[Callable[[], object]]) -> None:
    waiting = connection.info.setdefault(_NEWS, [])
    if not waiting:
        event.listen(connection, "commit", _send)
        event.listen(connection, "rollback", _drop)
        event.listen(connection, "rollback_savepoint", _drop_since)
    savepoint = connection.get_nested_transaction()
    waiting += [(savepoint, send) for send in news]


def _send(connection: sa.Connection) -> None:
    for _, send in connection.info.pop(_NEWS, ()):
        try:
            send()
        except Exception as error:  # the change is committed: the other receivers must still run
            _log.error("A receiver of a signal failed.\n%s", traceback_of(error))


def _drop_since(connection: sa.Connection, *_: Any) -> None:
    waiting = connection.info.get(_NEWS, [])
    savepoint = connection.get_nested_transaction()
    begun = [index for index, (each, _) in enumerate(waiting) if each is savepoint]
    del waiting[min(begun, default=len(waiting)) :]


def _drop(connection: sa.Connection) -> None:
    connection.info.pop(_NEWS, None)
