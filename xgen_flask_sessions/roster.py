"""Reads for people: who is signed in, on what, from where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from . import clock
from .devices import Device, describe
from .models import RevocationRecord, SessionRecord, UserLogin
from .tokens import is_session_id, is_user_id
from .users import Profile, UserDirectory, batches

PAGE_SIZE = 50
"""Users on one page."""

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Summary:
    """The cards."""

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
    """One page of active users, newest last login first."""

    users: list[ActiveUser]
    number: int
    """Counted from 1."""
    pages: int


@dataclass(frozen=True, slots=True)
class ActiveSession:
    """One active session: a browser or device that is signed in."""

    session_id: str
    device: Device
    signed_in_us: int
    expires_us: int
    ip: str | None


@dataclass(frozen=True, slots=True)
class PastRevocation:
    """One audit record."""

    id: str
    kind: str
    user_id: str | None
    actor: str | None
    revoked_us: int
    sessions_ended: int


class Roster:
    """Answers the screen, the JSON API and the commands.

    :param users: The host's users.
    """

    def __init__(self, users: UserDirectory) -> None:
        self._users = users

    def summary(self, session: Session) -> Summary:
        """Count active users, active sessions and SuperUsers signed in."""
        now = clock.now_us()
        return Summary(
            active_users=_count(session, *_active_users(now)),
            active_sessions=_count(session, *_active_sessions(now)),
            superusers=self._count_superusers(session, now),
        )

    def page(self, session: Session, number: int, size: int = PAGE_SIZE) -> Page:
        """Return one page of the users that are signed in.

        :param number: Counted from 1; past the end, the page is empty.
        :param size: Users on a page.
        """
        now = clock.now_us()
        total = _count(session, *_active_users(now))
        pages = max(1, -(-total // size))
        if not 1 <= number <= pages:
            return Page([], number, pages)
        rows = session.execute(
            sa.select(UserLogin.user_id, UserLogin.last_login_us, UserLogin.last_ip)
            .where(*_active_users(now))
            .order_by(
                UserLogin.last_login_us.is_(None),
                UserLogin.last_login_us.desc(),
                UserLogin.user_id,
            )
            .limit(size)
            .offset((number - 1) * size)
        ).all()
        ids = [row.user_id for row in rows]
        people = self._users.get_many(ids)
        counts: dict[str, int] = {}
        counts.update(
            session.execute(
                sa.select(SessionRecord.user_id, sa.func.count())
                .where(SessionRecord.user_id.in_(ids), *_active_sessions(now))
                .group_by(SessionRecord.user_id)
            ).all()
        )
        return Page(
            [
                ActiveUser(
                    self._users.profile(row.user_id, people.get(row.user_id)),
                    counts[row.user_id],
                    row.last_login_us,
                    row.last_ip,
                )
                for row in rows
                if row.user_id in counts  # forced out between the two questions
            ],
            number,
            pages,
        )

    def nearest_page(self, session: Session, number: int) -> Page:
        """Return the page of that number; past the end, the last one."""
        page = self.page(session, number)
        return page if page.number <= page.pages else self.page(session, page.pages)

    def sessions_of(self, session: Session, user_id: str) -> list[ActiveSession]:
        """Return a user's active sessions, newest sign-in first."""
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
            .where(SessionRecord.user_id == user_id, *_active_sessions(clock.now_us()))
            .order_by(SessionRecord.signed_in_us.desc(), SessionRecord.session_id)
        )
        return [
            ActiveSession(
                row.session_id, describe(row.user_agent), row.signed_in_us, row.expires_us, row.ip
            )
            for row in rows
        ]

    def owner_of(self, session: Session, session_id: str) -> str | None:
        """Return the id of the user whose session this is, or was; ``None`` if nobody's."""
        if not is_session_id(session_id):
            return None
        return session.scalar(
            sa.select(SessionRecord.user_id).where(SessionRecord.session_id == session_id).limit(1)
        )

    def ever_signed_in(self, session: Session, user_id: str) -> bool:
        """Say whether the ledger knows *user_id*, be it only from the past."""
        if not is_user_id(user_id):
            return False
        known = sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id)
        return session.scalar(known) is not None

    def revocation(self, session: Session, revocation_id: str) -> PastRevocation | None:
        """Return one audit record, or ``None``."""
        if not is_session_id(revocation_id):  # it is made alike
            return None
        row = session.execute(
            sa.select(
                RevocationRecord.id,
                RevocationRecord.kind,
                RevocationRecord.user_id,
                RevocationRecord.actor,
                RevocationRecord.revoked_us,
                RevocationRecord.sessions_ended,
            ).where(RevocationRecord.id == revocation_id)
        ).one_or_none()
        return None if row is None else PastRevocation(*row)

    def _count_superusers(self, session: Session, now: int) -> int:
        ids = self._users.superuser_ids(self._active_ids(session, now))
        return sum(
            _count(session, *_active_users(now), UserLogin.user_id.in_(batch))
            for batch in batches(ids, _BATCH)
        )

    def _active_ids(self, session: Session, now: int) -> Iterator[str]:
        yield from session.scalars(sa.select(UserLogin.user_id).where(*_active_users(now))).all()


def parse_page(text: str) -> int | None:
    """Return the number of a page, counted from 1, or ``None`` if *text* is none."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return int(text) or None


def _active_users(now: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (UserLogin.active_until_us > now,)


def _active_sessions(now: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (SessionRecord.ended_us.is_(None), SessionRecord.expires_us > now)


def _count(session: Session, *where: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count()).where(*where)) or 0
