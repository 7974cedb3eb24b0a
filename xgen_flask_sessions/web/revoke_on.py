"""Ends a user's sessions in the transaction that changes or deletes the user (``revoke_on=``).

Sees the changes that any session flushes, and ``UPDATE`` and ``DELETE`` statements for the user
model. It does not see changes without the ORM, or outside of an application context.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, object_session

from ..lifecycle import announce, cause
from ..request_acts import RequestActs, find_acts
from ..signals import user_forced_out
from ..state import State, find_state
from ..store import revocations
from ..store.revocations import Revocation
from ..store.tables import ACCOUNT_CHANGED, FORCE_LOGOUT
from ..users.triggers import Triggers
from .request_token import outcome

_DELETED: Final = "user deleted"
_INACTIVE: Final = "made inactive"


def watch(triggers: Triggers) -> None:
    """Watch the flushes and statements of every session for the model, if there are triggers."""
    model = triggers.mapper.class_
    if not triggers.attributes:
        return
    if not event.contains(model, "after_delete", _after_delete):
        event.listen(model, "after_delete", _after_delete, propagate=True)
        event.listen(model, "after_update", _after_update, propagate=True)
    if not event.contains(Session, "do_orm_execute", _do_orm_execute):
        event.listen(Session, "do_orm_execute", _do_orm_execute)


def _state() -> State | None:
    """Return the current application's state, if it has triggers."""
    state = find_state()
    return state if state is not None and state.triggers.attributes else None


def _after_delete(_: Mapper[Any], __: sa.Connection, user: Any) -> None:
    state = _state()
    if state is not None:
        _end_sessions(state, _session_of(user), state.users.ids_of_flushed(user), _DELETED)


def _after_update(_: Mapper[Any], __: sa.Connection, user: Any) -> None:
    state = _state()
    if state is None:
        return
    attributes = sa.inspect(user).attrs
    changed = [name for name in state.triggers.attributes if attributes[name].history.has_changes()]
    reason = _reason(state, changed, activated=state.users.is_active(user))
    if reason is not None:
        _end_sessions(state, _session_of(user), state.users.ids_of_flushed(user), reason)


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
        return f"{_INACTIVE}, {others} changed" if others else _INACTIVE
    return f"{others} changed"


def _do_orm_execute(execution: ORMExecuteState) -> Any:
    state = _state()
    if state is None or not (execution.is_update or execution.is_delete):
        return None
    mapper, own = execution.bind_mapper, state.triggers.mapper
    if mapper is None or not (mapper.isa(own) or own.isa(mapper)):
        return None
    reason = _DELETED if execution.is_delete else _reason_of(state, execution)
    if reason is None:
        return None
    session = execution.session
    user_ids = state.users.ids_of_target(execution)
    result = execution.invoke_statement()
    _end_sessions(state, session, user_ids, reason)
    return result


def _reason_of(state: State, execution: ORMExecuteState) -> str | None:
    """Return the reason to end the sessions of the rows that an ``UPDATE`` matches."""
    common: dict[str, Any] = {}
    for key, value in (getattr(execution.statement, "_values", None) or {}).items():
        common[getattr(key, "key", key)] = getattr(value, "value", value)
    parameters: Any = execution.parameters or [{}]
    by_column, active = state.triggers.by_column, state.triggers.active
    changed: set[str] = set()
    activated = True
    for row in [parameters] if isinstance(parameters, dict) else parameters:
        values = {by_column.get(name, name): each for name, each in {**common, **row}.items()}
        changed |= values.keys()
        activated = activated and (active not in values or _is_true(values[active]))
    return _reason(state, state.triggers.attributes & changed, activated=activated)


def _is_true(value: object) -> bool:
    return isinstance(value, sa.True_) or (isinstance(value, int) and value == 1)


def _end_sessions(state: State, session: Session, user_ids: Iterable[str], reason: str) -> None:
    for user_id in user_ids:
        revocation = _force_out(state, session, user_id, reason)
        announce(session, user_forced_out.send, revocation=revocation)


def _force_out(state: State, session: Session, user_id: str, reason: str) -> Revocation:
    """End a user's sessions; those that begin in the current request survive a new password."""
    acts = find_acts()
    actor = None if acts is None else _actor(acts, user_id)
    why = cause(state, actor, reason)
    end_reason = ACCOUNT_CHANGED if actor in (None, user_id) else FORCE_LOGOUT
    if acts is None or reason.startswith((_DELETED, _INACTIVE)):
        return revocations.force_logout(session, user_id, why, end_reason=end_reason)
    previous_us = None
    if user_id in acts.signed_in:
        previous_us = revocations.invalid_before_us(session, user_id)
    if user_id in acts.issued:
        kept = acts.issued[user_id]
        revocation = revocations.force_logout_except(session, user_id, kept, why)
    else:
        revocation = revocations.force_logout(session, user_id, why, end_reason=end_reason)
    acts.note_revocation(session, revocation, previous_us=previous_us)
    return revocation


def _actor(acts: RequestActs, user_id: str) -> str | None:
    """Return the user that makes the change: the caller, or the user that signs in."""
    if user_id in acts.signed_in or user_id in acts.issued:
        return user_id
    token = outcome().token
    return None if token is None else token.user_id
