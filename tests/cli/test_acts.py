"""Commands for several users, for old sessions and for leavers: output, effects, exit codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from freezegun import freeze_time

from tests.support.commands import run
from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import Host
from xgen_flask_sessions import bulk, session_ended

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)


def with_roles(app: Flask) -> Mapping[str, Any]:
    """Say that the department is a user's role."""
    return {"revoke_roles": lambda user: [user.department] if user.department else None}


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=with_roles)


def test_several_users_are_forced_out(host: Host) -> None:
    tokens = [host.issue(host.add_user(name)) for name in ("bora", "dan", "eve")]

    result = run(host, "force-logout", "bora", "dan", "bora", "--reason", "drill")

    assert result.exit_code == 0
    assert result.stdout == "1 session of bora ended.\n1 session of dan ended.\n"
    assert [host.status(token) for token in tokens] == [401, 401, 200]
    assert {row["reason"] for row in host.rows("xgen_revocations")} == {"drill"}


def test_several_users_in_json(host: Host) -> None:
    bora, dan = host.add_user("bora"), host.add_user("dan")

    result = run(host, "force-logout", bora, dan, "--id", "--json")

    answer = json.loads(result.stdout)
    assert [each["user_id"] for each in answer["done"]] == [bora, dan]
    assert answer.keys() == {"done", "refused", "failed", "unknown", "not_reached"}


def test_an_unknown_user_among_several_ends_no_session(host: Host) -> None:
    token = host.issue(host.add_user("bora"))

    result = run(host, "force-logout", "bora", "nobody")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no user nobody." in result.stderr
    assert host.status(token) == 200


@on_sqlite
def test_a_failure_tells_how_far_it_came(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    bora, dan, eve = (host.add_user(name) for name in ("bora", "dan", "eve"))
    host.execute(
        f"CREATE TRIGGER refuse BEFORE INSERT ON xgen_revocations WHEN NEW.user_id = '{dan}' "
        "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )

    result = run(host, "force-logout", "bora", "dan", "eve")
    as_json = run(host, "force-logout", "bora", "dan", "eve", "--json")

    assert result.exit_code == as_json.exit_code == 1
    assert result.stdout == "0 sessions of bora ended.\n0 sessions of eve ended.\n"
    assert "2 of 3 users forced out, 1 not. The database refused the change." in result.stderr
    answer = json.loads(as_json.stdout)
    assert [each["user_id"] for each in answer["done"]] == [bora, eve]
    assert answer["failed"] == [dan]


def test_sessions_older_than_an_age_end(host: Host) -> None:
    user = host.add_user("bora")
    with freeze_time(NOON) as clock:
        old = host.issue(user)
        clock.tick(7200)
        new = host.issue(user)

        result = run(host, "end-older", "bora", "--older-than", "1h", "--reason", "pile-up")
        again = run(host, "end-older", "bora", "--older-than", "3600")

        assert (result.exit_code, result.stdout) == (0, "1 session of bora ended.\n")
        assert (again.exit_code, again.stdout) == (0, "0 sessions of bora ended.\n")
        assert [host.status(old), host.status(new)] == [401, 200]
    (record,) = host.rows("xgen_revocations")
    assert (record["kind"], record["reason"]) == ("session", "pile-up")


def test_old_sessions_that_ended_are_told_if_the_act_stops(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 1)
    user = host.add_user("bora")
    for _ in range(3):
        host.issue(user)

    def refuse_more(*_: object, **__: object) -> None:
        host.execute("ALTER TABLE xgen_feed RENAME TO away")

    with session_ended.connected_to(refuse_more):
        result = run(host, "end-older", "bora", "--keep-newest")

    assert (result.exit_code, result.stdout) == (1, "1 session of bora ended.\n")
    assert "It stopped before the end." in result.stderr


def test_all_but_the_newest_in_json(host: Host) -> None:
    user = host.add_user("bora")
    with freeze_time(NOON) as clock:
        old = host.issue(user)
        clock.tick(1)
        host.issue(user)

        result = run(host, "end-older", "bora", "--keep-newest", "--json")

    assert json.loads(result.stdout) == {
        "user_id": user,
        "sessions_ended": 1,
        "session_ids": [old.session_id],
    }


@on_sqlite
@pytest.mark.parametrize(
    "args",
    [
        [],
        ["bora"],
        ["bora", "--older-than", "1h", "--keep-newest"],
        ["bora", "--older-than", "soon"],
        ["bora", "--older-than", "-1"],
        ["bora", "--keep-newest", "--reason", "x" * 501],
        ["\udcff", "--keep-newest"],
    ],
)
def test_a_wrong_call_ends_no_session(host: Host, args: list[str]) -> None:
    token = host.issue(host.add_user("bora"))

    assert run(host, "end-older", *args).exit_code == 2
    assert host.status(token) == 200


@on_sqlite
def test_names_of_several_users_must_be_valid_text(host: Host) -> None:
    host.add_user("bora")

    assert run(host, "force-logout", "bora", "\udcff").exit_code == 2


def test_a_leaver_loses_sessions_account_and_roles(host: Host) -> None:
    user = host.add_user("bora", department="Sales")
    token = host.issue(user)

    result = run(host, "leaver", "bora", "--reason", "leaves today")
    again = run(host, "leaver", "bora", "--json")

    assert result.exit_code == 0
    assert result.stdout == (
        "1 session of bora ended.\nThe account is inactive now.\nRoles revoked: Sales.\n"
    )
    answer = json.loads(again.stdout)
    assert (answer["user_id"], answer["sessions_ended"]) == (user, 0)
    assert (answer["deactivated"], answer["roles"]) == (False, ["Sales"])
    assert host.status(token) == 401
    records = host.rows("xgen_revocations")
    assert len(records) == 2
    assert all(row["actor"].startswith("cli:") for row in records)


@on_sqlite
def test_a_leaver_without_changes_of_the_account(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url)
    user = host.add_user("bora", is_active=False)

    result = run(host, "leaver", user, "--id")

    assert result.stdout.endswith("The account was not changed.\nRoles revoked: none.\n")
    assert run(host, "leaver", "nobody").exit_code == 1
