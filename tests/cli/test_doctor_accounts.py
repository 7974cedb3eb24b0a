"""``doctor`` on ids that are given out again, and on rows under ids of no account."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import registry

from tests.support.databases import MakeHost
from tests.support.hosts import PATIENT, SECRET, NamedUser, TenantUser, UuidUser
from xgen_flask_sessions import UserFields, XgenSessions


def codes(app: Flask) -> set[str]:
    """Return the codes about ids."""
    result = app.test_cli_runner().invoke(args=["xgen-sessions", "doctor", "--json"])
    found = {each["code"] for each in json.loads(result.stdout)["findings"]}
    return {code for code in found if code.startswith("ids-")}


def test_a_table_of_sqlite_without_autoincrement(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, model=TenantUser)

    assert codes(host.app) == ({"ids-reused"} if host.dialect == "sqlite" else set())


@pytest.mark.parametrize("model", [None, UuidUser, NamedUser])
def test_a_table_that_gives_no_id_out_again(
    make_host: MakeHost, sqlite_url: str, model: Any
) -> None:
    host = make_host(sqlite_url) if model is None else make_host(sqlite_url, model=model)

    assert codes(host.app) == set()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"ids-are-names"}),
        ({"account": "number"}, set()),
        ({"id": "number"}, {"ids-are-names"}),
    ],
)
def test_a_username_as_the_primary_key(
    sqlite_url: str, models: registry, fields: dict[str, str], expected: set[str]
) -> None:
    @models.mapped
    class Member(UserMixin):  # type: ignore[misc]
        __tablename__ = "members"
        username = sa.Column(sa.String(40), primary_key=True)
        number = sa.Column(sa.String(40))
        is_active = sa.Column(sa.Boolean, default=True)

        def get_id(self) -> str:
            return str(self.number if "id" in fields else self.username)

    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=sqlite_url, **PATIENT)
    db, sessions = SQLAlchemy(app, metadata=models.metadata), XgenSessions()
    sessions.init_app(
        app, db=db, user_model=Member, login_manager=LoginManager(app),
        user_fields=UserFields(**fields),
    )  # fmt: skip
    with app.app_context():
        db.create_all()
        db.session.add(Member(username="alice", number="n-1"))
        db.session.commit()
        sessions.issue("alice")

    assert codes(app) == expected

    with app.app_context():
        with db.engine.begin() as connection:  # as an earlier release recorded it
            connection.exec_driver_sql(
                "UPDATE xgen_user_logins SET user_id = 'n-1' WHERE user_id <> '*'"
            )
        assert codes(app) == expected | ({"ids-unknown"} if "id" in fields else set())
        db.session.remove()
        db.engine.dispose()
