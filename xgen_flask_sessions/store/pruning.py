"""Rows that nobody needs any more: found, and deleted a few at a time.

It is done on the way, at the end of transactions that sign in or renew, and by ``prune``, in the
same manner: the owners' rows of ``xgen_user_logins`` are locked first, and those that
somebody else holds are passed over with all their sessions. So nobody is waited for, and rows are
only deleted where nobody else can be at work on them.

The verifier takes a missing row for a refusal, so that a deleted one can revive nothing.
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
from . import commit_hooks, dialects
from .dialects import Dialect
from .dialects.base import by_index
from .stamps import lock_everyone
from .tables import RevocationRecord, SessionRecord, UserLogin

PRUNE_BATCH = 100
"""Rows that :func:`prune` deletes in one transaction: others wait for no longer than it takes."""

BATCHES_AT_A_LOOK = 10
"""For how many of them :func:`find` looks: it passes over all that was deleted and not cleared."""

REST = 4
"""How long pruning rests after each, in times of what it took: sign-ins come before it."""

PIGGYBACK_ROWS = 10
"""The most rows that one sign-in deletes. It adds one, and its sign-out another."""

CLOCKS_APART = timedelta(minutes=5)
"""How far the clocks of two machines may be apart before one deletes what the other accepts."""

_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)
_revocations = cast("sa.Table", RevocationRecord.__table__)

_log = logging.getLogger(__name__)


QUIET = timedelta(seconds=1)
"""How long a process does not look again on the way, once it has found nothing left."""


def kept_from(retention: timedelta, leeway: timedelta) -> int:
    """Return the time before which rows must have ended or expired to be deleted (microseconds).

    A token is accepted until its expiry and the leeway have passed on the machine that checks it,
    and a renewed one until its grace period has, however short the retention is.
    """
    kept = max(retention, leeway + CLOCKS_APART)
    return clock.now_us() - kept // timedelta(microseconds=1)


def find(session: Session, *, before_us: int, skipped: Collection[str]) -> list[list[Any]]:
    """Find rows that ended or expired before *before_us* (microseconds), for a few batches.

    Of those that ended, the ones whose token has expired as well, however long ago it ended.

    Records of single sessions' ends are among them; those of force logouts are not.

    :param skipped: Whose rows are left alone.
    :returns: The batches, for :func:`prune`; none when no rows are left but of these.
    """
    limit = BATCHES_AT_A_LOOK * PRUNE_BATCH
    due = _find_due(dialects.connection_of(session), before_us, limit, skipped)
    return [due[first : first + PRUNE_BATCH] for first in range(0, len(due), PRUNE_BATCH)]


def prune(session: Session, batch: list[Any], *, skipped: set[str]) -> int:
    """Delete one batch of rows.

    :param batch: What :func:`find` found.
    :param skipped: Whose rows are left alone; who is locked by somebody else is added.
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
        session.flush()  # what the host has changed takes locks that must not come after ours
        connection = dialects.connection_of(session)
        due = _find_due(connection, before_us, PIGGYBACK_ROWS)
        if not due or (_try_to_delete(connection, due) == len(due) < PIGGYBACK_ROWS):
            self._clear_us = before_us


def _try_to_delete(connection: sa.Connection, due: list[Any]) -> int:
    """Delete rows as :func:`_delete` does, or none if the database forbids it."""
    savepoint = connection.begin_nested()
    try:
        deleted, _ = _delete(connection, due)
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        savepoint.rollback()  # raises if the database has undone more than that
        _log.warning("Rows past the retention could not be deleted: %s", error.orig)
        return 0
    savepoint.commit()
    return deleted


@dataclass(frozen=True, slots=True)
class _Prunable:
    """One kind of rows that may go, and the index that has them side by side."""

    key: sa.Column[str]
    owner: sa.Column[str]
    past: sa.ColumnElement[bool]
    index: str
    order: tuple[sa.Column[Any], ...]


def _prunable(before_us: int) -> list[_Prunable]:
    sessions, revocations = _sessions.c, _revocations.c
    jti, user = sessions.jti, sessions.user_id
    # An end is kept as long as the token: services without the database are told of it by Redis,
    # which is told of it again, when it has lost it, by what is on record.
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
    """Return the look-up that finds rows to delete: table, key, and the owner's row to lock.

    :param skipped: Whose rows are not looked for.

    Each part is read from the end of an index, and no further than *limit*.
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
    """Delete the rows of owners that nobody else has locked.

    :returns: How many those were, and who is locked.
    """
    # Where somebody deleted an owner's row by hand, there is nothing to lock.
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
