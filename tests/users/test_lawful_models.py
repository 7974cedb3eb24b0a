"""Accounts of models, databases and sessions of other kinds than the usual one."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import registry, relationship

from tests.support.databases import MakeHost
from tests.support.hosts import PATIENT, SECRET, TenantUser, add_views, bearer
from xgen_flask_sessions import IssuedToken, UserFields, XgenSessions

Build = Callable[..., "Site"]


class Site:
    """An application with one user model."""

    def __init__(self, url: str, models: registry, model: type[Any], **config: Any) -> None:
        self.app = Flask("host")
        self.app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=url, **PATIENT)
        fields = config.pop("user_fields", None)
        self.app.config.update(config)
        self.db, self.sessions = SQLAlchemy(self.app, metadata=models.metadata), XgenSessions()
        self.sessions.init_app(
            self.app, db=self.db, user_model=model, login_manager=LoginManager(self.app),
            user_fields=fields,
        )  # fmt: skip
        add_views(self.app, self.sessions)
        with self.app.app_context():
            self.db.create_all()

    def add(self, *users: Any) -> list[IssuedToken]:
        with self.app.app_context():
            self.db.session.add_all(users)
            self.db.session.commit()
            return [self.sessions.issue(user) for user in users]

    def status(self, token: IssuedToken, path: str = "/api/user") -> int:
        return self.app.test_client().get(path, headers=bearer(token)).status_code


@pytest.fixture
def models() -> Iterator[registry]:
    mapped = registry()
    yield mapped
    mapped.dispose()


@pytest.fixture
def build(database_url: str, models: registry) -> Iterator[Build]:
    sites: list[Site] = []

    def make(model: type[Any], **config: Any) -> Site:
        sites.append(Site(config.pop("url", database_url), models, model, **config))
        return sites[-1]

    yield make
    for site in sites:
        background = site.app.extensions["xgen_sessions"].watch
        if background is not None:
            background.stop()
        with site.app.app_context():
            site.db.session.remove()
            for engine in site.db.engines.values():
                engine.dispose()


@pytest.mark.parametrize("through", ["object", "model", "base", "table"])
@pytest.mark.parametrize("joined", [True, False])
def test_a_deletion_of_a_subclass(
    build: Build, models: registry, joined: bool, through: str
) -> None:
    @models.mapped
    class Person(UserMixin):  # type: ignore[misc]
        __tablename__ = "people"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}
        id = sa.Column(sa.Integer, primary_key=True)
        kind = sa.Column(sa.String(20))
        username = sa.Column(sa.String(40))
        is_active = sa.Column(sa.Boolean, default=True)

    own: dict[str, Any] = {"__mapper_args__": {"polymorphic_identity": "member"}}
    if joined:
        own |= {
            "__tablename__": "members",
            "id": sa.Column(sa.ForeignKey("people.id", ondelete="CASCADE"), primary_key=True),
            "note": sa.Column(sa.String(20)),
        }
    member: Any = models.mapped(type("Member", (Person,), own))
    site = build(Person)
    gone, kept = site.add(member(username="alice"), member(username="bob"))
    assert [site.status(token) for token in (gone, kept)] == [200, 200]

    with site.app.app_context():
        session = site.db.session
        if through == "object":
            session.delete(session.get(member, 1))
        elif through == "model":
            if joined:
                session.execute(sa.delete(member.__table__).where(member.__table__.c.id == 1))
            session.execute(sa.delete(Person).where(Person.id == 1))
        elif through == "base":
            session.execute(sa.delete(Person.__table__).where(Person.id == 1))
        else:
            table = Person.__table__
            session.connection().execute(table.delete().where(table.c.id == 1))
        session.commit()

    assert [site.status(token, "/api/token") for token in (gone, kept)] == [401, 200]


def test_a_deletion_that_cascades_from_a_tenant(build: Build, models: registry) -> None:
    @models.mapped
    class Tenant:
        __tablename__ = "tenants"
        id = sa.Column(sa.Integer, primary_key=True)
        members = relationship("Member", cascade="all, delete-orphan")

    @models.mapped
    class Member(UserMixin):  # type: ignore[misc]
        __tablename__ = "members"
        id = sa.Column(sa.Integer, primary_key=True)
        tenant_id = sa.Column(sa.Integer, sa.ForeignKey("tenants.id"))
        username = sa.Column(sa.String(40))
        is_active = sa.Column(sa.Boolean, default=True)

    site = build(Member)
    with site.app.app_context():
        site.db.session.execute(sa.insert(Tenant), [{"id": 1}, {"id": 2}])
        site.db.session.commit()
    tokens = site.add(
        Member(username="alice", tenant_id=1),
        Member(username="bob", tenant_id=1),
        Member(username="carol", tenant_id=2),
    )

    with site.app.app_context():
        site.db.session.delete(site.db.session.get(Tenant, 1))
        site.db.session.commit()

    assert [site.status(token, "/api/token") for token in tokens] == [401, 401, 200]


def test_users_in_another_database_than_the_sessions(database_url: str, tmp_path: Path) -> None:
    app = Flask("host")
    binds = {"people": f"sqlite:///{tmp_path / 'people.db'}"}
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database_url, **PATIENT)
    app.config["SQLALCHEMY_BINDS"] = binds
    db, sessions = SQLAlchemy(app), XgenSessions()

    class Member(UserMixin, db.Model):  # type: ignore[misc, name-defined]
        __bind_key__ = "people"
        id = db.Column(db.Integer, primary_key=True)
        username = db.Column(db.String(40))
        is_active = db.Column(db.Boolean, default=True)

    sessions.init_app(app, db=db, user_model=Member, login_manager=LoginManager(app))
    add_views(app, sessions)
    names = ["alice", "bob", "carol", "dan", "erin"]
    with app.app_context():
        db.create_all()
        db.session.add_all([Member(username=name) for name in names])
        db.session.commit()
        tokens = [sessions.issue(member) for member in db.session.scalars(sa.select(Member))]
    table = Member.__table__

    with app.app_context():
        db.session.delete(db.session.get(Member, 1))
        bob: Any = db.session.get(Member, 2)
        bob.username = "bert"
        db.session.commit()
        db.session.execute(sa.delete(table).where(table.c.id == 4))
        db.session.commit()
    with app.app_context(), db.engines["people"].begin() as connection:
        connection.exec_driver_sql("UPDATE member SET username = 'mallory' WHERE id = 3")
        connection.execute(table.delete().where(table.c.id == 5))

    def status(token: IssuedToken, path: str) -> int:
        return app.test_client().get(path, headers=bearer(token)).status_code

    assert [status(token, "/api/user") for token in tokens] == [401, 200, 401, 401, 401]
    assert [status(token, "/api/token") for token in tokens] == [401, 200, 200, 401, 401]
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


@pytest.mark.parametrize("consistency", ["strict", "watch"])
def test_an_id_that_is_used_again_where_answers_are_in_memory(
    make_host: MakeHost, database_url: str, consistency: str
) -> None:
    host = make_host(database_url, model=TenantUser, XGEN_SESSIONS_CONSISTENCY=consistency)
    user = host.add_user("alice")
    token = host.issue(user)
    assert host.status(token, "/api/user") == 200
    host.change_user(user, username="alicia")
    assert host.status(token, "/api/user") == 200

    host.execute(f"UPDATE users SET username = 'mallory' WHERE id = {user}")
    assert host.status(token, "/api/user") == 401
    host.execute(f"UPDATE users SET username = 'alicia' WHERE id = {user}")
    assert host.status(token, "/api/user") == 200


def test_a_database_in_memory(make_host: MakeHost) -> None:
    host = make_host("sqlite://", model=TenantUser)
    user = host.add_user("alice")
    token = host.issue(user)
    assert host.status(token, "/api/user") == 200
    host.execute(f"UPDATE users SET username = 'mallory' WHERE id = {user}")

    assert host.status(token, "/api/user") == 401

    table = host.model.__table__
    with host.app.app_context(), host.db.engine.begin() as connection:
        connection.execute(table.delete())
    assert host.status(token) == 401


class Kind(enum.Enum):
    STAFF = "s"
    GUEST = "g"


@pytest.mark.parametrize(
    ("kind", "key", "text"),
    [
        (sa.Enum(Kind), Kind.STAFF, "STAFF"),
        (sa.Date(), date(2026, 5, 25), "2026-05-25"),
        (sa.Numeric(10, 0), 7, "7"),
        (sa.String(200), "ä,ö%/x y", "ä%2Cö%25/x y"),
        (sa.Uuid(), uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (sa.Boolean(), False, "False"),
    ],
)
def test_parts_of_composite_keys(
    build: Build, models: registry, kind: Any, key: Any, text: str
) -> None:
    @models.mapped
    class Member(UserMixin):  # type: ignore[misc]
        __tablename__ = "members"
        part = sa.Column(kind, primary_key=True, autoincrement=False)
        number = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
        username = sa.Column(sa.String(40))
        is_active = sa.Column(sa.Boolean, default=True)

        def get_id(self) -> str:
            return f"{self.part}-{self.number}"

    site = build(Member)
    token, other = site.add(
        Member(part=key, number=1, username="alice"), Member(part=key, number=2, username="bob")
    )

    with site.app.app_context():
        user_id = site.sessions.verify(token.token).user_id
        assert user_id == f"{text},1"
        assert site.status(token) == 200
        site.sessions.force_logout(user_id)
    assert [site.status(each) for each in (token, other)] == [401, 200]


def test_a_user_object_that_is_no_row_is_found_by_its_login_id(
    build: Build, models: registry
) -> None:
    @models.mapped
    class Member(UserMixin):  # type: ignore[misc]
        __tablename__ = "members"
        id = sa.Column(sa.Integer, primary_key=True)
        key = sa.Column(sa.String(40))
        username = sa.Column(sa.String(40))
        is_active = sa.Column(sa.Boolean, default=True)

        def get_id(self) -> str:
            return str(self.key)

    class External(UserMixin):  # type: ignore[misc]
        def get_id(self) -> str:
            return "k-1"

    site = build(Member, user_fields=UserFields(id="key"))
    site.add(Member(key="k-1", username="alice"), Member(key="k-2", username="bob"))

    with site.app.app_context():
        token = site.sessions.issue(External())
        verified = site.sessions.verify(token.token)
        assert (verified.user_id, verified.login_id) == ("1", "k-1")
        assert len(site.sessions.active_sessions(External())) == 2
        assert site.sessions.force_logout(External()).sessions_ended == 2


def test_updates_of_other_columns_cost_nothing(build: Build, models: registry) -> None:
    @models.mapped
    class Member(UserMixin):  # type: ignore[misc]
        __tablename__ = "members"
        id = sa.Column(sa.Integer, primary_key=True)
        username = sa.Column(sa.String(40))
        seen = sa.Column(sa.Integer, default=0)
        is_active = sa.Column(sa.Boolean, default=True)

        def get_id(self) -> str:
            return str(self.id)

    site = build(Member)
    site.add(Member(username="alice"))
    sent: list[str] = []

    with site.app.app_context():
        member: Any = site.db.session.get(Member, 1)

        @sa.event.listens_for(site.db.engine, "before_cursor_execute")
        def note(*arguments: Any) -> None:
            sent.append(arguments[2])

        member.seen = 1
        site.db.session.commit()
        site.db.session.execute(sa.update(Member).values(seen=2))
        site.db.session.execute(sa.update(Member.__table__).values(seen=3))
        site.db.session.connection().execute(sa.update(Member.__table__).values(seen=4))
        site.db.session.commit()

    assert [statement.split()[0] for statement in sent] == ["UPDATE"] * 4
