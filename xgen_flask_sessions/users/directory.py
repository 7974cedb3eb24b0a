"""The host's user table, as the plugin sees it. The only place that reads it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, cast

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapper, ORMExecuteState, QueryableAttribute, Session, lazyload

from ..errors import ConfigurationError, UserInactive
from ..store.stamps import begin_write
from ..store.tables import UserLogin
from ..tokens.claims import check_user_id, is_user_id
from .table import HostTable, find_host_table

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFields:
    """Which attributes of the host's user model hold what.

    An attribute that the model lacks counts as not set, unless it was named here.

    :param id: Holds what ``get_id()`` returns, as text; the primary key if left out.
    :param username: The name to sign in with.
    :param name: The display name.
    :param department: The department.
    :param superuser: Whether the user is a SuperUser.
    :param active: Whether the user may sign in.
    """

    id: str | None = None
    username: str = "username"
    name: str = "name"
    department: str = "department"
    superuser: str = "is_superuser"
    active: str = "is_active"


@dataclass(frozen=True, slots=True)
class Profile:
    """What the screens say of a user."""

    user_id: str
    username: str
    name: str | None
    department: str | None
    superuser: bool


class UserDirectory:
    """Finds users of the host by what Flask-Login calls them.

    :param db: The host's Flask-SQLAlchemy.
    :param model: Its user model.
    :param user_fields: The model's attributes.
    :raises ConfigurationError: The model lacks an attribute that was named, or any username.
    """

    def __init__(self, db: SQLAlchemy, model: type[Any], user_fields: UserFields) -> None:
        self._db = db
        self._model = model
        self._fields = user_fields
        mapper = sa.inspect(model, raiseerr=False)
        if mapper is None:
            raise ConfigurationError("user_model must be a mapped SQLAlchemy class.")
        for field in fields(UserFields):
            name = getattr(user_fields, field.name)
            named = name != field.default or field.name == "username"
            if name is not None and named and not hasattr(model, name):
                raise ConfigurationError(
                    f"{model.__name__} has no attribute {name!r}; "
                    f"pass user_fields=UserFields({field.name}=…) with the one it has."
                )
        if user_fields.id is None and len(mapper.primary_key) != 1:
            raise ConfigurationError(
                f"{model.__name__} has a composite primary key; "
                "pass user_fields=UserFields(id=…) with the attribute get_id() returns."
            )
        id_name = user_fields.id or mapper.get_property_by_column(mapper.primary_key[0]).key
        self._id: QueryableAttribute[Any] = getattr(model, id_name)
        self._id_name = id_name

    def table(self, session: Session) -> HostTable | None:
        """Return the host's table as something to join ours with.

        :returns: ``None`` if it lies in another database, or its ids cannot be told in SQL.
        """
        bind = session.get_bind(mapper=sa.inspect(self._model))
        if bind is not session.get_bind(clause=UserLogin.__table__):
            return None
        names = {
            name: getattr(self._fields, name)
            for name in ("username", "name", "department", "superuser")
        }
        return find_host_table(self._model, self._id, names, bind.dialect)

    @property
    def has_superusers(self) -> bool:
        """Whether the model knows of SuperUsers at all."""
        return hasattr(self._model, self._fields.superuser)

    def id_of(self, user: Any) -> str:
        """Return the id of a user object, or of a string that is one.

        :raises ValueError: The id cannot name a user in tokens and tables.
        :raises ConfigurationError: ``get_id()`` is not the attribute that users are found by.
        """
        user = unwrap(user)
        if isinstance(user, str):
            return check_user_id(user)
        if isinstance(user, self._model) and sa.inspect(user).pending:
            self._db.session.flush()  # it has no id before
        user_id = check_user_id(user.get_id())
        if isinstance(user, self._model) and str(getattr(user, self._id_name)) != user_id:
            raise ConfigurationError(
                f"{self._model.__name__}.get_id() does not return {self._id_name!r}; "
                "pass user_fields=UserFields(id=…) with the attribute it returns."
            )
        return user_id

    def get(self, user_id: str) -> Any | None:
        """Return the user object, or ``None``."""
        return self.get_many([user_id]).get(user_id)

    def get_many(self, user_ids: Iterable[str]) -> dict[str, Any]:
        """Return the user objects that exist, by id."""
        keys = [key for key in map(self._to_key, user_ids) if key is not None]
        found = self._select(self._id.in_(keys)) if keys else ()
        return {str(getattr(user, self._id_name)): user for user in found}

    def get_by_username(self, username: str) -> Any | None:
        """Return the user object of that username, or ``None``."""
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in username):
            return None  # no database holds such text, and some fail when asked for it
        column = getattr(self._model, self._fields.username)
        return next(iter(self._select(column == username)), None)

    def require_active(self, user_id: str) -> None:
        """Lock the user's row and make sure that the user may have sessions.

        :raises UserInactive: The user is inactive or does not exist.
        """
        user = self.lock([user_id]).get(user_id)
        if user is None or not self.is_active(user):
            raise UserInactive

    def lock(self, user_ids: Iterable[str]) -> dict[str, Any]:
        """Lock users' rows and read them as they are now; return those that exist, by id.

        One after the other, in the order of the ids: whoever locks two does it in the same order.
        On SQLite, which has no such locks, whoever calls has written first.
        """
        keys = {key for key in map(self._to_key, user_ids) if key is not None}
        self._db.session.flush()  # what the host has changed must not be read over
        found: dict[str, Any] = {}
        for key in sorted(keys, key=lambda key: (type(key).__name__, key)):
            # A database that tells no case apart finds others as well.
            for user in self._db.session.scalars(self._locked, {"key": key}):
                found[str(getattr(user, self._id_name))] = user
        return found

    @cached_property
    def _locked(self) -> sa.Select[Any]:
        """Locks and reads one user's row; made once, when all of the host's models are there."""
        return (
            sa.select(self._model)
            .where(self._id == sa.bindparam("key"))
            .options(lazyload("*"))  # outer joins cannot be locked
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )

    def is_row(self, user: Any) -> bool:
        """Say whether *user* is a row of the host's user table, and not somebody made up."""
        return isinstance(unwrap(user), self._model)

    def ids_of_flushed(self, user: Any) -> list[str]:
        """Return the id of a user who is being flushed, and the one before if that changes."""
        history = sa.inspect(user).attrs[self._id_name].history
        ids = [*history.non_deleted(), *history.deleted]
        return [str(each) for each in ids if each is not None]

    def ids_of_target(self, execution: ORMExecuteState) -> list[str]:
        """Lock the rows that an ``UPDATE`` or ``DELETE`` of the model is about to hit.

        :param execution: The statement, about to run.
        :returns: The users' ids.
        """
        session, statement = execution.session, cast("Any", execution.statement)
        begin_write(session)
        mapper = cast("Mapper[Any]", execution.bind_mapper)
        # Of the class that the statement names: a subclass in the same table has its own rows.
        query = sa.select(getattr(mapper.class_, self._id_name)).with_for_update()
        query = query.options(*execution.user_defined_options)
        if statement.whereclause is not None:
            query = query.where(statement.whereclause)
        found: list[Any] = []
        parameters: Any = execution.parameters
        for row in parameters if isinstance(parameters, list) else [parameters]:
            found += session.scalars(self._restricted(query, row), row)
        return list(dict.fromkeys(map(str, found)))

    def _restricted(self, query: sa.Select[Any], row: dict[str, Any] | None) -> sa.Select[Any]:
        """Return *query* for the row that parameters name by its primary key, if they do."""
        mapper = sa.inspect(self._model)
        names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        if not row or not set(names) <= set(row):
            return query
        return query.where(*(getattr(self._model, name) == row[name] for name in names))

    def is_active(self, user: Any) -> bool:
        """Say whether *user* may sign in and use sessions."""
        return bool(getattr(user, self._fields.active, True))

    def is_superuser(self, user: Any) -> bool:
        """Say whether *user* is a SuperUser."""
        return bool(getattr(unwrap(user), self._fields.superuser, False))

    def profile(self, user_id: str, user: Any | None) -> Profile:
        """Return what to show of a user; one who is deleted or has no name is shown by the id."""
        if user is None:
            return Profile(user_id, user_id, None, None, superuser=False)
        username = getattr(user, self._fields.username)
        return Profile(
            user_id,
            user_id if username is None else str(username),
            _text(getattr(user, self._fields.name, None)),
            _text(getattr(user, self._fields.department, None)),
            self.is_superuser(user),
        )

    def superuser_ids(self, candidates: Iterable[str]) -> Iterator[str]:
        """Yield the ids of all SuperUsers that may be among *candidates*.

        :param candidates: The ids to look through if the model cannot be asked in SQL; only then
            is it iterated.
        """
        attribute = getattr(self._model, self._fields.superuser, None)
        if isinstance(attribute, QueryableAttribute):
            for key in self._db.session.scalars(sa.select(self._id).where(attribute.is_(True))):
                yield str(key)
        elif attribute is not None:
            for batch in batches(candidates, _BATCH):
                for user_id, user in self.get_many(batch).items():
                    if self.is_superuser(user):
                        yield user_id

    def _select(self, *where: sa.ColumnElement[bool]) -> Iterable[Any]:
        # unique(): the host's model may load relationships by joins.
        return self._db.session.scalars(sa.select(self._model).where(*where)).unique().all()

    def _to_key(self, user_id: str) -> Any | None:
        """Return *user_id* as the id column's type, or ``None`` if it cannot be one."""
        if not is_user_id(user_id):
            return None
        dialect = self._db.engine.dialect
        kind = self._id.type.dialect_impl(dialect)
        for python_type in _python_types(kind):
            try:
                key = python_type(user_id)
                if str(_read_back(key, kind, dialect)) != user_id:
                    continue  # "007" is nobody's id if ids are integers
            except (ValueError, TypeError, ArithmeticError, AttributeError):
                continue
            if not isinstance(key, int) or _fits(key, kind, dialect):
                return key
        return None


def unwrap(user: Any) -> Any:
    """Return the user behind Flask-Login's ``current_user`` proxy, or *user* itself."""
    current = getattr(user, "_get_current_object", None)
    return current() if callable(current) else user


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield *items* in lists of at most *size*."""
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _python_types(kind: Any) -> tuple[type[Any], ...]:
    """Return what values of a column of *kind* may be in Python, the likeliest first."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return (kind.python_type,)
    inner = kind.impl_instance.python_type
    return (int,) if inner is int else (str, uuid.UUID)


def _read_back(key: Any, kind: Any, dialect: sa.Dialect) -> Any:
    """Return *key* as it comes out of a column of a host's own type, once put in there."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return key
    stored = kind.process_bind_param(key, dialect)
    return kind.process_result_value(stored, dialect)


def _fits(key: int, kind: Any, dialect: sa.Dialect) -> bool:
    """Say whether a database can be asked for *key*; some fail rather than find nothing."""
    bits = 64
    if dialect.name == "postgresql":
        inner = getattr(kind, "impl_instance", kind)
        if not isinstance(inner, sa.BigInteger):
            bits = 16 if isinstance(inner, sa.SmallInteger) else 32
    elif dialect.name != "sqlite":
        bits = 65  # MariaDB's unsigned ones
    return bool(-(2 ** (bits - 1)) <= key < 2 ** (bits - 1))


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None
