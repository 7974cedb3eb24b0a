"""Steps before and after the commit of a session, whether the plugin or the host commits it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from ..text import traceback_of

_log = logging.getLogger(__name__)

_NEWS = "xgen_sessions_news"
_LAST_STEPS = "xgen_sessions_last_steps"
_COLLECTED = "xgen_sessions_collected"
_COMMITTING = "xgen_sessions_committing"
_HELD = "xgen_sessions_held"
_CHANGING = "xgen_sessions_changing"

_T = TypeVar("_T")
_Entry = tuple[SessionTransaction | None, _T]


@contextmanager
def changing(session: Session) -> Iterator[None]:
    """Mark a session while the plugin makes a change in it; see :func:`is_changing`."""
    outer = session.info.get(_CHANGING)
    session.info[_CHANGING] = True
    try:
        yield
    finally:
        if not outer:
            session.info.pop(_CHANGING, None)


def is_changing(session: Session) -> bool:
    """Return whether the plugin makes a change, all of whose statements need one database."""
    return bool(session.info.get(_CHANGING))


def on_commit(session: Session, send: Callable[[], object]) -> None:
    """Call *send* once the session's current transaction is committed."""
    _add(session, _NEWS, send)


def awaits_commit(session: Session, send: Callable[[], object]) -> bool:
    """Return whether *send* was passed to :func:`on_commit`, and was neither called nor undone."""
    return any(entry == send for _, entry in session.info.get(_NEWS, ()))


def before_commit(session: Session, name: str, step: Callable[[], object]) -> None:
    """Call *step* just before the session's current transaction is committed.

    A step that locks other users' rows runs late, because a transaction that goes on after such a
    lock can deadlock.

    :param name: Identifies the step; of several with one name, only the first is called.
    """
    session.info.setdefault(_LAST_STEPS, {}).setdefault(name, step)


def before_commit_with(
    session: Session, item: _T, step: Callable[[Session, Sequence[_T]], object]
) -> None:
    """Call *step* as the last statement before the session's current transaction is committed.

    :param item: Passed to *step* in one sequence with the other items; items of a savepoint that
        was rolled back are left out. An item added during the commit causes a call of its own.
    """
    if session.info.get(_COMMITTING):
        step(session, [item])
    else:
        _add(session, _COLLECTED, (step, item))


def _add(session: Session, key: str, what: Any) -> None:
    entries: list[_Entry[Any]] = session.info.setdefault(key, [])
    entries.append((session.get_nested_transaction(), what))


def take_last_steps(session: Session) -> None:
    """Run the steps before the commit now; the commit must follow.

    :raises Exception: The first error of a step. The transaction is not committed.
    """
    with changing(session):
        _take_last_steps(session)


def _take_last_steps(session: Session) -> None:
    info = session.info
    session.flush()  # it takes locks and adds items, both of which come before the last step
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
        del info[_COMMITTING]  # a second attempt to commit runs the steps again
        raise
    info.pop(_COLLECTED, None)


def take_news(session: Session) -> list[Callable[[], object]]:
    """Return what :func:`on_commit` would call, for a session whose connection commits instead."""
    entries: list[_Entry[Callable[[], object]]] = session.info.pop(_NEWS, [])
    return [send for _, send in entries]


def send_now(send: Callable[[], object]) -> None:
    """Send a signal of a committed change; the error of a receiver is logged, and stops nothing."""
    try:
        send()
    except Exception as error:
        _log.error("A receiver of a signal failed.\n%s", traceback_of(error))


@contextmanager
def no_commit(session: Session) -> Iterator[None]:
    """Refuse commits of a session within the block, so that a change stays one transaction."""
    session.info[_HELD] = True
    try:
        yield
    finally:
        session.info.pop(_HELD, None)


def _before_commit(session: Session) -> None:
    if session.info.get(_HELD) and not session.in_nested_transaction():
        raise RuntimeError("The plugin commits this transaction; do not commit it here.")
    if not session.in_nested_transaction():  # otherwise a savepoint is released
        take_last_steps(session)


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released; the commit is still to come
    entries: list[_Entry[Callable[[], object]]] = session.info.pop(_NEWS, [])
    for _, send in entries:
        send_now(send)


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    for key in (_NEWS, _COLLECTED):
        entries: list[_Entry[Any]] = session.info.get(key, [])
        entries[:] = [entry for entry in entries if not _is_in(entry[0], previous)]


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:  # close() and reset() emit no rollback event
        for key in (_NEWS, _LAST_STEPS, _COLLECTED, _COMMITTING):
            session.info.pop(key, None)


def _is_in(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction is not None:
        if transaction is outer:
            return True
        transaction = transaction.parent
    return False


# For every session, including those that the host makes: each revocation must be announced.
event.listen(Session, "before_commit", _before_commit)
event.listen(Session, "after_commit", _after_commit)
event.listen(Session, "after_soft_rollback", _after_soft_rollback)
event.listen(Session, "after_transaction_end", _after_transaction_end)
