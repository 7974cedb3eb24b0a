"""One user's active sessions, newest sign-in first, however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..store import dialects
from ..store.dialects.base import SESSIONS, by_index
from ..store.tables import RENEWED, SessionRecord
from ..tokens.claims import is_user_id
from .devices import Device, describe
from .session_filters import active_sessions

PAGE_SIZE = 20
"""Sessions on a page."""

MOST_LISTED = 1000
"""Of more sessions, those that expire last are listed: an index finds them."""

MOST_COUNTED = 100_000
"""The number of sessions at which counting stops."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session in the list of a user's active ones."""

    session_id: str
    device: Device
    signed_in_us: int
    expires_us: int
    ip: str | None
    has_ended: bool
    """Whether it has just ended, and keeps its place in the list."""


@dataclass(frozen=True, slots=True)
class NewestSessions:
    """One page of a user's active sessions, newest sign-in first."""

    sessions: list[ListedSession]
    number: int
    """Counted from 1."""
    pages: int
    total: int
    """The active sessions on all pages, up to :data:`MOST_COUNTED`."""
    is_capped: bool
    """Whether there are more than were counted."""
    is_cut: bool
    """Whether there are more than the pages hold."""


def newest_sessions(
    session: Session,
    user_id: str,
    number: int,
    *,
    kept_us: int | None = None,
    size: int = PAGE_SIZE,
) -> NewestSessions:
    """Return one page of a user's active sessions, newest sign-in first.

    No index orders sessions by their sign-in. Of more than :data:`MOST_LISTED` sessions, the pages
    hold those that expire last, which are the newest ones wherever all have one lifetime.

    :param number: The page, counted from 1; past the end, the last one is returned.
    :param kept_us: Sessions that ended at this time keep their places.
    """
    if not is_user_id(user_id):
        return NewestSessions([], 1, 1, 0, is_capped=False, is_cut=False)
    own = SessionRecord.user_id == user_id
    active = _latest(session, own, active_sessions(clock.now_us()), has_ended=False)
    listed: sa.SelectBase = active
    total = _count(session, own, active_sessions(clock.now_us()))
    kept = 0
    if kept_us is not None:
        ended = (SessionRecord.ended_us == kept_us, SessionRecord.end_reason != RENEWED)
        kept = _count(session, own, *ended)
        listed = sa.union_all(active, _latest(session, own, *ended, has_ended=True))
    pages = max(1, -(-min(total + kept, MOST_LISTED) // size))
    number = min(number, pages)
    rows = listed.subquery()
    page = (
        sa.select(rows)
        .order_by(rows.c.signed_in_us.desc(), rows.c.session_id)
        .limit(size)
        .offset((number - 1) * size)
    )
    # A session that ended may have several tokens of the same end.
    found = {
        row.session_id: ListedSession(
            row.session_id,
            describe(row.user_agent),
            row.signed_in_us,
            row.expires_us,
            row.ip,
            bool(row.has_ended),
        )
        for row in session.execute(page)
    }
    return NewestSessions(
        list(found.values()),
        number,
        pages,
        min(total, MOST_COUNTED),
        is_capped=total > MOST_COUNTED,
        is_cut=total > MOST_LISTED,
    )


def _latest(session: Session, *where: sa.ColumnElement[bool], has_ended: bool) -> sa.Select[Any]:
    """Return the query for the tokens that expire last."""
    order: tuple[Any, ...] = (SessionRecord.ended_us.desc(), SessionRecord.expires_us.desc())
    query = sa.select(
        SessionRecord.session_id,
        SessionRecord.user_agent,
        SessionRecord.signed_in_us,
        SessionRecord.expires_us,
        SessionRecord.ip,
        sa.literal(int(has_ended)).label("has_ended"),
    ).where(*where)
    order = order[1:] if has_ended else dialects.of(session).order_of_index(order)
    latest = by_index(
        query.order_by(*order).limit(MOST_LISTED), SESSIONS, "ix_xgen_sessions_user"
    ).subquery()
    return sa.select(latest)


def _count(session: Session, *where: sa.ColumnElement[bool]) -> int:
    counted = sa.select(sa.literal(1).label("one")).where(*where).limit(MOST_COUNTED + 1)
    return session.scalar(sa.select(sa.func.count()).select_from(counted.subquery())) or 0
