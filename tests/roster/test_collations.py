"""The screen's queries work with text of any collation, and compare ids byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, mapped_column

from tests.support.hosts import PATIENT, SECRET, bearer
from xgen_flask_sessions import XgenSessions
from xgen_flask_sessions.store import dialects

COLLATIONS: dict[str, list[Any]] = {
    "mariadb": [
        ("utf8mb4", "utf8mb4_bin"),
        ("utf8mb4", "utf8mb4_general_ci"),
        ("utf8mb4", "utf8mb4_unicode_ci"),
        ("utf8mb4", "utf8mb4_nopad_bin"),
        ("utf8mb3", "utf8mb3_general_ci"),
        ("latin1", "latin1_swedish_ci"),
        ("latin1", "latin1_bin"),
        ("ascii", "ascii_bin"),
    ],
    "postgresql": ["C", "und-x-icu", "nocase", "citext"],
    "sqlite": ["NOCASE", "RTRIM", "BINARY"],
}
KINDS = [(kind, each) for kind, collations in COLLATIONS.items() for each in collations]


def type_of(kind: str, collation: Any) -> Any:
    """Return the type of a column with a collation."""
    if kind == "mariadb":
        charset, name = collation
        return mysql.VARCHAR(60, charset=charset, collation=name)
    if collation == "citext":
        return postgresql.CITEXT()
    return sa.String(60, collation=collation)


@pytest.fixture(params=KINDS, ids=lambda each: f"{each[0]}-{each[1]}")
def collated(request: pytest.FixtureRequest) -> Iterator[tuple[Flask, SQLAlchemy, Any]]:
    """Yield an application whose users' ids, names and usernames have a collation."""
    kind, collation = request.param
    column = type_of(kind, collation)
    url: str = request.getfixturevalue(f"{kind}_url")
    if kind == "postgresql":
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS citext")
            connection.exec_driver_sql(
                "CREATE COLLATION IF NOT EXISTS nocase "
                "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        admin.dispose()

    class OwnBase(DeclarativeBase):
        pass

    class Member(UserMixin, OwnBase):  # type: ignore[misc]
        __tablename__ = "members"
        id = mapped_column(column, primary_key=True)
        username = mapped_column(column)
        name = mapped_column(column)
        is_active = mapped_column(sa.Boolean, default=True)
        is_superuser = mapped_column(sa.Boolean, default=True)

    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=url, **PATIENT)
    db = SQLAlchemy(app, metadata=OwnBase.metadata)
    sessions = XgenSessions()
    sessions.init_app(app, db=db, user_model=Member, login_manager=LoginManager(app))
    with app.app_context():
        db.create_all()
    yield app, db, (sessions, Member)
    with app.app_context():
        db.session.remove()
        db.drop_all()
        db.engine.dispose()


def test_the_list_is_sorted_searched_and_counted(
    collated: tuple[Flask, SQLAlchemy, tuple[XgenSessions, Any]],
) -> None:
    app, db, (sessions, model) = collated
    with app.app_context():
        for name in ("anna", "bora"):
            db.session.add(model(id=name, username=name, name=f"{name} x"))
        db.session.commit()
        token = sessions.issue("anna")
        sessions.issue("bora")
        db.session.add(model(id="gone", username="gone", name="x"))
        db.session.commit()
        sessions.issue("gone")
        db.session.delete(db.session.get(model, "gone"))
        db.session.commit()
        sessions.record_past_sign_ins([])
    client = app.test_client()

    def listed(query: str) -> Any:
        answer = client.get(f"/sessions/users?{query}", headers=bearer(token))
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return [user["username"] for user in answer.get_json()["users"]]

    for sort in ("username", "name", "active_sessions", "last_login", "last_ip"):
        for order in ("asc", "desc"):
            assert {"anna", "bora"} <= set(listed(f"sort={sort}&order={order}"))
    assert listed("q=BOR") == ["bora"]
    assert listed("q=우리") == []
    assert listed("q=%F0%9F%A6%8A") == []
    summary = client.get("/sessions/users", headers=bearer(token)).get_json()["summary"]
    assert summary["superusers"] == 2
    found = app.test_cli_runner().invoke(args=["xgen-sessions", "show", "anna"])
    assert found.exit_code == 0, found.output
    missing = app.test_cli_runner().invoke(args=["xgen-sessions", "show", "우리"])
    assert "There is no user" in missing.output


def test_an_id_that_differs_in_case_is_another_users(
    collated: tuple[Flask, SQLAlchemy, tuple[XgenSessions, Any]],
) -> None:
    app, db, (sessions, model) = collated
    with app.app_context():
        db.session.add(model(id="anna", username="anna", name="x"))
        db.session.commit()
        token = sessions.issue("anna")
        for other in ("ANNA", "anna ", "ánna"):
            with pytest.raises(Exception, match="inactive"):
                sessions.issue(other)

    users = app.test_client().get("/sessions/users", headers=bearer(token)).get_json()["users"]

    assert [user["user_id"] for user in users] == ["anna"]


def test_only_mariadb_refuses_to_compare_text_of_other_character_sets() -> None:
    refused = Exception(1267, "Illegal mix of collations")
    known = {
        url: dialects.of(sa.make_url(url).get_dialect()()).is_of_another_charset(refused)
        for url in ("sqlite://", "postgresql+psycopg://", "mysql+pymysql://")
    }

    assert list(known.values()) == [False, False, True]
