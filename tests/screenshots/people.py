"""The invented users of the pictures: long and short names, IPv6, many devices, no login at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.support.cast import DAY_S, HOUR_S, WINDOWS, Person, SignIn
from tests.support.chromium import GALAXY, IPHONE, WHALE

KAKAO: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Mobile/15E148 KAKAOTALK 10.4.5"
)
KIOSK_SESSIONS: Final = 3000
LONG_NAME: Final = "maximiliana.featherstonehaugh1"
"""A username of 30 letters."""
UNBROKEN: Final = "abcdefghijklmnopqrstuvwxyzabcd"
"""A username of 30 letters that offers no place to break."""


def _filler(number: int) -> Person:
    return Person(
        name=("이서연", "Jihoon Park", "강하늘", "Yejin Choi")[number % 4],
        department=("Sales", "인사팀", "", "Security")[number % 4],
        sign_ins=(SignIn(WINDOWS, f"198.51.100.{number}", 2 * DAY_S + number * HOUR_S),),
    )


PEOPLE: Final[Mapping[str, Person]] = {
    "haneul": Person(
        name="Haneul Seo",
        department="Platform",
        superuser=True,
        sign_ins=(SignIn(WHALE, "2001:db8:85a3:1234:5678:8a2e:1370:7334", 600),),
    ),
    "bora": Person(
        name="Bora Lim",
        department="Research",
        roles="analyst, editor",
        sign_ins=(
            SignIn(WINDOWS, "203.0.113.66", 900),
            SignIn(GALAXY, "2001:db8::7f:21", 3 * HOUR_S),
            SignIn("curl/8.5.0", "192.0.2.40", 7 * DAY_S),
        ),
    ),
    "jwm": Person(
        name="J. W. Moon",
        department="Sales",
        sign_ins=(SignIn(WINDOWS, "192.0.2.114", 1000), SignIn(KAKAO, "203.0.113.80", 1100)),
    ),
    LONG_NAME: Person(
        name="Maximiliana Featherstonehaugh",
        department="Department of Interplanetary Logistics and Supply",
        sign_ins=(SignIn(IPHONE, "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe", 2000),),
    ),
    "sora.shin": Person(
        name="남궁소라빛나라우리나라만세대한민국청년들",
        department="데이터 플랫폼 운영 지원팀",
        sign_ins=(SignIn(GALAXY, "198.51.100.120", 3000),),
    ),
    "<script>alert(1)</script>": Person(
        name='"><img src=x onerror=alert(1)>',
        department="Q&A",
        sign_ins=(SignIn("<b>agent</b>", "203.0.113.99", 4000),),
    ),
    "leaver": Person(
        name="Leaver To-Be",
        department="Finance",
        roles="operator, viewer",
        sign_ins=(SignIn(WINDOWS, "192.0.2.20", 4500), SignIn(IPHONE, "192.0.2.21", 4600)),
    ),
    "pile.up": Person(
        name="Pile Up",
        department="Support",
        sign_ins=tuple(SignIn(WINDOWS, "203.0.113.9", n * DAY_S + 5000) for n in range(14)),
    ),
    UNBROKEN: Person(
        name="Antidisestablishmentarianistic",
        department="Quality",
        sign_ins=(SignIn(WINDOWS, "2001:db8:1111:2222:3333:4444:5555:6666", 5500),),
    ),
    "kiosk": Person(
        name="Kiosk",
        department="Lobby",
        sign_ins=tuple(SignIn(WINDOWS, "192.0.2.77", 6000 + n) for n in range(KIOSK_SESSIONS)),
    ),
    "batch-agent": Person(sign_ins=(SignIn(None, None, 7000),)),
    **{
        f"victim{number}": Person(
            name=f"Victim {number}",
            sign_ins=(
                SignIn(WINDOWS, "192.0.2.50", 8000 + 2 * number),
                SignIn(IPHONE, "192.0.2.51", 8001 + 2 * number),
            ),
        )
        for number in range(10)
    },
}
"""The users with sessions, newest sign-in first."""


def people(colleagues: int) -> dict[str, Person]:
    """Return :data:`PEOPLE`, and more users with one session each."""
    return {**PEOPLE, **{f"colleague{number:02}": _filler(number) for number in range(colleagues)}}
