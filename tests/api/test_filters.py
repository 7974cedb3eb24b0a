"""The filters of ``GET /sessions/users`` and of the command ``list``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hosts import Host, bearer
from xgen_flask_sessions import PastSignIn, clock
from xgen_flask_sessions.roster import faults

HOUR_US = 3600 * clock.SECOND_US


@pytest.fixture
def filled(host: Host) -> Host:
    """Return a host with three users: admin, bora of Sales on two devices, and zoe."""
    admin = host.add_user("admin", is_superuser=True)
    bora = host.add_user("bora", department="Sales")
    zoe = host.add_user("zoe")
    now = clock.now_us()
    sign_ins = [(admin, 1, "10.0.0.9"), (bora, 2, "203.0.113.7"), (bora, 50, "2001:db8::7"),
                (zoe, 30, "203.0.113.100")]  # fmt: skip
    with host.app.app_context():
        host.sessions.record_past_sign_ins(
            PastSignIn(
                user_id=user, signed_in_us=now - hours * HOUR_US, expires_us=now + HOUR_US, ip=ip
            )
            for user, hours, ip in sign_ins
        )
    return host


CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"admin", "bora", "zoe"}),
    ({"q": "sale"}, {"bora"}),
    ({"q": "203.0.113."}, {"bora", "zoe"}),
    ({"q": "203.0.113.0/26"}, {"bora"}),
    ({"address": "2001:0DB8:"}, {"bora"}),
    ({"address": "203.0.113.1"}, set()),
    ({"older_than": "1d"}, {"bora", "zoe"}),
    ({"older_than": "45h"}, {"bora"}),
    ({"min_sessions": "2"}, {"admin", "bora"}),  # the caller signs in once more
    ({"superuser": "true"}, {"admin"}),
    ({"superuser": "1", "older_than": "1d"}, set()),
    ({"older_than": "1d", "address": "203.0.113.0/24", "min_sessions": "1"}, {"bora", "zoe"}),
    ({"since": "2020-01-01"}, {"admin", "bora", "zoe"}),
    ({"since": "9999-12-31"}, set()),
]


@pytest.mark.parametrize(("query", "expected"), CASES)
def test_the_api_lists_who_matches(filled: Host, query: dict[str, str], expected: set[str]) -> None:
    admin = filled.issue("1")

    answer = filled.client().get("/sessions/users", query_string=query, headers=bearer(admin))

    assert answer.status_code == 200, answer.get_data(as_text=True)
    body = answer.get_json()
    assert {user["username"] for user in body["users"]} == expected
    assert (body["summary"]["active_users"], body["page"], body["pages"]) == (3, 1, 1)


def test_addresses_order_as_numbers(filled: Host) -> None:
    admin = filled.issue("1")

    answer = filled.client().get("/sessions/users?sort=last_ip", headers=bearer(admin)).get_json()

    assert [user["last_ip"] for user in answer["users"]] == [
        "10.0.0.9", "203.0.113.7", "203.0.113.100",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("address=10.0.0.0/33", faults.ADDRESS),
        ("address=fe80::1%25eth0", faults.ADDRESS),
        ("address=%00", faults.ADDRESS),
        ("older_than=1e9", faults.OLDER_THAN),
        ("older_than=-1", faults.OLDER_THAN),
        (f"older_than={'9' * 5000}", faults.OLDER_THAN),
        ("min_sessions=0", faults.MIN_SESSIONS),
        (f"min_sessions={'9' * 5000}", faults.MIN_SESSIONS),
        ("since=yesterday", faults.SINCE),
        ("superuser=maybe", faults.SUPERUSER),
        ("q=a&q=b", faults.TWICE),
        ("page=1&page=2", faults.TWICE),
    ],
)
def test_the_api_says_what_is_wrong(filled: Host, query: str, fault: str) -> None:
    answer = filled.client().get(f"/sessions/users?{query}", headers=bearer(filled.issue("1")))

    assert (answer.status_code, answer.get_json()["detail"]) == (400, fault)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--search", "SALE"], {"bora"}),
        (["--search", "203.0.113."], {"bora", "zoe"}),
        (["--address", "203.0.113.0/26"], {"bora"}),
        (["--superusers"], {"admin"}),
        (["--older-than", "45h"], {"bora"}),
        (["--min-sessions", "2"], {"bora"}),
        (["--since", "9999-12-31"], set()),
    ],
)
def test_the_command_lists_who_matches(
    filled: Host, arguments: list[str], expected: set[str]
) -> None:
    done = filled.app.test_cli_runner().invoke(args=["xgen-sessions", "list", *arguments])

    assert done.exit_code == 0, done.output
    assert {name for name in ("admin", "bora", "zoe") if f"{name} " in done.output} == expected
    number = len(expected)
    assert f"{number} user{'' if number == 1 else 's'} match" in done.output


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        ("--address", "10.0.0.0/33", faults.ADDRESS),
        ("--older-than", "1e9", faults.OLDER_THAN),
        ("--min-sessions", "0", faults.MIN_SESSIONS),
        ("--since", "x", faults.SINCE),
    ],
)
def test_the_command_says_what_is_wrong(filled: Host, option: str, value: str, fault: str) -> None:
    done = filled.app.test_cli_runner().invoke(args=["xgen-sessions", "list", option, value])

    assert done.exit_code == 2
    assert fault in " ".join(done.output.split())
