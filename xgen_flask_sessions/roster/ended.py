"""A user's sessions that have ended or expired: when, why and by whom.

A page reads a bounded number of rows, however many sessions the user had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..store import dialects
from ..store.dialects.base import SESSIONS, by_index
from ..store.tables import RENEWED, RevocationRecord, SessionRecord
from ..tokens.claims import is_user_id
from .devices import Device, describe
from .positions import Position

EXPIRED: Final = "expired"
"""The reason of a session whose token expired; the others are in the column ``end_reason``."""

PAGE_SIZE = 20
"""Sessions on a page."""

MOST_ROWS = 2000
"""The most rows that one page reads: it passes over tokens that were renewed."""

_BATCH = 500

_COLUMNS = (
    SessionRecord.jti,
    SessionRecord.session_id,
    SessionRecord.signed_in_us,
    SessionRecord.expires_us,
    SessionRecord.ended_us,
    SessionRecord.end_reason,
    SessionRecord.ip,
    SessionRecord.user_agent,
)


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended or expired."""

    session_id: str
    device: Device
    signed_in_us: int
    ip: str | None
    ended_us: int
    """The time at which it ended or expired."""
    end_reason: str
    """:data:`EXPIRED`, or the ``end_reason`` of the table."""
    actor: str | None
    """A user id or the name of a command, from the audit record; ``None`` if unknown."""
    reason: str | None
    """The reason that the actor gave."""


@dataclass(frozen=True, slots=True)
class EndedPage:
    """One page of a user's ended sessions, newest end first."""

    sessions: list[EndedSession]
    older: Position | None
    """The position of the next page; ``None`` on the last one."""


def ended_page(
    session: Session, user_id: str, before: Position | None = None, *, size: int = PAGE_SIZE
) -> EndedPage:
    """Return one page of a user's ended and expired sessions, newest end first.

    A page may be short, or empty, if many tokens were renewed; :attr:`EndedPage.older` leads on.

    :param before: The page's position; ``None`` for the first one.
    """
    if not is_user_id(user_id):
        return EndedPage([], None)
    found: dict[str, Any] = {}
    position, limit, left = before, size + 1, MOST_ROWS
    while left > 0:
        rows = _rows(session, user_id, position, limit)
        repeated = _repeated(session, rows, before)
        for index, row in enumerate(rows):
            if row.end_reason == RENEWED or row.session_id in found or row.session_id in repeated:
                continue
            if len(found) == size:
                position = _position(rows[index - 1]) if index else position
                return EndedPage(_sessions(session, user_id, found.values()), position)
            found[row.session_id] = row
        if len(rows) < limit:
            return EndedPage(_sessions(session, user_id, found.values()), None)
        position = _position(rows[-1])
        left -= limit
        limit = min(_BATCH, left)
    return EndedPage(_sessions(session, user_id, found.values()), position)


def _rows(session: Session, user_id: str, before: Position | None, limit: int) -> list[Any]:
    """Return rows of ended and of expired tokens, newest end first."""
    expired = _read(session, _query(user_id, *_expired(before)), limit, is_open=True)
    ended: list[Any] = []
    for part in _ended(before):
        if len(ended) < limit:
            ended += _read(session, _query(user_id, part), limit - len(ended))
    # Rows with equal times keep the order of the database, whose collation may differ.
    rows = sorted(
        [*ended, *expired], key=lambda row: (_ended_us(row), row.expires_us), reverse=True
    )
    return rows[:limit]


def _ended(before: Position | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for ended tokens behind a position, each for one part of an index.

    As one condition, it would make databases read all rows of the same time: a force logout may
    have ended thousands.
    """
    ended_us, expires_us = SessionRecord.ended_us, SessionRecord.expires_us
    if before is None:
        return [ended_us <= clock.now_us()]
    at_once = sa.and_(
        ended_us == before.at_us,
        expires_us <= before.expires_us,
        (expires_us < before.expires_us) | (SessionRecord.jti < before.id),
    )
    return [at_once, ended_us < before.at_us]


def _expired(before: Position | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for tokens that expired behind a position.

    Such a row has the time of its end twice in its position.
    """
    expires_us = SessionRecord.expires_us
    found: list[sa.ColumnElement[bool]] = [SessionRecord.ended_us.is_(None)]
    if before is None:
        return [*found, expires_us <= clock.now_us()]
    found.append(expires_us <= before.at_us)
    if before.expires_us == before.at_us:
        found.append((expires_us < before.at_us) | (SessionRecord.jti < before.id))
    return found


def _query(user_id: str, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    query = sa.select(*_COLUMNS).where(SessionRecord.user_id == user_id, *where)
    return by_index(query, SESSIONS, "ix_xgen_sessions_user")  # type: ignore[no-any-return]


def _read(
    session: Session, query: sa.Select[Any], limit: int, *, is_open: bool = False
) -> list[Any]:
    """Read rows in the order of the index, newest first.

    :param is_open: Whether ``ended_us`` is empty in all rows.
    """
    order: tuple[Any, ...] = (SessionRecord.ended_us.desc(), SessionRecord.expires_us.desc())
    if is_open:
        order = dialects.of(session).order_of_index(order)
    return list(session.execute(query.order_by(*order, SessionRecord.jti.desc()).limit(limit)))


def _ended_us(row: Any) -> int:
    return row.expires_us if row.ended_us is None else row.ended_us  # type: ignore[no-any-return]


def _position(row: Any) -> Position:
    return Position(_ended_us(row), row.expires_us, row.jti)


def _repeated(session: Session, rows: Sequence[Any], before: Position | None) -> set[str]:
    """Return the sessions that an earlier page showed: their tokens ended at the same time."""
    if before is None:
        return set()
    same = {row.session_id for row in rows if row.ended_us == before.at_us}
    found: set[str] = set()
    for batch in _batches(sorted(same)):
        # Sums keep databases from an index on the time: all rows of a force logout have the same.
        expires_us = SessionRecord.expires_us + 0
        earlier = sa.select(SessionRecord.session_id).where(
            of_sessions(session, batch),
            SessionRecord.ended_us + 0 == before.at_us,
            SessionRecord.end_reason != RENEWED,
            (expires_us > before.expires_us)
            | ((expires_us == before.expires_us) & (SessionRecord.jti >= before.id)),
        )
        found.update(session.scalars(earlier))
    return found


def _batches(ids: list[str], size: int = 50) -> Iterable[list[str]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))


def of_sessions(session: Session, session_ids: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return the condition for all rows of some sessions."""
    return dialects.of(session).of_sessions(list(session_ids))


def _sessions(session: Session, user_id: str, rows: Iterable[Any]) -> list[EndedSession]:
    found = list(rows)
    records = _records(session, user_id, {row.ended_us for row in found} - {None})
    sessions = []
    for row in found:
        record = records.get(row.ended_us)
        sessions.append(
            EndedSession(
                row.session_id,
                describe(row.user_agent),
                row.signed_in_us,
                row.ip,
                _ended_us(row),
                row.end_reason or EXPIRED,
                record and record.actor,
                record and record.reason,
            )
        )
    return sessions


def _records(session: Session, user_id: str, times: set[int]) -> dict[int, Any]:
    """Return the audit records of some ends, by their time.

    A revocation and the rows that it ends have the same time. An act may have ended thousands of
    sessions, with a record each: they have the actor and the reason in common.
    """
    if not times:
        return {}
    columns = (RevocationRecord.revoked_us, RevocationRecord.actor, RevocationRecord.reason)
    whose = (RevocationRecord.kind == "everyone", RevocationRecord.user_id == user_id)
    firsts = [
        sa.select(
            sa.select(*columns)
            .where(each, RevocationRecord.revoked_us == at_us)
            .limit(1)
            .subquery()
        )
        for each in whose
        for at_us in sorted(times)
    ]
    return {row.revoked_us: row for row in session.execute(sa.union_all(*firsts))}
