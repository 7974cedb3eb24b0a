"""The sign-ins of given users, and of all users as a table to join with the host's own lists."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..store import dialects
from ..store.tables import EVERYONE, SessionRecord, UserLogin
from ..users.directory import batches
from .session_filters import active_sessions


@dataclass(frozen=True, slots=True)
class SignIns:
    """The sign-ins of one user."""

    active_sessions: int = 0
    last_login_us: int | None = None
    """The time of the newest sign-in, in microseconds since the epoch; ``None`` without any."""
    last_ip: str | None = None
    """The address of the newest sign-in."""


def sign_ins_of(
    session: Session, user_ids: Collection[str], now: int | None = None
) -> dict[str, SignIns]:
    """Return the sign-ins of each of these users, also of those that never signed in.

    :param now: The time to count active sessions at, in microseconds since the epoch; by default,
        the current time.
    """
    found = dict.fromkeys(user_ids, SignIns())
    now = clock.now_us() if now is None else now
    for ids in batches(list(found)):
        counts: dict[str, int] = {}
        counts.update(
            session.execute(
                sa.select(SessionRecord.user_id, sa.func.count())
                .where(SessionRecord.user_id.in_(ids), active_sessions(now))
                .group_by(SessionRecord.user_id)
            ).all()
        )
        logins = sa.select(UserLogin.user_id, UserLogin.last_login_us, UserLogin.last_ip)
        for user_id, last_login_us, last_ip in session.execute(
            logins.where(UserLogin.user_id.in_(ids))
        ):
            found[user_id] = SignIns(counts.get(user_id, 0), last_login_us, last_ip)
    return found


def sign_ins_by_user(session: Session) -> sa.Subquery:
    """Return one row for each user that ever signed in: a table to join with the host's users.

    :returns: The columns ``user_id`` (text), ``active_sessions`` and ``last_login_us``. A query
        that does not use ``active_sessions`` does not count them.
    """
    active = active_sessions(clock.now_us())
    columns = (UserLogin.user_id, UserLogin.last_login_us)
    everyone = UserLogin.user_id != EVERYONE
    if not dialects.of(session).hashes_tables:  # one count for each user, from an index
        number = (
            sa.select(sa.func.count())
            .where(SessionRecord.user_id == UserLogin.user_id, active)
            .correlate(UserLogin)
            .scalar_subquery()
        )
        query = sa.select(*columns, number.label("active_sessions")).where(everyone)
        return query.subquery("xgen_sign_ins")
    # All are counted at once; as a right side that is unique, it is left out where it is unused.
    counted = (
        sa.select(SessionRecord.user_id, sa.func.count().label("number"))
        .where(active)
        .group_by(SessionRecord.user_id)
        .subquery()
    )
    number_or_0 = sa.func.coalesce(counted.c.number, 0).label("active_sessions")
    joined = sa.select(*columns, number_or_0).outerjoin(
        counted, counted.c.user_id == UserLogin.user_id
    )
    return joined.where(everyone).subquery("xgen_sign_ins")
