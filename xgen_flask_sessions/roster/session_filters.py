"""The filters of a list that read sessions: by address, by age and by number.

Each has two forms: a condition for one user, which an index answers by a few entries; and a query
for all users' ids, which is better if few users match. Both use indexes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..store.dialects.base import by_index
from ..store.tables import SessionRecord, UserLogin
from .address_ranges import Range
from .listing import Listing

_BY_USER = "ix_xgen_sessions_user"
_BY_ADDRESS = "ix_xgen_sessions_address"
_table: Any = SessionRecord.__table__


class _Unsearched(FunctionElement[Any]):
    """A column by which SQLite does not search; other databases see the column alone.

    Without statistics, SQLite expects few open sessions, and looks up each row by their index.
    """

    inherit_cache = True


@compiles(_Unsearched)
def _plain(element: _Unsearched, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(element.clauses.clauses[0], **options)
    return text


@compiles(_Unsearched, "sqlite")
def _with_plus(element: _Unsearched, compiler: Any, **options: Any) -> str:
    return f"+{_plain(element, compiler, **options)}"


def _active_unsearched(now: int) -> sa.ColumnElement[bool]:
    ended: Any = _Unsearched(SessionRecord.ended_us)
    expires: Any = _Unsearched(SessionRecord.expires_us)
    return sa.and_(ended.is_(None), expires > now)


def active_sessions(now: int) -> sa.ColumnElement[bool]:
    """Return the condition for active sessions."""
    return SessionRecord.ended_us.is_(None) & (SessionRecord.expires_us > now)


def session_count(now: int) -> sa.ColumnElement[int]:
    """Return the number of active sessions of the row of ``xgen_user_logins``."""
    return (
        sa.select(sa.func.count())
        .where(SessionRecord.user_id == UserLogin.user_id, active_sessions(now))
        .correlate(UserLogin)
        .scalar_subquery()
    )


class SessionFilters:
    """The filters of one list that read sessions.

    :param listing: The list.
    :param now: Microseconds.
    :param unkeyed: Addresses without a key that the filter by address finds, too.
    :param text_unkeyed: The same for the search by text.
    """

    def __init__(
        self,
        listing: Listing,
        now: int,
        unkeyed: Sequence[str] = (),
        text_unkeyed: Sequence[str] = (),
    ) -> None:
        self._now = now
        self._ranges = listing.address_ranges
        self._unkeyed = unkeyed
        self._text_ranges = listing.text_ranges
        self._text_unkeyed = text_unkeyed
        self._most = listing.min_sessions
        older = listing.older_than_us
        self._before_us = None if older is None else now - older

    @property
    def are_any(self) -> bool:
        """Whether there is a filter, other than a text that reads as an address."""
        return bool(self._ranges) or self._most is not None or self._before_us is not None

    @property
    def is_by_address(self) -> bool:
        """Whether an address is asked for, other than by the text."""
        return bool(self._ranges)

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for a row of ``xgen_user_logins``, for :attr:`are_any`."""
        found = [self._exists(each) for each in self._each()]
        if self._most is not None:
            row: Any = sa.select(sa.literal_column("1")).where(
                SessionRecord.user_id == UserLogin.user_id, active_sessions(self._now)
            )
            nth = row.correlate(UserLogin).limit(1).offset(self._most - 1)
            found.append(nth.scalar_subquery().is_not(None))
        return found

    def text_condition(self) -> sa.ColumnElement[bool]:
        """Return the condition for the text as an address."""
        return self._exists(_any_of(self._text_ranges, self._text_unkeyed))

    def by_address(self) -> Any:
        """Return the query for the users of the addresses, each once, by the index of addresses."""
        return self._of_addresses(self._ranges, self._unkeyed)

    def by_text(self) -> Any:
        """Return the query for the users of the addresses that the text stands for."""
        return self._of_addresses(self._text_ranges, self._text_unkeyed)

    def grouped(self) -> Any:
        """Return the query for the users that all filters match, by one pass over an index."""
        if self._most is None and not (self._ranges and self._before_us is not None):
            query = sa.select(SessionRecord.user_id).where(
                *self._each(), _active_unsearched(self._now)
            )
            return by_index(query.distinct(), _table, _BY_USER)
        return self.counted()

    def counted(self) -> Any:
        """Return the same query, with groups that can be ordered by ``count()``."""
        key = SessionRecord.user_id
        query = sa.select(key).where(_active_unsearched(self._now)).group_by(key)
        for each in self._each():
            query = query.having(sa.func.max(sa.case((each, 1), else_=0)) == 1)
        if self._most is not None:
            query = query.having(sa.func.count() >= self._most)
        return by_index(query, _table, _BY_USER)

    def _each(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that one of a user's sessions must meet, each for any of them."""
        found = []
        if self._ranges:
            found.append(_any_of(self._ranges, self._unkeyed))
        if self._before_us is not None:
            found.append(SessionRecord.signed_in_us < self._before_us)
        return found

    def _exists(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        row: Any = sa.select(sa.literal_column("1")).where(
            SessionRecord.user_id == UserLogin.user_id, active_sessions(self._now), condition
        )
        found: sa.ColumnElement[bool] = row.correlate(UserLogin).exists()
        return found

    def _of_addresses(self, ranges: list[Range], unkeyed: Sequence[str]) -> Any:
        query = sa.select(SessionRecord.user_id).where(
            _active_unsearched(self._now), _within(ranges, unkeyed)
        )
        return by_index(query.distinct(), _table, _BY_ADDRESS)


def _any_of(ranges: list[Range], unkeyed: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition for addresses, among sessions that another condition finds."""
    return _within(ranges, unkeyed, _Unsearched(SessionRecord.ip_key))


def _within(
    ranges: list[Range], unkeyed: Sequence[str], key: Any = SessionRecord.ip_key
) -> sa.ColumnElement[bool]:
    parts = [key == low if low == high else key.between(low, high) for low, high in ranges]
    if unkeyed:
        parts.append(key.is_(None) & SessionRecord.ip.in_(unkeyed))
    return sa.or_(*parts)


def unkeyed_addresses(now: int, limit: int) -> Any:
    """Return the query for addresses of active sessions that have no key yet, each once."""
    query = sa.select(SessionRecord.ip).where(
        _active_unsearched(now),
        SessionRecord.ip_key.is_(None),
        SessionRecord.ip.is_not(None),
    )
    return by_index(query.distinct().limit(limit), _table, _BY_ADDRESS)
