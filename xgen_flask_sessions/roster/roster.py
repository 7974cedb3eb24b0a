"""The answers for people: summary, pages of active users, sessions of a user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..store import dialects
from ..store.tables import SessionRecord, UserLogin
from ..tokens.claims import is_user_id
from ..users.directory import Profile, UserDirectory, batches
from ..users.table import HostTable
from .devices import Device, describe
from .filtered import FilteredUsers
from .listing import COLUMNS, OWN, Column, Listing
from .lookups import Lookup, Lookups, active_users, count_superusers, find_lookups
from .session_filters import active_sessions
from .user_sign_ins import sign_ins_of

PAGE_SIZE = 50
"""Users on one page."""

EVERYBODY: Final = Listing()
"""Every user that is signed in, newest last login first."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers on the cards."""

    active_users: int
    active_sessions: int
    superusers: int


@dataclass(frozen=True, slots=True)
class ActiveUser:
    """One row: a user with at least one active session."""

    profile: Profile
    active_sessions: int
    last_login_us: int | None
    last_ip: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of active users, in the requested order."""

    users: list[ActiveUser]
    number: int
    """Counted from 1."""
    pages: int
    total: int
    """Users on all pages."""
    is_capped: bool = False
    """Whether there are more users than :attr:`total`, and maybe more pages: they are not counted
    where that would take long."""


@dataclass(frozen=True, slots=True)
class ActiveSession:
    """One active session: a browser or device that is signed in."""

    session_id: str
    device: Device
    signed_in_us: int
    expires_us: int
    ip: str | None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page of a user's active sessions, newest sign-in first."""

    sessions: list[ActiveSession]
    number: int
    """Counted from 1."""
    pages: int
    total: int
    """Sessions on all pages."""


class Roster:
    """Answers the screen, the JSON API and the commands.

    :param users: The host's users.
    """

    def __init__(self, users: UserDirectory) -> None:
        self._users = users

    def summary(self, session: Session) -> Summary:
        """Count active users, active sessions and signed-in SuperUsers."""
        now = clock.now_us()
        return Summary(
            active_users=_count(session, active_users(now)),
            active_sessions=_count(session, active_sessions(now)),
            superusers=self._count_superusers(session, now),
        )

    def columns(self, session: Session) -> tuple[Column, ...]:
        """Return the columns for ordering; a search needs the column ``username``."""
        host = self._users.table(session)
        offered = OWN if host is None else (*OWN, *host.columns)
        return tuple(column for column in COLUMNS if column in offered)

    def page(
        self,
        session: Session,
        number: int,
        listing: Listing = EVERYBODY,
        *,
        size: int = PAGE_SIZE,
        active_users: int | None = None,
    ) -> Page:
        """Return one page of the users that are signed in.

        :param number: Counted from 1; past the end, the page is empty.
        :param listing: The list; its order is one of :meth:`columns`.
        :param size: Users on a page.
        :param active_users: Their number, if it was counted a moment ago.
        """
        now = clock.now_us()
        skipped = max(number - 1, 0) * size
        host = self._users.table(session)
        ids: list[str] = []
        total, is_capped = 0, False
        if not listing.is_answerable:
            pass  # no name matches
        elif listing.is_filtered:
            superusers = self._superuser_ids(session, host, now) if listing.superuser else None
            users = FilteredUsers(session, listing, host, superusers, now)
            ids, total, is_capped = users.read(skipped, size)
        else:
            total = (
                _count(session, UserLogin.active_until_us > now)
                if active_users is None
                else active_users
            )
            lookups = find_lookups(listing, host, now, dialects.of(session))
            ids = _read(session, lookups, skipped, size, total)
        pages = max(1, -(-total // size))
        found = self._active(session, ids, now) if ids else []
        return Page(found, number, pages, total, is_capped)

    def nearest_page(
        self,
        session: Session,
        number: int,
        listing: Listing = EVERYBODY,
        *,
        active_users: int | None = None,
    ) -> Page:
        """Return the page of that number; past the end, the last one. See :meth:`page`."""
        page = self.page(session, number, listing, active_users=active_users)
        if page.number <= page.pages:
            return page
        return self.page(session, page.pages, listing, active_users=active_users)

    def active_of(self, session: Session, user_ids: Sequence[str]) -> list[ActiveUser]:
        """Return those users that have an active session, in the same order.

        :param user_ids: At most as many ids as fit into one statement.
        """
        ids = list(user_ids)
        return self._active(session, ids, clock.now_us()) if ids else []

    def session_page(
        self, session: Session, user_id: str, number: int, *, size: int = PAGE_SIZE
    ) -> SessionPage:
        """Return one page of a user's active sessions.

        :param number: Counted from 1; past the end, the page is empty.
        :param size: Sessions on a page.
        """
        total = self.count_sessions(session, user_id)
        skipped = (number - 1) * size
        found = [] if skipped >= total else self.sessions_of(session, user_id, size, skipped)
        return SessionPage(found, number, max(1, -(-total // size)), total)

    def nearest_session_page(self, session: Session, user_id: str, number: int) -> SessionPage:
        """Return the page of that number; past the end, the last one. See :meth:`session_page`."""
        page = self.session_page(session, user_id, number)
        if page.number <= page.pages:
            return page
        return self.session_page(session, user_id, page.pages)

    def count_sessions(self, session: Session, user_id: str) -> int:
        """Return the number of a user's active sessions."""
        if not is_user_id(user_id):
            return 0
        own = SessionRecord.user_id == user_id
        return _count(session, own, active_sessions(clock.now_us()))

    def count_sessions_of(self, session: Session, user_ids: list[str]) -> dict[str, int]:
        """Return the numbers of several users' active sessions, of those that have any."""
        counted = (
            sa.select(SessionRecord.user_id, sa.func.count())
            .where(SessionRecord.user_id.in_(user_ids), active_sessions(clock.now_us()))
            .group_by(SessionRecord.user_id)
        )
        return {row[0]: row[1] for row in session.execute(counted)}

    def sessions_of(
        self, session: Session, user_id: str, limit: int | None = None, offset: int = 0
    ) -> list[ActiveSession]:
        """Return a user's active sessions, newest sign-in first.

        :param limit: The number of sessions at most; ``None`` for all of them.
        :param offset: The number of newer sessions to skip.
        """
        if not is_user_id(user_id):
            return []
        rows = session.execute(
            sa.select(
                SessionRecord.session_id,
                SessionRecord.user_agent,
                SessionRecord.signed_in_us,
                SessionRecord.expires_us,
                SessionRecord.ip,
            )
            .where(SessionRecord.user_id == user_id, active_sessions(clock.now_us()))
            .order_by(SessionRecord.signed_in_us.desc(), SessionRecord.session_id)
            .limit(limit)
            .offset(offset or None)
        )
        return [
            ActiveSession(
                row.session_id, describe(row.user_agent), row.signed_in_us, row.expires_us, row.ip
            )
            for row in rows
        ]

    def _active(self, session: Session, ids: list[str], now: int) -> list[ActiveUser]:
        """Return the active users of these ids, in the same order."""
        people = self._users.get_many(ids)
        sign_ins = sign_ins_of(session, ids, now)
        return [
            ActiveUser(
                self._users.profile(user_id, people.get(user_id)),
                sign_ins[user_id].active_sessions,
                sign_ins[user_id].last_login_us,
                sign_ins[user_id].last_ip,
            )
            for user_id in ids
            if sign_ins[user_id].active_sessions  # otherwise forced out between the questions
        ]

    def _count_superusers(self, session: Session, now: int) -> int:
        host = self._users.table(session)
        if host is not None and host.superuser is not None:
            return session.scalar(count_superusers(host, host.superuser, now)) or 0
        ids = self._users.superuser_ids(self._active_ids(session, now))
        return sum(_count(session, active_users(now), _is_one_of(batch)) for batch in batches(ids))

    def _superuser_ids(
        self, session: Session, host: HostTable | None, now: int
    ) -> list[str] | None:
        """Return the SuperUsers' ids; ``None`` if the host's table has a condition for them."""
        if host is not None and host.superuser is not None:
            return None
        return list(self._users.superuser_ids(self._active_ids(session, now)))

    def _active_ids(self, session: Session, now: int) -> Iterator[str]:
        yield from session.scalars(sa.select(UserLogin.user_id).where(active_users(now))).all()


def _read(session: Session, lookups: Lookups, skipped: int, wanted: int, total: int) -> list[str]:
    """Return ids from the parts as if they were one list.

    Skipped ids are read from the nearer end of an index, at no more than half the cost of counting
    the users; the last page costs no more than the first.

    :param total: The number of ids in all parts.
    """
    if skipped >= total:
        return []
    if skipped + wanted <= total // 2:
        ids = session.scalars(lookups.parts[0].rows(wanted, skipped)).all()
        if len(ids) == wanted:
            return list(ids)
    lengths = [] if lookups.lengths is None else list(session.execute(lookups.lengths).one())
    lengths.insert(lookups.uncounted, max(total - sum(lengths), 0))
    found: list[str] = []
    for part, length in zip(lookups.parts, lengths, strict=True):
        if skipped < length and len(found) < wanted:
            found += _read_one(session, part, skipped, wanted - len(found), length)
        skipped = max(skipped - length, 0)
    return found


def _read_one(
    session: Session, lookup: Lookup, skipped: int, wanted: int, length: int
) -> list[str]:
    taken = min(wanted, length - skipped)
    rest = length - skipped - taken
    if skipped <= rest:
        return list(session.scalars(lookup.rows(taken, skipped)))
    return list(session.scalars(lookup.rows(taken, rest, from_end=True)))[::-1]


def _is_one_of(ids: list[str]) -> sa.ColumnElement[bool]:
    return UserLogin.user_id.in_(ids)


def _count(session: Session, *where: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count()).where(*where)) or 0
