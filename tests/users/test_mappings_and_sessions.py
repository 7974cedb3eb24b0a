"""User models, sessions and engines as SQLAlchemy's documentation shows them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import orm
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql import Delete, Update

from tests.support.hosts import PATIENT, SECRET, bearer
from xgen_flask_sessions import ConfigurationError, SessionRevoked, XgenSessions


class Columns(UserMixin):  # type: ignore[misc]
    """The columns of each model here."""

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=True)


def joined(base: type[DeclarativeBase]) -> type[Any]:
    class User(Columns, base):  # type: ignore[misc, valid-type]
        __tablename__ = "users"
        kind: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "user",
            "with_polymorphic": "*",
        }

    class Manager(User):
        __tablename__ = "managers"
        id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), primary_key=True)
        office: Mapped[str | None] = mapped_column(sa.String(80))
        __mapper_args__ = {"polymorphic_identity": "manager"}

    return User


def inline(base: type[DeclarativeBase]) -> type[Any]:
    class User(Columns, base):  # type: ignore[misc, valid-type]
        __tablename__ = "users"
        kind: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}

    class Manager(User):
        __tablename__ = "managers"
        id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "manager", "polymorphic_load": "inline"}

    return User


def subclass(base: type[DeclarativeBase]) -> type[Any]:
    """The model is a subclass with a table of its own."""
    parent = joined(base)
    (manager,) = parent.__subclasses__()
    return manager


def single_table(base: type[DeclarativeBase]) -> type[Any]:
    class User(Columns, base):  # type: ignore[misc, valid-type]
        __tablename__ = "users"
        kind: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}

    class Manager(User):
        __mapper_args__ = {"polymorphic_identity": "manager"}

    return User


def outer_join(base: type[DeclarativeBase]) -> type[Any]:
    users = sa.Table(
        "users",
        base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("username", sa.String(80)),
        sa.Column("is_active", sa.Boolean, default=True),
        sa.Column("is_superuser", sa.Boolean, default=True),
    )
    profiles = sa.Table(
        "profiles",
        base.metadata,
        sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("name", sa.String(80)),
    )

    class User(UserMixin, base):  # type: ignore[misc, valid-type]
        __table__ = users.outerjoin(profiles)
        id = orm.column_property(users.c.id, profiles.c.user_id)
        __mapper_args__ = {"primary_key": [users.c.id]}

    return User


def rich(base: type[DeclarativeBase]) -> type[Any]:
    """A version counter, eager defaults, deferred and computed columns, eager relationships."""

    class Tag(base):  # type: ignore[misc, valid-type]
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(sa.ForeignKey("order.id"))

    class User(Columns, base):  # type: ignore[misc, valid-type]
        __tablename__ = "order"
        version: Mapped[int] = mapped_column(default=1)
        biography: Mapped[str | None] = mapped_column(sa.Text, deferred=True)
        odd: Mapped[str | None] = mapped_column("100% of: it", sa.String(20))
        made: Mapped[int] = mapped_column(server_default="7")
        name = orm.synonym("username")
        tags: Mapped[list[Tag]] = relationship(lazy="joined")
        first: Mapped[list[Tag]] = relationship(lazy="selectin", viewonly=True)
        __mapper_args__ = {"version_id_col": version, "eager_defaults": True}

    User.tag_count = orm.column_property(
        sa.select(sa.func.count(Tag.id)).where(Tag.user_id == User.id).scalar_subquery()
    )
    return User


def imperative(base: type[DeclarativeBase]) -> type[Any]:
    class User(UserMixin):  # type: ignore[misc]
        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                setattr(self, name, value)

    table = sa.Table(
        "user",
        base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("username", sa.String(80)),
        sa.Column("active", sa.Boolean, key="is_active", default=True),
        sa.Column("is_superuser", sa.Boolean, default=True),
    )
    base.registry.map_imperatively(User, table)
    return User


MODELS: list[Callable[[type[DeclarativeBase]], type[Any]]] = [
    joined,
    inline,
    subclass,
    single_table,
    outer_join,
    rich,
    imperative,
]


def make_app(
    model: Callable[[type[DeclarativeBase]], type[Any]],
    url: str,
    *,
    session: dict[str, Any] | None = None,
    revoke_on: Collection[str] = (),
    **config: Any,
) -> tuple[Flask, SQLAlchemy, XgenSessions, type[Any]]:
    class OwnBase(DeclarativeBase):
        pass

    user_model = model(OwnBase)
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=url, **PATIENT, **config)
    db = SQLAlchemy(app, metadata=OwnBase.metadata, session_options=session or {})
    sessions = XgenSessions()
    manager = LoginManager(app)
    sessions.init_app(app, db=db, user_model=user_model, login_manager=manager, revoke_on=revoke_on)
    with app.app_context():
        db.create_all()
    return app, db, sessions, user_model


def walk_through(app: Flask, db: SQLAlchemy, sessions: XgenSessions, model: type[Any]) -> None:
    """Sign in, list, search, force out, and end the session of a user."""
    with app.app_context():
        user = model(username="anna")
        db.session.add(user)
        db.session.commit()
        account = str(user.id)
        token = sessions.issue(user)
        other = sessions.issue(account)
        sessions.renew(sessions.verify(other.token))
    client = app.test_client()

    answer = client.get("/sessions/users?q=ANN&sort=username", headers=bearer(token))
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert [each["username"] for each in answer.get_json()["users"]] == ["anna"]
    forced = client.post(f"/sessions/users/{account}/force-logout", headers=bearer(token))
    assert forced.status_code == 200, forced.get_data(as_text=True)
    with app.app_context():
        with pytest.raises(SessionRevoked):
            sessions.verify(token.token)
        sessions.issue(db.session.get(model, int(account)), commit=False)
        db.session.commit()
        sessions.force_logout_everyone()
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


@pytest.mark.parametrize("model", MODELS)
def test_models(database_url: str, model: Callable[[type[DeclarativeBase]], type[Any]]) -> None:
    walk_through(*make_app(model, database_url))


def plain(base: type[DeclarativeBase]) -> type[Any]:
    class User(Columns, base):  # type: ignore[misc, valid-type]
        __tablename__ = "users"

    return User


@pytest.mark.parametrize(
    "options",
    [
        {"autoflush": False},
        {"expire_on_commit": False},
        {"join_transaction_mode": "create_savepoint"},
    ],
    ids=str,
)
def test_sessions(database_url: str, options: dict[str, Any]) -> None:
    walk_through(*make_app(plain, database_url, session=options))


@pytest.mark.parametrize(
    "options",
    [
        {"isolation_level": "SERIALIZABLE"},
        {"execution_options": {"isolation_level": "SERIALIZABLE"}},
        {"pool_reset_on_return": None},
        {"use_insertmanyvalues": False},
        {"enable_from_linting": False, "hide_parameters": True, "query_cache_size": 0},
        {"poolclass": sa.NullPool},
        {"paramstyle": "named"},
        {"connect_args": {"check_same_thread": True}, "poolclass": sa.NullPool},
    ],
    ids=str,
)
def test_engines(database_url: str, options: dict[str, Any]) -> None:
    if not database_url.startswith("sqlite"):
        if "connect_args" in options:
            pytest.skip("an option of sqlite3")
        if "paramstyle" in options:
            options = {"paramstyle": "format"}
    walk_through(*make_app(plain, database_url, SQLALCHEMY_ENGINE_OPTIONS=options))


def test_a_session_that_reads_from_replicas_writes_to_the_primary(postgresql_url: str) -> None:
    """SQLAlchemy's own example of "custom vertical partitioning"."""
    only_reading = f"{postgresql_url}?options=-c%20default_transaction_read_only%3Don"
    routed: list[str] = []

    class RoutingSession(FlaskSession):
        def get_bind(  # type: ignore[override]
            self, mapper: Any = None, clause: Any = None, **kwargs: Any
        ) -> Any:
            if self._flushing or isinstance(clause, Update | Delete):
                return db.engines[None]
            routed.append("replica")
            return db.engines[random.choice(["one", "two"])]

    app, db, sessions, model = make_app(
        plain,
        postgresql_url,
        session={"class_": RoutingSession},
        SQLALCHEMY_BINDS={"one": only_reading, "two": only_reading},
    )

    walk_through(app, db, sessions, model)

    assert routed


def test_revoke_on_and_the_screen_work_with_replicas(postgresql_url: str) -> None:
    only_reading = f"{postgresql_url}?options=-c%20default_transaction_read_only%3Don"

    class RoutingSession(FlaskSession):
        def get_bind(  # type: ignore[override]
            self, mapper: Any = None, clause: Any = None, **kwargs: Any
        ) -> Any:
            if self._flushing or isinstance(clause, Update | Delete):
                return db.engines[None]
            return db.engines["one"]

    app, db, sessions, model = make_app(
        plain,
        postgresql_url,
        session={"class_": RoutingSession},
        revoke_on=["is_active"],
        SQLALCHEMY_BINDS={"one": only_reading},
    )
    with app.app_context():
        user = model(username="anna")
        db.session.add(user)
        db.session.commit()
        token = sessions.issue(user)
        assert sessions.verify(token.token)
        user.is_active = False
        db.session.commit()
        with pytest.raises(SessionRevoked):
            sessions.verify(token.token)
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


def test_the_screens_read_sessions_from_the_primary(sqlite_url: str, tmp_path: Path) -> None:
    class RoutingSession(FlaskSession):
        def get_bind(  # type: ignore[override]
            self, mapper: Any = None, clause: Any = None, **kwargs: Any
        ) -> Any:
            is_write = self._flushing or isinstance(clause, Update | Delete)
            return db.engines[None if is_write else "behind"]

    app, db, sessions, model = make_app(
        plain,
        sqlite_url,
        session={"class_": RoutingSession},
        SQLALCHEMY_BINDS={"behind": f"sqlite:///{tmp_path / 'behind.db'}"},
    )
    with app.app_context():
        db.metadata.create_all(db.engines["behind"])
        for engine in db.engines.values():
            with engine.begin() as connection:
                connection.execute(
                    sa.insert(model.__table__).values(username="anna", is_superuser=True)
                )
        token = sessions.issue(db.session.get(model, 1))
    client = app.test_client()

    users = client.get("/sessions/users?q=ann&sort=username", headers=bearer(token)).get_json()
    own = client.get("/sessions/users/1", headers=bearer(token)).get_json()
    listed = app.test_cli_runner().invoke(args=["xgen-sessions", "list"]).output

    assert [each["username"] for each in users["users"]] == ["anna"]
    assert users["summary"] == {"active_users": 1, "active_sessions": 1, "superusers": 1}
    assert len(own["sessions"]) == 1
    assert "anna" in listed
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


def test_sessions_that_begin_no_transaction_are_refused_at_the_start(sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match="autobegin=False"):
        make_app(plain, sqlite_url, session={"autobegin": False})


@pytest.mark.parametrize(("name", "field"), [("username", "username"), ("is_active", "active")])
def test_attributes_that_no_query_may_load_are_refused_at_the_start(
    sqlite_url: str, name: str, field: str
) -> None:
    def guarded(base: type[DeclarativeBase]) -> type[Any]:
        kind: Any = sa.String(80) if name == "username" else sa.Boolean
        column = mapped_column(kind, deferred=True, deferred_raiseload=True)
        return type("User", (Columns, base), {"__tablename__": "users", name: column})

    with pytest.raises(ConfigurationError, match=rf"raiseload.*UserFields\({field}="):
        make_app(guarded, sqlite_url)


def with_union(base: type[DeclarativeBase]) -> type[Any]:
    """Concrete table inheritance, loaded by a union."""

    class User(Columns, ConcreteBase, base):  # type: ignore[misc, valid-type]
        __tablename__ = "users"
        __mapper_args__ = {"polymorphic_identity": "user", "concrete": True}

    return User


def add_concrete_subclass(model: type[Any]) -> type[Any]:
    own = {
        "__tablename__": "managers",
        "__mapper_args__": {"concrete": True},
        "id": mapped_column(sa.Integer, primary_key=True),
        "username": mapped_column(sa.String(80)),
        "is_active": mapped_column(sa.Boolean),
        "is_superuser": mapped_column(sa.Boolean),
    }
    return type("Manager", (model,), own)


def with_concrete_subclass(base: type[DeclarativeBase]) -> type[Any]:
    """Concrete table inheritance, without a union."""
    user = plain(base)
    user.subclass = add_concrete_subclass(user)  # SQLAlchemy itself keeps no reference
    return user


@pytest.mark.parametrize("model", [with_union, with_concrete_subclass])
def test_users_of_one_id_in_several_tables_are_refused_at_the_start(
    sqlite_url: str, model: Callable[[type[DeclarativeBase]], type[Any]]
) -> None:
    with pytest.raises(ConfigurationError, match="concrete table inheritance"):
        make_app(model, sqlite_url)


def test_a_concrete_subclass_that_is_defined_later_cannot_sign_in(sqlite_url: str) -> None:
    app, db, sessions, model = make_app(plain, sqlite_url)
    manager: Any = add_concrete_subclass(model)
    with app.app_context():
        db.create_all()
        db.session.add_all([model(username="anna"), manager(username="bob", is_active=True)])
        db.session.commit()
        with pytest.raises(ConfigurationError, match="concrete table inheritance"):
            sessions.issue(db.session.get(manager, 1))
        db.session.remove()
        db.engine.dispose()
