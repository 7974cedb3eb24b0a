"""The queries for lists of active users, in any order.

A query yields ids only, so that an index alone can answer it. Users without a value come last in
either direction: they are a query of their own, so that an index can order the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import join

from ..store import dialects
from ..store.dialects import Dialect
from ..store.tables import SessionRecord, UserLogin
from ..users.table import HostTable
from .listing import OWN, Listing
from .session_filters import active_sessions, session_count


@dataclass(frozen=True, slots=True)
class Lookup:
    """Ids of users in an order that can be read from either end.

    :param query: The ids, unordered.
    :param order: The expressions to order by, in one direction, so that an index can be reversed.
    :param descending: Order from the highest value.
    """

    query: sa.Select[str]
    order: tuple[Any, ...]
    descending: bool = False

    def rows(
        self,
        limit: int,
        offset: int,
        *,
        from_end: bool = False,
        of: sa.Select[str] | None = None,
    ) -> sa.Select[str]:
        """Return the query for some ids; in reverse, counted from the end, if *from_end*.

        :param of: A part of the ids; all by default.
        """
        descending = self.descending != from_end
        order = [each.desc() if descending else each.asc() for each in self.order]
        query = self.query if of is None else of
        return query.order_by(*order).limit(limit).offset(offset)


@dataclass(frozen=True, slots=True)
class Lookups:
    """All active users' ids, in parts to be read one after the other.

    :param parts: The first one has nearly all ids.
    :param lengths: The query for the lengths of all parts except one, as one row.
    :param uncounted: The index of that part, which would take longest to count.
    """

    parts: list[Lookup]
    lengths: Any = None
    uncounted: int = 0


def find_lookups(listing: Listing, host: HostTable | None, now: int, dialect: Dialect) -> Lookups:
    """Return the queries for all active users' ids.

    :param host: The host's table; ``None`` if it cannot be joined and the order does not need it.
    """
    if host is None or listing.sort in OWN:
        return _by_own_column(listing, now, dialect)
    return _by_host_column(listing, host, now)


def count_superusers(
    host: HostTable, superuser: sa.ColumnElement[bool], now: int
) -> sa.Select[int]:
    """Return the query that counts the signed-in SuperUsers.

    :param superuser: The condition for SuperUsers.
    """
    count = sa.select(sa.func.count()).where(active_users(now))
    if dialects.of(host.dialect).hashes_tables:  # it would hash all users to join a few
        ids = sa.func.array(sa.select(host.text_id).where(superuser).scalar_subquery())
        return count.where(UserLogin.user_id == sa.any_(ids))
    return count.select_from(_joined(host)).where(superuser)


def active_users(now: int) -> sa.ColumnElement[bool]:
    """Return the condition for users with an active session."""
    return UserLogin.active_until_us > now


def _by_own_column(listing: Listing, now: int, dialect: Dialect) -> Lookups:
    falls, key = listing.descending, UserLogin.user_id
    if listing.sort == "active_sessions":
        return Lookups([_by_active_sessions(falls, now, dialect)])
    if listing.sort == "last_ip":
        column: Any = UserLogin.last_ip_key
        active = all_active(now)
    else:
        column, active = UserLogin.last_login_us, sa.select(key).where(active_users(now))
    missing = active.where(column.is_(None))
    # An address without a key, of an earlier release, comes before no address.
    last = (UserLogin.last_ip.is_(None), key) if listing.sort == "last_ip" else (key,)
    return Lookups(
        [
            Lookup(active.where(column.is_not(None)), (column, key), falls),
            Lookup(missing, last),
        ],
        missing.with_only_columns(sa.func.count()),
    )


def _by_active_sessions(falls: bool, now: int, dialect: Dialect) -> Lookup:
    if not dialect.hashes_tables:  # one count for each user, from an index
        # In the order of the keys, as the index has the users' sessions: another order would make
        # each count read another page.
        active = all_active(now).where(UserLogin.user_id > "")
        return Lookup(active, (session_count(now), UserLogin.user_id), falls)
    key = SessionRecord.user_id  # all are counted at once, from one index or by hashing
    counted = sa.select(key).where(active_sessions(now)).group_by(key)
    return Lookup(counted, (sa.func.count(), key), falls)


def all_active(now: int) -> sa.Select[str]:
    """Return all active users, without the index on activity, whose order scatters the reads."""
    return sa.select(UserLogin.user_id).where(UserLogin.active_until_us + 0 > now)


def _by_host_column(listing: Listing, host: HostTable, now: int) -> Lookups:
    """Return queries for users in the host's table, then for deleted ones."""
    known = sa.select(UserLogin.user_id).select_from(_joined(host)).where(active_users(now))
    unknown = all_active(now).where(unknown_to(host))
    deleted = Lookup(unknown, (UserLogin.user_id,))
    every = sa.func.count()
    if listing.sort == "username":
        by_name = Lookup(known, (host.columns["username"], host.key), listing.descending)
        if dialects.of(host.dialect).hashes_tables:  # a few are slower to find than all
            return Lookups([by_name, deleted], known.with_only_columns(every), 1)
        return Lookups([by_name, deleted], unknown.with_only_columns(every), 0)
    column = or_none(host.columns[listing.sort])
    named = known.where(column.is_not(None))
    return Lookups(
        [
            Lookup(named, (column, host.key), listing.descending),
            Lookup(known.where(column.is_(None)), (host.key,)),
            deleted,
        ],
        known.with_only_columns(sa.func.count(column), every - sa.func.count(column)),
        2,
    )


def _joined(host: HostTable) -> Any:
    return join(host.model, UserLogin, host.joins(UserLogin.user_id))


def unknown_to(host: HostTable) -> sa.ColumnElement[bool]:
    """Return the condition for users that the host has deleted."""
    row = sa.select(host.key).where(host.holds(UserLogin.user_id)).correlate(UserLogin)
    return ~row.exists()


def or_none(column: Any) -> Any:
    """Return *column* with NULL for empty and blank values."""
    return sa.func.nullif(sa.func.trim(column), "")
