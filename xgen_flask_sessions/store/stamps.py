"""The order of sign-ins and force logouts: stamps, and the locks that make them.

Each user has one row in ``xgen_user_logins``. Every sign-in and every force logout of the user
locks it; it gives out stamps that only rise. Every sign-in also locks the row ``*``, shared; a
force logout of everyone locks it exclusively. So each sign-in is ordered before or after each force
logout, independent of the machines' clocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from . import dialects
from .dialects.base import LoginState, new_login
from .tables import EVERYONE


def begin_write(session: Session) -> None:
    """Prepare a transaction that reads rows before it changes them.

    On SQLite this takes the write lock, so that no read is stale. The other databases lock the rows
    that they read.
    """
    connection = dialects.connection_of(session)
    dialects.of(connection).begin_write(connection)


def lock_everyone(session: Session, *, exclusively: bool = False) -> int:
    """Lock the row ``*`` and return everyone's invalidation timestamp (microseconds)."""
    connection = dialects.connection_of(session)
    return dialects.of(connection).lock_everyone(connection, exclusively=exclusively)


def next_stamp(
    session: Session, user_id: str, now: int, *, everyone_us: int, expires_us: int
) -> LoginState:
    """Lock the user's row, take its next stamp, and return the row's state."""
    connection = dialects.connection_of(session)
    new = new_login(user_id, last_issued_us=max(now, everyone_us + 1), active_until_us=expires_us)
    return dialects.of(connection).update_login(connection, "stamp", new)


def invalidate(session: Session, user_id: str, now: int) -> int:
    """Raise a user's invalidation timestamp to at least every stamp given out, and return it."""
    connection = dialects.connection_of(session)
    new = new_login(user_id, invalid_before_us=now)
    return dialects.of(connection).update_login(connection, "invalidate", new).invalid_before_us


def invalidate_many(session: Session, user_ids: Sequence[str], now: int) -> dict[str, int]:
    """Do the same for several users, and return their invalidation timestamps by id.

    :param user_ids: In the order of the locks, each once.
    """
    begin_write(session)
    connection = dialects.connection_of(session)
    new = [new_login(user_id, invalid_before_us=now) for user_id in user_ids]
    return dialects.of(connection).invalidate_many(connection, new)


def invalidate_everyone(session: Session, now: int) -> int:
    """Raise everyone's invalidation timestamp to at least every stamp given out, and return it.

    The row ``*`` must be locked exclusively, so that there is no sign-in at the same time.
    """
    connection = dialects.connection_of(session)
    newest_us = dialects.of(connection).newest_stamp(connection)
    return invalidate(session, EVERYONE, max(now, newest_us))
