"""A user is deleted, and the id is given to another: no token of the first is the second's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from flask_login import login_user
from sqlalchemy.orm import Session, aliased, registry

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import IssuedToken, Revocation, SessionRevoked, user_forced_out


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    """Return a host without ``revoke_on=``, and with a sign-in page by ``login_user()``."""
    host = make_host(database_url)
    host.login_manager.user_loader(host.find_user)

    @host.app.post("/login/<user_id>")
    def login(user_id: str) -> str:
        login_user(host.find_user(user_id), remember=True)
        return "signed in"

    return host


def by_object(host: Host, user_id: int) -> None:
    host.db.session.delete(host.db.session.get(host.model, user_id))
    host.db.session.commit()


def by_query(host: Host, user_id: int) -> None:
    host.db.session.query(host.model).filter_by(id=user_id).delete()
    host.db.session.commit()


def by_statement(host: Host, user_id: int) -> None:
    host.db.session.execute(sa.delete(host.model).where(host.model.id == user_id))
    host.db.session.commit()


def by_table(host: Host, user_id: int) -> None:
    table = host.model.__table__
    host.db.session.execute(sa.delete(table).where(table.c.id == user_id))
    host.db.session.commit()


def by_own_session(host: Host, user_id: int) -> None:
    with Session(host.db.engine) as session, session.begin():
        session.execute(sa.delete(host.model.__table__).where(host.model.id == user_id))


def by_connection(host: Host, user_id: int) -> None:
    table = host.model.__table__
    with host.db.engine.begin() as connection:
        connection.execute(table.delete().where(table.c.username == "alice", table.c.id == user_id))


def by_connection_of_the_session(host: Host, user_id: int) -> None:
    table = host.model.__table__
    host.db.session.connection().execute(table.delete().where(table.c.id == user_id))
    host.db.session.commit()


def by_autocommit(host: Host, user_id: int) -> None:
    table = host.model.__table__
    with host.db.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(table.delete().where(table.c.id == user_id))


def by_reflected_table(host: Host, user_id: int) -> None:
    table = sa.Table("users", sa.MetaData(), autoload_with=host.db.engine)
    with host.db.engine.begin() as connection:
        connection.execute(
            table.delete().where(table.c.id == sa.bindparam("which")), {"which": user_id}
        )


def by_many_parameters(host: Host, user_id: int) -> None:
    table = host.model.__table__
    with host.db.engine.begin() as connection:
        statement = table.delete().where(table.c.id == sa.bindparam("which"))
        connection.execute(statement, [{"which": user_id}, {"which": 4711}])


def by_new_key(host: Host, user_id: int) -> None:
    host.find_user(str(user_id)).id = user_id + 1000
    host.db.session.commit()


def by_new_key_in_a_statement(host: Host, user_id: int) -> None:
    host.db.session.execute(
        sa.update(host.model).where(host.model.id == user_id).values(id=user_id + 1000)
    )
    host.db.session.commit()


def by_new_key_on_a_connection(host: Host, user_id: int) -> None:
    table = host.model.__table__
    with host.db.engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == user_id).values(id=user_id + 1000))


WAYS = [
    by_object, by_query, by_statement, by_table, by_own_session, by_connection,
    by_connection_of_the_session, by_autocommit, by_reflected_table, by_many_parameters, by_new_key,
    by_new_key_in_a_statement, by_new_key_on_a_connection,
]  # fmt: skip
Delete = Callable[[Host, int], None]


def delete_unseen(host: Host, user_id: str) -> None:
    """Delete a user by SQL text, as another program would."""
    host.execute(f"DELETE FROM users WHERE id = {int(user_id)}")


def insert_unseen(host: Host, user_id: str, username: str) -> None:
    host.execute(
        "INSERT INTO users (id, username, password, is_superuser, is_active) "
        f"VALUES ({int(user_id)}, '{username}', '', true, true)"
    )


def rename_unseen(host: Host, user_id: str, username: str) -> None:
    host.execute(f"UPDATE users SET username = '{username}' WHERE id = {int(user_id)}")


def who(client: FlaskClient, token: IssuedToken | None = None) -> tuple[int, Any]:
    headers = {} if token is None else bearer(token)
    answer = client.get("/api/user", headers=headers)
    return answer.status_code, answer.get_json().get("username")


@pytest.mark.parametrize("delete", WAYS)
def test_a_deletion_ends_the_sessions(host: Host, delete: Delete) -> None:
    user, other = host.add_user("alice"), host.add_user("bob")
    tokens, others = [host.issue(user), host.issue(user)], host.issue(other)

    with host.app.app_context():
        delete(host, int(user))

    assert [host.status(token) for token in tokens] == [401, 401]
    assert host.status(others) == 200
    record = next(row for row in host.rows("xgen_revocations") if row["user_id"] == user)
    assert record["reason"] in ("user deleted", "user id changed")
    assert record["sessions_ended"] == 2
    insert_unseen(host, user, "mallory")
    assert [host.status(token, "/api/user") for token in tokens] == [401, 401]


@pytest.mark.parametrize("delete", WAYS)
def test_an_undone_deletion_ends_no_session(
    host: Host, delete: Delete, monkeypatch: pytest.MonkeyPatch
) -> None:
    if delete is by_autocommit:
        pytest.skip("each of its statements is a transaction")
    user = host.add_user("alice")
    token = host.issue(user)

    def fail(*_: Any) -> None:
        raise KeyError("undone")

    with host.app.app_context():
        sa.event.listen(host.db.engine, "after_execute", fail_on_users(fail))
    with host.app.app_context(), pytest.raises(KeyError):
        delete(host, int(user))
    with host.app.app_context():
        host.db.session.rollback()

    assert host.status(token) == 200


def fail_on_users(fail: Callable[..., None]) -> Callable[..., None]:
    def listen(_: Any, statement: Any, *__: Any) -> None:
        if getattr(statement, "is_dml", False) and statement.table.name == "users":
            fail()

    return listen


@pytest.mark.parametrize("of", ["the table", "the model"])
def test_a_deletion_by_an_alias_ends_the_sessions_of_its_user(host: Host, of: str) -> None:
    if host.dialect in ("mysql", "mariadb"):
        pytest.skip("it deletes from no alias")
    user, other = host.add_user("alice"), host.add_user("bob")
    token, others = host.issue(user), host.issue(other)

    with host.app.app_context():
        if of == "the table":
            alias = host.model.__table__.alias("leavers")
            with host.db.engine.begin() as connection:
                connection.execute(sa.delete(alias).where(alias.c.id == int(user)))
        else:
            leaver = aliased(host.model)
            host.db.session.execute(sa.delete(leaver).where(leaver.id == int(user)))
            host.db.session.commit()

    assert (host.status(token), host.status(others)) == (401, 200)


def test_a_new_user_object_may_replace_a_deleted_one_in_one_flush(host: Host) -> None:
    user = host.add_user("alice")
    token = host.issue(user)

    with host.app.app_context():
        host.db.session.delete(host.find_user(user))
        host.db.session.add(host.model(id=int(user), username="mallory"))
        host.db.session.commit()  # one UPDATE

    assert host.status(token) == 401
    assert who(host.client(), host.issue(user)) == (200, "mallory")


def test_a_deletion_in_a_savepoint_that_is_rolled_back_is_not_announced(host: Host) -> None:
    users = [host.add_user("alice"), host.add_user("bob")]
    tokens = [host.issue(user) for user in users]
    heard: list[str | None] = []

    def listen(_: object, revocation: Revocation) -> None:
        heard.append(revocation.user_id)

    table = host.model.__table__
    with (
        host.app.app_context(),
        user_forced_out.connected_to(listen),
        host.db.engine.begin() as connection,
    ):
        connection.execute(table.delete().where(table.c.id == int(users[0])))
        savepoint = connection.begin_nested()
        connection.execute(table.delete().where(table.c.id == int(users[1])))
        savepoint.rollback()

    assert heard == users[:1]
    assert [host.status(token) for token in tokens] == [401, 200]


def test_a_deletion_on_a_connection_is_announced_once_it_is_committed(host: Host) -> None:
    user = host.add_user()
    host.issue(user)
    heard: list[str | None] = []

    def listen(_: object, revocation: Revocation) -> None:
        heard.append(revocation.user_id)

    table = host.model.__table__
    with host.app.app_context(), user_forced_out.connected_to(listen):
        for end in ("rollback", "commit"):
            with host.db.engine.connect() as connection:
                connection.execute(table.delete().where(table.c.id == int(user)))
                assert heard == []
                getattr(connection, end)()
            assert heard == ([user] if end == "commit" else [])
            with host.db.engine.begin():
                pass
    assert heard == [user]
    assert [row["kind"] for row in host.rows("xgen_feed")] == ["user"]


def test_many_users_may_be_deleted_that_never_signed_in(host: Host) -> None:
    users = [host.add_user(f"user{number}") for number in range(5)]
    token = host.issue(users[3])

    with host.app.app_context():
        host.db.session.execute(sa.delete(host.model))
        host.db.session.commit()

    assert host.status(token) == 401
    assert [row["user_id"] for row in host.rows("xgen_revocations")] == [users[3]]


def test_a_host_without_the_tables_may_delete_users(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, create_all=False)
    with host.app.app_context():
        host.model.__table__.drop(host.db.engine, checkfirst=True)
        host.model.__table__.create(host.db.engine)
        for table in [t for t in host.db.metadata.sorted_tables if t.name.startswith("xgen_")]:
            table.drop(host.db.engine, checkfirst=True)
    user = host.add_user("alice")

    with host.app.app_context():
        by_object(host, int(user))
        by_table(host, int(user))
        by_connection(host, int(user))

    assert host.rows("users") == []


def test_an_id_that_sql_text_freed_is_nobodys_session(host: Host) -> None:
    alice = host.add_user("alice", is_superuser=True)
    token, browser = host.issue(alice), host.client()
    browser.post(f"/login/{alice}")
    assert who(browser) == who(host.client(), token) == (200, "alice")
    delete_unseen(host, alice)

    insert_unseen(host, alice, "mallory")

    assert [who(browser), who(host.client(), token)] == [(401, None), (401, None)]
    assert host.client().get("/sessions/users", headers=bearer(token)).status_code == 401
    with host.app.app_context(), pytest.raises(SessionRevoked):
        host.sessions.renew(host.sessions.verify(token.token))


@pytest.mark.parametrize("by", ["issue", "login_user"])
def test_the_sign_in_of_the_new_user_ends_the_sessions_of_the_old_one(host: Host, by: str) -> None:
    alice = host.add_user("alice")
    token, browser = host.issue(alice), host.client()
    browser.post(f"/login/{alice}")
    delete_unseen(host, alice)
    insert_unseen(host, alice, "mallory")

    if by == "issue":
        new = host.issue(alice)
        assert (host.status(new), who(host.client(), new)) == (200, (200, "mallory"))
    else:
        newer = host.client()
        newer.post(f"/login/{alice}")
        assert who(newer) == (200, "mallory")

    assert host.status(token) == 401  # token_required reads no user row
    assert who(browser) == (401, None)
    (record,) = host.rows("xgen_revocations")
    assert record["reason"] == "the user id belongs to another account now"
    assert record["sessions_ended"] == 2
    (count,) = [row for row in host.rows("xgen_sessions") if row["ended_us"] is None]
    assert count["user_id"] == alice


def test_a_new_user_object_under_the_id_ends_the_sessions_of_the_old_one(host: Host) -> None:
    alice = host.add_user("alice")
    token = host.issue(alice)
    delete_unseen(host, alice)

    host.add_user("alice", id=int(alice))  # even of the same name

    assert host.status(token) == 401
    assert who(host.client(), host.issue(alice)) == (200, "alice")


def by_attribute(host: Host, user_id: int, username: str) -> None:
    host.find_user(str(user_id)).username = username
    host.db.session.commit()


def by_expired_attribute(host: Host, user_id: int, username: str) -> None:
    user = host.find_user(str(user_id))
    host.db.session.expire(user)
    user.username = username
    host.db.session.commit()


def by_update(host: Host, user_id: int, username: str) -> None:
    host.db.session.execute(
        sa.update(host.model).where(host.model.id == user_id).values(username=username)
    )
    host.db.session.commit()


def by_rows(host: Host, user_id: int, username: str) -> None:
    host.db.session.execute(sa.update(host.model), [{"id": user_id, "username": username}])
    host.db.session.commit()


def by_core_update(host: Host, user_id: int, username: str) -> None:
    table = host.model.__table__
    where = table.c.id == user_id
    host.db.session.execute(sa.update(table).where(where).values(username=username))
    host.db.session.commit()


def by_update_on_a_connection(host: Host, user_id: int, username: str) -> None:
    table = host.model.__table__
    with host.db.engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == user_id), {"username": username})


@pytest.mark.parametrize(
    "rename",
    [
        by_attribute, by_expired_attribute, by_update, by_rows, by_core_update,
        by_update_on_a_connection,
    ],
)  # fmt: skip
def test_a_user_keeps_the_sessions_under_a_new_name(
    host: Host, rename: Callable[[Host, int, str], None]
) -> None:
    user = host.add_user("alice")
    token, browser = host.issue(user), host.client()
    browser.post(f"/login/{user}")

    with host.app.app_context():
        rename(host, int(user), "alicia")

    assert [who(browser), who(host.client(), token)] == [(200, "alicia"), (200, "alicia")]
    assert who(host.client(), host.issue(user)) == (200, "alicia")
    assert who(host.client(), host.renew(token)) == (200, "alicia")
    assert host.rows("xgen_revocations") == []


def test_a_new_name_of_the_new_user_does_not_revive_the_old_sessions(host: Host) -> None:
    alice = host.add_user("alice")
    token = host.issue(alice)
    delete_unseen(host, alice)
    insert_unseen(host, alice, "mallory")

    host.change_user(alice, username="mallory the second")

    assert who(host.client(), token) == (401, None)


def test_a_name_that_sql_text_changed_ends_the_sessions_until_the_next_sign_in(host: Host) -> None:
    user = host.add_user("alice")
    token = host.issue(user)

    rename_unseen(host, user, "alicia")

    assert who(host.client(), token) == (401, None)
    assert who(host.client(), host.issue(user)) == (200, "alicia")


def test_a_record_without_a_mark_gets_one_at_the_next_sign_in(host: Host) -> None:
    user = host.add_user("alice")
    token = host.issue(user)
    host.execute("UPDATE xgen_user_logins SET account_mark = NULL")  # as an earlier release wrote
    assert who(host.client(), token) == (200, "alice")

    host.issue(user)

    assert who(host.client(), token) == (200, "alice")
    assert host.login_row(user)["account_mark"] is not None
    rename_unseen(host, user, "mallory")
    assert who(host.client(), token) == (401, None)


def test_a_user_may_register_and_sign_in_in_one_request(host: Host) -> None:
    @host.app.post("/register")
    def register() -> str:
        user = host.model(username="carol")
        host.db.session.add(user)
        host.db.session.commit()
        login_user(user)
        return str(user.id)

    browser = host.client()
    user = browser.post("/register").text

    assert who(browser) == (200, "carol")
    assert host.login_row(user)["account_mark"] is not None
    rename_unseen(host, user, "mallory")
    assert who(browser) == (401, None)


def test_a_name_that_changes_while_its_user_signs_in_ends_no_session(host: Host) -> None:
    @host.app.post("/slow-login")
    def slow_login() -> str:
        row = host.find_user(user)
        host.db.session.expunge(row)
        host.db.session.rollback()
        with Session(host.db.engine) as other, other.begin():
            found: Any = other.get(host.model, int(user))
            found.username = "alicia"
        login_user(row)
        return str(row.username)

    user, browser = host.add_user("alice"), host.client()
    token = host.issue(user)

    assert browser.post("/slow-login").text == "alice"

    assert [who(browser), who(host.client(), token)] == [(200, "alicia"), (200, "alicia")]
    assert host.rows("xgen_revocations") == []


def test_a_sign_in_and_a_new_name_in_one_transaction(host: Host) -> None:
    user = host.add_user("alice")
    host.issue(user)

    with host.app.app_context():
        row = host.find_user(user)
        row.username = "alicia"
        first = host.sessions.issue(row, commit=False)
        row.username = "ally"
        second = host.sessions.issue(row, commit=False)
        host.db.session.commit()

    assert [who(host.client(), token) for token in (first, second)] == [(200, "ally")] * 2
    assert host.rows("xgen_revocations") == []


def test_a_check_costs_no_further_query(host: Host) -> None:
    user = host.add_user("alice")
    token = host.issue(user)
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        sent.append(str(arguments[2]))

    who(host.client(), token)
    with host.calling_before_statements(note):
        assert who(host.client(), token) == (200, "alice")

    assert len([statement for statement in sent if "users" in statement]) == 1
    assert len(sent) == 1


@pytest.mark.parametrize(
    "kind", [sa.DateTime(), sa.DateTime(timezone=True), sa.Uuid(), sa.CHAR(40)]
)
def test_the_account_may_be_told_apart_by_another_attribute(
    database_url: str, models: registry, kind: Any
) -> None:
    from flask import Flask
    from flask_login import LoginManager, UserMixin
    from flask_sqlalchemy import SQLAlchemy

    from tests.support.hosts import PATIENT, SECRET, add_views
    from xgen_flask_sessions import UserFields, XgenSessions

    def value() -> Any:
        if isinstance(kind, sa.DateTime):
            return datetime(2026, 5, 25, 12, 0, 0, 123, tzinfo=UTC if kind.timezone else None)
        return uuid.uuid4() if isinstance(kind, sa.Uuid) else "origin"

    @models.mapped
    class Member(UserMixin):  # type: ignore[misc]
        __tablename__ = "members"
        username = sa.Column(sa.String(40), primary_key=True)
        made = sa.Column(kind, default=value)
        is_active = sa.Column(sa.Boolean, default=True)

        def get_id(self) -> str:
            return str(self.username)

    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database_url, **PATIENT)
    db, sessions = SQLAlchemy(app, metadata=models.metadata), XgenSessions()
    manager = LoginManager(app)
    manager.user_loader(lambda user_id: db.session.get(Member, user_id))
    fields = UserFields(account="made")
    sessions.init_app(app, db=db, user_model=Member, login_manager=manager, user_fields=fields)
    add_views(app, sessions)

    @app.post("/register")
    def register() -> str:
        member = Member(username="alice")
        db.session.add(member)
        db.session.commit()
        login_user(member)
        return "signed in"

    with app.app_context():
        db.create_all()
    browser = app.test_client()
    browser.post("/register")
    assert who(browser) == (200, "alice")
    with app.app_context():
        token = sessions.issue("alice")
    assert who(app.test_client(), token) == (200, "alice")

    with app.app_context(), db.engine.begin() as connection:  # the same name, another person
        connection.exec_driver_sql("DELETE FROM members")
    with app.app_context(), Session(db.engine) as session, session.begin():
        later: Any = "another" if isinstance(kind, sa.CHAR) else value()
        if isinstance(kind, sa.DateTime):
            later += timedelta(seconds=1)
        other = {"made": later}
        session.execute(sa.insert(Member), [{"username": "alice", "is_active": True, **other}])

    assert [who(browser), who(app.test_client(), token)] == [(401, None), (401, None)]
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
