"""The feed: changes in the order of their commits, for processes with the denylist in memory.

A transaction appends its changes as its last statement, under the lock of one row that it holds
until the commit. So positions rise in the order of the commits, without a gap, and a reader that
has read one event has read all before it.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..changes import KEPT as KEPT
from ..changes import Change as Change
from ..changes import Event as Event
from . import commit_hooks, dialects
from .tables import FeedEvent

PAGE: Final = 1000
"""Events that one query reads."""

_TRIM_EVERY: Final = 100

_events = cast("sa.Table", FeedEvent.__table__)


def add(session: Session, change: Change) -> None:
    """Append a change to the feed as the last statement of the session's transaction."""
    commit_hooks.before_commit_with(session, change, _append_all)
    commit_hooks.on_commit(session, partial(_notify, change))


class Listener(Protocol):
    """Receives the changes that this process itself commits, to any database."""

    def committed(self, change: Change) -> None:
        """Handle a change that has just been committed."""


_listeners: Final[weakref.WeakSet[Listener]] = weakref.WeakSet()


def subscribe(listener: Listener) -> None:
    """Send this process's changes to *listener* for as long as it lives."""
    _listeners.add(listener)


def _notify(change: Change) -> None:
    for listener in list(_listeners):
        listener.committed(change)


def _append_all(session: Session, changes: Sequence[Change]) -> None:
    append(dialects.connection_of(session), changes)


def append(connection: sa.Connection, changes: Sequence[Change]) -> int:
    """Append changes to the feed; its head stays locked until the transaction ends.

    :returns: The position of the last one.
    """
    rows = [{"id": uuid.uuid4().hex, **change._asdict()} for change in changes]
    position = dialects.of(connection).append_events(connection, rows)
    if position // _TRIM_EVERY != (position - len(rows)) // _TRIM_EVERY:
        connection.execute(sa.delete(_events).where(_events.c.position <= position - KEPT))
    return position


def _at_most(count: int, statement: sa.Select[Any]) -> sa.Select[Any]:
    """Limit *statement* by literals, without parameters."""
    none: sa.ColumnElement[int] = sa.literal_column("0")
    some: sa.ColumnElement[int] = sa.literal_column(str(count))
    return statement.limit(some).offset(none)


_read = (_events.c.position, _events.c.id, *(_events.c[name] for name in Change._fields))

NEWEST: Final = _at_most(1, sa.select(*_read).order_by(_events.c.position.desc()))
"""Selects the last event."""

SINCE: Final = _at_most(
    PAGE,
    sa.select(*_read)
    .where(_events.c.position >= sa.bindparam("about", type_=sa.BigInteger()))
    .order_by(_events.c.position),
)
"""Selects the events from a position on, including the one at that position."""


def event_of(row: Sequence[Any]) -> Event:
    """Return the event in a row of :data:`NEWEST` or :data:`SINCE`."""
    position, event_id, *change = row
    return Event(position, event_id, Change(*change))
