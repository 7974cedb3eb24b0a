"""The queries of ``doctor``: the addresses of users, and the database's time."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..store import dialects
from ..store.tables import UserLogin
from .lookups import active_users


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """The most frequent last address of active users."""

    address: str
    users: int
    of: int
    """The number of active users with a known address."""


def most_frequent_address(session: Session) -> SharedAddress | None:
    """Return the most frequent last address of active users; ``None`` if none is known."""
    known = (active_users(clock.now_us()), UserLogin.last_ip.is_not(None))
    users = sa.func.count()
    row = session.execute(
        sa.select(UserLogin.last_ip, users)
        .where(*known)
        .group_by(UserLogin.last_ip)
        .order_by(users.desc(), UserLogin.last_ip)
        .limit(1)
    ).one_or_none()
    if row is None or row[0] is None:
        return None
    of = session.scalar(sa.select(sa.func.count()).where(*known)) or 0
    return SharedAddress(row[0], row[1], of)


def active_ids(session: Session, most: int) -> list[str]:
    """Return the ids of up to *most* users with an active session."""
    query = sa.select(UserLogin.user_id).where(active_users(clock.now_us())).limit(most)
    return list(session.scalars(query))


def database_now_us(session: Session) -> int | None:
    """Return the database server's time in microseconds; ``None`` for SQLite."""
    time = dialects.of(session).current_time_us
    return None if time is None else session.execute(sa.select(time)).scalar_one()
