"""Deletion of rows past the retention, a few at a time.

Transactions that sign in or renew delete a few rows before their commit; ``prune`` deletes the
rest. Both first lock the owners' rows of ``xgen_user_logins`` and skip the owners that another
transaction has locked. So pruning waits for no other transaction, and deletes only rows that no
other transaction uses.

The checker refuses a token without a row, so that a deleted row revives no token.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..clock import MAX_RELEVANCE_US
from ..text import cause_of
from . import commit_hooks, dialects
from .dialects import Dialect
from .dialects.base import by_index
from .stamps import lock_everyone
from .tables import RevocationRecord, SessionRecord, UserLogin

PRUNE_BATCH = 100
"""Rows that :func:`prune` deletes in one transaction; other transactions wait for one batch."""

BATCHES_AT_A_LOOK = 10
"""Batches that :func:`find` returns: each search skips deleted index entries again."""

REST = 4
"""The rest after each batch, as a multiple of its duration, so that sign-ins come first."""

PIGGYBACK_ROWS = 10
"""The most rows that one sign-in deletes. It adds one, and its sign-out another."""

CLOCKS_APART = timedelta(minutes=5)
"""The greatest difference between clocks at which no machine deletes an accepted token's row."""

_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)
_revocations = cast("sa.Table", RevocationRecord.__table__)

_log = logging.getLogger(__name__)


QUIET = timedelta(seconds=1)
"""How long a process waits before it searches again after it found no rows."""


def kept_from(retention: timedelta, leeway: timedelta) -> int:
    """Return the time before which rows must have ended or expired to be deleted (microseconds).

    A token is accepted until its expiry and the leeway have passed on the machine that checks it,
    and a renewed one until its grace period has, however short the retention is.
    """
    kept = max(retention, leeway + CLOCKS_APART)
    return clock.now_us() - kept // timedelta(microseconds=1)


def find(session: Session, *, before_us: int, skipped: Collection[str]) -> list[list[Any]]:
    """Find rows that ended or expired before *before_us* (microseconds), for a few batches.

    A row that ended is found once its token has expired, too. Audit records of single sessions are
    included; those of force logouts are kept.

    :param skipped: The ids of users whose rows are skipped.
    :returns: The batches for :func:`prune`; empty if only skipped rows are left.
    """
    limit = BATCHES_AT_A_LOOK * PRUNE_BATCH
    due = _find_due(dialects.connection_of(session), before_us, limit, skipped)
    return [due[first : first + PRUNE_BATCH] for first in range(0, len(due), PRUNE_BATCH)]


def prune(session: Session, batch: list[Any], *, skipped: set[str]) -> int:
    """Delete one batch of rows.

    :param batch: A batch of :func:`find`.
    :param skipped: The ids of users whose rows are skipped; users with locked rows are added.
    :returns: How many rows were deleted.
    """
    lock_everyone(session)
    due = [row for row in batch if row.login not in skipped]
    deleted, locked = _delete(dialects.connection_of(session), due)
    skipped |= locked
    return deleted


class PiggybackPruning:
    """Deletes a few rows in each transaction that records a sign-in or a renewal.

    Under load, most transactions find that another one has looked just before. Rows that became
    due since are found after :data:`QUIET`, :data:`PIGGYBACK_ROWS` by each transaction until none
    is left: more than sign-ins add.

    :param retention: How long rows are kept.
    :param leeway: How long a token is accepted after its expiry.
    """

    def __init__(self, retention: timedelta, leeway: timedelta) -> None:
        self._retention = retention
        self._leeway = leeway
        self._clear_us: int | None = None
        """No rows from before this time are left."""

    def schedule(self, session: Session) -> None:
        """Delete due rows late in the current transaction, which has locked ``*``.

        An error there does not affect the rest of the transaction.
        """
        before_us = kept_from(self._retention, self._leeway)
        clear_us = self._clear_us
        quiet_us = QUIET // timedelta(microseconds=1)
        if clear_us is None or not 0 <= before_us - clear_us < quiet_us:
            commit_hooks.before_commit(
                session, "pruning", lambda: self._prune_last(session, before_us)
            )

    def _prune_last(self, session: Session, before_us: int) -> None:
        session.flush()  # the host's changes must take their locks before the plugin's
        connection = dialects.connection_of(session)
        due = _find_due(connection, before_us, PIGGYBACK_ROWS)
        if not due or (_try_to_delete(connection, due) == len(due) < PIGGYBACK_ROWS):
            self._clear_us = before_us


def _try_to_delete(connection: sa.Connection, due: list[Any]) -> int:
    """Delete rows like :func:`_delete`, or none if the database forbids it."""
    savepoint = connection.begin_nested()
    try:
        deleted, _ = _delete(connection, due)
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        savepoint.rollback()  # raises if the database rolled back more than the savepoint
        _log.warning("Rows past the retention could not be deleted: %s", cause_of(error))
        return 0
    savepoint.commit()
    return deleted


@dataclass(frozen=True, slots=True)
class _Prunable:
    """One kind of rows to delete, and the index in which they are adjacent."""

    key: sa.Column[str]
    owner: sa.Column[str]
    past: sa.ColumnElement[bool]
    index: str
    order: tuple[sa.Column[Any], ...]


def _prunable(before_us: int) -> list[_Prunable]:
    sessions, revocations = _sessions.c, _revocations.c
    jti, user = sessions.jti, sessions.user_id
    # An end is kept as long as the token: if Redis loses the feed, the snapshot for services
    # without the database is read from these rows.
    expired_us = clock.now_us() - MAX_RELEVANCE_US
    ended = (sessions.ended_us < before_us) & (sessions.expires_us < expired_us)
    expired = sessions.ended_us.is_(None) & (sessions.expires_us < before_us)
    told = (revocations.kind == "session") & (revocations.revoked_us < before_us)
    return [
        _Prunable(jti, user, ended, "ix_xgen_sessions_open", (sessions.ended_us,)),
        _Prunable(
            jti, user, expired, "ix_xgen_sessions_open", (sessions.ended_us, sessions.expires_us)
        ),
        _Prunable(
            revocations.id,
            revocations.user_id,
            told,
            "ix_xgen_revocations_kind",
            (revocations.revoked_us,),
        ),
    ]


def due_statement(
    before_us: int,
    limit: int,
    dialect: Dialect,
    skipped: Collection[str] = (),
) -> sa.CompoundSelect[Any]:
    """Return the query for rows to delete: table, key, and the owner's row to lock.

    Each part reads an index from its end, up to *limit* entries.

    :param skipped: The ids of users whose rows are skipped.
    """
    parts = []
    for kind in _prunable(before_us):
        login = sa.select(_logins.c.user_id).where(_logins.c.user_id == kind.owner)
        part = (
            sa.select(
                sa.literal(kind.key.table.name, sa.String).label("place"),
                kind.key.label("id"),
                login.scalar_subquery().label("login"),
            )
            .where(kind.past)
            .order_by(*dialect.order_of_index(kind.order))
            .limit(limit)
        )
        if skipped:
            part = part.where(kind.owner.not_in(skipped))
        parts.append(sa.select(by_index(part, kind.key.table, kind.index).subquery()))
    return sa.union_all(*parts).limit(limit)


def _find_due(
    connection: sa.Connection,
    before_us: int,
    limit: int,
    skipped: Collection[str] = (),
) -> list[Any]:
    statement = due_statement(before_us, limit, dialects.of(connection), skipped)
    return list(connection.execute(statement))


def _delete(connection: sa.Connection, due: list[Any]) -> tuple[int, set[str]]:
    """Delete the rows of owners whose rows are not locked.

    :returns: How many rows were deleted, and the ids of the locked owners.
    """
    # A row whose owner's row was deleted manually needs no lock.
    owners = {row.login for row in due if row.login is not None}
    free = dialects.of(connection).lock_free_logins(connection, owners) if owners else owners
    deleted = 0
    for key in (_sessions.c.jti, _revocations.c.id):
        ids = [
            row.id
            for row in due
            if row.place == key.table.name and (row.login is None or row.login in free)
        ]
        if ids:
            deleted += dialects.of(connection).delete_rows(connection, key, ids)
    return deleted, owners - free
