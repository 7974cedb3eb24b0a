"""Whether the database answers, checked before a call waits for it without a deadline.

A driver that connects waits for as long as it likes, and no deadline reaches it there. So the
database is checked first. An open connection needs no check, and a database that answered a moment
ago is not asked again: the next call on it has a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..connections.opening import limiting_connects
from . import dialects

FRESH_S: Final = 1.0
"""Seconds for which an answer counts for the next call."""

_BIND: Final = {"clause": dialects.PRIMARY}


class Reachability:
    """Takes connections for writes, and never from a server that does not answer.

    :param check: Asks the database within a deadline; raises ``DenylistUnavailable``.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._answered_s: float | None = None

    def connection(self, session: Session) -> sa.Connection:
        """Return the session's connection to the database that holds the tables.

        :raises DenylistUnavailable: The database does not answer in time.
        """
        check: Callable[[], None] | None = self._check
        engine = session.get_bind(clause=dialects.PRIMARY).engine
        if not session.in_transaction() and not self._needs_no_check(engine):
            self._check()
            check = None
        with limiting_connects(engine, check=check):
            return session.connection(bind_arguments=_BIND)

    def _needs_no_check(self, engine: sa.Engine) -> bool:
        if getattr(engine.pool, "_pre_ping", True):
            return False  # the ping waits for an answer, too
        return self._answered_recently()

    def _answered_recently(self) -> bool:
        answered_s = self._answered_s
        return answered_s is not None and 0 <= time.monotonic() - answered_s < FRESH_S

    def require(self) -> None:
        """Check the database, unless it answered a moment ago.

        :raises DenylistUnavailable: It does not answer in time.
        """
        if not self._answered_recently():
            self._check()
            self.note_answer()

    def note_answer(self) -> None:
        """Remember that the database answered just now."""
        self._answered_s = time.monotonic()
