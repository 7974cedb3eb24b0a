"""Users of a list as they are now, whether they still have active sessions or not."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..store.tables import RevocationRecord, UserLogin
from ..tokens.claims import is_user_id
from ..users.directory import UserDirectory
from .records import PastRevocation
from .roster import ActiveUser, Roster


def find_users(
    session: Session, users: UserDirectory, roster: Roster, user_ids: Sequence[str]
) -> list[ActiveUser]:
    """Return the users that ever signed in, in the order of their ids.

    :param user_ids: At most as many ids as fit into one statement.
    """
    ids = [user_id for user_id in dict.fromkeys(user_ids) if is_user_id(user_id)]
    if not ids:
        return []
    login = sa.select(UserLogin.user_id, UserLogin.last_login_us, UserLogin.last_ip)
    rows = session.execute(login.where(UserLogin.user_id.in_(ids)))
    logins = {row.user_id: row for row in rows}
    counts = roster.count_sessions_of(session, ids)
    people = users.get_many(ids)
    return [
        ActiveUser(
            users.profile(user_id, people.get(user_id)),
            counts.get(user_id, 0),
            logins[user_id].last_login_us,
            logins[user_id].last_ip,
        )
        for user_id in ids
        if user_id in logins
    ]


def revocations_by(
    session: Session, actor: str, user_ids: Sequence[str], since_us: int
) -> list[PastRevocation]:
    """Return an actor's revocations of some users, oldest first.

    :param since_us: The time of the oldest one.
    """
    record = RevocationRecord
    rows = session.execute(
        sa.select(
            record.id,
            record.kind,
            record.user_id,
            record.actor,
            record.revoked_us,
            record.sessions_ended,
        )
        .where(record.user_id.in_(user_ids), record.revoked_us >= since_us, record.actor == actor)
        .order_by(record.revoked_us, record.id)
    )
    return [PastRevocation(*row) for row in rows]
