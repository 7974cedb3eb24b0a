"""A user's account: the primary key of the host's user row, as text and back.

The text of a composite key has its parts separated by commas; within a part, ``%`` and ``,`` are
percent-encoded (RFC 3986, section 2.1).
"""

from __future__ import annotations

import datetime
import enum
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.orm.attributes import instance_state

from ..store import dialects
from ..tokens.claims import check_user_id, is_user_id
from .attributes import base_type

Key = tuple[Any, ...]
"""The values of a primary key's columns."""

_PADDED: Final = re.compile(r"(?:N|NATIONAL )?CHAR\b")


class AccountKeys:
    """The primary keys of a user model, and their texts.

    :param model: The host's user model.
    :param find_dialect: Returns the dialect of its database.
    """

    def __init__(self, model: type[Any], find_dialect: Callable[[], sa.Dialect]) -> None:
        self._find_dialect = find_dialect
        mapper: Mapper[Any] = sa.inspect(model)
        self.names: Final = [
            mapper.get_property_by_column(column).key for column in mapper.primary_key
        ]
        self.is_composite: Final = len(self.names) > 1
        """Whether the primary key has several columns."""
        self.attributes: Final[list[QueryableAttribute[Any]]] = [
            getattr(model, name) for name in self.names
        ]

    @cached_property
    def are_integers(self) -> bool:
        """Whether each primary key is one integer."""
        return not self.is_composite and isinstance(base_type(self.attributes[0].type), sa.Integer)

    @cached_property
    def dialect(self) -> sa.Dialect:
        """The dialect of the users' database."""
        return self._find_dialect()

    @cached_property
    def _are_padded(self) -> list[bool]:
        """Whether spaces at the end of each column's values are padding."""
        return [is_padded(each.type, self.dialect) for each in self.attributes]

    @cached_property
    def _is_usual(self) -> bool:
        return not self.is_composite and not any(self._are_padded)

    def find_text_of(self, user: Any) -> str | None:
        """Return the account of a user object with a usual key, fast; ``None`` for any other."""
        identity = instance_state(user).identity
        if identity is None or not self._is_usual:
            return None
        return str(identity[0]) if type(identity[0]) in (int, str) else None

    def text_of(self, user: Any) -> str:
        """Return the account of a user object.

        :raises ValueError: It is not saved yet, or its key is invalid in tokens and tables.
        """
        identity = instance_state(user).identity
        if identity is None:  # not from the database
            identity = tuple(getattr(user, name) for name in self.names)
        if None in identity:
            raise ValueError("The user has no primary key yet; add it to the session first.")
        if bytes in map(type, identity):
            self._require_binary(identity)
        return check_user_id(self.to_text(identity))

    def _require_binary(self, key: Sequence[Any]) -> None:
        # SQLite stores bytes in any column; their text, in digits, may be that of another key.
        for part, attribute in zip(key, self.attributes, strict=True):
            kind = base_type(attribute.type)
            if type(part) is bytes and isinstance(kind, sa.String | sa.Integer):
                raise ValueError("The user's primary key holds bytes in a column of another type.")

    def to_text(self, key: Sequence[Any]) -> str:
        """Return a key as text, without the spaces that the database pads a ``CHAR`` with."""
        texts = [
            _to_text(part).rstrip(" ") if is_padded else _to_text(part)
            for part, is_padded in zip(key, self._are_padded, strict=True)
        ]
        return ",".join(map(_escape, texts)) if self.is_composite else texts[0]

    def clean(self, user_id: str) -> str:
        """Return an account without the spaces that the database pads a ``CHAR`` with."""
        return user_id if self.is_composite or self._is_usual else user_id.rstrip(" ")

    def from_text(self, user_id: str) -> Key | None:
        """Return the key of an account, or ``None`` if it cannot be one."""
        if not is_user_id(user_id):
            return None
        texts = [unquote(part) for part in user_id.split(",")] if self.is_composite else [user_id]
        if len(texts) != len(self.attributes):
            return None
        parts = [
            to_value(text, attribute.type, self.dialect)
            for text, attribute in zip(texts, self.attributes, strict=True)
        ]
        # Another spelling of a key is not that account.
        return None if None in parts or self.to_text(parts) != user_id else tuple(parts)

    def matching(self, keys: Iterable[Key]) -> sa.ColumnElement[bool]:
        """Return the condition for the rows of these keys."""
        if not self.is_composite:
            return self.attributes[0].in_([key[0] for key in keys])
        return sa.or_(sa.false(), *(self.equal(key) for key in keys))

    def equal(self, key: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Return the condition for the row of a key.

        :param key: Its values, or SQL expressions for them.
        """
        pairs = zip(self.attributes, key, strict=True)
        return sa.and_(*(attribute == part for attribute, part in pairs))


def is_padded(column_type: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> bool:
    """Return whether spaces at the end of a column's values are padding, as of ``CHAR``."""
    kind = base_type(column_type)
    if not dialects.of(dialect).pads_char or not isinstance(kind, sa.String):
        return False
    try:  # the class does not tell: of a type with variants, another one may be the database's
        return _PADDED.match(kind.compile(dialect=dialect)) is not None
    except sa.exc.CompileError:  # no length, which MariaDB needs for a new column
        return False


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace(",", "%2C")


def _to_text(part: Any) -> str:
    if type(part) in (int, str):
        return str(part)
    if isinstance(part, bytes | bytearray | memoryview):
        return bytes(part).hex()
    if isinstance(part, enum.Enum):
        return part.name
    if isinstance(part, datetime.date | datetime.time):
        return part.isoformat()
    return str(part)


def to_value(text: str, column_type: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Any | None:
    """Return the value of a column whose text is *text*, or ``None`` if the type has none."""
    kind = base_type(column_type).dialect_impl(dialect)
    for parse in _parsers(kind):
        try:
            part = parse(text)
            if _to_text(_read_back(part, kind, dialect)) != text:
                continue  # "007" is not the id 7
        except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError):
            continue
        if not isinstance(part, int) or _fits(part, kind, dialect):
            return part
    return None


def _parsers(kind: Any) -> tuple[Callable[[str], Any], ...]:
    """Return the functions that may parse a column's values, the likeliest first."""
    if isinstance(kind, sa.types.TypeDecorator):
        is_number = kind.impl_instance.python_type is int
        return (int, str, uuid.UUID) if is_number else (str, uuid.UUID)
    if isinstance(kind, sa.Uuid) and not kind.as_uuid:
        return (lambda text: str(uuid.UUID(text)),)
    python_type: Any = kind.python_type
    if python_type is bool:
        return ({"True": True, "False": False}.__getitem__,)
    if python_type is bytes:
        return (bytes.fromhex,)
    if issubclass(python_type, enum.Enum):
        return (python_type.__getitem__,)
    if issubclass(python_type, datetime.date | datetime.time):
        return (python_type.fromisoformat,)
    return (python_type,)


def _read_back(part: Any, kind: Any, dialect: sa.Dialect) -> Any:
    """Return *part* after a round trip through a column of the host's own type."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return part
    stored = kind.process_bind_param(part, dialect)
    return kind.process_result_value(stored, dialect)


def _fits(part: int, kind: Any, dialect: sa.Dialect) -> bool:
    """Return whether *part* is in the range of the column; some databases fail otherwise."""
    limit: int = 2 ** (dialects.of(dialect).integer_bits(kind) - 1)
    return -limit <= part < limit
