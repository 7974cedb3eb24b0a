"""The keys by which addresses order as numbers: IPv4 before IPv6, and each network together.

New rows get theirs in the statement that writes them. Rows of earlier releases get theirs later, a
few in each transaction: with the locks of pruning, so that no other transaction waits long.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from . import dialects
from .dialects.base import by_index
from .stamps import lock_everyone
from .tables import SessionRecord, UserLogin

NO_ADDRESS: Final = ""
"""The key of a session without an address. An empty column means that it has no key yet."""

BATCH: Final = 500
"""Rows that get their keys in one transaction."""

_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)


def key_of(ip: str | None) -> str:
    """Return the key of an address: "4" or "6", then the number in hexadecimal digits.

    Keys of one version have the same length, so that text compares as the numbers do, in every
    collation: a network is all that lies between its first and its last address.

    :param ip: An address in any spelling; ``None`` has the key :data:`NO_ADDRESS`.
    """
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:  # none, or another program wrote it
        return NO_ADDRESS
    return f"4{int(address):08x}" if address.version == 4 else f"6{int(address):032x}"


def fill_sessions(session: Session, skipped: set[str]) -> int:
    """Give a batch of open sessions their keys; the caller commits.

    :param skipped: The ids of users whose rows are skipped; users with locked rows are added.
    :returns: The number of rows found; 0 if none is left.
    """
    columns = _sessions.c
    query = by_index(
        sa.select(columns.jti, columns.user_id, columns.ip).where(
            columns.ended_us.is_(None), columns.ip_key.is_(None), columns.user_id.not_in(skipped)
        ),
        _sessions,
        "ix_xgen_sessions_address",
    )
    connection = dialects.connection_of(session)
    found = connection.execute(query.limit(BATCH)).all()
    if not found:
        return 0
    free = _lock_free(session, {row.user_id for row in found}, skipped)
    _update(
        connection,
        sa.update(_sessions)
        .where(columns.jti == sa.bindparam("row"))
        .values(ip_key=sa.bindparam("key")),
        [{"row": row.jti, "key": key_of(row.ip)} for row in found if row.user_id in free],
    )
    return len(found)


def fill_logins(session: Session, after: str) -> tuple[int, str | None]:
    """Give a batch of users' last addresses their keys, in the order of the ids.

    A key that an earlier release has left behind at another address is corrected.

    :param after: The last user of the batch before; "" at first.
    :returns: The number of wrong keys, and the last user of this batch; ``None`` if there is none.
    """
    columns = _logins.c
    query = sa.select(columns.user_id, columns.last_ip, columns.last_ip_key)
    connection = dialects.connection_of(session)
    seen = connection.execute(
        query.where(columns.user_id > after).order_by(columns.user_id).limit(BATCH)
    ).all()
    wrong = {
        row.user_id: row.last_ip for row in seen if (row.last_ip_key or "") != key_of(row.last_ip)
    }
    free = _lock_free(session, set(wrong), set()) if wrong else set()
    _update(
        connection,
        sa.update(_logins)
        .where(columns.user_id == sa.bindparam("row"), columns.last_ip == sa.bindparam("ip"))
        .values(last_ip_key=sa.bindparam("key")),
        [{"row": user, "ip": wrong[user], "key": key_of(wrong[user])} for user in sorted(free)],
    )
    return len(wrong), seen[-1].user_id if seen else None


def _lock_free(session: Session, owners: set[str], skipped: set[str]) -> set[str]:
    """Lock the users' rows that no other transaction has locked; add the others to *skipped*."""
    lock_everyone(session)
    connection = dialects.connection_of(session)
    free = dialects.of(connection).lock_free_logins(connection, owners)
    skipped |= owners - free
    return free


def _update(connection: sa.Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)
