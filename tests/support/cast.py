"""Invented users with known sessions, for timed walks and screenshots of the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.support.admin_center import PASSWORD
from tests.support.chromium import GALAXY, IPHONE, WHALE
from tests.support.standalone import Center
from xgen_flask_sessions import PastSignIn, clock
from xgen_flask_sessions.standalone.extensions import sessions

SECOND_US: Final = 1_000_000
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
WINDOWS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/148.0.0.0 Safari/537.36"
)
UNFAMILIAR: Final = "198.18.7.66"
"""An address that nobody of the organisation uses (RFC 2544)."""
PUBLIC_PC: Final = "192.0.2.40"
"""The address of the library's computer."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in of the past whose session is still active."""

    agent: str | None
    address: str | None
    ago_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user with active sessions."""

    name: str = ""
    department: str = ""
    roles: str = ""
    superuser: bool = False
    sign_ins: tuple[SignIn, ...] = ()


PEOPLE: Final[Mapping[str, Person]] = {
    "blim": Person(
        name="Bora Lim",
        department="Research",
        sign_ins=(
            SignIn(WINDOWS, PUBLIC_PC, 900),
            SignIn(IPHONE, "203.0.113.66", 4 * HOUR_S),
            SignIn(WHALE, "203.0.113.67", 5 * HOUR_S),
        ),
    ),
    "jwm": Person(
        name="J. W. Moon",
        department="Sales",
        sign_ins=(
            SignIn(WINDOWS, "192.0.2.114", HOUR_S),
            SignIn(GALAXY, "192.0.2.115", 2 * HOUR_S),
        ),
    ),
    "minji.han": Person(
        name="한민지", department="인사팀", sign_ins=(SignIn(WINDOWS, UNFAMILIAR, 7200),)
    ),
    "taeo.kwon": Person(
        name="권태오",
        department="Finance",
        sign_ins=(SignIn(WINDOWS, "192.0.2.9", 3600), SignIn(GALAXY, UNFAMILIAR, 9000)),
    ),
    "hseo": Person(
        name="Haneul Seo",
        department="Platform",
        roles="editor, operator",
        sign_ins=tuple(
            SignIn(agent, f"198.51.100.{number}", number * HOUR_S)
            for number, agent in enumerate((WINDOWS, IPHONE, WHALE), 5)
        ),
    ),
    **{
        f"night.watch{number}": Person(
            name=f"Night Watch {number}",
            department="Security",
            superuser=True,
            sign_ins=(SignIn(WINDOWS, f"203.0.113.{number}", number * 5 * HOUR_S),),
        )
        for number in range(1, 5)
    },
    "pile.up": Person(
        name="Pile Up",
        department="Support",
        sign_ins=(
            *(SignIn(WINDOWS, "203.0.113.9", (n + 1) * HOUR_S) for n in range(6)),
            *(SignIn(WHALE, "203.0.113.9", (n + 8) * DAY_S) for n in range(8)),
        ),
    ),
}
"""The users of the walks, by username: one or more for each recommendation of the manual."""


def enter(center: Center, people: Mapping[str, Person] = PEOPLE) -> None:
    """Create users with the password ``PASSWORD`` in an Admin Center, and record their sessions."""
    ids = {
        username: center.add_user(
            username,
            PASSWORD,
            name=person.name,
            department=person.department,
            roles=person.roles,
            superuser=person.superuser,
        )
        for username, person in people.items()
    }
    with center.app.app_context():
        sessions.record_past_sign_ins(
            past
            for username, person in people.items()
            for past in past_sign_ins(str(ids[username]), person)
        )


def past_sign_ins(user_id: str, person: Person) -> Iterator[PastSignIn]:
    """Yield a user's sign-ins; one without an address is no login of a person."""
    now_us = clock.now_us()
    for each in person.sign_ins:
        yield PastSignIn(
            user_id=user_id,
            signed_in_us=now_us - each.ago_s * SECOND_US,
            expires_us=now_us + DAY_S * SECOND_US,
            ip=each.address,
            user_agent=each.agent,
            login=each.address is not None,
        )
