"""Tell others of a change only once it is committed, whoever commits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

_KEY = "xgen_sessions_outbox"
_Entry = tuple[SessionTransaction | None, Callable[[], object]]


def watch(sessions: scoped_session[Any]) -> None:
    """Watch the commits and rollbacks of the host's sessions."""
    if not event.contains(sessions, "after_commit", _after_commit):
        event.listen(sessions, "after_commit", _after_commit)
        event.listen(sessions, "after_soft_rollback", _after_soft_rollback)
        event.listen(sessions, "after_transaction_end", _after_transaction_end)


def on_commit(session: Session, send: Callable[[], object]) -> None:
    """Call *send* when the session's current transaction is committed, and never if it is not."""
    entries: list[_Entry] = session.info.setdefault(_KEY, [])
    entries.append((session.get_nested_transaction(), send))


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint's release: nothing is committed yet
    entries: list[_Entry] = session.info.pop(_KEY, [])
    for _, send in entries:
        send()


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    entries: list[_Entry] = session.info.get(_KEY, [])
    entries[:] = [entry for entry in entries if not _is_in(entry[0], previous)]


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:  # close() and reset() tell of no rollback
        session.info.pop(_KEY, None)


def _is_in(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction is not None:
        if transaction is outer:
            return True
        transaction = transaction.parent
    return False
