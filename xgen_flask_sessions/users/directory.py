"""The host's users: their ids, names, rank and activity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, cast

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapper, ORMExecuteState, QueryableAttribute, Session, lazyload

from ..errors import ConfigurationError, UserInactive
from ..store.stamps import begin_write
from ..store.tables import UserLogin
from ..tokens.claims import check_user_id
from .keys import to_key
from .table import HostTable, find_host_table

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFields:
    """The names of the host's user attributes.

    An attribute that the model lacks counts as not set, unless it is named here.

    :param id: The result of ``get_id()``, as text; the primary key if left out.
    :param username: The name for signing in.
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
    """The attributes of a user that the screens show."""

    user_id: str
    username: str
    name: str | None
    department: str | None
    superuser: bool


class UserDirectory:
    """Finds users of the host by their ids.

    :param db: The host's Flask-SQLAlchemy.
    :param model: Its user model.
    :param user_fields: The model's attributes.
    :raises ConfigurationError: The model lacks a named attribute, or has no username.
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
        """Return the host's table for joins with the plugin's.

        :returns: ``None`` if it is in another database, or its ids cannot be computed in SQL.
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
        """Whether the model has SuperUsers."""
        return hasattr(self._model, self._fields.superuser)

    def id_of(self, user: Any) -> str:
        """Return the id of a user object, or a string that is an id.

        :raises ValueError: The id is invalid in tokens and tables.
        :raises ConfigurationError: ``get_id()`` differs from the attribute for finding users.
        """
        user = unwrap(user)
        if isinstance(user, str):
            return check_user_id(user)
        if isinstance(user, self._model) and sa.inspect(user).pending:
            self._db.session.flush()  # it has no id yet
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
            return None  # no database stores such text, and some fail at it
        column = getattr(self._model, self._fields.username)
        return next(iter(self._select(column == username)), None)

    def require_active(self, user_id: str) -> None:
        """Lock the user's row and check that the user is active.

        :raises UserInactive: The user is inactive or does not exist.
        """
        user = self.lock([user_id]).get(user_id)
        if user is None or not self.is_active(user):
            raise UserInactive

    def lock(self, user_ids: Iterable[str]) -> dict[str, Any]:
        """Lock users' rows and return the users that exist as they are now, by id.

        The rows are locked in the order of their ids, so that two transactions cannot deadlock.
        SQLite has no row locks: the caller must have taken the write lock.
        """
        keys = {key for key in map(self._to_key, user_ids) if key is not None}
        self._db.session.flush()  # or the reads below would overwrite the host's changes
        found: dict[str, Any] = {}
        for key in sorted(keys, key=lambda key: (type(key).__name__, key)):
            # A case-insensitive database finds further users.
            for user in self._db.session.scalars(self._locked, {"key": key}):
                found[str(getattr(user, self._id_name))] = user
        return found

    @cached_property
    def _locked(self) -> sa.Select[Any]:
        """Locks and reads one user's row; built when all of the host's models are configured."""
        return (
            sa.select(self._model)
            .where(self._id == sa.bindparam("key"))
            .options(lazyload("*"))  # outer joins cannot be locked
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )

    def is_row(self, user: Any) -> bool:
        """Return whether *user* is a row of the host's user table."""
        return isinstance(unwrap(user), self._model)

    def ids_of_flushed(self, user: Any) -> list[str]:
        """Return the id of a user that is being flushed, and the former id if it changes."""
        history = sa.inspect(user).attrs[self._id_name].history
        ids = [*history.non_deleted(), *history.deleted]
        return [str(each) for each in ids if each is not None]

    def ids_of_target(self, execution: ORMExecuteState) -> list[str]:
        """Lock the rows that an ``UPDATE`` or ``DELETE`` of the model will match.

        :param execution: The statement, before it runs.
        :returns: The users' ids.
        """
        session, statement = execution.session, cast("Any", execution.statement)
        begin_write(session)
        mapper = cast("Mapper[Any]", execution.bind_mapper)
        # By the statement's class: a subclass in the same table has its own rows.
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
        """Return *query* restricted to the primary key in the parameters, if they have one."""
        mapper = sa.inspect(self._model)
        names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        if not row or not set(names) <= set(row):
            return query
        return query.where(*(getattr(self._model, name) == row[name] for name in names))

    def is_active(self, user: Any) -> bool:
        """Return whether *user* may sign in and use sessions."""
        return bool(getattr(user, self._fields.active, True))

    def is_superuser(self, user: Any) -> bool:
        """Return whether *user* is a SuperUser."""
        return bool(getattr(unwrap(user), self._fields.superuser, False))

    def profile(self, user_id: str, user: Any | None) -> Profile:
        """Return a user's profile; a deleted or unnamed user is shown by the id."""
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

        :param candidates: The ids to check if the model cannot be queried in SQL; otherwise they
            are not iterated.
        """
        attribute = getattr(self._model, self._fields.superuser, None)
        if isinstance(attribute, QueryableAttribute):
            for key in self._db.session.scalars(sa.select(self._id).where(attribute.is_(True))):
                yield str(key)
        elif attribute is not None:
            for batch in batches(candidates):
                for user_id, user in self.get_many(batch).items():
                    if self.is_superuser(user):
                        yield user_id

    def _select(self, *where: sa.ColumnElement[bool]) -> Iterable[Any]:
        # unique(): the host's model may load relationships by joins.
        return self._db.session.scalars(sa.select(self._model).where(*where)).unique().all()

    def _to_key(self, user_id: str) -> Any | None:
        return to_key(user_id, self._id.type, self._db.engine.dialect)


def unwrap(user: Any) -> Any:
    """Return the user behind Flask-Login's ``current_user`` proxy, or *user* itself."""
    current = getattr(user, "_get_current_object", None)
    return current() if callable(current) else user


def batches(items: Iterable[str]) -> Iterator[list[str]]:
    """Yield *items* in lists that fit into the parameters of one statement."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None
