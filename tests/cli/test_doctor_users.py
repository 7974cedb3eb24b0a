"""``flask xgen-sessions doctor``: the extensions, the user model's table, and one real user."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin, login_required, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import mapped_column

from tests.support.databases import on_sqlite
from tests.support.hosts import SECRET, Host
from tests.support.models import make_member_host, make_model
from xgen_flask_sessions import ConfigurationError, UserFields, XgenSessions


def examine(app: Flask) -> dict[str, Any]:
    """Run doctor, and return the findings by their codes."""
    result = app.test_cli_runner().invoke(args=["xgen-sessions", "doctor", "--json"])
    assert result.stdout, result.output
    return {each["code"]: each for each in json.loads(result.stdout)["findings"]}


def problems(host: Host) -> set[str]:
    found = examine(host.app).values()
    return {each["code"] for each in found if each["level"] == "problem"}


def with_loader(host: Host, loader: Any) -> Host:
    host.login_manager.user_loader(loader)
    return host


def test_a_user_is_loaded_as_flask_login_does(database_url: str) -> None:
    asked: list[Any] = []

    def load(login_id: str) -> Any:
        asked.append(login_id)
        return host.db.session.get(model, int(login_id))

    model = make_model(is_superuser=mapped_column(sa.Boolean))
    with make_member_host(database_url, model) as host:
        with_loader(host, load)
        assert examine(host.app)["users-none"]["level"] == "ok"
        user = host.add_user(is_superuser=True)

        assert examine(host.app)["users"]["level"] == "ok"
        assert asked == [user]


@on_sqlite
@pytest.mark.parametrize(
    "loader",
    [lambda login_id: None, lambda login_id: int("x"), lambda: None, lambda login_id: UserMixin()],
)
def test_a_loader_that_finds_no_user_is_a_problem(database_url: str, loader: Any) -> None:
    with make_member_host(database_url, make_model(), screen=False) as host:
        with_loader(host, loader)
        host.add_user()

        assert "user-loader" in problems(host)


@on_sqlite
def test_a_get_id_that_fails_is_a_problem(database_url: str) -> None:
    model = make_model(get_id=lambda self: self.missing)
    with make_member_host(database_url, model, screen=False) as host:
        with host.app.app_context():
            host.db.session.add(model(username="ann"))
            host.db.session.commit()

        assert "user-loader" in problems(host)


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE own_users", "ALTER TABLE own_users RENAME COLUMN username TO login"],
)
def test_a_missing_table_or_column_is_a_problem(database_url: str, statement: str) -> None:
    with make_member_host(database_url, make_model(), screen=False) as host:
        host.add_user()
        host.execute(statement)

        finding = examine(host.app)["users-unreadable"]

        assert finding["level"] == "problem"
        assert "own_users" in finding["meaning"] or "username" in finding["meaning"]


@on_sqlite
def test_the_users_are_examined_without_the_plugin_s_tables(database_url: str) -> None:
    with make_member_host(database_url, make_model(), screen=False) as host:
        host.add_user()
        host.execute("DROP TABLE xgen_sessions")

        found = examine(host.app)

        assert found["tables-missing"]["level"] == "problem"
        assert found["users"]["level"] == "ok"


STORED = {
    "sqlite": ["flag CHAR(1)", "flag TEXT"],
    "postgresql": ["flag CHAR(1)", "flag TEXT"],
    "mysql": ["flag BIT(1)", "flag ENUM('N', 'Y')", "flag VARCHAR(5)"],
}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_boolean_of_the_model_that_is_none_in_the_database_is_a_problem(
    database_url: str, number: int
) -> None:
    columns = STORED[database_url.partition(":")[0].partition("+")[0]]
    if number >= len(columns):
        pytest.skip("no further type")
    model = make_model(flag=mapped_column(sa.Boolean))
    fields = UserFields(superuser="flag")
    with make_member_host(database_url, model, fields, screen=False) as host:
        host.add_user(flag=True)
        host.execute(
            "ALTER TABLE own_users DROP COLUMN flag",
            f"ALTER TABLE own_users ADD COLUMN {columns[number]}",
        )

        assert "attribute-type" in problems(host)


def test_a_number_that_is_neither_0_nor_1_is_a_problem(database_url: str) -> None:
    model = make_model(flag=mapped_column(sa.Integer))
    fields = UserFields(superuser="flag")
    with make_member_host(database_url, model, fields, screen=False) as host:
        host.add_user(flag=1)
        assert "attribute-values" not in examine(host.app)
        host.add_user("bob", flag=2)

        assert "attribute-values" in problems(host)


@on_sqlite
def test_a_property_that_says_neither_yes_nor_no_is_a_problem(database_url: str) -> None:
    model = make_model(is_superuser=property(lambda self: [1]))
    with make_member_host(database_url, model) as host:
        host.add_user()

        assert "attribute-unclear" in problems(host)


@on_sqlite
@pytest.mark.parametrize("constant", [True, property(lambda self: True)])
def test_a_constant_that_makes_every_user_a_superuser_is_a_warning(
    database_url: str, constant: Any
) -> None:
    with make_member_host(database_url, make_model(is_superuser=constant)) as host:
        host.add_user()

        assert examine(host.app)["superuser-constant"]["level"] == "warning"


@on_sqlite
def test_a_user_that_is_never_authenticated_is_a_problem(database_url: str) -> None:
    with make_member_host(database_url, make_model(is_authenticated=False), screen=False) as host:
        host.add_user()

        assert "authenticated-false" in problems(host)


@on_sqlite
@pytest.mark.parametrize("fields", [None, UserFields(active=None)])
@pytest.mark.parametrize("column", ["disabled", "deleted_at", "status"])
def test_a_column_that_blocks_users_and_is_not_read_is_a_warning(
    database_url: str, column: str, fields: UserFields | None
) -> None:
    model = make_model(**{column: mapped_column(sa.Boolean)})
    with make_member_host(database_url, model, fields, screen=False) as host:
        found = examine(host.app)

        assert ("active-constant" in found) == (fields is None)


@on_sqlite
def test_a_property_that_reads_the_blocking_column_is_none(database_url: str) -> None:
    model = make_model(
        disabled=mapped_column(sa.Boolean), is_active=property(lambda self: not self.disabled)
    )
    with make_member_host(database_url, model, screen=False) as host:
        assert "active-constant" not in examine(host.app)


def make_app() -> tuple[Flask, SQLAlchemy, Any]:
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI="sqlite://", TESTING=True)
    model = make_model()
    return app, SQLAlchemy(metadata=model.metadata), model


@pytest.mark.parametrize("wrong", ["db", "login manager", "no db", "no login manager", "app"])
def test_another_object_stops_the_start(wrong: str) -> None:
    app, db, model = make_app()
    db.init_app(app)
    manager = LoginManager(app)
    arguments: dict[str, Any] = {"db": db, "login_manager": manager, "user_model": model}
    arguments |= {
        "db": {"db": SQLAlchemy()},
        "login manager": {"login_manager": LoginManager()},
        "no db": {"db": db.session},
        "no login manager": {"login_manager": app},
        "app": {},
    }[wrong]

    with pytest.raises(ConfigurationError, match=r"init_app|db= must|login_manager= must"):
        XgenSessions().init_app(None if wrong == "app" else app, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["db", "login manager", "no db", "no login manager"])
def test_another_object_is_noticed_at_the_first_request_and_by_doctor(wrong: str) -> None:
    app, db, model = make_app()
    manager = LoginManager()
    XgenSessions().init_app(app, db=db, login_manager=manager, user_model=model)
    if wrong != "no db":
        (SQLAlchemy() if wrong == "db" else db).init_app(app)
    if wrong != "no login manager":
        (LoginManager() if wrong == "login manager" else manager).init_app(app)

    finding = examine(app)["extensions"]

    assert finding["level"] == "problem"
    assert "init_app(app)" in finding["mend"]
    with pytest.raises(ConfigurationError, match=r"init_app\(app\)"):
        app.test_client().get("/")


@on_sqlite
def test_login_user_needs_no_loader_of_the_host(database_url: str) -> None:
    with make_member_host(database_url, make_model(), screen=False) as host:

        @host.app.get("/login")
        def login() -> str:
            login_user(host.find_user(user))
            return "signed in"

        @host.app.get("/protected")
        @login_required  # type: ignore[untyped-decorator]
        def protected() -> str:
            return "protected"

        user = host.add_user()
        client = host.client()
        client.get("/login")

        assert client.get("/protected").status_code == 200
        host.force_logout(user)
        assert client.get("/protected").status_code == 401
