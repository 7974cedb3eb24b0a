"""Every combination of filters, with every order and page, compared with a naive computation."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.databases import MakeHost
from tests.support.hosts import Account, Host, NamedUser, User
from xgen_flask_sessions import clock
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.roster import filtered
from xgen_flask_sessions.roster.listing import COLUMNS, Column, Listing
from xgen_flask_sessions.store.sign_ins import PastSignIn, record_past

HOUR_US = 3600 * SECOND_US
ADDRESSES = [
    "203.0.113.7", "203.0.113.70", "203.0.11.9", "203.0.115.1", "10.0.0.1", "9.255.0.1",
    "100.64.0.9", "2001:db8::1", "2001:db8:0:1::5", "2001:db8:10::1", "fe80::1", None,
]  # fmt: skip
NETWORKS: dict[str, list[str]] = {
    "203.0.113.": ["203.0.113.0/24"],
    "203.0.11": ["203.0.11.0/24", "203.0.110.0/23", "203.0.112.0/21"],
    "203.0.113.7": ["203.0.113.7/32"],
    "10.": ["10.0.0.0/8"],
    "10.0.0.9/8": ["10.0.0.0/8"],
    "1": ["1.0.0.0/8", "10.0.0.0/7", "12.0.0.0/6", "16.0.0.0/6", "100.0.0.0/6", "104.0.0.0/5",
          "112.0.0.0/4", "128.0.0.0/2", "1000::/4", "100::/8", "10::/12", "1::/16"],
    "0.0.0.0/0": ["0.0.0.0/0"],
    "::/0": ["::/0"],
    "2001:DB8:": ["2001:db8::/32"],
    "2001:db8::": ["2001:db8::/48"],
    "2001:db8:1": ["2001:db8:1::/48", "2001:db8:10::/44", "2001:db8:100::/40",
                   "2001:db8:1000::/36"],
    "::ffff:10.0.0.1": ["10.0.0.1/32"],
    "::ffff:203.0.113.": ["203.0.113.0/24"],
    "192.0.2.0/24": ["192.0.2.0/24"],
}  # fmt: skip
"""Filters by address, with the networks that they stand for, among :data:`ADDRESSES`."""


@dataclass(frozen=True)
class Known:
    """A user with active sessions: the address and the time of each sign-in."""

    user_id: str
    username: str
    name: str | None
    department: str | None
    superuser: bool
    deleted: bool
    sessions: tuple[tuple[str | None, int], ...]

    @property
    def last_login(self) -> int:
        return max(at for _, at in self.sessions)

    @property
    def last_ip(self) -> str | None:
        by_time = sorted(self.sessions, key=lambda each: each[1])
        return next((ip for ip, _ in reversed(by_time) if ip), None)


def fill(host: Host, users: int) -> tuple[list[Known], int]:
    """Add users, and return those with active sessions and the time of now."""
    chance, now = random.Random(4), clock.now_us()
    known: list[Known] = []
    with host.app.app_context():
        people = []
        for number in range(users):
            person = host.model(
                username=f"{chance.choice(['kim', 'lee', '203.0.'])}{number}",
                display_name=chance.choice(["Bora", "김민준", None]),
                department=chance.choice(["Platform", "인사팀", "10.", None]),
                is_superuser=number % 5 == 0,
                **({"id": f"id-{number}"} if host.model is NamedUser else {}),
            )
            people.append(person)
        host.db.session.add_all(people)
        host.db.session.commit()
        past = []
        for number, person in enumerate(people):
            user_id, deleted = person.get_id(), number % 9 == 4
            sessions = tuple(
                (
                    chance.choice(ADDRESSES),
                    now - chance.randrange(1, 100) * HOUR_US - HOUR_US // 2 - number,
                )
                for _ in range(chance.choice((0, 1, 1, 2, 3, 6)))
            )
            sessions = tuple({at: (ip, at) for ip, at in sessions}.values())
            expired = PastSignIn(
                user_id=user_id, signed_in_us=now - 900 * HOUR_US - number, expires_us=now - 1,
                ip="192.0.2.1", login=False,
            )  # fmt: skip
            past.append(expired)
            past += [
                PastSignIn(user_id=user_id, signed_in_us=at, expires_us=now + HOUR_US, ip=ip)
                for ip, at in sessions
            ]
            if sessions:
                known.append(
                    Known(
                        user_id,
                        username=user_id if deleted else person.username,
                        name=None if deleted else person.display_name,
                        department=None if deleted else person.department,
                        superuser=person.is_superuser and not deleted,
                        deleted=deleted,
                        sessions=sessions,
                    )
                )
        record_past(host.db.session(), past)
        host.db.session.commit()
        gone = [str(person.id) for person in people[4::9]]
    for user_id in gone:
        host.delete_user(user_id)
    return known, now


def from_networks(ip: str | None, networks: list[str]) -> bool:
    if ip is None:
        return False
    address = ipaddress.ip_address(ip)
    return any(
        address in network
        for network in map(ipaddress.ip_network, networks)
        if network.version == address.version
    )


def matches(user: Known, listing: Listing, now: int) -> bool:
    """Return whether a user is on the list, by plain Python."""
    text = listing.text.casefold()
    names = (user.username, user.name, user.department)
    by_name = any(text in (name or "").casefold() for name in names)
    if user.deleted:
        by_name = listing.text in ("", user.user_id)
    by_address = any(from_networks(ip, NETWORKS.get(listing.text, [])) for ip, _ in user.sessions)
    by_address &= any(each in listing.text for each in ".:")
    return (
        (by_name or by_address)
        and (not listing.address
             or any(from_networks(ip, NETWORKS[listing.address]) for ip, _ in user.sessions))
        and (not listing.superuser or user.superuser)
        and (listing.older_than_us is None
             or any(at < now - listing.older_than_us for _, at in user.sessions))
        and (listing.min_sessions is None or len(user.sessions) >= listing.min_sessions)
        and (listing.since_us is None or user.last_login >= listing.since_us)
    )  # fmt: skip


def value_of(user: Known, sort: Column, *, folds: bool) -> Any:
    """Return what a user is ordered by, or ``None``."""
    if sort == "active_sessions":
        return len(user.sessions)
    if sort == "last_ip":
        address = ipaddress.ip_address(user.last_ip) if user.last_ip else None
        return address and (address.version, int(address))
    value = getattr(user, sort)
    return value.casefold() if folds and isinstance(value, str) else value


@pytest.fixture
def filled(
    make_host: MakeHost, database_url: str, model: type[Account]
) -> tuple[Host, list[Known], int]:
    """Return a host on each database, with users of all kinds."""
    host = make_host(database_url, model=model)
    return (host, *fill(host, 90))


listings = st.builds(
    Listing,
    sort=st.sampled_from(COLUMNS),
    descending=st.booleans(),
    text=st.sampled_from(["", "", "", "kim", "PLAT", "인사", "203.0.", "10.", "203.0.113.7", "x"]),
    address=st.sampled_from(["", "", *NETWORKS]),
    superuser=st.booleans(),
    older_than_us=st.sampled_from([None, None, 1 * HOUR_US, 20 * HOUR_US, 98 * HOUR_US]),
    min_sessions=st.sampled_from([None, None, 1, 2, 6, 100]),
    since_us=st.none() | st.integers(-120, 1),
)
NETWORKS["203.0."] = ["203.0.0.0/16"]


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("database_url", "model"),
    [("sqlite", User), ("postgresql", User), ("mariadb", NamedUser)],
    indirect=["database_url"],
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(listing=listings, few=st.booleans())
def test_every_combination_agrees_with_a_naive_computation(
    filled: tuple[Host, list[Known], int], listing: Listing, few: bool
) -> None:
    host, known, now = filled
    if listing.since_us is not None:
        listing = replace(listing, since_us=now + listing.since_us * HOUR_US)
    expected = {user.user_id: user for user in known if matches(user, listing, now)}
    folds = host.dialect not in ("sqlite", "postgresql")
    counted = filtered.COUNTED
    filtered.COUNTED = 5 if few else 1000  # type: ignore[misc]
    try:
        found = list(read(host, listing, 7))
    finally:
        filtered.COUNTED = counted  # type: ignore[misc]

    assert sorted(found) == sorted(expected)
    values = [value_of(expected[each], listing.sort, folds=folds) for each in found]
    told = [value for value in values if value is not None]
    if listing.sort != "username":  # deleted users may come last
        assert told == sorted(told, reverse=listing.descending)
        assert values == told + [None] * (len(values) - len(told))


def test_a_page_past_the_end_is_not_looked_for(
    make_host: MakeHost, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(sqlite_url)
    for number in range(4):
        host.issue(host.add_user(f"user{number}"))
    monkeypatch.setattr(filtered, "COUNTED", 1)
    listing = Listing(min_sessions=1)
    statements: list[str] = []

    def look(*arguments: Any) -> None:
        statements.append(arguments[2])

    with host.calling_before_statements(look), host.app.app_context():
        roster = host.app.extensions["xgen_sessions"].roster
        page = roster.page(host.db.session(), 9, listing, size=2)

    assert (page.users, page.total, page.is_capped) == ([], 4, False)
    assert not any("ORDER BY" in statement for statement in statements)


def read(host: Host, listing: Listing, size: int) -> Iterator[str]:
    """Yield the ids of every page, and check what the pages say of their number."""
    with host.app.app_context():
        roster = host.app.extensions["xgen_sessions"].roster
        number, seen = 1, 0
        while True:
            page = roster.page(host.db.session(), number, listing, size=size)
            assert page.total >= seen + len(page.users)
            yield from (user.profile.user_id for user in page.users)
            seen += len(page.users)
            if number >= page.pages:
                break
            assert len(page.users) == size
            number += 1
        assert not page.is_capped
        assert page.total == seen
        last = roster.page(host.db.session(), 10**8, listing, size=size)
        assert (last.users, last.total) == ([], seen)
