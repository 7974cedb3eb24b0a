"""The host's user table for joins: its columns, and its id as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import QueryableAttribute

from ..store import dialects
from ..text import spellings
from .attributes import base_type, sql_expression
from .keys import is_padded


@dataclass(frozen=True, slots=True)
class HostTable:
    """The host's users in SQL.

    :param model: The host's user model.
    :param key: Its id.
    :param dialect: The database's dialect.
    :param columns: SQL expressions by name, such as ``department``; attributes that the model
        computes in Python are missing.
    :param superuser: The condition for SuperUsers; ``None`` if the model computes it in Python.
    """

    model: type[Any]
    key: Any
    dialect: sa.Dialect
    columns: dict[str, sa.ColumnElement[Any]]
    superuser: sa.ColumnElement[bool] | None

    @property
    def text_id(self) -> sa.ColumnElement[str]:
        """The id, as ``get_id()`` returns it."""
        kind = self.key.type
        if isinstance(kind, sa.String):
            return sa.type_coerce(self._database.plain_text(self.key), sa.String())
        if isinstance(kind, sa.Uuid) and not self._has_uuids(kind):  # 32 digits, no hyphens
            digits = sa.type_coerce(self.key, sa.String)
            parts = [sa.func.substr(digits, *part) for part in _UUID_PARTS]
            return sum((sa.literal("-") + part for part in parts[1:]), start=parts[0] + "")
        return sa.cast(self.key, sa.String)

    def holds(self, user_id: Any) -> sa.ColumnElement[bool]:
        """Return the condition for the row of *user_id*, for the key's index.

        :param user_id: A column of the plugin's.
        """
        kind = self.key.type
        if isinstance(kind, sa.String):
            return self._database.same_text(self.key, user_id)
        same: sa.ColumnElement[bool] = self.text_id == user_id
        if isinstance(kind, sa.Uuid) and not self._has_uuids(kind):
            digits = sa.func.replace(user_id, "-", "")
            return sa.and_(sa.type_coerce(self.key, sa.String) == digits, same)
        if isinstance(kind, sa.Integer) and self._database.compares_text_with_numbers:
            return sa.and_(self.key == sa.cast(user_id, sa.BigInteger), same)
        return same

    def named(self, text: str) -> sa.ColumnElement[bool]:
        """Return the condition for users of whom a name contains *text*, in any case.

        Names are the username, the name and the department. A name matches in its composed and in
        its decomposed form (NFC, NFD).

        SQLite ignores case for ASCII letters only.
        """
        texts = map(_as_text, self.columns.values())
        names = map(self._database.searched_text, texts)
        return sa.or_(
            *(name.icontains(form, autoescape=True) for name in names for form in spellings(text))
        )

    def joins(self, user_id: Any) -> sa.ColumnElement[bool]:
        """Return the condition for joins, for the index of either side.

        :param user_id: A column of the plugin's.
        """
        if isinstance(self.key.type, sa.String):
            return self.holds(user_id)
        joined: sa.ColumnElement[bool] = user_id == self.text_id
        return joined

    @property
    def _database(self) -> dialects.Dialect:
        return dialects.of(self.dialect)

    def _has_uuids(self, kind: sa.Uuid[Any]) -> bool:
        return kind.native_uuid and self.dialect.supports_native_uuid


_SAMPLES = ["ann", "ann@xgen.test"]
_UUID_PARTS = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))


def find_host_table(
    model: type[Any],
    key: QueryableAttribute[Any],
    names: Mapping[str, str | None],
    superuser: sa.ColumnElement[bool] | None,
    dialect: sa.Dialect,
) -> HostTable | None:
    """Return the host's table; ``None`` if its ids cannot be computed in SQL.

    :param model: The host's user model.
    :param key: Its id.
    :param names: The names of its attributes.
    :param superuser: The condition for SuperUsers.
    """
    # For other types, Python computes the text of get_id(), or the database pads it.
    kind = base_type(key.type)
    unlike = is_padded(kind, dialect) or isinstance(kind, sa.Enum | sa.TypeDecorator)
    if unlike or not isinstance(kind, sa.Integer | sa.String | sa.Uuid):
        return None
    columns: dict[str, Any] = {}
    for what, name in names.items():
        expression = sql_expression(model, name)
        kind_of_text = None if expression is None else _searchable_type(expression.type, dialect)
        if isinstance(kind_of_text, sa.String) or (kind_of_text and what == "username"):
            columns[what] = _with_type(expression, kind_of_text)
    if "username" not in columns:
        return None
    return HostTable(model, _with_type(key, kind), dialect, columns, superuser)


def _with_type(expression: Any, kind: sa.types.TypeEngine[Any]) -> Any:
    """Return an expression with the type of its values in the database."""
    return expression if expression.type is kind else sa.type_coerce(expression, kind)


def _searchable_type(
    kind: sa.types.TypeEngine[Any], dialect: sa.Dialect
) -> sa.types.TypeEngine[Any] | None:
    """Return a column's type in the database if it holds text or numbers, or ``None``.

    A type of the host's own counts if it stores a text as it is, or in another case: many do so
    for addresses of email. Others may encrypt it.
    """
    kind = base_type(kind)
    if isinstance(kind, sa.TypeDecorator):
        stored = kind.load_dialect_impl(dialect)
        return stored if _is_text(stored) and _keeps_text(kind, dialect) else None
    return kind if _is_text(kind) or isinstance(kind, sa.Integer) else None


def _is_text(kind: Any) -> bool:
    return isinstance(kind, sa.String) and not isinstance(kind, sa.Enum)


def _keeps_text(kind: sa.TypeDecorator[Any], dialect: sa.Dialect) -> bool:
    try:
        store = kind.bind_processor(dialect)
        return store is None or [str(store(each)).lower() for each in _SAMPLES] == _SAMPLES
    except Exception:  # the host's code
        return False


def _as_text(expression: Any) -> Any:
    return expression if isinstance(expression.type, sa.String) else sa.cast(expression, sa.String)
