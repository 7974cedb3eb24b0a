"""What waits for the commit, whoever commits: last steps before it, and news after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

_log = logging.getLogger(__name__)

_NEWS = "xgen_sessions_news"
_LAST_STEPS = "xgen_sessions_last_steps"
_COLLECTED = "xgen_sessions_collected"
_COMMITTING = "xgen_sessions_committing"

_T = TypeVar("_T")
_Entry = tuple[SessionTransaction | None, _T]


def on_commit(session: Session, send: Callable[[], object]) -> None:
    """Call *send* when the session's current transaction is committed, and never if it is not."""
    _add(session, _NEWS, send)


def before_commit(session: Session, name: str, step: Callable[[], object]) -> None:
    """Call *step* late in the session's current transaction, if it is committed.

    :param name: What it is called; of several of one name, only the first is called.

    Not sooner: whoever has others' rows locked and then goes on may be waited for in a ring.
    """
    session.info.setdefault(_LAST_STEPS, {}).setdefault(name, step)


def before_commit_with(
    session: Session, item: _T, step: Callable[[Session, Sequence[_T]], object]
) -> None:
    """Call *step* as the very last thing in the session's current transaction, if it is committed.

    :param item: What to call it with, together with all others that were given and not undone
        with a savepoint. What comes only while the commit is under way is a call of its own.
    """
    if session.info.get(_COMMITTING):
        step(session, [item])
    else:
        _add(session, _COLLECTED, (step, item))


def _add(session: Session, key: str, what: Any) -> None:
    entries: list[_Entry[Any]] = session.info.setdefault(key, [])
    entries.append((session.get_nested_transaction(), what))


def take_last_steps(session: Session) -> None:
    """Take the last steps now: the commit must follow.

    What goes wrong in one is raised, with nothing committed.
    """
    info = session.info
    session.flush()  # what it locks, and what it collects, comes before the very last thing
    while _LAST_STEPS in info:
        for step in info.pop(_LAST_STEPS).values():
            step()
    info[_COMMITTING] = True
    together: dict[Any, list[Any]] = {}
    for _, (step, item) in info.get(_COLLECTED, []):
        together.setdefault(step, []).append(item)
    try:
        for step, items in together.items():
            step(session, items)
    except BaseException:
        del info[_COMMITTING]  # whoever tries to commit again is to begin with them again
        raise
    info.pop(_COLLECTED, None)


def _before_commit(session: Session) -> None:
    if not session.in_nested_transaction():  # else a savepoint's release
        take_last_steps(session)


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint's release: nothing is committed yet
    entries: list[_Entry[Callable[[], object]]] = session.info.pop(_NEWS, [])
    for _, send in entries:
        try:
            send()
        except Exception:  # everything is committed: the rest must be told of as well
            _log.exception("A receiver of a signal failed.")


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    for key in (_NEWS, _COLLECTED):
        entries: list[_Entry[Any]] = session.info.get(key, [])
        entries[:] = [entry for entry in entries if not _is_in(entry[0], previous)]


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:  # close() and reset() tell of no rollback
        for key in (_NEWS, _LAST_STEPS, _COLLECTED, _COMMITTING):
            session.info.pop(key, None)


def _is_in(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction is not None:
        if transaction is outer:
            return True
        transaction = transaction.parent
    return False


# Of every session, be it of the host's own making: nothing that ends tokens may go untold.
event.listen(Session, "before_commit", _before_commit)
event.listen(Session, "after_commit", _after_commit)
event.listen(Session, "after_soft_rollback", _after_soft_rollback)
event.listen(Session, "after_transaction_end", _after_transaction_end)
