"""The revocations of one user: force logouts, ends of sessions, and those of everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..store.leaver_details import LeaverDetails, decode
from ..store.tables import RENEWED, RevocationRecord, SessionRecord
from ..tokens.claims import is_session_id, is_user_id
from .devices import Device, describe
from .ended import of_sessions

PAGE_SIZE = 20
"""Revocations on a page."""

_COLUMNS = (
    RevocationRecord.id,
    RevocationRecord.kind,
    RevocationRecord.session_id,
    RevocationRecord.revoked_us,
    RevocationRecord.actor,
    RevocationRecord.actor_ip,
    RevocationRecord.reason,
    RevocationRecord.sessions_ended,
    RevocationRecord.details,
)


@dataclass(frozen=True, slots=True)
class UserRevocation:
    """An act that ended sessions of the user, or of everyone."""

    id: str
    """The id of its audit record, or of one of them."""
    kind: str
    """``user``, ``session`` or ``everyone``."""
    revoked_us: int
    actor: str | None
    """A user id or the name of a command; ``None`` for the system."""
    actor_ip: str | None
    reason: str | None
    sessions_ended: int
    """The sessions that ended; of all users, for everyone's."""
    device: Device | None
    """The device of a single session; ``None`` if its record has been deleted."""
    leaver: LeaverDetails | None = None
    """The changes of the account, if the user was processed as a leaver."""


@dataclass(frozen=True, slots=True)
class RevocationPage:
    """One page of a user's revocations, newest first."""

    revocations: list[UserRevocation]
    older_us: int | None
    """The time that the next page lies before; ``None`` on the last one."""


def revocation_page(
    session: Session,
    user_id: str,
    before_us: int | None = None,
    *,
    since_us: int | None,
    size: int = PAGE_SIZE,
) -> RevocationPage:
    """Return one page of the revocations of a user, newest first.

    An act that ended several sessions wrote a record for each, all with one time: it is one row. A
    force logout of everyone counts as the user's if it came after the first sign-in.

    :param before_us: The time that the page lies before; ``None`` for the first page.
    :param since_us: The user's first sign-in; ``None`` if there is no record of one.
    """
    if not is_user_id(user_id):
        return RevocationPage([], None)
    acts = _own(session, user_id, before_us, size)
    if since_us is not None:
        acts |= _everyones(session, since_us, before_us, size)
    times = sorted(acts, reverse=True)
    shown = [acts[at_us] for at_us in times[:size]]
    agents = _agents(session, [row.session_id for row, number in shown if number == 1])
    return RevocationPage(
        [_revocation(row, number, agents) for row, number in shown],
        times[size - 1] if len(times) > size else None,
    )


def _revocation(row: Any, number: int, agents: dict[str, str | None]) -> UserRevocation:
    return UserRevocation(
        row.id,
        row.kind,
        row.revoked_us,
        row.actor,
        row.actor_ip,
        row.reason,
        max(row.sessions_ended, number if row.kind == "session" else 0),
        describe(agents[row.session_id]) if row.session_id in agents else None,
        decode(row.details),
    )


def _own(
    session: Session, user_id: str, before_us: int | None, size: int
) -> dict[int, tuple[Any, int]]:
    """Return the user's own newest records by time, each with the number of those of its time."""
    own, at_us = RevocationRecord.user_id == user_id, RevocationRecord.revoked_us
    counted = sa.select(at_us, sa.func.count()).where(own, *_before(before_us)).group_by(at_us)
    numbers = session.execute(counted.order_by(at_us.desc()).limit(size + 1)).all()
    if not numbers:
        return {}
    firsts = [
        sa.select(sa.select(*_COLUMNS).where(own, at_us == row.revoked_us).limit(1).subquery())
        for row in numbers
    ]
    rows = {row.revoked_us: row for row in session.execute(sa.union_all(*firsts))}
    return {at: (rows[at], number) for at, number in numbers if at in rows}


def _everyones(
    session: Session, since_us: int, before_us: int | None, size: int
) -> dict[int, tuple[Any, int]]:
    at_us = RevocationRecord.revoked_us
    query = (
        sa.select(*_COLUMNS)
        .where(RevocationRecord.kind == "everyone", at_us > since_us, *_before(before_us))
        .order_by(at_us.desc())
        .limit(size + 1)
    )
    return {row.revoked_us: (row, 1) for row in session.execute(query)}


def _before(before_us: int | None) -> list[sa.ColumnElement[bool]]:
    return [] if before_us is None else [RevocationRecord.revoked_us < before_us]


def _agents(session: Session, session_ids: list[str | None]) -> dict[str, str | None]:
    ids = [session_id for session_id in session_ids if session_id is not None]
    if not ids:
        return {}
    query = sa.select(SessionRecord.session_id, SessionRecord.user_agent)
    rows = session.execute(query.where(of_sessions(session, ids)))
    return {row.session_id: row.user_agent for row in rows}


def find_act(session: Session, user_id: str, revocation_id: str) -> UserRevocation | None:
    """Return the act of an audit record, if it ended sessions of the user; otherwise ``None``.

    :param revocation_id: The id of the record, or of one of several that the act wrote.
    """
    if not is_session_id(revocation_id):  # it has the same format
        return None
    record = session.execute(
        sa.select(*_COLUMNS, RevocationRecord.user_id).where(RevocationRecord.id == revocation_id)
    ).one_or_none()
    if record is None or record.user_id != user_id:
        return None
    found = _own(session, user_id, record.revoked_us + 1, 1)
    _, number = found[record.revoked_us]
    return _revocation(record, number, {})


def find_end(session: Session, user_id: str, session_id: str) -> UserRevocation | None:
    """Return the act that ended a session of the user; ``None`` if it goes on or is unknown."""
    if not is_session_id(session_id) or not is_user_id(user_id):
        return None
    ended_us = session.scalar(
        sa.select(sa.func.max(SessionRecord.ended_us)).where(
            of_sessions(session, [session_id]),
            SessionRecord.user_id == user_id,
            SessionRecord.end_reason != RENEWED,
        )
    )
    if ended_us is None:
        return None
    acts = _own(session, user_id, ended_us + 1, 1) | _everyones(
        session, ended_us - 1, ended_us + 1, 1
    )
    found = acts.get(ended_us)
    return None if found is None else _revocation(*found, {})
