"""One user's ended sessions, revocations, addresses and devices, on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from sqlalchemy.orm import Session

from tests.support.hosts import BROWSER, Host
from tests.support.screen import IPHONE
from xgen_flask_sessions import IssuedToken, PastSignIn, clock
from xgen_flask_sessions.roster.ended import EndedSession, ended_page
from xgen_flask_sessions.roster.newest import NewestSessions, newest_sessions
from xgen_flask_sessions.roster.positions import Position
from xgen_flask_sessions.roster.seen import MOST_ROWS, Seen, seen
from xgen_flask_sessions.roster.user_revocations import (
    UserRevocation,
    find_act,
    revocation_page,
)

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
START = "2026-05-25 04:00:00"

T = TypeVar("T")


@pytest.fixture
def bora(host: Host) -> str:
    return host.add_user("bora")


def read(host: Host, query: Callable[[Session], T]) -> T:
    with host.app.app_context():
        return query(host.db.session())


def ended(host: Host, user_id: str, *, size: int = 20) -> list[EndedSession]:
    """Return all ended sessions, read page by page."""
    found: list[EndedSession] = []
    position: Position | None = None
    for _ in range(200):
        at = position
        page = read(host, lambda session: ended_page(session, user_id, at, size=size))  # noqa: B023
        found += page.sessions
        position = page.older
        if position is None:
            return found
        assert Position.parse(str(position)) == position
    raise AssertionError("the pages do not end")


def revocations(host: Host, user_id: str, *, size: int = 20) -> list[UserRevocation]:
    """Return all revocations of a user, read page by page."""
    found: list[UserRevocation] = []
    before: int | None = None
    since = read(host, lambda session: seen(session, user_id)).first_sign_in_us
    for _ in range(200):
        at = before
        page = read(
            host,
            lambda session: revocation_page(session, user_id, at, since_us=since, size=size),  # noqa: B023
        )
        found += page.revocations
        before = page.older_us
        if before is None:
            return found
    raise AssertionError("the pages do not end")


def newest(host: Host, user_id: str, number: int = 1, **options: int) -> NewestSessions:
    return read(host, lambda session: newest_sessions(session, user_id, number, **options))


def sightings(host: Host, user_id: str) -> Seen:
    return read(host, lambda session: seen(session, user_id))


def sign_in(
    host: Host, user_id: str, *, ip: str | None = None, agent: str = "", **options: Any
) -> IssuedToken:
    environ = {} if ip is None else {"REMOTE_ADDR": ip}
    with host.app.test_request_context(headers={"User-Agent": agent}, environ_base=environ):
        return host.sessions.issue(user_id, **options)


def record(host: Host, user_id: str, number: int, **values: str) -> None:
    """Record the first sign-ins of a user, one second apart, the newest one a second ago."""
    now = clock.now_us()
    with host.app.app_context():
        host.sessions.record_past_sign_ins(
            PastSignIn(
                user_id=user_id,
                signed_in_us=now - each * SECOND_US,
                expires_us=now - each * SECOND_US + 10 * HOUR_US,
                **values,  # type: ignore[arg-type]
            )
            for each in range(1, number + 1)
        )


@pytest.fixture
def time() -> Iterator[FrozenDateTimeFactory]:
    """Yield the clock, which stands at :data:`START`."""
    with freeze_time(START) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


def test_each_end_says_when_why_and_by_whom(
    host: Host, bora: str, time: FrozenDateTimeFactory
) -> None:
    admin = host.add_user("admin", is_superuser=True)
    ends = ("sign out", "end", "force", "everyone", "expire")
    issued = {}
    for name in ends:
        issued[name] = host.issue(bora, lifetime=timedelta(hours=5))
        time.tick(60)
        if name == "sign out":
            host.end_session(issued[name].session_id, actor=bora)
        elif name == "end":
            host.end_session(issued[name].session_id, actor=admin, reason="A public PC")
        elif name == "force":
            host.force_logout(bora, actor="flask force-logout", reason="Lost")
        elif name == "everyone":
            with host.app.app_context():
                host.sessions.force_logout_everyone(actor=admin)
        time.tick(60)
    time.tick(5 * 3600)

    found = ended(host, bora)

    assert [(each.end_reason, each.actor, each.reason) for each in found] == [
        ("expired", None, None),
        ("force logout", admin, None),
        ("force logout", "flask force-logout", "Lost"),
        ("ended", admin, "A public PC"),
        ("signed out", bora, None),
    ]
    assert [each.session_id for each in found] == [issued[name].session_id for name in ends[::-1]]
    assert found[0].ended_us == issued["expire"].expires_us
    assert found[1].ended_us - found[1].signed_in_us == 60 * SECOND_US


def test_a_change_of_the_account_is_a_reason(host: Host, bora: str) -> None:
    with host.app.app_context():
        user = host.find_user(bora)
        host.sessions.issue(user)
        host.db.session.delete(user)
        host.db.session.commit()

    assert [each.end_reason for each in ended(host, bora)] == ["account changed"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_the_pages_hold_each_session_once(
    host: Host, bora: str, time: FrozenDateTimeFactory, size: int
) -> None:
    tokens = [host.issue(bora) for _ in range(6)]
    for _ in range(2):  # three tokens a session: their rows end at one time
        time.tick(100)
        tokens = [host.renew(token) for token in tokens]
    time.tick(100)
    for token in tokens[:3]:
        host.end_session(token.session_id)
        time.tick(1)
    for _ in range(3):
        host.issue(bora)
    host.force_logout(bora)
    for _ in range(2):
        host.issue(bora, lifetime=timedelta(seconds=5))
    time.tick(10)

    found = ended(host, bora, size=size)

    assert len(found) == len({each.session_id for each in found}) == 11
    times = [each.ended_us for each in found]
    assert times == sorted(times, reverse=True)
    assert [each.end_reason for each in found] == (
        ["expired"] * 2 + ["force logout"] * 6 + ["signed out"] * 3
    )


def test_a_page_passes_over_a_bounded_number_of_renewed_tokens(
    host: Host, bora: str, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xgen_flask_sessions.roster import ended as module

    monkeypatch.setattr(module, "MOST_ROWS", 30)
    monkeypatch.setattr(module, "_BATCH", 10)
    first = host.issue(bora)
    host.end_session(first.session_id)
    token = host.issue(bora)
    for _ in range(70):
        time.tick(61)
        token = host.renew(token)
    time.tick(61)

    page = read(host, lambda session: ended_page(session, bora))

    assert (page.sessions, page.older is None) == ([], False)
    assert [each.session_id for each in ended(host, bora)] == [first.session_id]


def test_active_sessions_come_newest_first_and_one_that_ended_keeps_its_place(
    host: Host, bora: str, time: FrozenDateTimeFactory
) -> None:
    tokens = []
    for _ in range(5):
        tokens.append(host.issue(bora))
        time.tick(30)
    tokens[1] = host.renew(tokens[1])
    time.tick(61)
    ids = [token.session_id for token in reversed(tokens)]
    revocation = host.end_session(ids[2])
    assert revocation is not None

    page = newest(host, bora)
    kept = newest(host, bora, kept_us=revocation.revoked_us)
    second = newest(host, bora, 2, size=2, kept_us=revocation.revoked_us)

    assert [each.session_id for each in page.sessions] == [ids[0], ids[1], ids[3], ids[4]]
    assert [each.session_id for each in kept.sessions] == ids
    assert [each.has_ended for each in kept.sessions] == [False, False, True, False, False]
    assert (kept.total, second.number, second.pages) == (4, 2, 3)
    assert [each.session_id for each in second.sessions] == ids[2:4]
    assert newest(host, bora, 99, size=2).number == 2


def test_of_a_pile_of_sessions_those_that_expire_last_are_listed(
    host: Host, bora: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xgen_flask_sessions.roster import newest as module

    monkeypatch.setattr(module, "MOST_LISTED", 10)
    monkeypatch.setattr(module, "MOST_COUNTED", 25)
    record(host, bora, 30)

    first, last = newest(host, bora, size=4), newest(host, bora, 9, size=4)

    assert (first.total, first.is_capped, first.is_cut, first.pages) == (25, True, True, 3)
    times = [each.signed_in_us for each in first.sessions]
    assert times == sorted(times, reverse=True)
    assert len(last.sessions) == 2


def test_revocations_are_those_of_the_user_and_of_everyone_since_the_first_sign_in(
    host: Host, bora: str, time: FrozenDateTimeFactory
) -> None:
    other = host.add_user("other")

    def force_out_everyone() -> None:
        with host.app.app_context():
            host.sessions.force_logout_everyone(actor="console")
        time.tick(1)

    force_out_everyone()
    token = sign_in(host, bora, agent=IPHONE)
    time.tick(1)
    host.issue(other)
    host.force_logout(other)
    host.end_session(token.session_id, actor="console")
    time.tick(1)
    force_out_everyone()
    host.issue(bora)
    host.issue(bora)
    host.force_logout(bora, reason="Lost")

    for size in (1, 2, 20):
        found = revocations(host, bora, size=size)
        assert [
            (each.kind, each.actor, each.reason, str(each.device and each.device.device))
            for each in found
        ] == [
            ("user", None, "Lost", "None"),
            ("everyone", "console", None, "None"),
            ("session", "console", None, "iPhone"),
        ]
        assert found[0].sessions_ended == 2


def test_an_act_that_ended_several_sessions_is_one_row(host: Host, bora: str) -> None:
    with freeze_time(START):
        for _ in range(3):
            host.end_session(host.issue(bora).session_id, actor="console")
    (row,) = revocations(host, bora)
    other = host.add_user("other")

    def act(user_id: str, revocation_id: str) -> UserRevocation | None:
        return read(host, lambda session: find_act(session, user_id, revocation_id))

    assert (row.kind, row.sessions_ended) == ("session", 3)
    for each in host.rows("xgen_revocations"):
        found = act(bora, each["id"])
        assert found is not None
        assert (found.sessions_ended, found.actor) == (3, "console")
        assert act(other, each["id"]) is None
    assert act(bora, "0" * 32) is act(bora, "?") is None


def test_addresses_and_devices_are_counted_by_sign_in(
    host: Host, bora: str, time: FrozenDateTimeFactory
) -> None:
    first_us = clock.now_us()
    for _ in range(2):
        sign_in(host, bora, ip="192.0.2.40", agent=IPHONE)
    host.force_logout(bora)
    time.tick(60)
    for _ in range(3):
        sign_in(host, bora, ip="2001:db8::7f:21", agent=BROWSER)
    host.issue(bora)
    time.tick(60)
    token = sign_in(host, bora, ip="192.0.2.40")
    time.tick(1)
    host.renew(token)  # the same sign-in
    time.tick(100)

    found = sightings(host, bora)

    assert [(each.value, each.times) for each in found.addresses] == [
        ("192.0.2.40", 3),
        ("2001:db8::7f:21", 3),
    ]
    assert [(each.value, each.times) for each in found.devices] == [
        ("Windows", 3),
        (None, 2),
        ("iPhone", 2),
    ]
    assert found.addresses[0].last_us == found.last_login_us
    assert found.first_sign_in_us == first_us
    assert not found.is_capped


def test_many_addresses_are_counted_but_not_listed(host: Host, bora: str) -> None:
    for number in (*range(12), 11):
        sign_in(host, bora, ip=f"192.0.2.{number}", agent=f"Tool/{number}")

    found = sightings(host, bora)

    assert found.addresses[0].value == "192.0.2.11"
    assert (len(found.addresses), found.more_addresses) == (5, 7)
    assert [(each.value, each.times) for each in found.devices] == [(None, 13)]


def test_sightings_of_a_pile_of_sessions_are_those_of_the_newest(host: Host, bora: str) -> None:
    record(host, bora, MOST_ROWS + 5, ip="192.0.2.1")

    found = sightings(host, bora)

    assert found.is_capped
    assert found.addresses[0].times == MOST_ROWS + 1


@pytest.mark.parametrize("user_id", ["", "unknown", "\0", "x" * 300])
def test_an_unknown_user_has_no_history(host: Host, user_id: str) -> None:
    host.issue(host.add_user("bora"))

    assert ended(host, user_id) == []
    assert revocations(host, user_id) == []
    assert newest(host, user_id).sessions == []
    assert sightings(host, user_id) == Seen(None, None, [], 0, [], 0, is_capped=False)


@pytest.mark.parametrize("text", ["", "1", "1-2", "1-2-", "1-2-%", "x-2-a", "1" * 19 + "-1-a"])
def test_a_position_that_is_none_is_refused(text: str) -> None:
    assert Position.parse(text) is None
