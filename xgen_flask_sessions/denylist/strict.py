"""Whether a token is revoked, asked of the database: the one read behind every verification.

Knows the tables and asks them in one round trip; knows neither tokens nor Flask.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import aliased

from ..clock import MAX_RELEVANCE_US
from ..connections.drivers import Read, compile_lookup
from ..connections.opening import has_one_connection
from ..connections.pool import DeadlinePool
from ..errors import DenylistUnavailable
from ..runtime import reset_after_fork
from ..store import dialects
from ..store.tables import (
    ACCOUNT_CHANGED,
    EVERYONE,
    FORCE_LOGOUT,
    RENEWED,
    SessionRecord,
    UserLogin,
)


class TokenStatus(NamedTuple):
    """The database's record of one token."""

    user_id: str
    session_id: str
    issued_us: int
    expires_us: int
    ended_us: int | None
    end_reason: str | None
    user_invalid_before_us: int
    """The user's invalidation timestamp."""
    everyone_invalid_before_us: int | None
    """Everyone's invalidation timestamp; ``None`` without one."""
    account_mark: str | None = None
    """Distinguishes the account from a later one with the same id; ``None`` if unknown."""

    @property
    def invalid_before_us(self) -> int:
        """The later of the two invalidation timestamps."""
        return max(self.user_invalid_before_us, self.everyone_invalid_before_us or 0)

    def is_revoked(self, now_us: int) -> bool:
        """Return whether the token must be refused.

        Only the end of a renewed token lies in the future, so the clock counts only for it: an end
        recorded by a machine whose clock is ahead takes effect at once. So does the end of a
        renewed token that lies far ahead.

        :param now_us: This machine's time in microseconds.
        """
        if self.issued_us <= self.invalid_before_us:
            return True
        if self.ended_us is None:
            return False
        until_us = self.ended_us - now_us
        return self.end_reason != RENEWED or not 0 < until_us <= MAX_RELEVANCE_US

    @property
    def forced(self) -> bool:
        """Whether a force logout ended it, not the user."""
        if self.end_reason in (None, RENEWED):
            return self.issued_us <= self.invalid_before_us
        return self.end_reason == FORCE_LOGOUT

    @property
    def account_changed(self) -> bool:
        """Whether a change of the account ended it, such as a new password."""
        return self.end_reason == ACCOUNT_CHANGED


def _everyone_us() -> sa.ScalarSelect[int]:
    everyone = aliased(UserLogin)
    star: sa.ColumnElement[str] = sa.literal_column(f"'{EVERYONE}'")  # no second parameter
    return sa.select(everyone.invalid_before_us).where(everyone.user_id == star).scalar_subquery()


def _user_us() -> sa.ScalarSelect[int]:
    user = aliased(UserLogin)
    about: sa.ColumnElement[str] = sa.bindparam("about", type_=sa.String())
    return sa.select(user.invalid_before_us).where(user.user_id == about).scalar_subquery()


STATEMENTS: Final[dict[str, Any]] = {
    "status": sa.select(
        SessionRecord.user_id,
        SessionRecord.session_id,
        SessionRecord.issued_us,
        SessionRecord.expires_us,
        SessionRecord.ended_us,
        SessionRecord.end_reason,
        UserLogin.invalid_before_us,
        _everyone_us(),
        UserLogin.account_mark,
    )
    .join(UserLogin, UserLogin.user_id == SessionRecord.user_id)
    .where(SessionRecord.jti == sa.bindparam("about", type_=sa.String())),
    "invalid before": sa.select(_user_us(), _everyone_us()),
}
"""The queries, each about one token or user."""

_READ: Final[dict[str, Read]] = {"status": TokenStatus._make, "invalid before": tuple}
"""What makes the answer of each query's row."""


class StrictDenylist:
    """Asks the database, on its own connections and within the deadline.

    The host's transaction, which may read an old snapshot, does not affect the answer.

    :param get_engine: Returns the engine of the database that holds the tables.
    :param get_host_connection: Returns the host's current connection, which is used if there can
        be no other, as with SQLite in memory.
    :param deadline_s: Seconds that an answer may take.
    """

    def __init__(
        self,
        get_engine: Callable[[], sa.Engine],
        get_host_connection: Callable[[], sa.Connection],
        deadline_s: float,
    ) -> None:
        self._get_engine = get_engine
        self._get_host_connection = get_host_connection
        self._deadline_s = deadline_s
        self._source: _Database | None = None
        self._reset_lock()
        reset_after_fork(self._reset_lock)

    def _reset_lock(self) -> None:
        self._lock = threading.Lock()

    def status(self, jti: str) -> TokenStatus | None:
        """Return the status of the token *jti*, or ``None`` if it was never recorded.

        :raises DenylistUnavailable: The database does not answer in time.
        """
        status: TokenStatus | None = self._ask("status", jti)
        return status

    def invalid_before_us(self, user_id: str) -> tuple[int, int]:
        """Return a user's and everyone's invalidation timestamp; 0 without one.

        :raises DenylistUnavailable: The database does not answer in time.
        """
        user_us, everyone_us = self._ask("invalid before", user_id) or (0, 0)
        return user_us or 0, everyone_us or 0

    def require_reachable(self) -> None:
        """Check that the database answers, before a call waits for it without a deadline.

        :raises DenylistUnavailable: It does not answer in time.
        """
        source = self.source()
        if source is None:
            return
        try:
            source.pool.fetch_one("SELECT 1")
        except source.pool.errors as error:
            raise DenylistUnavailable from error

    def warm_up(self) -> None:
        """Switch an SQLite file to its write-ahead log, before a transaction prevents it."""
        if self._get_engine().dialect.name == "sqlite":
            with suppress(DenylistUnavailable):
                self.require_reachable()

    def _ask(self, query: str, about: str) -> Any | None:
        source = self._source
        if source is None or source.engine is not self._get_engine():
            source = self.source()
        if source is None:
            return self._ask_host(query, about)
        sql, parameters = source.queries[query]
        try:
            return source.pool.fetch_one(sql, parameters(about), _READ[query])
        except source.pool.errors as error:
            raise DenylistUnavailable from error

    def source(self) -> _Database | None:
        """Return the database to ask; ``None`` if the host's connection is the only one."""
        engine = self._get_engine()
        source = self._source
        if source is not None and source.engine is engine:
            return source
        if has_one_connection(engine):
            return None
        with self._lock:
            if self._source is None or self._source.engine is not engine:
                queries = {
                    name: compile_lookup(statement, engine)
                    for name, statement in STATEMENTS.items()
                }
                pool = DeadlinePool(engine, self._deadline_s, dialects.require_supported)
                self._source = _Database(engine, pool, queries)
            return self._source

    def _ask_host(self, query: str, about: str) -> Any | None:
        try:
            # To return the only connection would roll back the host's uncommitted changes.
            connection = self._get_host_connection()
            row = connection.execute(STATEMENTS[query], {"about": about}).one_or_none()
        except SQLAlchemyError as error:
            raise DenylistUnavailable from error
        return None if row is None else _READ[query](row)


@dataclass(frozen=True, slots=True)
class _Database:
    """A database to ask, and the compiled queries."""

    engine: sa.Engine
    pool: DeadlinePool
    queries: dict[str, tuple[str, Callable[[str], Any]]]
