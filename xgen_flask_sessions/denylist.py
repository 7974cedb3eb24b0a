"""Is a token revoked? The one read behind every verification.

Knows the tables and how to ask them in a single round trip; knows neither tokens nor Flask.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import aliased

from .errors import DenylistUnavailable
from .models import EVERYONE, FORCE_LOGOUT, RENEWED, SessionRecord, UserLogin


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says of one token."""

    user_id: str
    session_id: str
    issued_us: int
    ended_us: int | None
    end_reason: str | None
    invalid_before_us: int
    """The later of the user's and everyone's invalidation timestamp."""

    def is_revoked(self, now_us: int) -> bool:
        """Say whether the token is to be refused.

        Only a renewed token's end lies ahead, so only there the clock is asked: an end recorded
        by a machine whose clock runs ahead holds at once.

        :param now_us: This machine's time in microseconds.
        """
        if self.issued_us <= self.invalid_before_us:
            return True
        if self.ended_us is None:
            return False
        return self.end_reason != RENEWED or self.ended_us <= now_us

    @property
    def forced(self) -> bool:
        """Whether a force logout ended it, rather than the user."""
        if self.end_reason in (None, RENEWED):
            return self.issued_us <= self.invalid_before_us
        return self.end_reason == FORCE_LOGOUT


def _statement() -> sa.Select[Any]:
    everyone = aliased(UserLogin)
    everyone_us = (
        sa.select(everyone.invalid_before_us).where(everyone.user_id == EVERYONE).scalar_subquery()
    )
    return (
        sa.select(
            SessionRecord.user_id,
            SessionRecord.session_id,
            SessionRecord.issued_us,
            SessionRecord.ended_us,
            SessionRecord.end_reason,
            UserLogin.invalid_before_us,
            everyone_us,
        )
        .join(UserLogin, UserLogin.user_id == SessionRecord.user_id)
        .where(SessionRecord.jti == sa.bindparam("jti"))
    )


class Denylist:
    """Asks the database, on a connection of its own.

    A transaction of the host's, which may see an old snapshot, has no part in the answer.

    :param get_engine: Returns the engine of the database that holds the tables.
    :param get_host_connection: Returns the connection that the host works on just now; it is
        asked where there is no other, as with SQLite in memory.
    """

    def __init__(
        self,
        get_engine: Callable[[], sa.Engine],
        get_host_connection: Callable[[], sa.Connection],
    ) -> None:
        self._get_engine = get_engine
        self._get_host_connection = get_host_connection
        self._statement = _statement()

    def standing(self, jti: str) -> Standing | None:
        """Return how the token *jti* stands, or ``None`` if no such token was recorded.

        :raises DenylistUnavailable: The database could not be asked.
        """
        try:
            try:
                return self._ask(jti)
            except DBAPIError as error:
                # The server was restarted since this connection was last used: the pool knows
                # now, and hands out fresh ones.
                if not error.connection_invalidated:
                    raise
                return self._ask(jti)
        except (SQLAlchemyError, OSError) as error:
            raise DenylistUnavailable from error

    def _ask(self, jti: str) -> Standing | None:
        with self._connect() as connection:
            row = connection.execute(self._statement, {"jti": jti}).one_or_none()
        if row is None:
            return None
        user_id, session_id, issued_us, ended_us, end_reason, user_us, everyone_us = row
        return Standing(
            user_id, session_id, issued_us, ended_us, end_reason, max(user_us, everyone_us or 0)
        )

    def _connect(self) -> AbstractContextManager[sa.Connection]:
        engine = self._get_engine()
        if isinstance(engine.pool, sa.StaticPool):
            # Giving its only connection back would undo what the host has not committed.
            return nullcontext(self._get_host_connection())
        if engine.dialect.name == "postgresql":  # spares BEGIN; elsewhere it would cost more
            return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return engine.connect()
