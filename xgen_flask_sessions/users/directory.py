"""The host's users: their ids, names, rank and activity."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final, cast

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session, lazyload
from sqlalchemy.orm.attributes import instance_state

from ..connections.opening import has_one_connection
from ..errors import ConfigurationError, UserInactive
from ..store import dialects
from ..store.dialects.base import MARIADB
from ..store.sign_ins import UNKNOWN, Identity
from ..text import spellings
from ..tokens.claims import check_user_id
from .attributes import Flag, describe_value, is_column
from .fields import UserAttributes, UserFields, find_blocking_columns
from .former import attributes_of_login_id, former_value
from .inheritance import lockable_tables, require_one_identity
from .keys import AccountKeys, Key, to_value
from .marks import mark_of
from .table import HostTable, find_host_table
from .targets import Targets

_BATCH = 500
_FEW: Final = 2
"""Rows that are locked one by one: the actor's and a user's."""


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
    :param id_method: The method that returns the login id; Flask-Login's ``id_attribute``.
    :raises ConfigurationError: The model lacks a named attribute, or has no username.
    """

    def __init__(
        self,
        db: SQLAlchemy,
        model: type[Any],
        user_fields: UserFields,
        id_method: str = "get_id",
    ) -> None:
        self.id_method: Final = id_method
        self._db = db
        self._model = model
        self._fields = user_fields
        mapper = sa.inspect(model, raiseerr=False)
        if not isinstance(model, type) or not isinstance(mapper, Mapper):
            raise ConfigurationError("user_model must be a mapped SQLAlchemy class.")
        require_one_identity(model)
        self._attributes = UserAttributes(model, user_fields)
        self._keys = AccountKeys(model, self._find_dialect)
        self.targets: Final = Targets(model, self._keys)
        """Finds the users that statements of the host will match."""
        self._mark_name: Final = user_fields.account or user_fields.username
        self._login_attributes: set[str] | None = None
        """The attributes that ``get_id()`` may read; ``None`` until the first user is seen."""
        self._inserted: weakref.WeakSet[Any] = weakref.WeakSet()

    def table(self, session: Session) -> HostTable | None:
        """Return the host's table for joins with the plugin's.

        :returns: ``None`` if it is in another database, or its ids cannot be computed in SQL.
        """
        bind = session.get_bind(**self._primary)
        if self._keys.is_composite or bind is not session.get_bind(clause=dialects.PRIMARY):
            return None
        names = {name: getattr(self._fields, name) for name in ("username", "name", "department")}
        superuser = self._attributes.superuser.condition(bind.dialect)
        return find_host_table(
            self._model, self._keys.attributes[0], names, superuser, bind.dialect
        )

    @property
    def has_superusers(self) -> bool:
        """Whether the model has SuperUsers."""
        return self._attributes.superuser.exists

    def id_of(self, user: Any) -> str:
        """Return the account of a user object, or of an id: a string, an integer or a UUID.

        Another object than a row of the user model is found by its ``get_id()``.

        :raises ValueError: The account is invalid in tokens and tables.
        :raises TypeError: It is neither.
        """
        user = unwrap(user)
        if isinstance(user, str):
            return check_user_id(self._keys.clean(user))
        if isinstance(user, int | uuid.UUID) and not isinstance(user, bool):
            return check_user_id(str(user))  # the value of a primary key
        if not isinstance(user, self._model):
            login_id = self._login_id(user)
            row = self.find_by_login(login_id) if self.has_login_ids else None
            if row is None:
                self._require_no_other_key(login_id)
                return login_id
            return self._keys.text_of(row)
        if instance_state(user).pending:
            self._db.session.flush()  # it has no id yet
        return self._keys.text_of(user)

    def _require_no_other_key(self, login_id: str) -> None:
        row = None if self.has_plain_login_id else self.get(login_id)
        if row is not None and self._login_id(row) != login_id:
            raise ValueError(
                f"get_id() returned {login_id!r}, which is the primary key of another user. Name "
                "the attribute that get_id() returns with UserFields(id=...)."
            )

    @property
    def has_login_ids(self) -> bool:
        """Whether ``UserFields`` names another attribute than the primary key for ``get_id()``."""
        return self._fields.id is not None and self._keys.names != [self._fields.id]

    def find_by_login(self, login_id: str) -> Any | None:
        """Return the one user whose attribute for ``get_id()`` is *login_id*, or ``None``."""
        if not self.has_login_ids:
            return self.get(login_id)
        attribute = getattr(self._model, cast("str", self._fields.id))
        value = self._to_comparable(attribute, login_id)
        selected = () if value is None else self._select(attribute == value)
        found = [user for user in selected if self._login_id(user) == login_id]
        return found[0] if len(found) == 1 else None

    def identity_of(self, user: Any) -> Identity:
        """Return what a user object says about its account, beyond its id."""
        user = unwrap(user)
        if isinstance(user, str):
            return UNKNOWN
        user_id, login_id = self.id_of(user), self.login_id_of(user)
        if self._login_attributes is None and isinstance(user, self._model):
            self._login_attributes = attributes_of_login_id(user, self.id_method)
        return Identity(None if login_id == user_id else login_id, self.mark_of(user))

    def login_id_of(self, user: Any) -> str:
        """Return the result of a user object's ``get_id()``; the account without that method."""
        user = unwrap(user)
        return self._login_id(user) if hasattr(user, self.id_method) else self.id_of(user)

    def account_of(self, user: Any) -> tuple[str, str | None]:
        """Return the id and the mark of a row's account.

        :param user: A row of the host's user table.
        """
        user = unwrap(user)
        user_id = self._keys.find_text_of(user) or self.id_of(user)
        return user_id, mark_of(getattr(user, self._mark_name))

    def mark_of(self, user: Any) -> str | None:
        """Return the mark of a user object's account; ``None`` for one that is no row."""
        if not isinstance(user, self._model):
            return None
        return mark_of(getattr(user, self._mark_name))

    def mark_changes_with(self, names: Collection[str]) -> bool:
        """Return whether a change of these attributes may change the account's mark."""
        name = self._mark_name
        return name in names or name not in sa.inspect(self._model).column_attrs

    def former_mark(self, user: Any) -> str | None:
        """Return the mark that a user object had before the flush.

        :raises FormerValueUnknown: That cannot be told.
        """
        return mark_of(former_value(user, self._mark_name))

    @cached_property
    def has_plain_login_id(self) -> bool:
        """Whether ``get_id()`` plainly is the primary key, Flask-Login's own method."""
        mappers = sa.inspect(self._model).self_and_descendants
        methods = {getattr(each.class_, self.id_method, None) for each in mappers} - {None}
        return not methods or (self._keys.names == ["id"] and all(map(_is_flask_logins, methods)))

    def sets_key(self, names: Iterable[str]) -> bool:
        """Return whether an ``UPDATE`` that sets these attributes or columns changes ids."""
        columns = {column.name for column in sa.inspect(self._model).primary_key}
        return not (columns | set(self._keys.names)).isdisjoint(names)

    @property
    def takes_names_for_ids(self) -> bool:
        """Whether a later user of the same name is the same account."""
        return self._fields.account is None and self._keys.names == [self._fields.username]

    @property
    def integer_key_table(self) -> sa.Table | None:
        """The user table, if its primary key is one integer that the database generates."""
        table = sa.inspect(self._model).local_table
        if not isinstance(table, sa.Table):
            return None
        return None if table.autoincrement_column is None else table

    def login_id_changes_with(self, names: Collection[str]) -> bool:
        """Return whether a change of these attributes may change the result of ``get_id()``."""
        if self.has_plain_login_id:
            return False
        return self._login_attributes is None or not self._login_attributes.isdisjoint(names)

    def note_insert(self, user: Any) -> None:
        """Note that a user object's values are not from the database."""
        self._inserted.add(sa.inspect(user))

    def was_inserted(self, user: Any) -> bool:
        """Return whether a user object was inserted, and may differ from the database's row."""
        user = unwrap(user)
        return isinstance(user, self._model) and sa.inspect(user) in self._inserted

    def connection_of(self, session: Session) -> sa.Connection:
        """Return the session's connection to the database of the users."""
        return session.connection(bind_arguments={"mapper": sa.inspect(self._model)})

    def watch_mark(self) -> None:
        """Have SQLAlchemy load the attribute behind the mark before it is set."""
        if is_column(self._model, self._mark_name):
            attribute = getattr(self._model, self._mark_name)
            if not event.contains(attribute, "set", _keep_former_value):
                event.listen(
                    attribute, "set", _keep_former_value, active_history=True, propagate=True
                )

    def read_mark(self, session: Session, user_id: str) -> str | None:
        """Return the mark in the database of an account, or ``None`` without its row.

        :param session: A session on the plugin's database. The host's own session is used if it
            alone sees the row.
        """
        host = self._db.session()
        is_one_database = host.get_bind(**self._primary) is host.get_bind(clause=dialects.PRIMARY)
        for each in (session, host) if is_one_database else (host,):
            row = self.read(each.connection(bind_arguments=self._primary), [user_id])
            if row:
                return row[user_id].mark
        return None

    def reread_mark(self, user_id: str) -> str | None:
        """Read the mark of an account as committed, or ``None`` without its row."""
        bind = self._db.session().get_bind(**self._primary)
        if isinstance(bind, sa.Connection) or has_one_connection(bind):
            found = self.read(self._db.session().connection(self._primary), [user_id])
        else:
            with bind.connect() as connection:
                found = self.read(connection, [user_id])
        return found[user_id].mark if user_id in found else None

    def read(self, connection: sa.Connection, user_ids: Iterable[str]) -> dict[str, Identity]:
        """Read users' identities on a connection, whatever the host's session has in memory."""
        keys = [key for key in map(self._to_key, user_ids) if key is not None]
        query = sa.select(self._model).where(self._keys.matching(keys)).options(lazyload("*"))
        with Session(connection, join_transaction_mode="rollback_only") as own:
            found = own.scalars(query) if keys else ()
            return {self._keys.text_of(user): self.identity_of(user) for user in found}

    def get(self, user_id: str) -> Any | None:
        """Return the user object, or ``None``."""
        return self.get_many([user_id]).get(user_id)

    def get_many(self, user_ids: Iterable[str]) -> dict[str, Any]:
        """Return the user objects that exist, by id."""
        keys = [key for key in map(self._to_key, user_ids) if key is not None]
        found = self._select(self._keys.matching(keys)) if keys else ()
        return {self._keys.text_of(user): user for user in found}

    def named(self, username: str) -> list[Any]:
        """Return the users of that username; there may be several, such as one in each tenant.

        A name that is spelled exactly so comes before those that the database takes for equal, in
        another case for example, and before another normalization.
        """
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in username):
            return []  # no database stores such text, and some fail at it
        found = list(self._equal(getattr(self._model, self._fields.username), username))
        exact = [user for user in found if self._attributes.username.read(user) == username]
        return exact or found

    def _equal(self, column: Any, name: str) -> Iterable[Any]:
        values = {self._to_comparable(column, each) for each in spellings(name)} - {None}
        equal = [column == value for value in values]  # an association proxy has no IN
        try:
            return self._select(sa.or_(*equal)) if equal else ()
        except sa.exc.StatementError as error:
            if isinstance(error, sa.exc.DBAPIError):
                raise
            return ()  # the column's own type refuses such a name

    def _to_comparable(self, column: Any, text: str) -> Any | None:
        """Return the value to compare a column with: of numbers and UUIDs, not their text.

        :returns: ``None`` if the column has no such value.
        """
        kind = getattr(column, "type", None)
        if isinstance(kind, sa.Uuid):
            try:
                text = str(uuid.UUID(text))
            except ValueError:
                return None
        elif isinstance(kind, sa.Integer):
            text = text.lstrip("0") or text
        else:
            return text
        return to_value(text, kind, self._keys.dialect)

    def identify(self, user_id: str) -> Identity:
        """Lock the user's row, check that the user is active, and return the identity.

        :raises UserInactive: The user is inactive or does not exist.
        """
        user = self.lock([user_id]).get(user_id)
        if user is None or not self.is_active(user):
            raise UserInactive
        return self.identity_of(user)

    def lock(self, user_ids: Iterable[str]) -> dict[str, Any]:
        """Lock users' rows and return the users that exist as they are now, by id.

        The rows are locked in the order of their ids, so that two transactions cannot deadlock.
        SQLite has no row locks: the caller must have taken the write lock.
        """
        keys = {key for key in map(self._to_key, user_ids) if key is not None}
        self._db.session.flush()  # or the reads below would overwrite the host's changes
        found: dict[str, Any] = {}
        if len(keys) > _FEW and self._keys.are_integers:
            return {self._keys.text_of(user): user for user in self._found(self._locking(keys))}
        for key in sorted(keys, key=_order):
            parameters = dict(zip(_key_names(key), key, strict=True))
            # A case-insensitive database finds further users.
            for user in self._found(self._locked, parameters, bind_arguments=self._primary):
                found[self._keys.text_of(user)] = user
        return found

    def _locking(self, keys: Collection[Key]) -> sa.Select[Any]:
        """Return the query that locks and reads several users' rows, in the order of their ids.

        The database and Python order integers alike, but not all texts.
        """
        mapper = sa.inspect(self._model)
        query = self._lock_of(self._keys.matching(keys)).order_by(self._keys.attributes[0])
        if mapper.inherits is None and isinstance(mapper.local_table, sa.Table):
            for dialect in MARIADB:  # for IN, it may read and lock a whole small table
                query = query.with_hint(mapper.local_table, "FORCE INDEX (PRIMARY)", dialect)
        return query

    @cached_property
    def _locked(self) -> sa.Select[Any]:
        """Locks and reads one user's row; built when all of the host's models are configured."""
        own: list[Any] = list(map(sa.bindparam, _key_names(self._keys.names)))
        return self._lock_of(self._keys.equal(own))

    def _lock_of(self, where: sa.ColumnElement[bool]) -> sa.Select[Any]:
        require_one_identity(self._model)
        return (
            sa.select(self._model)
            .where(where)
            .options(lazyload("*"))  # outer joins cannot be locked
            .with_for_update(key_share=True, of=lockable_tables(sa.inspect(self._model)))
            .execution_options(populate_existing=True)
        )

    def is_row(self, user: Any) -> bool:
        """Return whether *user* is a row of the host's user table."""
        return isinstance(unwrap(user), self._model)

    def ids_of_flushed(self, user: Any) -> list[str]:
        """Return the id of a user that is being flushed, and the former id if it changes."""
        state = sa.inspect(user)
        former = state.identity or tuple(state.dict[name] for name in self._keys.names)
        current = [
            state.dict.get(name, part) for name, part in zip(self._keys.names, former, strict=True)
        ]
        return list(dict.fromkeys(map(self._keys.to_text, (current, former))))

    @property
    def model(self) -> type[Any]:
        """The host's user model."""
        return self._model

    @property
    def blocking_columns(self) -> list[str]:
        """Columns that seem to say that a user is inactive, and that are not read."""
        return find_blocking_columns(self._model, self._fields)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The attributes that say yes or no about a user."""
        return self._attributes.superuser, self._attributes.active, self._attributes.authenticated

    def is_active(self, user: Any) -> bool:
        """Return whether *user* may sign in and use sessions."""
        return self._attributes.active.read(unwrap(user)) is True

    def is_superuser(self, user: Any) -> bool:
        """Return whether *user* is a SuperUser."""
        return self._attributes.superuser.read(unwrap(user)) is True

    def may_be_superuser(self, user: Any) -> bool:
        """Return whether *user* is a SuperUser, or the model's answer cannot be read."""
        return self._attributes.superuser.read(unwrap(user)) is not False

    def is_authenticated(self, user: Any) -> bool:
        """Return whether *user* is signed in, as Flask-Login's ``is_authenticated`` says."""
        return self._attributes.authenticated.read(unwrap(user)) is True

    def profile(self, user_id: str, user: Any | None) -> Profile:
        """Return a user's profile; a deleted or unnamed user is shown by the id."""
        if user is None:
            return Profile(user_id, user_id, None, None, superuser=False)
        return Profile(
            user_id,
            self._attributes.username.read(user) or user_id,
            self._attributes.name.read(user),
            self._attributes.department.read(user),
            self.is_superuser(user),
        )

    def superuser_ids(self, candidates: Iterable[str]) -> Iterator[str]:
        """Yield the ids of all SuperUsers that may be among *candidates*.

        :param candidates: The ids to check if the model cannot be queried in SQL; otherwise they
            are not iterated.
        """
        session = self._db.session()
        bind = session.get_bind(mapper=sa.inspect(self._model))
        condition = self._attributes.superuser.condition(bind.dialect)
        if condition is not None:
            query = sa.select(*self._keys.attributes).where(condition)
            yield from map(self._keys.to_text, session.execute(query))
        elif self._attributes.superuser.exists:
            for batch in batches(candidates):
                for user_id, user in self.get_many(batch).items():
                    if self.is_superuser(user):
                        yield user_id

    @cached_property
    def _primary(self) -> dict[str, Any]:
        """The arguments that find the users' database for changes, rather than a replica."""
        return {"mapper": sa.inspect(self._model), "clause": sa.update(self._model)}

    def _select(self, *where: sa.ColumnElement[bool]) -> Iterable[Any]:
        # unique(): the host's model may load relationships by joins.
        return self._found(sa.select(self._model).where(*where))

    def _found(self, query: sa.Select[Any], *args: Any, **options: Any) -> Sequence[Any]:
        """Return the users that a query finds: none for text that the columns cannot hold."""
        session = self._db.session
        try:
            return session.scalars(query, *args, **options).unique().all()
        except sa.exc.OperationalError as error:
            dialect = session().get_bind(mapper=sa.inspect(self._model)).dialect
            if dialects.of(dialect).is_of_another_charset(error.orig):
                return ()
            raise

    def _to_key(self, user_id: str) -> Key | None:
        return self._keys.from_text(user_id)

    def _find_dialect(self) -> sa.Dialect:
        return self._db.session().get_bind(**self._primary).dialect

    def _login_id(self, user: Any) -> str:
        """Return the result of ``get_id()``.

        :raises ValueError: It is invalid in tokens and tables.
        :raises TypeError: It is no user object.
        """
        if isinstance(user, type) or not hasattr(user, self.id_method):
            raise TypeError(f"A user object or an id is needed, not {describe_value(user)}.")
        login_id = getattr(user, self.id_method)()
        if login_id is None:
            raise ValueError("The user has no id, as an anonymous user has none.")
        return check_user_id(str(login_id) if type(login_id) is int else login_id)


def _is_flask_logins(method: Any) -> bool:
    return getattr(method, "__module__", None) == "flask_login.mixins"


def _keep_former_value(*_: Any) -> None:
    """Have no effect: SQLAlchemy loads the former value for a listener that asks for it."""


def _key_names(parts: Sequence[Any]) -> list[str]:
    return [f"key_{index}" for index in range(len(parts))]


def _order(key: Key) -> tuple[Any, ...]:
    return tuple((type(part).__name__, getattr(part, "name", part)) for part in key)


def unwrap(user: Any) -> Any:
    """Return the user behind Flask-Login's ``current_user`` proxy, or *user* itself."""
    current = getattr(user, "_get_current_object", None)
    return current() if callable(current) else user


def batches(items: Iterable[str]) -> Iterator[list[str]]:
    """Yield *items* in lists that fit into the parameters of one statement."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
