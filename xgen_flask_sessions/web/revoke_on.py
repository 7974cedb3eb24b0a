"""Sees changes of users that end their sessions: deletions, new ids, and those of ``revoke_on=``.

Sees the changes that any session flushes, and ``UPDATE`` and ``DELETE`` statements for the user
model or its table; :mod:`.core_statements` sees those on a connection without a session. SQL text
and other programs are not seen, nor are changes outside of an application context.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, object_session

from ..state import State, find_state
from ..store.sign_ins import Identity
from ..users.targets import Rows, values_of
from ..users.triggers import Triggers
from .account_changes import (
    DELETED,
    ID_CHANGED,
    INACTIVE,
    end_earlier_accounts,
    end_sessions,
    follow_flush,
    follow_statement,
    is_possible,
)

_INSERTED: Final = "xgen_sessions_inserted"
HANDLED: Final = "xgen_sessions_handled"
"""Execution option of statements that were seen here."""


def watch(triggers: Triggers) -> None:
    """Watch the flushes and statements of every session for the user model."""
    model = triggers.mapper.class_
    if not event.contains(model, "after_delete", _after_delete):
        event.listen(model, "after_insert", _after_insert, propagate=True)
        event.listen(model, "after_delete", _after_delete, propagate=True)
        event.listen(model, "after_update", _after_update, propagate=True)
    if not event.contains(Session, "do_orm_execute", _do_orm_execute):
        event.listen(Session, "do_orm_execute", _do_orm_execute)
        event.listen(Session, "after_flush", _after_flush)


def _state_of(user: Any) -> State | None:
    """Return the current application's state, if *user* is a row of its user model."""
    state = find_state()
    return state if state is not None and state.users.is_row(user) else None


def _after_insert(_: Mapper[Any], __: sa.Connection, user: Any) -> None:
    state = _state_of(user)
    if state is not None:
        state.users.note_insert(user)
        _session_of(user).info.setdefault(_INSERTED, []).append(user)


def _after_flush(session: Session, _: object) -> None:
    inserted, state = session.info.pop(_INSERTED, None), find_state()
    if inserted and state is not None:
        users = [user for user in inserted if user in session]  # an earlier flush may have failed
        end_earlier_accounts(state, session, users)


def _after_delete(_: Mapper[Any], __: sa.Connection, user: Any) -> None:
    state = _state_of(user)
    if state is not None and is_possible(_session_of(user)):
        end_sessions(state, _session_of(user), state.users.ids_of_flushed(user), DELETED)


def _after_update(mapper: Mapper[Any], connection: sa.Connection, user: Any) -> None:
    state = _state_of(user)
    if state is None:
        return
    if sa.inspect(user).key is None:  # a new user takes the row of one that the flush deletes
        _after_insert(mapper, connection, user)
        return
    session, ids = _session_of(user), state.users.ids_of_flushed(user)
    if len(ids) > 1 and is_possible(session):
        for user_id in ids:
            end_sessions(state, session, [user_id], ID_CHANGED)
        return
    attributes = sa.inspect(user).attrs
    changed = [name for name in state.triggers.attributes if attributes[name].history.has_changes()]
    # Whether the user is active is asked only if it matters: it may need a query.
    activated = state.triggers.active in changed and state.users.is_active(user)
    reason = _reason(state, changed, activated=activated)
    if reason is not None:
        end_sessions(state, session, ids, reason)
    follow_flush(state, session, user)


def _session_of(user: Any) -> Session:
    session = object_session(user)
    if session is None:
        raise RuntimeError("A user is flushed by no session.")
    return session


def _reason(state: State, changed: Iterable[str], *, activated: bool) -> str | None:
    """Return the reason to end the sessions, or ``None`` if no trigger has changed."""
    active = state.triggers.active
    relevant = sorted(name for name in changed if name != active or not activated)
    if not relevant:
        return None
    others = ", ".join(name for name in relevant if name != active)
    if active in relevant:
        return f"{INACTIVE}, {others} changed" if others else INACTIVE
    return f"{others} changed"


def _do_orm_execute(execution: ORMExecuteState) -> Any:
    if not (execution.is_update or execution.is_delete):
        return None
    state = find_state()
    change = None if state is None else _change_of(state, execution)
    if state is None or change is None or not is_possible(execution.session):
        return None
    session = execution.session
    if change.table is None:
        user_ids = state.users.targets.of_orm(execution)
    else:
        user_ids = change.find(state, session)
    before = change.identities(state, session, user_ids)
    result = execution.invoke_statement(execution_options={HANDLED: True})
    change.finish(state, session, user_ids, before)
    return result


def _change_of(state: State, execution: ORMExecuteState) -> StatementChange | None:
    mapper, own = execution.bind_mapper, state.triggers.mapper
    if mapper is not None and not (mapper.isa(own) or own.isa(mapper)):
        return None
    statement: Any = execution.statement
    is_of_model = mapper is not None and not isinstance(statement.table, sa.Alias)
    return change_of(state, statement, execution.parameters, is_of_model=is_of_model)


@dataclass(frozen=True, slots=True)
class StatementChange:
    """The change that an ``UPDATE`` or ``DELETE`` of users makes.

    :param table: The user table or its alias, for a statement that is not for the model.
    :param reason: The reason to end the users' sessions, or ``None``.
    :param may_rename: Whether marks or login ids may change.
    """

    statement: Any
    rows: Rows
    table: sa.Table | sa.Alias | None
    reason: str | None
    may_rename: bool

    def find(self, state: State, session: Session) -> list[str]:
        """Return the accounts that the statement will match, and lock their rows."""
        return state.users.targets.of_core(session, self.table, self.statement, self.rows)

    def identities(
        self, state: State, session: Session, user_ids: list[str]
    ) -> dict[str, Identity]:
        """Return the users' identities before the statement, if they may change."""
        if not self.may_rename:
            return {}
        return state.users.read(state.users.connection_of(session), user_ids)

    def finish(
        self, state: State, session: Session, user_ids: list[str], before: dict[str, Identity]
    ) -> None:
        """End the users' sessions, and have marks follow."""
        if self.reason is not None:
            end_sessions(state, session, user_ids, self.reason)
        follow_statement(state, session, before, ended=self.reason is not None)


def change_of(
    state: State, statement: Any, rows: Rows, *, is_of_model: bool = False
) -> StatementChange | None:
    """Return the change that a statement makes, or ``None`` if it concerns no session.

    :param rows: The statement's parameters.
    :param is_of_model: Whether it is a statement for the model, not for its table.
    """
    table = None if is_of_model else state.users.targets.table_of(statement)
    if table is None and not is_of_model:
        return None
    if statement.is_delete:
        return StatementChange(statement, rows, table, DELETED, may_rename=False)
    by_column, active = state.triggers.by_column, state.triggers.active
    changed: set[str] = set()
    activated = True
    for row in values_of(statement, rows):
        values = {by_column.get(name, name): each for name, each in row.items()}
        changed |= values.keys()
        activated = activated and (active not in values or _is_true(values[active]))
    reason = _reason(state, state.triggers.attributes & changed, activated=activated)
    # In the parameters of a statement for the model, the key says which row to update.
    if state.users.sets_key(values_of(statement, None)[0] if is_of_model else changed):
        reason = ID_CHANGED
    users = state.users
    may_rename = users.mark_changes_with(changed) or users.login_id_changes_with(changed)
    if reason is None and not may_rename:
        return None
    return StatementChange(statement, rows, table, reason, may_rename=may_rename)


def _is_true(value: object) -> bool:
    return isinstance(value, sa.True_) or (isinstance(value, int) and value == 1)
