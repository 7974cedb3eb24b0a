"""Changes of a user that end the user's sessions in the same transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from tests.support.databases import MakeHost
from tests.support.hosts import Host, NamedUser, User, bearer
from xgen_flask_sessions import ConfigurationError, Revocation, user_forced_out


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    """Return a host where a new password, ``is_active=False`` or a deletion ends sessions."""
    return make_host(database_url, extras=with_revoke_on("password", "is_active"))


def with_revoke_on(*attributes: str) -> Callable[[Flask], dict[str, Any]]:
    return lambda app: {"revoke_on": attributes}


def by_object(host: Host, user_id: str, **values: Any) -> None:
    host.change_user(user_id, **values)


def by_statement(host: Host, user_id: str, **values: Any) -> None:
    with host.app.app_context():
        where = host.model.id == int(user_id)
        host.db.session.execute(sa.update(host.model).where(where).values(**values))
        host.db.session.commit()


def by_query(host: Host, user_id: str, **values: Any) -> None:
    with host.app.app_context():
        found = host.db.session.query(host.model).filter_by(id=int(user_id))
        found.update(dict(values.items()))
        host.db.session.commit()


def by_primary_key(host: Host, user_id: str, **values: Any) -> None:
    with host.app.app_context():
        rows = [{"id": int(user_id), **values}]
        host.db.session.execute(sa.update(host.model), rows)
        host.db.session.commit()


def by_own_session(host: Host, user_id: str, **values: Any) -> None:
    with host.app.app_context(), Session(host.db.engine) as own:
        own.execute(sa.update(host.model).where(host.model.id == int(user_id)).values(**values))
        own.commit()


WAYS = [by_object, by_statement, by_query, by_primary_key, by_own_session]
Change = Callable[..., None]


@pytest.mark.parametrize("change", WAYS)
def test_a_new_password_ends_the_sessions(host: Host, change: Change) -> None:
    user, other = host.add_user(), host.add_user("bob")
    token, others = host.issue(user), host.issue(other)

    change(host, user, password="another")

    assert host.status(token) == 401
    assert host.status(others) == 200
    (record,) = host.rows("xgen_revocations")
    assert (record["user_id"], record["reason"]) == (user, "password changed")
    assert record["sessions_ended"] == 1
    assert host.status(host.issue(user)) == 200


@pytest.mark.parametrize("change", WAYS)
def test_becoming_inactive_ends_the_sessions_and_becoming_active_ends_none(
    host: Host, change: Change
) -> None:
    user = host.add_user()
    token = host.issue(user)

    change(host, user, is_active=False)
    assert host.status(token) == 401
    change(host, user, is_active=True)

    assert host.status(token) == 401
    assert host.status(host.issue(user)) == 200
    assert [row["reason"] for row in host.rows("xgen_revocations")] == ["made inactive"]


@pytest.mark.parametrize("active", [1, sa.true()])
def test_any_true_value_counts_as_becoming_active(host: Host, active: Any) -> None:
    user = host.add_user()
    token = host.issue(user)

    by_statement(host, user, is_active=active)

    assert host.status(token) == 200


def test_a_change_of_many_users_locks_the_head_of_the_feed_last(host: Host) -> None:
    users = [host.add_user(f"user{number}") for number in range(40)]
    tokens = [host.issue(user) for user in users]
    table, head = "xgen_user_logins", "xgen_feed_head"
    locked: list[str] = []

    def note(*_: Any) -> None:
        statement = str(_[2])
        locked.extend(name for name in (table, head) if name in statement.split("WHERE")[0])

    with host.app.app_context():
        for user in host.db.session.scalars(sa.select(host.model)).all():
            user.is_active = False
        sa.event.listen(host.db.engine, "before_cursor_execute", note)
        host.db.session.commit()
        sa.event.remove(host.db.engine, "before_cursor_execute", note)

    # A transaction that holds the head of the feed must not wait for a user's row: it could
    # deadlock with a sign-out.
    assert head not in locked[: len(locked) - locked[::-1].index(table)]
    assert {host.status(token) for token in tokens} == {401}


@pytest.mark.parametrize("change", WAYS)
def test_a_change_of_another_column_ends_no_session(host: Host, change: Change) -> None:
    user = host.add_user()
    token = host.issue(user)

    change(host, user, display_name="Alice")

    assert host.status(token) == 200
    assert host.rows("xgen_revocations") == []


def test_setting_the_same_password_again_ends_no_session(host: Host) -> None:
    user = host.add_user(password="the same")
    token = host.issue(user)

    with host.app.app_context():
        found = host.find_user(user)
        assert found.password == "the same"
        found.password = "the same"
        host.db.session.commit()

    assert host.status(token) == 200


def test_a_statement_ends_the_sessions_of_all_users_that_it_changes(host: Host) -> None:
    users = [host.add_user(f"user{number}", department="Sales") for number in range(3)]
    spared = host.add_user("spared", department="Support")
    tokens = [host.issue(user) for user in users]
    kept = host.issue(spared)

    with host.app.app_context():
        leavers = host.model.department == "Sales"
        host.db.session.execute(sa.update(host.model).where(leavers).values(is_active=False))
        host.db.session.commit()

    assert [host.status(token) for token in tokens] == [401] * 3
    assert host.status(kept) == 200


@pytest.mark.parametrize("change", ["object", "statement"])
def test_a_change_that_is_rolled_back_ends_no_session(host: Host, change: str) -> None:
    user = host.add_user()
    token = host.issue(user)

    with host.app.app_context():
        if change == "object":
            host.find_user(user).password = "another"
            host.db.session.flush()
        else:
            host.db.session.execute(sa.update(host.model).values(password="another"))
        assert host.sessions.verify(token.token)  # the revocation is not committed yet
        host.db.session.rollback()

    assert host.status(token) == 200
    assert host.rows("xgen_revocations") == []


def test_the_signal_is_sent_after_the_commit(host: Host) -> None:
    user = host.add_user()
    host.issue(user)
    told: list[Revocation] = []

    note = lambda app, revocation: told.append(revocation)  # noqa: E731
    with user_forced_out.connected_to(note), host.app.app_context():
        host.find_user(user).password = "another"
        host.db.session.flush()
        assert told == []
        host.db.session.commit()

    assert [(each.user_id, each.sessions_ended) for each in told] == [(user, 1)]


def test_the_record_has_the_actor_and_the_address(host: Host) -> None:
    @host.app.post("/reset/<user_id>")
    def reset(user_id: str) -> str:
        host.find_user(user_id).password = "another"
        host.db.session.commit()
        return "done"

    user, boss = host.add_user(), host.add_user("boss")
    host.issue(user)

    answer = host.client().post(
        f"/reset/{user}",
        headers=bearer(host.issue(boss)),
        environ_base={"REMOTE_ADDR": "203.0.113.7"},
    )

    assert answer.status_code == 200
    (record,) = host.rows("xgen_revocations")
    assert (record["actor"], record["actor_ip"]) == (boss, "203.0.113.7")


def test_users_with_text_ids_are_found(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, model=NamedUser, extras=with_revoke_on("password"))
    alice, other = host.add_user("alice", id="alice"), host.add_user("ALICE", id="ALICE")
    token, others = host.issue(alice), host.issue(other)

    with host.app.app_context():
        where = NamedUser.username == "alice"
        host.db.session.execute(sa.update(NamedUser).where(where).values(password="x"))
        host.db.session.commit()

    assert host.status(token) == 401
    assert host.status(others) == 200


def test_without_revoke_on_no_session_ends(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url)
    user = host.add_user()
    token = host.issue(user)

    host.change_user(user, password="another")

    assert host.status(token) == 200


@pytest.mark.parametrize(
    ("attributes", "message"),
    [(["pasword"], "pasword"), (["get_id"], "get_id"), ("password", "list of names")],
)
def test_a_wrong_attribute_name_is_a_configuration_error(
    make_host: MakeHost, sqlite_url: str, attributes: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_host(sqlite_url, extras=lambda app: {"revoke_on": attributes})


def test_a_revocation_that_fails_rolls_the_user_s_change_back(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    with host.app.app_context(), host.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE xgen_revocations RENAME TO away")

    with pytest.raises(sa.exc.DBAPIError):
        host.change_user(user, password="another")

    assert host.status(token) == 200
    with host.app.app_context():
        assert host.db.session.scalar(sa.select(User.password)) == ""


def test_a_change_of_the_user_s_id_ends_the_sessions_of_the_old_id(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, model=NamedUser, extras=with_revoke_on("password"))
    user = host.add_user("alice", id="alice")
    token = host.issue(user)

    with host.app.app_context():
        found = host.find_user(user)
        found.id, found.password = "alicia", "another"
        host.db.session.commit()

    assert host.status(token) == 401


def test_a_change_in_a_separate_orm_session_ends_the_sessions(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    told: list[Revocation] = []
    note = lambda app, revocation: told.append(revocation)  # noqa: E731

    with (
        user_forced_out.connected_to(note),
        host.app.app_context(),
        sa.orm.Session(host.db.engine) as own,
    ):
        own.get_one(User, int(user)).password = "another"
        own.commit()

    assert host.status(token) == 401
    assert len(told) == 1


def test_an_executemany_statement_ends_the_sessions_of_its_users(host: Host) -> None:
    users = [host.add_user(f"user{number}", department="Sales") for number in range(3)]
    tokens = [host.issue(user) for user in users]

    with host.app.app_context():
        host.db.session.execute(
            sa.update(User).where(User.department == sa.bindparam("whose")),
            [{"id": int(user), "whose": "Sales", "password": "another"} for user in users[:2]],
            execution_options={"synchronize_session": None},
        )
        host.db.session.commit()

    assert [host.status(token) for token in tokens] == [401, 401, 200]
