"""A user's id, from text to a value of the host's id column."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from ..store import dialects
from ..tokens.claims import is_user_id


def to_key(user_id: str, column_type: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Any | None:
    """Return *user_id* as the id column's type, or ``None`` if it cannot be one."""
    if not is_user_id(user_id):
        return None
    kind = column_type.dialect_impl(dialect)
    for python_type in _python_types(kind):
        try:
            key = python_type(user_id)
            if str(_read_back(key, kind, dialect)) != user_id:
                continue  # "007" is not the id 7
        except (ValueError, TypeError, ArithmeticError, AttributeError):
            continue
        if not isinstance(key, int) or _fits(key, kind, dialect):
            return key
    return None


def _python_types(kind: Any) -> tuple[type[Any], ...]:
    """Return the Python types of a column's values, the likeliest first."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return (kind.python_type,)
    inner = kind.impl_instance.python_type
    return (int,) if inner is int else (str, uuid.UUID)


def _read_back(key: Any, kind: Any, dialect: sa.Dialect) -> Any:
    """Return *key* after a round trip through a column of the host's own type."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return key
    stored = kind.process_bind_param(key, dialect)
    return kind.process_result_value(stored, dialect)


def _fits(key: int, kind: Any, dialect: sa.Dialect) -> bool:
    """Return whether *key* is in the range of the column; some databases fail otherwise."""
    limit: int = 2 ** (dialects.of(dialect).integer_bits(kind) - 1)
    return -limit <= key < limit
