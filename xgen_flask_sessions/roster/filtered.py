"""One page of the users that a list's filters match.

Filters by the user alone are counted exactly, in one query. Those that read sessions are bounded:
up to :data:`COUNTED` users are found, counted and ordered exactly. Of more, each page is read in
its order until it is full, and the number is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..errors import DatabaseUnavailable
from ..store import dialects
from ..store.address_keys import key_of
from ..store.tables import SessionRecord, UserLogin
from ..text import spellings
from ..users.table import HostTable
from . import faults
from .address_ranges import Range
from .listing import OWN, Listing
from .lookups import active_users, all_active, find_lookups, or_none, unknown_to
from .session_filters import SessionFilters, session_count, unkeyed_addresses

COUNTED: Final = 1000
"""The most users that are counted exactly, if filters read sessions."""

_UNKEYED: Final = 5000
"""The most addresses without a key that are compared one by one."""


class UnkeyedAddresses(DatabaseUnavailable):
    """Too many addresses of an earlier release have no key, by which they are searched."""

    retry_after_s = None


class FilteredUsers:
    """The users that a list's filters match.

    :param session: The session on the plugin's database.
    :param listing: The list.
    :param host: The host's table, or ``None`` if it cannot be joined.
    :param superusers: The ids of the SuperUsers, if the list is of them and the host's table has no
        condition for them.
    :param now: Microseconds.
    """

    def __init__(
        self,
        session: Session,
        listing: Listing,
        host: HostTable | None,
        superusers: Iterable[str] | None,
        now: int,
    ) -> None:
        self._session = session
        self._listing = listing
        self._host = host
        self._superusers = superusers
        self._now = now
        unkeyed = self._find_unkeyed()
        text = listing.text_ranges
        self._filters = SessionFilters(
            listing, now, _among(listing.address_ranges, unkeyed), _among(text, unkeyed)
        )
        self._text_ids = self._up_to_counted(self._filters.by_text()) if text else []
        """The users that the text finds by address; ``None`` if there are too many."""

    def read(self, skipped: int, wanted: int) -> tuple[list[str], int, bool]:
        """Return the ids of a page, the number of all users, and whether it is a lower bound."""
        if not self._filters.are_any and self._text_ids is not None:
            return (*self._read_exactly(skipped, wanted), False)
        ids = self._find_candidates()
        if ids is not None:
            found = self._sorted(ids)
            return found[skipped : skipped + wanted], len(found), False
        total, is_capped = self._count_bounded(max(COUNTED, skipped + 2 * wanted))
        if skipped >= total:
            return [], total, is_capped
        return self._read_in_order(skipped, wanted), total, is_capped

    def _find_unkeyed(self) -> list[str]:
        if not self._listing.address_ranges and not self._listing.text_ranges:
            return []
        query = unkeyed_addresses(self._now, _UNKEYED + 1)
        found = [ip for ip in self._session.scalars(query) if ip]
        if len(found) > _UNKEYED:
            raise UnkeyedAddresses(faults.NO_KEYS)
        return found

    def _up_to_counted(self, query: sa.Select[str]) -> list[str] | None:
        found = list(self._session.scalars(query.limit(COUNTED + 1)))
        return found if len(found) <= COUNTED else None

    # Exactly: filters by the user alone.

    def _read_exactly(self, skipped: int, wanted: int) -> tuple[list[str], int]:
        found, column = self._found_and_column()
        base = sa.select(UserLogin.user_id).where(active_users(self._now), *self._own_conditions())
        if found is not None:
            base = base.join(found, UserLogin.user_id == found.c.user_id)
        query = base.add_columns(sa.func.count().over()).order_by(*self._order(column))
        rows = self._session.execute(query.limit(wanted).offset(skipped)).all()
        if rows or not skipped:
            return [row[0] for row in rows], rows[0][1] if rows else 0
        counted = base.with_only_columns(sa.func.count(), maintain_column_froms=True)
        return [], self._session.scalar(counted) or 0

    def _found_and_column(self) -> tuple[sa.Subquery | None, Any]:
        """Return the users that the host's table finds, with the value to order by."""
        host, sort = self._host, self._listing.sort
        by_superuser = self._listing.superuser and self._superusers is None
        if host is None or (sort in OWN and not self._listing.text and not by_superuser):
            return None, self._own_column()
        value = sa.null() if sort in OWN else host.columns[sort]
        known: Any = sa.select(
            host.text_id.label("user_id"), sa.cast(value, sa.String(255)).label("sorted")
        )
        shown = UserLogin.user_id if sort == "username" else sa.null()
        deleted: Any = sa.select(UserLogin.user_id, sa.cast(shown, sa.String(255))).where(
            active_users(self._now), unknown_to(host)
        )
        text, ids = self._listing.text, self._text_ids
        if text:
            known = known.where(sa.or_(host.named(text), host.text_id.in_(ids or [])))
            deleted = deleted.where(UserLogin.user_id.in_([*spellings(text), *(ids or [])]))
        if by_superuser:
            found = known.where(host.superuser).subquery("found")
        else:
            found = sa.union_all(known, deleted).subquery("found")
        return found, self._own_column() if sort in OWN else or_none(found.c.sorted)

    def _own_column(self) -> Any:
        return {
            "active_sessions": session_count(self._now),
            "last_ip": UserLogin.last_ip_key,
        }.get(self._listing.sort, UserLogin.last_login_us)

    def _order(self, column: Any) -> list[Any]:
        falls = self._listing.descending
        first = [column.is_(None)]
        if self._listing.sort == "last_ip":  # without a key, and then without an address
            first.append(UserLogin.last_ip.is_(None))
        return [*first, *(each.desc() if falls else each for each in (column, UserLogin.user_id))]

    def _own_conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that need no other table."""
        found: list[sa.ColumnElement[bool]] = []
        if self._listing.since_us is not None:
            found.append(UserLogin.last_login_us >= self._listing.since_us)
        if self._listing.superuser and self._superusers is not None:
            found.append(UserLogin.user_id.in_(list(self._superusers)))
        if self._host is None and self._listing.text and self._text_ids is not None:
            found.append(UserLogin.user_id.in_(self._text_ids))
        return found

    # Bounded: filters that read sessions.

    @cached_property
    def _user_conditions(self) -> list[sa.ColumnElement[bool]]:
        """The conditions for a row of ``xgen_user_logins``, except those of its sessions."""
        found = self._own_conditions()
        host, listing = self._host, self._listing
        if host is not None and host.superuser is not None and listing.superuser:
            found.append(self._in_host(host, host.superuser))
        if listing.text and (host is not None or self._text_ids is None):
            found.append(self._text_condition())
        return found

    def _in_host(
        self, host: HostTable, condition: sa.ColumnElement[bool]
    ) -> sa.ColumnElement[bool]:
        row: Any = sa.select(sa.literal_column("1")).select_from(host.model)
        row = row.where(host.holds(UserLogin.user_id), condition).correlate(UserLogin)
        found: sa.ColumnElement[bool] = row.exists()
        return found

    def _text_condition(self) -> sa.ColumnElement[bool]:
        host, text, ids = self._host, self._listing.text, self._text_ids
        parts = [self._filters.text_condition() if ids is None else UserLogin.user_id.in_(ids)]
        if host is None:
            return sa.or_(*parts)
        deleted = UserLogin.user_id.in_(spellings(text)) & unknown_to(host)
        named = None if ids is not None else self._up_to_counted(self._ids_named(host))
        if named is None:
            parts += [self._in_host(host, host.named(text)), deleted]
        else:  # few names have an address in them: PostgreSQL would search them again and again
            gone = self._session.scalars(sa.select(UserLogin.user_id).where(deleted))
            parts.append(UserLogin.user_id.in_([*named, *gone]))
        return sa.or_(*parts)

    def _ids_named(self, host: HostTable) -> sa.Select[str]:
        return sa.select(host.text_id).where(host.named(self._listing.text))

    @cached_property
    def _conditions(self) -> list[sa.ColumnElement[bool]]:
        return [*self._user_conditions, *self._filters.conditions()]

    @property
    def _is_by_text_only(self) -> bool:
        listing = self._listing
        return replace(listing, text="") == listing.without_filters()

    def _find_candidates(self) -> list[str] | None:
        """Return users among whom all matches are; ``None`` if more than a few match."""
        if self._filters.is_by_address:
            found = self._up_to_counted(self._filters.by_address())
            if found is not None:
                return found
        if self._text_ids is None and self._is_by_text_only:
            return None
        if self._user_conditions:
            found = self._up_to_counted(self._matching(self._user_conditions))
            if found is not None or not self._filters.are_any:
                return found
            return self._up_to_counted(self._matching(self._conditions))
        return self._up_to_counted(self._filters.grouped())

    def _matching(self, conditions: list[sa.ColumnElement[bool]]) -> sa.Select[str]:
        # In the order of the keys, as the index has the users' sessions.
        return all_active(self._now).where(UserLogin.user_id > "", *conditions)

    def _sorted(self, ids: list[str]) -> list[str]:
        """Return the users of *ids* that match, in order."""
        column = self._own_column()
        host, sort = self._host, self._listing.sort
        if host is not None and sort not in OWN:
            row = sa.select(sa.cast(or_none(host.columns[sort]), sa.String(255)))
            value: Any = row.where(host.holds(UserLogin.user_id)).correlate(UserLogin)
            column = value.scalar_subquery()
            if sort == "username":  # a deleted user is shown by the id
                column = sa.func.coalesce(column, UserLogin.user_id)
        query = sa.select(UserLogin.user_id).where(
            active_users(self._now), UserLogin.user_id.in_(ids), *self._conditions
        )
        return list(self._session.scalars(query.order_by(*self._order(column))))

    def _count_bounded(self, most: int) -> tuple[int, bool]:
        if most == COUNTED:  # more than that were found
            return most, True
        query = self._matching(self._conditions)
        if not self._user_conditions:
            query = self._filters.grouped()
        found = query.limit(most + 1).subquery()
        number = self._session.scalar(sa.select(sa.func.count()).select_from(found)) or 0
        return min(number, most), number > most

    def _read_in_order(self, skipped: int, wanted: int) -> list[str]:
        """Read until the page is full: of many matches, a part of the users is enough."""
        if self._listing.sort == "active_sessions":
            return self._read_by_number(skipped, wanted)
        lookups = find_lookups(self._listing, self._host, self._now, dialects.of(self._session))
        found: list[str] = []
        for part in lookups.parts:
            query = part.query.where(*self._conditions)
            rows = part.rows(wanted - len(found), skipped, of=query)
            found += self._session.scalars(rows)
            if len(found) == wanted or part is lookups.parts[-1]:
                break
            # The part may have ended before the page, or even within it.
            counted = sa.select(sa.func.count()).select_from(query.subquery())
            skipped = max(skipped - (self._session.scalar(counted) or 0), 0)
        return found

    def _read_by_number(self, skipped: int, wanted: int) -> list[str]:
        query = self._filters.counted()
        if self._user_conditions:
            users = sa.select(UserLogin.user_id).where(
                active_users(self._now), *self._user_conditions
            )
            query = query.where(SessionRecord.user_id.in_(users))
        order: tuple[Any, ...] = (sa.func.count(), SessionRecord.user_id)
        falls = self._listing.descending
        ordered = query.order_by(*(each.desc() if falls else each for each in order))
        return list(self._session.scalars(ordered.limit(wanted).offset(skipped)))


def _among(ranges: list[Range], addresses: list[str]) -> list[str]:
    """Return the addresses whose keys lie in one of the ranges."""
    return [ip for ip in addresses if any(low <= key_of(ip) <= high for low, high in ranges)]
