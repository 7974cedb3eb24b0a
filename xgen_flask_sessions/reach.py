"""Whether the database answers: asked before anything waits for it without a deadline.

To connect, drivers wait as they like, and no watchdog reaches them there. So it is first made sure
that somebody is there. A connection that is open already needs no such question, and where the
database answered a moment ago, it is spared: whatever is asked next is watched.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from .denylist import Denylist
from .models import UserLogin

FRESH_S: Final = 1.0
"""For how long an answer speaks for the next call, in seconds."""

_BIND: Final = {"clause": UserLogin.__table__}

_asking: ContextVar[Callable[[], None] | None] = ContextVar("xgen_sessions_asking", default=None)


class Reach:
    """Takes connections for changes, and never from a server that says nothing.

    :param denylist: Asks the database, within its deadline.
    """

    def __init__(self, denylist: Denylist) -> None:
        self._denylist = denylist
        self._heard_s: float | None = None

    def connection(self, session: Session) -> sa.Connection:
        """Return the session's connection to the database that holds the tables.

        :raises DenylistUnavailable: The database does not answer, or not in time.
        """
        ask: Callable[[], None] | None = self._denylist.require_reachable
        engine = session.get_bind(clause=UserLogin.__table__).engine
        if not session.in_transaction() and not self._needs_no_asking(engine):
            self._denylist.require_reachable()
            ask = None
        if not event.contains(engine, "do_connect", _before_connecting):
            event.listen(engine, "do_connect", _before_connecting)
        token = _asking.set(ask)
        try:
            return session.connection(bind_arguments=_BIND)
        finally:
            _asking.reset(token)

    def _needs_no_asking(self, engine: sa.Engine) -> bool:
        if getattr(engine.pool, "_pre_ping", True):
            return False  # it waits for an answer as well
        return self._was_heard()

    def _was_heard(self) -> bool:
        return self._heard_s is not None and 0 <= time.monotonic() - self._heard_s < FRESH_S

    def require(self) -> None:
        """Make sure that the database answers, unless it has a moment ago.

        :raises DenylistUnavailable: It does not, or not in time.
        """
        if not self._was_heard():
            self._denylist.require_reachable()
            self.heard()

    def heard(self) -> None:
        """Note that the database has just answered."""
        self._heard_s = time.monotonic()


def _before_connecting(*_: object) -> None:
    """Ask before a new connection is opened in :meth:`Reach.connection`, and nowhere else."""
    ask = _asking.get()
    if ask is not None:
        ask()
