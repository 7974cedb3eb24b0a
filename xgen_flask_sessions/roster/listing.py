"""Which active users, in which order: what people ask for, and the look-ups that answer it.

A look-up yields ids only, so that an index alone can answer it. What is not recorded comes last
in either direction: it is a look-up of its own, which leaves the order of the others to an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import join

from ..store.tables import SessionRecord, UserLogin
from ..users.table import HostTable

Column = Literal["username", "name", "department", "active_sessions", "last_login", "last_ip"]
"""What the users can be ordered by, as the JSON API calls it."""

COLUMNS: tuple[Column, ...] = get_args(Column)
OWN: tuple[Column, ...] = ("active_sessions", "last_login", "last_ip")
"""Those that the host's table is not needed for."""
FALLING: tuple[Column, ...] = ("active_sessions", "last_login")
"""Those that are of interest from the highest down."""
DEFAULT: Column = "last_login"
MAX_TEXT = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is asked for: by default everybody, newest last login first.

    :param sort: What to order by.
    :param descending: From the highest down.
    :param text: Part of a username or a name, in any case (on SQLite, of ASCII letters only);
        everybody if empty.
    """

    sort: Column = DEFAULT
    descending: bool = True
    text: str = ""

    @property
    def is_answerable(self) -> bool:
        """Whether a database can be asked; no name holds what cannot be printed."""
        return self.text.isprintable()

    def ordered_by(self, column: Column) -> Listing:
        """Return the same in the order that choosing *column* leads to: again, and it turns."""
        falls = column in FALLING
        descending = not self.descending if column == self.sort else falls
        return Listing(sort=column, descending=descending, text=self.text)

    def without_text(self) -> Listing:
        """Return the same for everybody."""
        return Listing(sort=self.sort, descending=self.descending)

    def query(self) -> dict[str, str]:
        """Return it as an address says it; nothing if it is the default."""
        query = {"q": self.text} if self.text else {}
        if (self.sort, self.descending) != (DEFAULT, True):
            query |= {"sort": self.sort, "order": "desc" if self.descending else "asc"}
        return query


def parse_listing(sort: str | None, order: str | None, text: str) -> Listing:
    """Return what was asked for; what is not understood means the default.

    :param order: ``asc`` or ``desc``; as the column is mostly looked at, if left out.
    """
    column: Column = next((each for each in COLUMNS if each == sort), DEFAULT)
    descending = column in FALLING if order not in ("asc", "desc") else order == "desc"
    return Listing(sort=column, descending=descending, text=text)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Ids of users in an order that can be read from either end.

    :param query: The ids, in no order.
    :param order: What orders them, all in one direction, so that an index can be read backwards.
    :param descending: From the highest down.
    """

    query: sa.Select[str]
    order: tuple[Any, ...]
    descending: bool = False

    def rows(self, limit: int, offset: int, *, from_end: bool = False) -> sa.Select[str]:
        """Return the look-up of some ids; in reverse, and counted from there, if *from_end*."""
        descending = self.descending != from_end
        order = [each.desc() if descending else each.asc() for each in self.order]
        return self.query.order_by(*order).limit(limit).offset(offset)


@dataclass(frozen=True, slots=True)
class Lookups:
    """All active users' ids: parts to be read one after the other.

    :param parts: The first has nearly all of them.
    :param lengths: The look-up of how many ids the parts have, but for one: a row in their order.
    :param uncounted: Which part that is: it has the rest, and would take longest to count.
    """

    parts: list[Lookup]
    lengths: Any = None
    uncounted: int = 0


def find_lookups(listing: Listing, host: HostTable | None, now: int, dialect: str) -> Lookups:
    """Return the look-ups of all active users' ids.

    :param host: The host's table; ``None`` if it cannot be joined, which only *sort* by a column
        of ours can do without.
    """
    if host is None or listing.sort in OWN:
        return _by_own_column(listing, now, dialect)
    return _by_host_column(listing, host, now)


def find_called(
    listing: Listing, host: HostTable, now: int, limit: int, offset: int
) -> sa.Select[str, int]:
    """Return the look-up of whom the text means, in order; beside each id, how many they are."""
    found = _found(listing, host, now)
    column: Any = {
        "active_sessions": _session_count(now),
        "last_login": UserLogin.last_login_us,
        "last_ip": UserLogin.last_ip,
    }.get(listing.sort, _or_none(found.c.sorted))
    order = [each.desc() if listing.descending else each for each in (column, UserLogin.user_id)]
    return (
        sa.select(UserLogin.user_id, sa.func.count().over())
        .join(found, UserLogin.user_id == found.c.user_id)
        .where(active_users(now))
        .order_by(column.is_(None), *order)
        .limit(limit)
        .offset(offset)
    )


def count_called(listing: Listing, host: HostTable, now: int) -> sa.Select[int]:
    """Return the look-up that counts whom the text means."""
    found = _found(listing, host, now)
    return (
        sa.select(sa.func.count())
        .select_from(found)
        .join(UserLogin, UserLogin.user_id == found.c.user_id)
        .where(active_users(now))
    )


def count_superusers(host: HostTable, now: int) -> sa.Select[int]:
    """Return the look-up that counts the SuperUsers signed in."""
    superuser = host.columns["superuser"].is_(True)
    count = sa.select(sa.func.count()).where(active_users(now))
    if host.dialect.name == "postgresql":  # it would hash everybody to join a few
        ids = sa.func.array(sa.select(host.text_id).where(superuser).scalar_subquery())
        return count.where(UserLogin.user_id == sa.any_(ids))
    return count.select_from(_joined(host)).where(superuser)


def active_users(now: int) -> sa.ColumnElement[bool]:
    """Return the condition for users with an active session."""
    return UserLogin.active_until_us > now


def active_sessions(now: int) -> sa.ColumnElement[bool]:
    """Return the condition for active sessions."""
    return SessionRecord.ended_us.is_(None) & (SessionRecord.expires_us > now)


def _by_own_column(listing: Listing, now: int, dialect: str) -> Lookups:
    falls, key = listing.descending, UserLogin.user_id
    if listing.sort == "active_sessions":
        return Lookups([_by_active_sessions(falls, now, dialect)])
    if listing.sort == "last_ip":
        column: Any = UserLogin.last_ip
        everybody = _everybody(now)
    else:
        column, everybody = UserLogin.last_login_us, sa.select(key).where(active_users(now))
    missing = everybody.where(column.is_(None))
    return Lookups(
        [
            Lookup(everybody.where(column.is_not(None)), (column, key), falls),
            Lookup(missing, (key,)),
        ],
        missing.with_only_columns(sa.func.count()),
    )


def _by_active_sessions(falls: bool, now: int, dialect: str) -> Lookup:
    if dialect != "postgresql":  # a count per user, each from an index
        # In the order of the keys, in which the index has the users' sessions: by another, each
        # count would lead to another place.
        everybody = _everybody(now).where(UserLogin.user_id > "")
        return Lookup(everybody, (_session_count(now), UserLogin.user_id), falls)
    key = SessionRecord.user_id  # all at once: PostgreSQL reads one index in its order, or hashes
    counted = sa.select(key).where(active_sessions(now)).group_by(key)
    return Lookup(counted, (sa.func.count(), key), falls)


def _everybody(now: int) -> sa.Select[str]:
    """Return all active users, not by the index of who is active: it leads all over the table."""
    return sa.select(UserLogin.user_id).where(UserLogin.active_until_us + 0 > now)


def _by_host_column(listing: Listing, host: HostTable, now: int) -> Lookups:
    """Return look-ups of whom the host still has, and of the others after them."""
    known = sa.select(UserLogin.user_id).select_from(_joined(host)).where(active_users(now))
    unknown = _everybody(now).where(_unknown_to(host))
    deleted = Lookup(unknown, (UserLogin.user_id,))
    every = sa.func.count()
    if listing.sort == "username":
        by_name = Lookup(known, (host.columns["username"], host.key), listing.descending)
        if host.dialect.name == "postgresql":  # it hashes, and few are slower to find than all
            return Lookups([by_name, deleted], known.with_only_columns(every), 1)
        return Lookups([by_name, deleted], unknown.with_only_columns(every), 0)
    column = _or_none(host.columns[listing.sort])
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


def _found(listing: Listing, host: HostTable, now: int) -> sa.Subquery:
    """Return whom the text means: by their names, and a deleted user by the whole id.

    Beside the ids, what the host has to order them by.
    """
    text, name = listing.text, listing.sort
    own = sa.null() if name in OWN else host.columns[name]
    shown = UserLogin.user_id if name == "username" else sa.null()
    known = sa.select(host.text_id.label("user_id"), sa.cast(own, sa.String(255)).label("sorted"))
    deleted = sa.select(UserLogin.user_id, sa.cast(shown, sa.String(255))).where(
        UserLogin.user_id == text, active_users(now), _unknown_to(host)
    )
    return sa.union_all(known.where(host.called(text)), deleted).subquery("found")


def _joined(host: HostTable) -> Any:
    return join(host.model, UserLogin, UserLogin.user_id == host.text_id)


def _unknown_to(host: HostTable) -> sa.ColumnElement[bool]:
    row = sa.select(host.key).where(host.holds(UserLogin.user_id)).correlate(UserLogin)
    return ~row.exists()


def _session_count(now: int) -> sa.ColumnElement[int]:
    return (
        sa.select(sa.func.count())
        .where(SessionRecord.user_id == UserLogin.user_id, active_sessions(now))
        .correlate(UserLogin)
        .scalar_subquery()
    )


def _or_none(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return *column* with nothing in the place of what the screen shows as nothing."""
    return sa.func.nullif(sa.func.trim(column), "")
