"""The addresses and devices that a user has signed in from, as far as the records reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..store import dialects
from ..store.dialects.base import SESSIONS, by_index
from ..store.tables import RENEWED, SessionRecord, UserLogin
from ..tokens.claims import is_user_id
from .devices import describe

MOST_ROWS = 1000
"""The most rows that are read of the sessions that have not ended, and of those that have."""

MOST_SHOWN = 5
"""The most addresses that are listed, and the most devices."""

_MOST_AGENTS = 100
"""The most user agents that are told apart: a client may send another one each time."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Sighting(Generic[_Key]):
    """Something that sign-ins had in common."""

    value: _Key
    times: int
    """The number of sign-ins."""
    last_us: int
    """The newest of them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a user's sign-ins."""

    first_sign_in_us: int | None
    """The first sign-in of those that were read; ``None`` without any."""
    last_login_us: int | None
    addresses: list[Sighting[str]]
    """The most frequent ones, up to :data:`MOST_SHOWN`."""
    more_addresses: int
    """The number of the others."""
    devices: list[Sighting[str | None]]
    """The most frequent ones, up to :data:`MOST_SHOWN`; ``None`` for unknown ones."""
    more_devices: int
    is_capped: bool
    """Whether there are more records than were read: the newest ones count."""


def seen(session: Session, user_id: str) -> Seen:
    """Return the addresses and devices of a user's sign-ins, and the first and the last one."""
    if not is_user_id(user_id):
        return Seen(None, None, [], 0, [], 0, is_capped=False)
    login = sa.select(UserLogin.last_login_us).where(UserLogin.user_id == user_id)
    rows, is_capped = _sign_ins(session, user_id)
    addresses = _count((row.ip, row.signed_in_us) for row in rows if row.ip)
    devices = _count(_devices(rows))
    return Seen(
        min((row.signed_in_us for row in rows), default=None),
        session.scalar(login),
        addresses[:MOST_SHOWN],
        len(addresses[MOST_SHOWN:]),
        devices[:MOST_SHOWN],
        len(devices[MOST_SHOWN:]),
        is_capped,
    )


def _sign_ins(session: Session, user_id: str) -> tuple[list[Any], bool]:
    """Return one row for each session, and whether there are more than were read."""
    index: tuple[Any, ...] = (SessionRecord.ended_us.desc(), SessionRecord.expires_us.desc())
    own = sa.select(
        SessionRecord.session_id,
        SessionRecord.signed_in_us,
        SessionRecord.ip,
        SessionRecord.user_agent,
        SessionRecord.end_reason,
    ).where(SessionRecord.user_id == user_id)
    found: dict[str, Any] = {}
    is_capped = False
    for is_open in (True, False):
        part = SessionRecord.ended_us.is_(None)
        part = part if is_open else ~part
        order = dialects.of(session).order_of_index(index) if is_open else index
        query = own.where(part).order_by(*order).limit(MOST_ROWS + 1)
        rows = session.execute(by_index(query, SESSIONS, "ix_xgen_sessions_user")).all()
        is_capped |= len(rows) > MOST_ROWS
        found.update({row.session_id: row for row in rows if row.end_reason != RENEWED})
    return list(found.values()), is_capped


def _devices(rows: Iterable[Any]) -> Iterable[tuple[str | None, int]]:
    """Yield the device and the time of each sign-in whose user agent is told apart."""
    rows = list(rows)
    frequent = {
        each for each, _ in Counter(row.user_agent for row in rows).most_common(_MOST_AGENTS)
    }
    for row in rows:
        if row.user_agent in frequent:
            yield describe(row.user_agent).device, row.signed_in_us


def _count(sign_ins: Iterable[tuple[_Key, int]]) -> list[Sighting[_Key]]:
    """Return each value with its number and its newest time, the most frequent first."""
    times: Counter[_Key] = Counter()
    newest: dict[_Key, int] = {}
    for value, at_us in sign_ins:
        times[value] += 1
        newest[value] = max(at_us, newest.get(value, 0))
    found = [Sighting(value, number, newest[value]) for value, number in times.items()]
    return sorted(found, key=lambda each: (each.times, each.last_us), reverse=True)
