"""The acts of administrators: who may do which, within which limits, and how far an act came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import (
    BadRequest,
    Forbidden,
    IssuedToken,
    LedgerUnavailable,
    NotFound,
    RateLimited,
    SessionRevoked,
    bulk,
    session_ended,
    user_forced_out,
)
from xgen_flask_sessions.errors import HookFailed
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.web import acts


def with_helpdesk(app: Flask) -> Mapping[str, Any]:
    """Permit the Helpdesk to see and to force out, but its trainees only to see."""
    return {
        "can_view": lambda user: user.department == "Helpdesk" or user.is_superuser,
        "can_force_logout": lambda user: user.display_name != "Trainee",
    }


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=with_helpdesk)


@contextmanager
def signed_in(host: Host, user_id: str, token: IssuedToken | None = None) -> Iterator[Any]:
    """Yield the user object of a caller, within a request with the caller's token."""
    headers = bearer(token or host.issue(user_id))
    with host.app.test_request_context(headers=headers):
        yield host.find_user(user_id)


def add_people(host: Host) -> tuple[str, str, list[str]]:
    """Return a SuperUser, a member of the Helpdesk, and three users with two sessions each."""
    boss = host.add_user("boss", is_superuser=True)
    helper = host.add_user("helper", department="Helpdesk")
    users = [host.add_user(name) for name in ("alice", "bob", "carol")]
    for user in users:
        host.issue(user)
        host.issue(user)
    return boss, helper, users


# --- Several users ---------------------------------------------------------------------------


def test_several_users_are_forced_out_and_the_others_are_named(host: Host) -> None:
    boss, helper, users = add_people(host)
    host.delete_user(users[2])

    with signed_in(host, helper) as caller:
        result = acts.force_out_several(
            caller, [users[0], "999", boss, users[2], users[0], "", "x" * 300], "lost laptops"
        )

    assert {(each.user_id, each.sessions_ended) for each in result.done} == {
        (users[0], 2),
        (users[2], 2),
    }
    assert [(user_id, type(error)) for user_id, error in result.refused] == [
        ("999", NotFound),
        (boss, Forbidden),
        ("", NotFound),
        ("x" * 300, NotFound),
    ]
    assert (result.failed, result.failed_unknown, result.not_reached) == ([], [], [])
    assert result.error is None
    assert {row["actor"] for row in host.rows("xgen_revocations")} == {helper}


@pytest.mark.parametrize("caller", ["alice", "trainee"])
def test_without_the_permission_no_user_is_forced_out(host: Host, caller: str) -> None:
    _, _, users = add_people(host)
    host.add_user("trainee", department="Helpdesk", display_name="Trainee")
    with host.app.app_context():
        (user,) = host.app.extensions["xgen_sessions"].users.named(caller)
        caller_id = str(user.id)

    with signed_in(host, caller_id) as actor:
        with pytest.raises(Forbidden):
            acts.force_out_several(actor, users)
        with pytest.raises(Forbidden):
            acts.preview_several(actor, users)
        for act in (acts.force_out_everyone, acts.preview_everyone):
            with pytest.raises(Forbidden):
                act(actor)

    assert host.rows("xgen_revocations") == []


@pytest.mark.parametrize("user_ids", [[], [1], [None], [str(n) for n in range(1001)]])
def test_a_wrong_list_of_users_is_refused(host: Host, user_ids: list[Any]) -> None:
    boss = host.add_user("boss", is_superuser=True)

    with signed_in(host, boss) as caller:
        for act in (acts.force_out_several, acts.preview_several):
            with pytest.raises(BadRequest):
                act(caller, user_ids)


def test_a_preview_tells_the_extent_and_changes_nothing(host: Host) -> None:
    boss, helper, users = add_people(host)
    idle = host.add_user("idle")

    with signed_in(host, helper) as caller:
        preview = acts.preview_several(caller, [*users[:2], idle, boss, "999"])
    with signed_in(host, boss) as caller:
        everyone = acts.preview_everyone(caller)

    assert (preview.users, preview.sessions) == (3, 4)
    assert [(profile.username, count) for profile, count in preview.chosen] == [
        ("alice", 2),
        ("bob", 2),
        ("idle", 0),
    ]
    assert [user_id for user_id, _ in preview.refused] == [boss, "999"]
    assert (everyone.users, everyone.sessions) == (5, 8)
    assert host.rows("xgen_revocations") == []


def test_the_callers_own_sessions_end_last(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    boss, _, users = add_people(host)

    with signed_in(host, boss) as caller:
        result = acts.force_out_several(caller, [boss, *users])

    assert [each.user_id for each in result.done] == [*users, boss]
    assert result.error is None


def after_first_chunk(host: Host, change: Callable[[], object]) -> Any:
    """Make a change after the first transaction of a bulk."""
    changed: list[object] = []

    def act(*_: object, **__: object) -> None:
        if not changed:
            changed.append(None)
            change()

    return user_forced_out.connected_to(act)


def on_another_connection(host: Host, statement: str) -> Callable[[], object]:
    """Return a function that commits a statement as another process would."""

    def change() -> None:
        with host.app.app_context(), host.db.engine.begin() as other:
            other.exec_driver_sql(statement)

    return change


def test_a_caller_forced_out_meanwhile_stops_the_act(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    _, helper, users = add_people(host)
    token = host.issue(helper)
    end = on_another_connection(
        host,
        "UPDATE xgen_user_logins SET invalid_before_us = last_issued_us "
        f"WHERE user_id = '{helper}'",
    )

    with after_first_chunk(host, end), signed_in(host, helper, token) as caller:
        result = acts.force_out_several(caller, users)

    assert [each.user_id for each in result.done] == users[:1]
    assert result.not_reached == users[1:]
    assert isinstance(result.error, SessionRevoked)


def test_a_caller_demoted_meanwhile_stops_the_act(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    _, helper, users = add_people(host)
    demote = on_another_connection(host, f"UPDATE users SET department = 'HR' WHERE id = {helper}")

    with after_first_chunk(host, demote), signed_in(host, helper) as caller:
        result = acts.force_out_several(caller, users)

    assert [each.user_id for each in result.done] == users[:1]
    assert result.not_reached == users[1:]
    assert isinstance(result.error, Forbidden)


def test_a_user_promoted_meanwhile_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    _, helper, users = add_people(host)
    true = "TRUE" if host.dialect == "postgresql" else "1"
    promote = on_another_connection(
        host, f"UPDATE users SET is_superuser = {true} WHERE id = {users[1]}"
    )

    with after_first_chunk(host, promote), signed_in(host, helper) as caller:
        result = acts.force_out_several(caller, users)

    assert [each.user_id for each in result.done] == [users[0], users[2]]
    assert [user_id for user_id, _ in result.refused] == [users[1]]
    assert result.error is None


def test_an_act_counts_once_for_the_rate_limit_and_a_refused_one_not(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, extras=with_helpdesk, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="2/minute")
    boss, helper, users = add_people(host)

    with signed_in(host, helper) as caller:
        acts.force_out_several(caller, [boss])
        acts.force_out_several(caller, users)
        acts.end_older(caller, users[0], keep_newest=True)
        with pytest.raises(RateLimited):
            acts.force_out_several(caller, users)
    with signed_in(host, boss) as caller:
        acts.force_out_everyone(caller)


def test_a_commit_that_is_not_answered_leaves_the_chunk_unknown_and_the_rest_not_reached(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    boss, _, users = add_people(host)
    seen: list[str] = []

    def lose_connection(connection: sa.Connection) -> None:
        seen.append("commit")
        if len(seen) == 3:  # after the one that ends the reads, and the first user's
            connection.invalidate()
            raise sa.exc.OperationalError("COMMIT", {}, OSError("gone"))

    with host.app.app_context():
        engine = host.db.engine
    with signed_in(host, boss) as caller:
        sa.event.listen(engine, "commit", lose_connection)
        try:
            result = acts.force_out_several(caller, users)
        finally:
            sa.event.remove(engine, "commit", lose_connection)

    assert [each.user_id for each in result.done] == users[:1]
    assert result.failed_unknown == users[1:2]
    assert result.not_reached == users[2:]
    assert isinstance(result.error, LedgerUnavailable)
    assert not result.error.undone


def test_a_failing_function_of_the_host_stops_the_act_and_the_result_is_told(
    make_host: MakeHost,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    rights: dict[str, bool] = {}
    host = make_host(
        sqlite_url, extras=lambda app: {"can_force_logout": lambda user: rights[user.username]}
    )
    _, _, users = add_people(host)
    rights["helper"] = rights["boss"] = True
    host.change_user("1", is_superuser=True)

    with after_first_chunk(host, rights.clear), signed_in(host, "1") as caller:
        result = acts.force_out_several(caller, users)

    assert [each.user_id for each in result.done] == users[:1]
    assert result.not_reached == users[1:]
    assert isinstance(result.error, HookFailed)
    assert "KeyError" in caplog.text
    with host.app.app_context(), pytest.raises(KeyError):
        bulk.force_logout_several(users, Cause(), authorize=lambda *_: rights["boss"])  # type: ignore[arg-type]


def test_an_act_is_not_unknown_if_the_reads_before_it_could_not_be_ended(host: Host) -> None:
    boss, _, users = add_people(host)

    def lose_connection(connection: sa.Connection) -> None:
        connection.invalidate()
        raise sa.exc.OperationalError("COMMIT", {}, OSError("gone"))

    with host.app.app_context():
        engine = host.db.engine
    with signed_in(host, boss) as caller:
        sa.event.listen(engine, "commit", lose_connection)
        try:
            with pytest.raises(LedgerUnavailable) as failed:
                acts.force_out_several(caller, users)
        finally:
            sa.event.remove(engine, "commit", lose_connection)

    assert failed.value.undone
    assert host.rows("xgen_revocations") == []


# --- Everyone --------------------------------------------------------------------------------


def test_everyone_needs_a_superuser(host: Host) -> None:
    boss, helper, _ = add_people(host)

    with signed_in(host, helper) as caller, pytest.raises(Forbidden):
        acts.force_out_everyone(caller)
    with signed_in(host, boss) as caller:
        revocation = acts.force_out_everyone(caller, "incident")

    assert (revocation.kind, revocation.sessions_ended) == ("everyone", 8)
    assert (revocation.actor, revocation.reason) == (boss, "incident")


# --- One session, and old ones ---------------------------------------------------------------


def test_one_session_ends(host: Host) -> None:
    _, helper, users = add_people(host)
    token, other = host.issue(users[0]), host.issue(users[0])

    with signed_in(host, helper) as caller:
        revocation = acts.end_one(caller, users[0], token.session_id, "public PC")
        again = acts.end_one(caller, users[0], token.session_id)

    assert revocation is not None
    assert (revocation.kind, revocation.session_id) == ("session", token.session_id)
    assert (revocation.actor, revocation.reason) == (helper, "public PC")
    assert again is None
    assert [host.status(token), host.status(other)] == [401, 200]


def test_a_session_of_another_user_is_not_found(host: Host) -> None:
    _, helper, users = add_people(host)
    token = host.issue(users[0])

    with signed_in(host, helper) as caller:
        for user_id, session_id in (
            (users[1], token.session_id),
            (users[0], "x"),
            ("999", token.session_id),
        ):
            with pytest.raises(NotFound):
                acts.end_one(caller, user_id, session_id)

    assert host.status(token) == 200


def test_only_a_superuser_ends_sessions_of_a_superuser(host: Host) -> None:
    boss, helper, _ = add_people(host)
    token = host.issue(boss)

    with signed_in(host, helper) as caller:
        with pytest.raises(Forbidden):
            acts.end_one(caller, boss, token.session_id)
        with pytest.raises(Forbidden):
            acts.end_older(caller, boss, older_than_us=0)

    assert host.status(token) == 200


def test_all_but_the_newest_session_end(host: Host) -> None:
    _, helper, users = add_people(host)
    newest = host.issue(users[0])

    with signed_in(host, helper) as caller:
        made = acts.end_older(caller, users[0], keep_newest=True, reason="pile-up").done
        assert acts.end_older(caller, users[0], older_than_us=10**9).done == []

    assert len(made) == 2
    assert {each.reason for each in made} == {"pile-up"}
    assert host.status(newest) == 200


@pytest.mark.parametrize("change", ["demoted", "fails"])
def test_old_sessions_end_until_the_caller_may_not(
    host: Host, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 2)
    _, helper, users = add_people(host)
    tokens = [host.issue(users[0]) for _ in range(3)]
    demote = on_another_connection(host, f"UPDATE users SET department = 'HR' WHERE id = {helper}")
    seen: list[object] = []

    def act(*_: object, **__: object) -> None:
        seen.append(None)
        if change == "demoted":
            demote()
        else:
            monkeypatch.setattr("xgen_flask_sessions.web.acts.recheck_token", {}.popitem)

    with session_ended.connected_to(act), signed_in(host, helper) as caller:
        result = acts.end_older(caller, users[0], older_than_us=0)

    assert len(seen) == len(result.done) == 2
    assert isinstance(result.error, Forbidden if change == "demoted" else HookFailed)
    assert [host.status(token) for token in tokens] == [200] * 3
    with signed_in(host, helper) as caller, pytest.raises((Forbidden, KeyError)):
        acts.end_older(caller, users[0], older_than_us=0)


@pytest.mark.parametrize(
    "which", [{}, {"older_than_us": 1, "keep_newest": True}, {"older_than_us": -1}]
)
def test_it_must_be_clear_which_sessions_to_end(host: Host, which: dict[str, Any]) -> None:
    _, helper, users = add_people(host)

    with signed_in(host, helper) as caller, pytest.raises(BadRequest):
        acts.end_older(caller, users[0], **which)
