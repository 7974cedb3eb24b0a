"""Other user models: other column names, other types of ids, and rules in Python."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.hosts import PATIENT, SECRET, bearer
from xgen_flask_sessions import (
    ConfigurationError,
    SessionRevoked,
    UserFields,
    UserInactive,
    XgenSessions,
)
from xgen_flask_sessions.users.fields import UserAttributes


class Base(DeclarativeBase):
    pass


class Person(UserMixin, Base):  # type: ignore[misc]
    """A user whose id is not the primary key, and whose rank and state are Python properties."""

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


PEOPLE = {"k-root": 9, "k-bora": 1, "k-gone": -1}
FIELDS = UserFields(id="key", username="email", superuser="is_root", active="may_sign_in")

SetUp = Callable[..., XgenSessions]


@pytest.fixture
def app(database_url: str) -> Flask:
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database_url, **PATIENT)
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
        for number, (key, rank) in enumerate(PEOPLE.items(), start=1):
            db.session.add(Person(number=number, key=key, email=f"{key}@xgen.test", rank=rank))
        db.session.commit()
    return sessions


def test_python_properties_work_like_columns(app: Flask, sessions: XgenSessions) -> None:
    with app.app_context():
        token = sessions.issue("1")
        sessions.issue("2")

    answer: Any = app.test_client().get("/sessions/users", headers=bearer(token)).get_json()

    assert answer["summary"] == {"active_users": 2, "active_sessions": 2, "superusers": 1}
    assert {user["username"]: user["superuser"] for user in answer["users"]} == {
        "k-root@xgen.test": True,
        "k-bora@xgen.test": False,
    }


def test_a_user_who_is_inactive_by_a_python_property_is_refused(
    app: Flask, sessions: XgenSessions
) -> None:
    with app.app_context(), pytest.raises(UserInactive):
        sessions.issue("3")


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (object, None, "mapped SQLAlchemy class"),
        (Person, None, r"UserFields\(username="),
        (Person, UserFields(username="email", name="nick"), r"UserFields\(name="),
    ],
)
def test_an_unsuitable_model_is_a_configuration_error(
    app: Flask, db: SQLAlchemy, model: type[Any], fields: UserFields | None, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        XgenSessions().init_app(app, db=db, user_model=model, user_fields=fields)


def test_a_second_init_app_is_a_configuration_error(app: Flask, db: SQLAlchemy) -> None:
    XgenSessions().init_app(app, db=db, user_model=Person, user_fields=FIELDS)

    with pytest.raises(ConfigurationError, match="already been registered"):
        XgenSessions().init_app(app, db=db, user_model=Person, user_fields=FIELDS)


class Guid(sa.types.TypeDecorator[uuid.UUID]):
    """UUIDs stored as 32 hexadecimal digits, a common custom type."""

    impl = sa.CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        kind = postgresql.UUID() if dialect.name == "postgresql" else sa.CHAR(32)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return (value if isinstance(value, uuid.UUID) else uuid.UUID(value)).hex

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> uuid.UUID | None:
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


class Packed(sa.types.TypeDecorator[uuid.UUID]):
    """UUIDs stored as 16 bytes."""

    impl = sa.LargeBinary(16)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else value.bytes

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(bytes=bytes(value))


class Shifted(sa.types.TypeDecorator[int]):
    """Integers stored with an offset of a million."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else value + 1_000_000

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else value - 1_000_000


class Prefixed(sa.types.TypeDecorator[str]):
    """Integers that the application shows as ``user_5``."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else int(value.removeprefix("user_"))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else f"user_{value}"


class Spaceless(sa.types.TypeDecorator[str]):
    """Text that the type itself checks."""

    impl = sa.String(40)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is not None and " " in value:
            raise ValueError("no spaces")
        return value


ID = uuid.UUID("6f1c2a1e-58a1-4a8f-9f0e-3d5d3c1f2b7a")


HostOf = Callable[..., tuple[Flask, SQLAlchemy, XgenSessions]]


@pytest.fixture
def host_of() -> Iterator[HostOf]:
    """Return a function that builds an application with the given user model, and its tables."""
    made: list[tuple[Flask, SQLAlchemy]] = []

    def make(
        user_model: type[DeclarativeBase], database_url: str, fields: UserFields | None = None
    ) -> tuple[Flask, SQLAlchemy, XgenSessions]:
        app = Flask("host")
        app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database_url, **PATIENT)
        db = SQLAlchemy(app, metadata=user_model.metadata)
        sessions = XgenSessions()
        sessions.init_app(
            app, db=db, user_model=user_model, login_manager=LoginManager(app), user_fields=fields
        )
        with app.app_context():
            db.create_all()
        made.append((app, db))
        return app, db, sessions

    yield make
    for app, db in made:
        with app.app_context():
            db.engine.dispose()


class Account(UserMixin):  # type: ignore[misc]
    """What most models below have in common."""

    __tablename__ = "own"

    username = mapped_column(sa.String(40), nullable=False)
    is_active: Mapped[bool] = mapped_column(default=True)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Guid(), ID),
        (Packed(), ID),
        (Shifted(), 5),
        (Prefixed(), "user_5"),
        (sa.Uuid(), ID),
        (sa.Uuid(as_uuid=False), str(ID)),
        (sa.BigInteger(), 2**40),
        (sa.SmallInteger(), 7),
        (sa.String(40), "5"),
        (sa.String(40), str(ID)),
    ],
)
def test_ids_of_any_type_find_their_user(
    host_of: HostOf, database_url: str, kind: Any, key: Any
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        key = mapped_column(kind, primary_key=True, autoincrement=False)

        def get_id(self) -> str:
            return str(self.key)

    if isinstance(kind, Packed) and database_url.startswith("mysql"):
        pytest.skip("MariaDB does not allow a blob as primary key")
    app, db, sessions = host_of(Own, database_url)
    with app.app_context():
        db.session.add(Own(key=key, username="alice"))
        db.session.commit()
        token = sessions.issue(db.session.get(Own, key))
        for other in ("99999999999999999999", "x", str(uuid.uuid4())):
            with pytest.raises(UserInactive):
                sessions.issue(other)

    answer: Any = app.test_client().get("/sessions/", headers=bearer(token)).get_json()

    assert len(answer["sessions"]) == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [(sa.Uuid(), ID), (sa.Uuid(as_uuid=False), str(ID)), (sa.Integer(), 47), (Spaceless(), "al")],
)
def test_commands_find_names_of_any_type_and_else_take_an_id(
    host_of: HostOf, database_url: str, kind: Any, name: Any
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
        username = mapped_column(kind)

    app, db, sessions = host_of(Own, database_url)
    runner = app.test_cli_runner()
    with app.app_context():
        db.session.add(Own(id="the id", username=name))
        db.session.commit()

    for each in (str(name).upper() if name == ID else str(name), "the id"):
        with app.app_context():
            token = sessions.issue("the id").token
        result = runner.invoke(args=["xgen-sessions", "force-logout", each])
        assert result.exit_code == 0, result.output
        with app.app_context(), pytest.raises(SessionRevoked):
            sessions.verify(token)
    for other in ("nobody there", "9" * 200, str(uuid.uuid4())):
        result = runner.invoke(args=["xgen-sessions", "show", other])
        assert "There is no user" in result.output


@pytest.mark.parametrize(
    ("kind", "value"),
    [(sa.Uuid(), ID), (sa.Uuid(as_uuid=False), str(ID)), (sa.Integer(), 47)],
    ids=["UUID", "text of a UUID", "number"],
)
def test_the_attribute_for_get_id_may_have_another_type_than_text(
    host_of: HostOf, database_url: str, kind: Any, value: Any
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id: Mapped[int] = mapped_column(primary_key=True)
        alternative = mapped_column(kind, unique=True)

        def get_id(self) -> str:
            return str(self.alternative)

    class Stranger:
        def get_id(self) -> str:
            return "x"

    app, db, sessions = host_of(Own, database_url, UserFields(id="alternative"))
    app.add_url_rule("/sign-in", view_func=lambda: str(login_user(db.session.get(Own, 1))))
    app.add_url_rule("/own", "own", login_required(lambda: "own"))
    client = app.test_client()
    with app.app_context():
        db.session.add(Own(alternative=value, username="alice"))
        db.session.commit()

    assert client.get("/sign-in").text == "True"
    assert client.get("/own").status_code == 200
    with client.session_transaction() as stored:
        stored["_user_id"] = "x"
    assert client.get("/own").status_code == 401
    with app.app_context():
        assert sessions.active_sessions(Stranger()) == []


def test_an_id_that_the_database_pads_is_one_account(host_of: HostOf, database_url: str) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id = mapped_column(sa.CHAR(10), primary_key=True)

    app, db, sessions = host_of(Own, database_url)
    with app.app_context():
        user = Own(id="e7", username="alice")
        db.session.add(user)
        db.session.commit()
        tokens = [sessions.issue(user).token, sessions.issue("e7").token]
        db.session.remove()
        tokens.append(sessions.issue(db.session.get(Own, "e7")).token)

        assert {sessions.verify(token).user_id for token in tokens} == {"e7"}
        assert sessions.force_logout("e7").sessions_ended == 3


NOPAD = mysql.VARCHAR(10, charset="utf8mb4", collation="utf8mb4_nopad_bin")
PADDED = [
    sa.CHAR(10),
    sa.NCHAR(10),
    sa.String(10).with_variant(sa.CHAR(10), "postgresql", "mysql", "mariadb"),
    sa.CHAR(10).with_variant(sa.String(10), "postgresql").with_variant(NOPAD, "mysql", "mariadb"),
]


@pytest.mark.parametrize(("kind", "key"), [(sa.String(9), "31"), (sa.BigInteger(), 31)])
def test_bytes_in_a_column_of_another_type_are_no_other_users_id(
    host_of: HostOf, sqlite_url: str, kind: Any, key: Any
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id = mapped_column(kind, primary_key=True, autoincrement=False)

    app, db, sessions = host_of(Own, sqlite_url)
    with app.app_context():
        db.session.add(Own(id=key, username="root"))
        db.session.execute(
            sa.text("INSERT INTO own (id, username, is_active) VALUES (x'31', 'eve', 1)")
        )
        db.session.commit()
        users = {str(user.username): user for user in db.session.scalars(sa.select(Own))}
        assert sessions.issue(users["root"])
        for call in (sessions.issue, sessions.force_logout):
            with pytest.raises(ValueError, match="holds bytes"):
                call(users["eve"])


def test_an_id_may_have_a_type_without_a_length(host_of: HostOf, mariadb_url: str) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id: Mapped[str] = mapped_column(primary_key=True)

    OwnBase.metadata.remove(OwnBase.metadata.tables["own"])  # MariaDB needs a length for it
    app, db, sessions = host_of(Own, mariadb_url)
    with app.app_context():
        db.session.execute(
            sa.text("CREATE TABLE own (id VARCHAR(9), username VARCHAR(9), is_active BOOL)")
        )
        db.session.add(Own(id="a", username="alice"))
        db.session.commit()
        assert sessions.verify(sessions.issue("a").token).user_id == "a"


@pytest.mark.parametrize("kind", PADDED, ids=["CHAR", "NCHAR", "now CHAR", "now VARCHAR"])
def test_ids_that_differ_in_spaces_at_the_end_are_as_many_accounts_as_rows(
    host_of: HostOf, database_url: str, kind: Any
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id = mapped_column(kind, primary_key=True)
        is_superuser: Mapped[bool]

    app, db, sessions = host_of(Own, database_url)
    app.add_url_rule("/name", "name", login_required(lambda: str(current_user.username)))
    with app.app_context():
        root = Own(id="admin", username="root", is_superuser=True)
        db.session.add(root)
        db.session.commit()
        assert sessions.verify(sessions.issue(root).token).user_id == "admin"
        db.session.add(Own(id="admin ", username="eve", is_superuser=False))
        try:
            db.session.commit()
        except sa.exc.IntegrityError:  # the database pads: there is one account
            db.session.rollback()
        db.session.remove()
        rows = db.session.scalars(sa.select(Own)).all()
        is_padded = db.engine.dialect.name != "sqlite" and kind is not PADDED[-1]
        assert len(rows) == (1 if is_padded else 2)
        tokens = {row.username: sessions.issue(row) for row in rows}
        ids = {row.username: row.id for row in rows}

    client = app.test_client()
    for name, token in tokens.items():
        assert client.get("/name", headers=bearer(token)).text == name
        status = client.get("/sessions/users", headers=bearer(token)).status_code
        assert status == (200 if name == "root" else 403)
    with app.app_context():  # by the id as the database returns it
        ended = {name: sessions.force_logout(ids[name]).sessions_ended for name in tokens}
        assert ended == {name: 2 if name == "root" else 1 for name in tokens}


class Reversed(sa.types.TypeDecorator[str]):
    """Text that the database cannot search, as if it was encrypted."""

    impl = sa.String(40)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else value[::-1]

    process_result_value = process_bind_param


@pytest.mark.parametrize(
    ("kind", "name", "part"),
    [(Spaceless(), "Alice", "LIC"), (sa.Integer(), 4711, "71"), (Reversed(), "Alice", None)],
    ids=["own type", "number", "encrypted"],
)
def test_the_search_reads_names_that_the_database_holds_as_they_are(
    host_of: HostOf, database_url: str, kind: Any, name: Any, part: str | None
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id: Mapped[int] = mapped_column(primary_key=True)
        username = mapped_column(kind)
        is_superuser: Mapped[bool] = mapped_column(default=True)

    app, db, sessions = host_of(Own, database_url)
    with app.app_context():
        db.session.add(Own(username=name))
        db.session.commit()
        token = sessions.issue("1")

    for query in (f"q={part or 'a'}", "sort=username", f"q={part or 'a'}&sort=username"):
        answer: Any = app.test_client().get(f"/sessions/users?{query}", headers=bearer(token))
        if part is None:
            assert answer.status_code == 400
        else:
            assert [user["username"] for user in answer.get_json()["users"]] == [str(name)]


# SQLAlchemy 2.1 warns of each comparison with a column that has a domain.
@pytest.mark.filterwarnings("ignore:Type object .*DOMAIN")
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (postgresql.DOMAIN("number", sa.Integer()), 5),
        (postgresql.DOMAIN("code", sa.String(20)), "a b"),
    ],
    ids=["number", "text"],
)
def test_ids_and_names_may_have_a_domain_of_postgresql(
    host_of: HostOf, postgresql_url: str, kind: Any, key: Any
) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Own(Account, OwnBase):
        id = mapped_column(kind, primary_key=True, autoincrement=False)
        username = mapped_column(postgresql.DOMAIN("login_name", sa.String(20)))
        is_superuser: Mapped[bool] = mapped_column(default=True)

    app, db, sessions = host_of(Own, postgresql_url)
    with app.app_context():
        db.session.add(Own(id=key, username="Alice"))
        db.session.commit()
        token = sessions.issue(db.session.get(Own, key))

    for query in ("q=lic", "sort=username"):
        answer: Any = app.test_client().get(f"/sessions/users?{query}", headers=bearer(token))
        assert [user["username"] for user in answer.get_json()["users"]] == ["Alice"]
        assert answer.get_json()["summary"]["superusers"] == 1
    with app.app_context():
        assert sessions.force_logout(db.session.get(Own, key)).sessions_ended == 1


def test_a_user_without_a_username_is_shown_by_the_id(host_of: HostOf, database_url: str) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class Guest(UserMixin, OwnBase):  # type: ignore[misc]
        __tablename__ = "guests"
        id: Mapped[int] = mapped_column(primary_key=True)
        username: Mapped[str | None] = mapped_column(sa.String(40))
        is_active: Mapped[bool] = mapped_column(default=True)
        is_superuser: Mapped[bool] = mapped_column(default=True)

    app, db, sessions = host_of(Guest, database_url)
    with app.app_context():
        db.session.add(Guest(id=7))
        db.session.commit()
        token = sessions.issue("7")

    answer: Any = app.test_client().get("/sessions/users", headers=bearer(token)).get_json()

    assert [user["username"] for user in answer["users"]] == ["7"]


def test_a_user_added_in_the_same_transaction_can_sign_in(
    app: Flask, sessions: XgenSessions, db: SQLAlchemy
) -> None:
    with app.app_context():
        person = Person(number=4, key="k-new", email="new@xgen.test")
        db.session.add(person)
        issued = sessions.issue(person, commit=False)
        db.session.commit()

        assert sessions.verify(issued.token).user_id == "4"


def test_a_column_may_have_a_domain_of_postgresql() -> None:
    class DomainBase(DeclarativeBase):
        pass

    class Member(UserMixin, DomainBase):  # type: ignore[misc]
        __tablename__ = "members"
        id: Mapped[int] = mapped_column(primary_key=True)
        username = mapped_column(postgresql.DOMAIN("member_name", sa.String(60)))
        is_superuser = mapped_column(postgresql.DOMAIN("yes_or_no", sa.Boolean()))

    class Wrong(UserMixin, DomainBase):  # type: ignore[misc]
        __tablename__ = "wrong"
        id: Mapped[int] = mapped_column(primary_key=True)
        username = mapped_column(sa.String(60))
        is_superuser = mapped_column(postgresql.DOMAIN("letter", sa.String(1)))

    UserAttributes(Member, UserFields())
    with pytest.raises(ConfigurationError, match="is_superuser is a column of the type"):
        UserAttributes(Wrong, UserFields())
