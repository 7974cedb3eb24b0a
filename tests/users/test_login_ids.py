"""``get_id()`` may differ from the primary key, and change: sessions belong to the account."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.hosts import PATIENT, SECRET, add_views, bearer
from xgen_flask_sessions import IssuedToken, SessionRevoked, UserFields, XgenSessions
from xgen_flask_sessions.store import migrate

ROOT = Path(__file__).parents[2]


class Base(DeclarativeBase):
    pass


class Member(UserMixin, Base):  # type: ignore[misc]
    """Flask-Login's alternative token, and Flask-Security's uniquifier."""

    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80))
    uniquifier: Mapped[str] = mapped_column(sa.String(64), default=lambda: uuid.uuid4().hex)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    logins: Mapped[int] = mapped_column(default=0)

    def get_id(self) -> str:
        return str(self.uniquifier)


class Pair(UserMixin, Base):  # type: ignore[misc]
    __tablename__ = "pairs"

    tenant: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    username: Mapped[str] = mapped_column(sa.String(80))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)

    def get_id(self) -> str:
        return f"{self.tenant}/{self.number}"


class Site:
    """An application with one of the models."""

    def __init__(self, url: str, model: type[Any], **arguments: Any) -> None:
        self.app = Flask("host")
        self.app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=url, **PATIENT)
        self.db = SQLAlchemy(self.app, metadata=Base.metadata)
        self.model, self.sessions = model, XgenSessions()
        manager = LoginManager(self.app)
        manager.user_loader(self.load)
        self.sessions.init_app(
            self.app, db=self.db, user_model=model, login_manager=manager, **arguments
        )
        add_views(self.app, self.sessions)
        self.app.add_url_rule("/who", view_func=lambda: str(self.model_id(current_user)))
        self.app.add_url_rule("/login/<user_id>", view_func=self.login, methods=["POST"])
        with self.app.app_context():
            self.db.create_all()

    def load(self, login_id: str) -> Any:
        if self.model is Pair:
            tenant, _, number = login_id.rpartition("/")
            return self.db.session.get(Pair, (tenant, int(number)))
        query = sa.select(Member).where(Member.uniquifier == login_id)
        return self.db.session.scalars(query).one_or_none()

    def login(self, user_id: str) -> str:
        login_user(self.find(user_id), remember=True)
        return "signed in"

    def model_id(self, user: Any) -> Any:
        return user.username if user.is_authenticated else None

    def find(self, user_id: str) -> Any:
        return self.app.extensions["xgen_sessions"].users.get(user_id)

    def add(self, **columns: Any) -> str:
        with self.app.app_context():
            user = self.model(**columns)
            self.db.session.add(user)
            self.db.session.commit()
            users = self.app.extensions["xgen_sessions"].users
            return str(users.id_of(user))

    def issue(self, user_id: str) -> IssuedToken:
        with self.app.app_context():
            return self.sessions.issue(self.find(user_id))

    def browser(self, user_id: str) -> FlaskClient:
        client = self.app.test_client()
        client.post(f"/login/{user_id}")
        return client

    def status(self, token: IssuedToken, path: str = "/api/token") -> int:
        return self.app.test_client().get(path, headers=bearer(token)).status_code

    def rows(self, table: str) -> list[Any]:
        with self.app.app_context(), self.db.engine.connect() as connection:
            return list(connection.execute(sa.select(self.db.metadata.tables[table])).mappings())

    def dispose(self) -> None:
        with self.app.app_context():
            self.db.session.remove()
            self.db.drop_all()
            self.db.engine.dispose()


@pytest.fixture(params=["named", "unnamed"])
def site(database_url: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Yield a host whose ``UserFields`` name the attribute of ``get_id()``, and one without."""
    fields = UserFields(id="uniquifier") if request.param == "named" else None
    site = Site(database_url, Member, user_fields=fields)
    yield site
    site.dispose()


def by_attribute(site: Site, user_id: str) -> None:
    site.find(user_id).uniquifier = uuid.uuid4().hex
    site.db.session.commit()


def by_expired_attribute(site: Site, user_id: str) -> None:
    user = site.find(user_id)
    site.db.session.expire(user)
    user.uniquifier = uuid.uuid4().hex
    site.db.session.commit()


def by_statement(site: Site, user_id: str) -> None:
    values = {"uniquifier": uuid.uuid4().hex}
    site.db.session.execute(sa.update(Member).where(Member.id == int(user_id)).values(values))
    site.db.session.commit()


def by_table(site: Site, user_id: str) -> None:
    table: Any = Member.__table__
    with site.db.engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == int(user_id)), {"uniquifier": "new"})


WAYS = [by_attribute, by_expired_attribute, by_statement, by_table]


@pytest.mark.parametrize("rotate", WAYS)
def test_a_changed_login_id_ends_the_sessions_like_flask_logins_own(
    site: Site, rotate: Callable[[Site, str], None]
) -> None:
    user, other = site.add(username="alice"), site.add(username="bob")
    token, browser, others = site.issue(user), site.browser(user), site.issue(other)
    assert browser.get("/who").text == "alice"
    assert site.status(token, "/api/user") == 200

    with site.app.app_context():
        rotate(site, user)

    assert browser.get("/who").text == "None"
    assert [site.status(token, path) for path in ("/api/token", "/api/user")] == [401, 401]
    assert site.status(others) == 200
    (record,) = site.rows("xgen_revocations")
    assert (record["user_id"], record["reason"]) == (user, "sign-in id changed")
    assert site.browser(user).get("/who").text == "alice"
    assert site.status(site.issue(user), "/api/user") == 200


def test_a_force_logout_finds_sessions_from_before_and_after_the_change(site: Site) -> None:
    root = site.add(username="root", is_superuser=True)
    user = site.add(username="alice")
    tokens = [site.issue(user)]
    unseen = f"UPDATE members SET uniquifier = 'new' WHERE id = {user}"
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.exec_driver_sql(unseen)
    tokens.append(site.issue(user))
    administrator = site.issue(root)

    with site.app.app_context():
        assert len(site.sessions.active_sessions(site.find(user))) == 2
    listed: Any = site.app.test_client().get("/sessions/users", headers=bearer(administrator))
    assert {each["user_id"]: each["username"] for each in listed.get_json()["users"]} == {
        root: "root",
        user: "alice",
    }
    assert [site.status(token) for token in tokens] == [200, 200]  # it reads no user row
    assert [site.status(token, "/api/user") for token in tokens] == [401, 200]
    with site.app.app_context():
        revocation = site.sessions.force_logout(site.find(user))

    assert revocation.sessions_ended == 2
    assert [site.status(token) for token in tokens] == [401, 401]


def test_a_renewed_token_keeps_the_login_id(site: Site) -> None:
    user = site.add(username="alice")
    old = site.issue(user)

    with site.app.app_context():
        verified = site.sessions.verify(old.token)
        new = site.sessions.renew(verified)
        assert verified.user_id == user
        assert verified.login_id == site.find(user).uniquifier
        assert site.sessions.verify(new.token).login_id == verified.login_id

    assert site.status(new, "/api/user") == 200
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE members SET uniquifier = 'new'")
    with site.app.app_context(), pytest.raises(SessionRevoked):
        site.sessions.renew(site.sessions.verify(new.token))


def test_other_changes_of_the_user_end_no_session(site: Site) -> None:
    user = site.add(username="alice")
    token, browser = site.issue(user), site.browser(user)

    with site.app.app_context():
        site.find(user).logins += 1
        site.db.session.commit()
        site.db.session.execute(sa.update(Member).values(logins=7))
        site.db.session.commit()

    assert site.status(token, "/api/user") == 200
    assert browser.get("/who").text == "alice"
    assert site.rows("xgen_revocations") == []


def test_a_login_id_that_changes_at_the_sign_in(site: Site) -> None:
    @site.app.post("/fresh-login")
    def fresh_login() -> str:
        member = site.find(user)
        member.uniquifier = uuid.uuid4().hex
        login_user(member)
        site.db.session.commit()
        return "signed in"

    user = site.add(username="alice")
    older, browser = site.browser(user), site.app.test_client()

    assert browser.post("/fresh-login").text == "signed in"

    assert browser.get("/who").text == "alice"
    assert older.get("/who").text == "None"


def test_a_login_id_that_another_account_has_now_is_refused(site: Site) -> None:
    alice, bob = site.add(username="alice", uniquifier="a"), site.add(username="bob")
    token, browser = site.issue(alice), site.browser(alice)

    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE members SET uniquifier = 'b' WHERE id = {alice}")
        connection.exec_driver_sql(f"UPDATE members SET uniquifier = 'a' WHERE id = {bob}")

    assert site.status(token, "/api/user") == 401
    assert browser.get("/who").text == "None"


def test_a_login_id_is_never_another_accounts_key(site: Site) -> None:
    class Outsider(UserMixin):  # type: ignore[misc]
        """A user object of the host's own, without a row."""

        def get_id(self) -> str:
            return "1"

    assert site.add(username="root", is_superuser=True) == "1"

    for call in (site.sessions.issue, site.sessions.force_logout):
        with site.app.app_context(), pytest.raises(ValueError, match="key of another user"):
            call(Outsider())


def test_a_composite_primary_key_is_one_account(database_url: str) -> None:
    site = Site(database_url, Pair)
    try:
        root = site.add(tenant="a,b%", number=1, username="root", is_superuser=True)
        user = site.add(tenant="a", number=2, username="alice")
        assert (root, user) == ("a%2Cb%25,1", "a,2")
        token, browser, administrator = site.issue(user), site.browser(user), site.issue(root)
        client = site.app.test_client()

        assert browser.get("/who").text == "alice"
        assert site.status(token, "/api/user") == 200
        listed: Any = client.get("/sessions/users", headers=bearer(administrator)).get_json()
        assert [each["user_id"] for each in listed["users"]] == [root, user]
        search: Any = client.get("/sessions/users?q=ali", headers=bearer(administrator))
        assert search.get_json()["detail"] == (
            "The users of this application cannot be searched by name, only by address."
        )
        path = f"/sessions/users/{user}/force-logout"
        assert client.post(path, headers=bearer(administrator)).status_code == 200
        assert site.status(token) == 401
        assert browser.get("/who").text == "None"
        for other in ("a%2Cb%25", "a,02", "a,2,3", "a,%2532", "a"):
            path = f"/sessions/users/{other}"
            assert client.get(path, headers=bearer(administrator)).status_code == 404
        token = site.issue(user)
        with site.app.app_context():
            site.db.session.execute(sa.delete(Pair).where(Pair.tenant == "a"))
            site.db.session.commit()
        assert site.status(token) == 401
        assert site.status(administrator) == 200
    finally:
        site.dispose()


@pytest.mark.parametrize("named", [True, False])
def test_the_upgrade_signs_everyone_out_where_rows_were_under_other_ids(
    database_url: str, named: bool
) -> None:
    """An earlier release recorded sessions under ``get_id()``, where ``UserFields`` named it."""
    fields = UserFields(id="uniquifier") if named else None
    site = Site(database_url, Member, user_fields=fields)
    try:
        user = site.add(username="alice", uniquifier="alice's")
        token = site.issue(user)
        with site.app.app_context():
            migrate.upgrade(site.db.engine)
            with site.db.engine.begin() as connection:
                command.downgrade(config_of(connection), "0004")

        with site.app.app_context():
            assert site.sessions.upgrade() == ["0005", "0006", "0007", "0008"]

        assert site.status(token) == (401 if named else 200)
        ends = [(row["kind"], row["actor"]) for row in site.rows("xgen_revocations")]
        assert ends == ([("everyone", "upgrade")] if named else [])
        assert site.status(site.issue(user)) == 200
        with site.app.app_context():
            assert site.sessions.upgrade() == []
    finally:
        site.dispose()


def config_of(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["connection"] = connection
    return config


class Person(UserMixin, Base):  # type: ignore[misc]
    __tablename__ = "persons"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(20), default="person")
    username: Mapped[str] = mapped_column(sa.String(80))
    is_superuser: Mapped[bool] = mapped_column(default=False)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Employee(Person):
    badge: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__ = {"polymorphic_identity": "employee"}

    def get_id(self) -> str:
        return f"badge:{self.badge}"


@pytest.mark.parametrize("by", ["attribute", "statement"])
def test_a_subclass_may_have_a_get_id_of_its_own(sqlite_url: str, by: str) -> None:
    site = Site(sqlite_url, Person)
    try:
        person = site.add(username="alice")
        with site.app.app_context():
            site.db.session.add(Employee(username="bob", badge="1"))
            site.db.session.commit()
        employee = str(int(person) + 1)
        tokens = [site.issue(person), site.issue(employee)]

        with site.app.app_context():
            if by == "attribute":
                site.find(employee).badge = "2"
            else:
                site.db.session.execute(sa.update(Employee).values(badge="2"))
            site.db.session.commit()

        assert [site.status(token) for token in tokens] == [200, 401]
    finally:
        site.dispose()
