"""The attributes of a user model: read alike in Python and in SQL, or refused at the start."""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_admin import Admin
from flask_login import AnonymousUserMixin, LoginManager, UserMixin, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import (
    Mapped,
    column_property,
    declared_attr,
    deferred,
    mapped_column,
    query_expression,
    relationship,
    synonym,
)
from werkzeug.utils import cached_property as werkzeug_cached_property

from tests.support.databases import on_sqlite
from tests.support.hosts import SECRET, Host, bearer
from tests.support.models import make_member_host, make_model
from xgen_flask_sessions import (
    ConfigurationError,
    Forbidden,
    UserFields,
    UserInactive,
    XgenSessions,
)


class Rank(enum.Enum):
    NO = "no"
    YES = "yes"


class YesNo(sa.types.TypeDecorator[bool]):
    """Booleans stored as "Y" and "N"."""

    impl = sa.String(1)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else "NY"[value]

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else value == "Y"


def level() -> Any:
    return mapped_column(sa.Integer)


def is_boss(self: Any) -> bool:
    return bool(self.level == 1)


async def is_boss_soon(self: Any) -> bool:
    return bool(self.level == 1)


def with_other_expression() -> hybrid_property[bool]:
    attribute = hybrid_property(is_boss)
    return attribute.expression(lambda cls: cls.level != 1)


READ: dict[str, Callable[[], dict[str, Any]]] = {
    "boolean": lambda: {"level": mapped_column(sa.Boolean), "flag": synonym("level")},
    "integer": lambda: {"level": level(), "flag": synonym("level")},
    "small integer": lambda: {"flag": mapped_column("level", sa.SmallInteger)},
    "numeric": lambda: {"flag": mapped_column("level", sa.Numeric(1, 0))},
    "deferred": lambda: {"flag": deferred(mapped_column("level", sa.Boolean))},
    "type decorator": lambda: {"flag": mapped_column(YesNo)},
    "property": lambda: {"level": level(), "flag": property(is_boss)},
    "synonym of a property": lambda: {
        "level": level(),
        "flag": synonym("level", descriptor=property(is_boss)),
    },
    "hybrid": lambda: {"level": level(), "flag": hybrid_property(is_boss)},
    "hybrid with another expression": lambda: {"level": level(), "flag": with_other_expression()},
    "cached property": lambda: {"level": level(), "flag": functools.cached_property(is_boss)},
    "Werkzeug's": lambda: {"level": level(), "flag": werkzeug_cached_property(is_boss)},
    "column property": lambda: (
        lambda column: {"level": column, "flag": column_property(column == 1)}
    )(level()),
}
"""Attributes ``flag`` that are read, by kind."""

METHOD = "is a method"
TYPE = "is a column of the type "
REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "method": (lambda: {"flag": is_boss}, METHOD),
    "coroutine": (lambda: {"flag": is_boss_soon}, METHOD),
    "static method": (lambda: {"flag": staticmethod(lambda: False)}, METHOD),
    "class method": (lambda: {"flag": classmethod(lambda cls: False)}, METHOD),
    "partial method": (lambda: {"flag": functools.partialmethod(is_boss)}, METHOD),
    "hybrid method": (lambda: {"flag": hybrid_method(is_boss)}, METHOD),
    "class": (lambda: {"flag": Rank}, METHOD),
    "asynchronous property": (lambda: {"flag": property(is_boss_soon)}, "is a coroutine"),
    "asynchronous cached property": (
        lambda: {"flag": functools.cached_property(is_boss_soon)},
        "is a coroutine",
    ),
    "text": (lambda: {"flag": mapped_column(sa.String(5))}, TYPE + r"String\(length=5\)"),
    "synonym of a text": (
        lambda: {"yn": mapped_column(sa.CHAR(1)), "flag": synonym("yn")},
        TYPE + r"CHAR\(length=1\)",
    ),
    "enum": (lambda: {"flag": mapped_column(sa.Enum(Rank))}, TYPE + "Enum"),
    "time": (lambda: {"flag": mapped_column(sa.DateTime)}, TYPE + "DateTime"),
    "json": (lambda: {"flag": mapped_column(sa.JSON)}, TYPE + "JSON"),
    "bytes": (lambda: {"flag": mapped_column(sa.LargeBinary)}, TYPE + "LargeBinary"),
    "relationship": (
        lambda: {
            "boss_id": mapped_column(sa.ForeignKey("own_users.id")),
            "flag": relationship("Member", remote_side="Member.id"),
        },
        "is a relationship",
    ),
    "association proxy": (
        lambda: {
            "boss_id": mapped_column(sa.ForeignKey("own_users.id")),
            "boss": relationship("Member", remote_side="Member.id"),
            "flag": association_proxy("boss", "username"),
        },
        "is an association proxy",
    ),
    "query expression": (lambda: {"flag": query_expression()}, "is a query expression"),
    "text constant": (lambda: {"flag": "N"}, "is of the type str"),
    "list constant": (lambda: {"flag": []}, "is of the type list"),
    "number": (lambda: {"flag": 2}, "is 2"),
}
"""Attributes ``flag`` that stop the start, by kind, and a part of the message."""

SUPERUSER = UserFields(superuser="flag", active=None)
ACTIVE = UserFields(superuser=None, active="flag")


def add(host: Host, **flags: Any) -> dict[str, str]:
    """Add users with these values of ``flag``, and return their ids by name."""
    names = dict(flags)
    with host.app.app_context():
        for name, value in names.items():
            user = host.model(username=name)
            column = "level" if hasattr(host.model, "level") else "flag"
            kind = getattr(host.model, column).type
            is_number = isinstance(kind, sa.Integer | sa.Numeric)
            setattr(user, column, int(value) if is_number and value is not None else value)
            host.db.session.add(user)
        host.db.session.commit()
        rows = host.db.session.execute(sa.select(host.model.username, host.model.id))
        return {name: str(key) for name, key in rows}


def badges(host: Host, token: Any) -> tuple[set[str], int]:
    """Return the users with a SUPER badge, and the number on the card."""
    answer: Any = host.client().get("/sessions/users", headers=bearer(token)).get_json()
    found = {user["username"] for user in answer["users"] if user["superuser"]}
    return found, answer["summary"]["superusers"]


@pytest.mark.parametrize("kind", READ)
def test_a_superuser_is_the_same_everywhere(database_url: str, kind: str) -> None:
    model = make_model(**READ[kind]())
    with make_member_host(database_url, model, SUPERUSER, can_view=lambda _: True) as host:
        users = add(host, root=True, bob=False, nil=None)
        tokens = {name: host.issue(user) for name, user in users.items()}

        assert badges(host, tokens["bob"]) == ({"root"}, 1)
        with host.app.app_context():
            state = host.app.extensions["xgen_sessions"]
            assert [*state.users.superuser_ids(users.values())] == [users["root"]]
        for name, status in (("bob", 403), ("nil", 403), ("root", 200)):
            path = f"/sessions/users/{users['root']}/force-logout"
            answer = host.client().post(path, headers=bearer(tokens[name]), json={})
            assert answer.status_code == status, name


@on_sqlite
@pytest.mark.parametrize("kind", READ)
def test_an_inactive_user_is_refused_everywhere(database_url: str, kind: str) -> None:
    model = make_model(**READ[kind]())
    with make_member_host(database_url, model, ACTIVE, screen=False) as host:
        users = add(host, ann=True, bob=False, nil=None)

        @host.app.get("/login/<user_id>")
        def login(user_id: str) -> str:
            login_user(host.find_user(user_id), force=True)
            return "signed in"

        for name in ("bob", "nil"):
            with pytest.raises(UserInactive):
                host.issue(users[name])
            assert host.client().get(f"/login/{users[name]}").status_code == 401
        assert host.status(host.issue(users["ann"]), "/sessions/") == 200
        assert host.client().get(f"/login/{users['ann']}").status_code == 200


@on_sqlite
@pytest.mark.parametrize("fields", [SUPERUSER, ACTIVE], ids=["superuser", "active"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_yes_or_no_stops_the_start(
    database_url: str, kind: str, fields: UserFields
) -> None:
    make, fault = REFUSED[kind]
    with (
        pytest.raises(ConfigurationError, match=rf"^Member\.flag {fault}") as caught,
        make_member_host(database_url, make_model(**make()), fields, screen=False),
    ):
        pass

    assert "UserFields(" in str(caught.value)


@on_sqlite
@pytest.mark.parametrize("name", ["is_superuser", "is_active", "is_authenticated"])
def test_a_method_of_the_conventional_name_stops_the_start(database_url: str, name: str) -> None:
    model = make_model(**{name: lambda self: False})

    with (
        pytest.raises(ConfigurationError, match=rf"Member\.{name} is a method"),
        make_member_host(database_url, model, screen=False),
    ):
        pass


class ActiveByColumn(UserMixin):  # type: ignore[misc]
    """As Flask-Security's mixin: ``is_active`` returns the column ``active``."""

    @property
    def is_active(self) -> bool:
        return bool(self.active)


@on_sqlite
@pytest.mark.parametrize("column", ["active", "enabled", "is_enabled"])
@pytest.mark.parametrize("base", [UserMixin, object])
def test_a_column_that_flask_login_s_is_active_hides_stops_the_start(
    database_url: str, column: str, base: type[Any]
) -> None:
    bases = (base,) if base is UserMixin else (AnonymousUserMixin,)
    if base is object:  # a model without is_active
        bases = (
            type("Mixin", (), {"is_authenticated": True, "get_id": lambda self: str(self.id)}),
        )
    model = make_model(*bases, **{column: mapped_column(sa.Boolean)})

    with (
        pytest.raises(ConfigurationError, match=rf"UserFields\(active='{column}'\)"),
        make_member_host(database_url, model, screen=False),
    ):
        pass

    for fields in (UserFields(active=column), UserFields(active=None)):
        with make_member_host(database_url, model, fields, screen=False) as host:
            users = add_members(host, bob={column: False})
            if fields.active is None:
                host.issue(users["bob"])
            else:
                with pytest.raises(UserInactive):
                    host.issue(users["bob"])


def add_members(host: Host, **members: dict[str, Any]) -> dict[str, str]:
    return {name: host.add_user(name, **columns) for name, columns in members.items()}


@on_sqlite
@pytest.mark.parametrize("constant", [True, property(lambda self: True)])
def test_a_constant_is_active_hides_a_column_as_well(database_url: str, constant: Any) -> None:
    model = make_model(active=mapped_column(sa.Boolean), is_active=constant)

    with (
        pytest.raises(ConfigurationError, match=r"UserFields\(active='active'\)"),
        make_member_host(database_url, model, screen=False),
    ):
        pass


HIDDEN: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "text": (lambda: {"active": mapped_column(sa.String(1))}, "define is_active as a property"),
    "enum": (lambda: {"enabled": mapped_column(sa.Enum(Rank))}, "define is_active as a property"),
    "numeric": (lambda: {"active": mapped_column(sa.Numeric(1))}, r"UserFields\(active='active'"),
    "type decorator": (lambda: {"active": mapped_column(YesNo)}, r"UserFields\(active='active'"),
    "hybrid": (
        lambda: {"level": level(), "active": hybrid_property(is_boss)},
        r"UserFields\(active='active'",
    ),
    "renamed": (
        lambda: {"usable": mapped_column("is_active", sa.Boolean)},
        r"UserFields\(active='usable'",
    ),
    "cached constant": (
        lambda: {
            "active": mapped_column(sa.Boolean),
            "is_active": functools.cached_property(lambda self: True),
        },
        r"UserFields\(active='active'",
    ),
}
"""Attributes that a constant ``is_active`` hides, and a part of the message."""


@on_sqlite
@pytest.mark.parametrize("kind", HIDDEN)
def test_an_attribute_of_any_kind_that_is_active_hides_stops_the_start(
    database_url: str, kind: str
) -> None:
    make, advice = HIDDEN[kind]
    with (
        pytest.raises(ConfigurationError, match=advice),
        make_member_host(database_url, make_model(**make()), screen=False),
    ):
        pass


@on_sqlite
def test_a_time_called_active_is_no_answer(database_url: str) -> None:
    model = make_model(active=mapped_column(sa.DateTime))

    with make_member_host(database_url, model, screen=False) as host:
        host.issue(host.add_user())


class OnlyAnnotated:
    is_active: Mapped[bool]


class ByFunction:
    @declared_attr
    def is_active(self) -> Mapped[bool]:
        return mapped_column(sa.Boolean)


@on_sqlite
@pytest.mark.parametrize(
    "mixin", [type("Plain", (), {"is_active": level()}), OnlyAnnotated, ByFunction]
)
def test_a_mixin_s_column_behind_flask_login_s_mixin_stops_the_start(
    database_url: str, mixin: type[Any]
) -> None:
    model = make_model(UserMixin, mixin)
    assert "is_active" not in model.__table__.columns  # SQLAlchemy leaves it out

    with (
        pytest.raises(ConfigurationError, match=f"{mixin.__name__} declares the column"),
        make_member_host(database_url, model, screen=False),
    ):
        pass


@on_sqlite
def test_a_mixin_s_own_is_active_may_stand_beside_its_column(database_url: str) -> None:
    model = make_model(ActiveByColumn, active=mapped_column(sa.Boolean))

    with make_member_host(database_url, model, screen=False) as host:
        users = add_members(host, ann={"active": True}, bob={"active": False})
        host.issue(users["ann"])
        with pytest.raises(UserInactive):
            host.issue(users["bob"])


def test_numbers_other_than_0_and_1_count_alike_in_python_and_sql(database_url: str) -> None:
    model = make_model(flag=mapped_column(sa.Integer))
    with make_member_host(database_url, model, SUPERUSER, can_view=lambda _: True) as host:
        users = add(host, root=1, two=2, minus=-1, bob=0)
        tokens = {name: host.issue(user) for name, user in users.items()}

        assert badges(host, tokens["bob"]) == ({"root"}, 1)
        path = f"/sessions/users/{users['two']}/force-logout"  # it might be a SuperUser
        assert host.client().post(path, headers=bearer(tokens["bob"]), json={}).status_code == 403


@on_sqlite
@pytest.mark.parametrize("stored", [sa.Integer(), sa.String(5)])
def test_the_type_of_the_column_is_that_of_the_database(database_url: str, stored: Any) -> None:
    model = make_model(flag=mapped_column(sa.Boolean().with_variant(stored, "sqlite")))
    with make_member_host(database_url, model, SUPERUSER, can_view=lambda _: True) as host:
        bob = host.add_user("bob")
        host.execute("UPDATE own_users SET flag = 2")

        assert badges(host, host.issue(bob)) == (set(), 0)


@pytest.mark.parametrize("value", ["2", "-1", "0", "''", "'N'"])
def test_a_boolean_column_with_another_value_counts_alike(database_url: str, value: str) -> None:
    if database_url.startswith("postgresql") or (value[0] == "'" and "sqlite" not in database_url):
        pytest.skip("the database refuses the value")
    model = make_model(flag=mapped_column(sa.Boolean))
    with make_member_host(database_url, model, SUPERUSER, can_view=lambda _: True) as host:
        users = add(host, bob=False)
        host.execute(f"UPDATE own_users SET flag = {value}")

        found, count = badges(host, host.issue(users["bob"]))

        assert count == len(found)


def test_a_column_of_the_parent_s_table_is_read(database_url: str) -> None:
    parent = make_model(flag=mapped_column(sa.Boolean))
    own_id = mapped_column(sa.ForeignKey("own_users.id"), primary_key=True)
    child = type("Staff", (parent,), {"__tablename__": "staff", "id": own_id})
    with make_member_host(database_url, child, SUPERUSER, can_view=lambda _: True) as host:
        users = add(host, root=True, bob=False)

        tokens = [host.issue(user) for user in users.values()]

        assert badges(host, tokens[1]) == ({"root"}, 1)


@on_sqlite
def test_a_cached_property_is_read_again_under_the_lock(database_url: str) -> None:
    model = make_model(level=level(), flag=functools.cached_property(is_boss))
    with make_member_host(database_url, model, SUPERUSER) as host:
        users = add(host, root=True, other=True)
        with host.app.app_context():
            actor = host.find_user(users["root"])
            assert actor.flag is True  # kept in the object
            host.execute(f"UPDATE own_users SET level = 0 WHERE id = {users['root']}")

            with pytest.raises(Forbidden):
                host.sessions.force_logout(users["other"], actor=actor)


def raising(self: Any) -> bool:
    raise RuntimeError("no rank")


VALUES: dict[str, Any] = {
    "list": [1],
    "text": "N",
    "method": raising,
    "object": object(),
    "number": 7,
}


@on_sqlite
@pytest.mark.parametrize("value", [*VALUES, "coroutine", "error"])
def test_a_value_that_is_no_yes_or_no_gives_no_right_and_is_logged(
    database_url: str, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    def read(self: Any) -> Any:
        if value == "error":
            raise RuntimeError("no rank")
        return is_boss_soon(self) if value == "coroutine" else VALUES[value]

    model = make_model(is_superuser=property(read))
    with make_member_host(database_url, model) as host:
        users = add_members(host, ann={}, bob={})
        token = host.issue(users["ann"])
        state = host.app.extensions["xgen_sessions"]
        with host.app.app_context(), caplog.at_level(logging.ERROR):
            for user_id in users.values():
                user = host.find_user(user_id)
                assert not state.users.is_superuser(user)
                assert not host.sessions.may_view(user)
                with pytest.raises(Forbidden):
                    host.sessions.force_logout(users["bob"], actor=host.find_user(users["ann"]))

        assert host.status(token, "/sessions/users") == 403
        (record,) = [each for each in caplog.records if "is_superuser" in each.message]
        assert "UserFields(superuser=" in record.message
        assert value != "error" or "RuntimeError: no rank" in record.message


@on_sqlite
def test_an_active_that_is_no_yes_or_no_is_inactive(database_url: str) -> None:
    model = make_model(is_active=property(lambda self: "no"))
    with make_member_host(database_url, model, screen=False) as host:
        user = host.add_user()
        with pytest.raises(UserInactive):
            host.issue(user)


@on_sqlite
def test_an_error_of_the_database_is_no_refusal(database_url: str) -> None:
    def read(self: Any) -> bool:
        sa.orm.object_session(self).execute(sa.text("SELECT * FROM missing"))  # type: ignore[union-attr]
        return True

    model = make_model(is_superuser=property(read))
    with make_member_host(database_url, model, screen=False) as host, host.app.app_context():
        user = host.find_user(host.add_user())
        with pytest.raises(sa.exc.OperationalError):
            host.app.extensions["xgen_sessions"].users.is_superuser(user)


@on_sqlite
@pytest.mark.parametrize("value", [[1], "yes", raising, object()])
@pytest.mark.parametrize("name", ["can_view", "can_force_logout"])
def test_a_permission_must_be_true(database_url: str, name: str, value: Any) -> None:
    permissions: dict[str, Any] = {"can_view": lambda _: True, name: lambda _: value}
    with make_member_host(database_url, make_model(), **permissions) as host:
        users = add_members(host, ann={}, bob={})
        headers = bearer(host.issue(users["ann"]))
        path = f"/sessions/users/{users['bob']}/force-logout"

        assert host.client().post(path, headers=headers, json={}).status_code == 403


async def may_view_soon(_: Any) -> bool:
    return True


@on_sqlite
@pytest.mark.parametrize(
    ("permission", "message"),
    [
        (may_view_soon, "coroutine"),
        ("admin", "must be a function"),
        (True, "must be a function"),
        (AnonymousUserMixin, "must be a function"),
        (lambda: True, "one argument"),
        (lambda user, other: True, "one argument"),
    ],
)
@pytest.mark.parametrize("name", ["can_view", "can_force_logout"])
def test_a_permission_that_is_no_function_of_a_user_stops_the_start(
    database_url: str, name: str, permission: Any, message: str
) -> None:
    with (
        pytest.raises(ConfigurationError, match=rf"^{name}= .*{message}"),
        make_member_host(database_url, make_model(is_superuser=False), **{name: permission}),
    ):
        pass


NAMED: dict[str, tuple[str, Any, str]] = {
    "username, a method": ("username", lambda self: "ann", "is a method"),
    "username, computed": ("username", property(lambda self: "ann"), "is computed in Python"),
    "username, a constant": ("username", "ann", "is computed in Python"),
    "username, bytes": ("username", mapped_column(sa.LargeBinary), "not a name"),
    "name, a method": ("name", lambda self: "Ann", "is a method"),
    "department, a method": ("department", lambda self: "HR", "is a method"),
    "name, a coroutine": ("name", property(is_boss_soon), "is a coroutine"),
}


@on_sqlite
@pytest.mark.parametrize("case", NAMED)
def test_what_is_no_text_stops_the_start(database_url: str, case: str) -> None:
    name, attribute, fault = NAMED[case]
    with (
        pytest.raises(ConfigurationError, match=rf"^Member\.{name} .*{fault}.*UserFields\({name}="),
        make_member_host(database_url, make_model(**{name: attribute}), screen=False),
    ):
        pass


@on_sqlite
def test_texts_are_shown_as_such(database_url: str) -> None:
    def fails(self: Any) -> str:
        raise RuntimeError

    for name, department, shown in (
        (mapped_column(sa.Integer, default=7), property(lambda self: Rank.YES), ("7", "yes")),
        (property(lambda self: b"An\xc3\xae"), property(lambda self: object()), ("Anî", None)),
        (property(fails), property(lambda self: raising), (None, None)),
    ):
        model = make_model(name=name, department=department)
        with make_member_host(database_url, model, can_view=lambda _: True) as host:
            token = host.issue(host.add_user())
            answer: Any = host.client().get("/sessions/users", headers=bearer(token)).get_json()
            assert [(each["name"], each["department"]) for each in answer["users"]] == [shown]


@on_sqlite
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"get_id": property(lambda self: "1")}, r"get_id is no method"),
        ({"get_id": is_boss_soon}, r"get_id is a coroutine"),
        ({"get_id": "id"}, r"get_id is no method"),
    ],
)
def test_what_flask_login_calls_is_checked(
    database_url: str, attributes: dict[str, Any], message: str
) -> None:
    with (
        pytest.raises(ConfigurationError, match=message),
        make_member_host(database_url, make_model(**attributes), screen=False),
    ):
        pass


@on_sqlite
def test_a_model_without_flask_login_s_attributes_stops_the_start(database_url: str) -> None:
    no_id, no_state = type("A", (), {}), type("B", (), {"get_id": lambda self: "1"})
    renamed = make_model(id=None, key=mapped_column(sa.Integer, primary_key=True))

    for model, message in (
        (make_model(no_id), "get_id does not exist"),
        (make_model(no_state), "no attribute 'is_authenticated'"),
        (renamed, r"no attribute 'id', which Flask-Login's get_id\(\) returns"),
    ):
        with (
            pytest.raises(ConfigurationError, match=message),
            make_member_host(database_url, model, screen=False),
        ):
            pass


def test_the_method_that_flask_login_is_told_to_call_is_checked() -> None:
    app, model = Flask("host"), make_model()
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI="sqlite://")
    manager = LoginManager(app)
    manager.id_attribute = "get_uid"

    with pytest.raises(ConfigurationError, match=r"Member\.get_uid does not exist"):
        XgenSessions().init_app(
            app,
            db=SQLAlchemy(app, metadata=model.metadata),
            user_model=model,
            login_manager=manager,
        )


def test_a_primary_key_s_value_is_an_id_and_other_objects_are_none(sqlite_host: Host) -> None:
    user = int(sqlite_host.add_user())
    with sqlite_host.app.app_context():
        sessions = sqlite_host.sessions
        sessions.issue(user)
        assert len(sessions.active_sessions(user)) == 1
        assert sessions.force_logout(user).sessions_ended == 1
        for wrong in (None, True, 1.0, b"1", ("1",), object()):
            with pytest.raises(TypeError, match="A user object or an id is needed"):
                sessions.force_logout(wrong)


@on_sqlite
def test_changes_of_several_rows_at_once_end_the_sessions_of_the_inactive(
    database_url: str,
) -> None:
    model = make_model(is_active=mapped_column(sa.Boolean, default=True))
    with make_member_host(database_url, model, screen=False, revoke_on=["is_active"]) as host:
        ann, bob = host.add_user("ann"), host.add_user("bob")
        token = host.issue(ann)
        with host.app.app_context():
            rows = [{"id": int(ann), "is_active": False}, {"id": int(bob), "is_active": True}]
            host.db.session.execute(sa.update(model), rows)
            host.db.session.commit()

        assert host.status(token, "/sessions/") == 401
        with host.app.app_context():
            assert host.sessions.active_sessions(ann) == []


def test_init_app_may_precede_the_definition_of_other_models(sqlite_url: str) -> None:
    model = make_model(
        is_superuser=mapped_column(sa.Boolean),
        is_active=mapped_column(sa.Boolean, default=True),
        later_id=mapped_column(sa.Integer),
        later=relationship(
            "Later", primaryjoin="foreign(Member.later_id) == Later.id", viewonly=True
        ),
    )
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=sqlite_url)
    db = SQLAlchemy(app, metadata=model.metadata)
    arguments: dict[str, Any] = {"login_manager": LoginManager(app), "admin": Admin(app)}

    sessions = XgenSessions()
    sessions.init_app(app, db=db, user_model=model, revoke_on=["is_active"], **arguments)

    body = {"__tablename__": "later", "id": mapped_column(sa.Integer, primary_key=True)}
    later = type("Later", (model.__bases__[-1],), body)
    with app.app_context():
        db.create_all()
        assert db.session.query(later).all() == []
        db.session.add(model(username="ann"))
        db.session.commit()
        assert sessions.issue("1").token
        db.session.remove()
        db.engine.dispose()


@on_sqlite
@pytest.mark.parametrize("name", ["flag", "computed", 7])
def test_revoke_on_takes_columns_only(database_url: str, name: Any) -> None:
    column = mapped_column(sa.Integer)
    model = make_model(level=column, computed=column_property(column == 1), flag=property(is_boss))
    with (
        pytest.raises(ConfigurationError, match="no mapped attribute"),
        make_member_host(database_url, model, screen=False, revoke_on=[name]),
    ):
        pass
