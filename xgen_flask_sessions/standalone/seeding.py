"""Random users and sign-ins, for demonstrations and tests of the screens."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from xgen_flask_sessions import PastSignIn
from xgen_flask_sessions.standalone.extensions import sessions as plugin
from xgen_flask_sessions.standalone.models import (
    Role,
    User,
    db,
    user_roles,
)
from xgen_flask_sessions.standalone.passwords import UNUSABLE

SECOND_US: Final = 1_000_000
BATCH: Final = 5000
"""Users in one transaction. Each transaction writes most index pages: few of them are fast."""

_HOUR_US: Final = 3600 * SECOND_US
_LIFETIME_US: Final = 24 * _HOUR_US

# The ranges for documentation (RFC 5737).
_NETWORKS: Final = tuple(
    map(ipaddress.IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))
)
_BUILDINGS: Final = ipaddress.IPv4Network("10.20.0.0/16")
_IPV6: Final = ipaddress.IPv6Network("2001:db8::/32")
_RENEWED: Final = 0.1
"""The share of sessions that were renewed since the lifetime of their first token."""
_OLDEST_US: Final = 30 * _LIFETIME_US
_FAMILIES: Final = (
    ("Kim", "김"), ("Lee", "이"), ("Park", "박"), ("Choi", "최"), ("Jung", "정"), ("Kang", "강"),
    ("Cho", "조"), ("Yoon", "윤"), ("Jang", "장"), ("Lim", "임"), ("Han", "한"), ("Oh", "오"),
    ("Seo", "서"), ("Shin", "신"), ("Kwon", "권"), ("Hwang", "황"), ("Moon", "문"), ("Bae", "배"),
)  # fmt: skip
_GIVEN: Final = (
    ("Minjun", "민준"), ("Seoyeon", "서연"), ("Dohyun", "도현"), ("Jiwoo", "지우"),
    ("Haneul", "하늘"), ("Bora", "보라"), ("Yejin", "예진"), ("Jihoon", "지훈"),
    ("Sumin", "수민"), ("Eunji", "은지"), ("Hyunwoo", "현우"), ("Chaewon", "채원"),
    ("Taeyang", "태양"), ("Nari", "나리"), ("Seungmin", "승민"), ("Yuna", "유나"),
    ("Garam", "가람"), ("Sora", "소라"), ("Jaeho", "재호"), ("Dain", "다인"),
)  # fmt: skip
_DEPARTMENTS: Final = (
    "Platform", "Research", "Sales", "Support", "Finance", "Legal", "Security", "Design",
    "인사팀", "데이터팀", "마케팅",
)  # fmt: skip
_SILENT: Final = "batch-agent"
"""The prefix of users without a recorded last login."""
_ROLES: Final = ("analyst", "editor", "operator", "viewer")

_CHROME: Final = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0"
_ANDROID: Final = "Mozilla/5.0 (Linux; Android 15; SM-S921N) AppleWebKit/537.36 (KHTML, like Gecko)"
_IPHONE: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko)"
)
_SAFARI: Final = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
)
_WINDOWS: Final = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME}"
_MAC: Final = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_CHROME}"
_USER_AGENTS: Final = (
    f"{_WINDOWS} Safari/537.36",
    f"{_WINDOWS} Safari/537.36 Edg/{{0}}.0.0.0",
    f"{_WINDOWS} Whale/4.31.304.16 Safari/537.36",
    f"{_MAC} Safari/537.36",
    f"Mozilla/5.0 (X11; Linux x86_64) {_CHROME} Safari/537.36",
    f"{_SAFARI} Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
    f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} Mobile/15E148 KAKAOTALK 25.4.1",
    f"{_IPHONE} Mobile/15E148 NAVER(inapp; search; 2000; 12.13.3; 15PRO)",
    f"{_ANDROID} Chrome/{{0}}.0.0.0 Mobile Safari/537.36",
    f"{_ANDROID} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    f"{_ANDROID} Version/4.0 Chrome/{{0}}.0.0.0 Mobile Safari/537.36 KAKAOTALK/25.4.1 (INAPP)",
)


def seed(users: int, sessions: int, *, randomness: int | None = None) -> Iterator[int]:
    """Add random users with active sessions; they cannot sign in. Needs an app context.

    Each batch is committed; a later call adds more.

    :param users: The number of users, at least one.
    :param sessions: The number of their active sessions.
    :param randomness: The seed, for the same names, browsers and addresses on an empty database.
    :returns: The number of users in each batch, once it is committed.
    """
    chance = random.Random(randomness)  # noqa: S311
    roles = _find_roles()
    first = (db.session.scalar(sa.select(sa.func.max(User.id))) or 0) + 1
    shares = _shares(chance, users, sessions)
    for start in range(0, users, BATCH):
        people = [
            _person(chance, first + number, silent=number == users - 1)
            for number in range(start, min(start + BATCH, users))
        ]
        ids = _insert_users(people)
        _insert_roles(chance, ids, roles)
        plugin.record_past_sign_ins(
            [
                _sign_in(chance, str(user_id), login=not person["username"].startswith(_SILENT))
                for user_id, person, share in zip(ids, people, shares[start:], strict=False)
                for _ in range(share)
            ]
        )
        yield len(people)
    _let_planner_know()


def _let_planner_know() -> None:
    """Update PostgreSQL's statistics now, instead of within a minute."""
    if db.engine.dialect.name == "postgresql":
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in db.metadata.tables:
                connection.exec_driver_sql(f"VACUUM (ANALYZE) {table}")


def _shares(chance: random.Random, users: int, sessions: int) -> list[int]:
    """Distribute *sessions*: one to each user first, the rest unevenly."""
    shares = [1 if number < sessions else 0 for number in range(users)]
    for _ in range(sessions - sum(shares)):
        shares[int(users * chance.random() ** 2)] += 1
    chance.shuffle(shares)  # so that batches are alike
    return shares


def _person(chance: random.Random, number: int, *, silent: bool) -> dict[str, Any]:
    family, given = chance.choice(_FAMILIES), chance.choice(_GIVEN)
    korean = chance.random() < 0.6
    name = f"{family[1]}{given[1]}" if korean else f"{given[0]} {family[0]}"
    username = f"{given[0]}.{family[0]}{number}".lower()
    return {
        "username": f"{_SILENT}{number}" if silent else username,
        "name": None if silent or chance.random() < 0.1 else name,
        "department": None if silent or chance.random() < 0.15 else chance.choice(_DEPARTMENTS),
        "password_hash": UNUSABLE,
        "is_active": True,
        "is_superuser": not silent and chance.random() < 0.03,
    }


def _sign_in(chance: random.Random, user_id: str, *, login: bool) -> PastSignIn:
    """Return a sign-in of the last hours, more likely a recent one, or an old one, renewed."""
    now_us = time.time_ns() // 1000
    ago_us = int(_LIFETIME_US * 0.95 * chance.random() ** 2) + SECOND_US
    signed_in_us = issued_us = now_us - ago_us
    if chance.random() < _RENEWED:
        signed_in_us = now_us - _LIFETIME_US - int(_OLDEST_US * chance.random() ** 2)
    agent = chance.choice(_USER_AGENTS).format(chance.randint(132, 141))
    return PastSignIn(
        user_id=user_id,
        signed_in_us=signed_in_us,
        expires_us=(issued_us + _LIFETIME_US) // SECOND_US * SECOND_US,  # as tokens do
        ip=_address(chance, int(user_id)) if login else None,
        user_agent=agent if login else None,
        login=login,
    )


def _address(chance: random.Random, user_id: int) -> str:
    """Return an address: a user's own IPv6 network, a shared one, or a place in a building."""
    kind = chance.random()
    if kind < 0.2:
        return str(_IPV6[user_id << 64 | chance.getrandbits(64)])
    if kind < 0.4:
        return str(_BUILDINGS[user_id % 256 << 8 | chance.randint(1, 254)])
    return str(chance.choice(_NETWORKS)[chance.randint(1, 254)])


def _find_roles() -> list[int]:
    roles = {role.name: role for role in db.session.scalars(sa.select(Role))}
    wanted = [roles.get(name) or Role(name=name) for name in _ROLES]
    db.session.add_all(wanted)
    db.session.commit()
    return [role.id for role in wanted]


def _insert_users(people: list[dict[str, Any]]) -> list[int]:
    """Insert users and return their ids, in the same order."""
    db.session.execute(sa.insert(User), people)
    names = [person["username"] for person in people]
    rows = db.session.execute(sa.select(User.username, User.id).where(User.username.in_(names)))
    ids = {row.username: row.id for row in rows}
    return [ids[name] for name in names]


def _insert_roles(chance: random.Random, ids: list[int], roles: list[int]) -> None:
    rows = [
        {"user_id": user_id, "role_id": role_id}
        for user_id in ids
        for role_id in chance.sample(roles, chance.choice((0, 1, 1, 2)))
    ]
    if rows:
        db.session.execute(sa.insert(user_roles), rows)
