"""User models of other making: other names, other ids, rules in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.hosts import SECRET, bearer
from xgen_flask_sessions import ConfigurationError, UserFields, UserInactive, XgenSessions


class Base(DeclarativeBase):
    pass


class Person(UserMixin, Base):  # type: ignore[misc]
    """Found by a key of its own, SuperUser and active by rules in Python."""

    __tablename__ = "people"

    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(40), unique=True)
    email: Mapped[str] = mapped_column(sa.String(80))
    rank: Mapped[int] = mapped_column(default=0)

    def get_id(self) -> str:
        return self.key

    @property
    def is_root(self) -> bool:
        return self.rank > 8

    @property
    def may_sign_in(self) -> bool:
        return self.rank >= 0


class Pair(Base):
    __tablename__ = "pairs"

    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80))


FIELDS = UserFields(id="key", username="email", superuser="is_root", active="may_sign_in")

SetUp = Callable[..., XgenSessions]


@pytest.fixture
def app(sqlite_url: str) -> Flask:
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=sqlite_url)
    return app


@pytest.fixture
def db(app: Flask) -> Iterator[SQLAlchemy]:
    db = SQLAlchemy(app, metadata=Base.metadata)
    yield db
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def sessions(app: Flask, db: SQLAlchemy) -> XgenSessions:
    sessions = XgenSessions()
    manager = LoginManager(app)
    sessions.init_app(app, db=db, user_model=Person, login_manager=manager, user_fields=FIELDS)
    with app.app_context():
        db.create_all()
        for number, (key, rank) in enumerate({"k-root": 9, "k-bora": 1, "k-gone": -1}.items()):
            db.session.add(Person(number=number, key=key, email=f"{key}@xgen.test", rank=rank))
        db.session.commit()
    return sessions


def test_rules_in_python_count_as_columns_do(app: Flask, sessions: XgenSessions) -> None:
    with app.app_context():
        token = sessions.issue("k-root")
        sessions.issue("k-bora")

    answer: Any = app.test_client().get("/sessions/users", headers=bearer(token)).get_json()

    assert answer["summary"] == {"active_users": 2, "active_sessions": 2, "superusers": 1}
    assert {user["username"]: user["superuser"] for user in answer["users"]} == {
        "k-root@xgen.test": True,
        "k-bora@xgen.test": False,
    }


def test_an_inactive_user_by_a_rule_in_python_is_refused(
    app: Flask, sessions: XgenSessions
) -> None:
    with app.app_context(), pytest.raises(UserInactive):
        sessions.issue("k-gone")


def test_an_id_other_than_get_id_is_pointed_out(app: Flask, db: SQLAlchemy) -> None:
    sessions = XgenSessions()
    fields = UserFields(username="email", superuser="is_root")
    sessions.init_app(app, db=db, user_model=Person, user_fields=fields)

    with app.app_context():
        db.create_all()
        db.session.add(Person(number=1, key="k", email="k@xgen.test"))
        db.session.commit()
        with pytest.raises(ConfigurationError, match=r"UserFields\(id="):
            sessions.issue(db.session.get(Person, 1))


@pytest.mark.parametrize(
    ("model", "fields", "mend"),
    [
        (object, None, "mapped SQLAlchemy class"),
        (Person, None, r"UserFields\(username="),
        (Person, UserFields(username="email", name="nick"), r"UserFields\(name="),
        (Pair, None, "composite primary key"),
    ],
)
def test_a_model_that_does_not_fit_stops_the_start(
    app: Flask, db: SQLAlchemy, model: type[Any], fields: UserFields | None, mend: str
) -> None:
    with pytest.raises(ConfigurationError, match=mend):
        XgenSessions().init_app(app, db=db, user_model=model, user_fields=fields)


def test_one_application_takes_the_plugin_once(app: Flask, db: SQLAlchemy) -> None:
    XgenSessions().init_app(app, db=db, user_model=Person, user_fields=FIELDS)

    with pytest.raises(ConfigurationError, match="already been registered"):
        XgenSessions().init_app(app, db=db, user_model=Person, user_fields=FIELDS)
