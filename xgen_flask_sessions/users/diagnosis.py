"""The queries of ``doctor`` about the host's users: what their columns really hold."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import ColumnProperty, Session

from .attributes import Flag, mapped_property


def any_user(session: Session, model: type[Any]) -> Any | None:
    """Return some user object, or ``None`` without any."""
    return session.scalars(sa.select(model).limit(1)).first()


def unlike_type(session: Session, flag: Flag) -> str | None:
    """Return the database's type of a flag's column if it is neither a Boolean nor a number."""
    column = _column(flag)
    if column is None:
        return None
    connection = session.connection(bind_arguments={"mapper": sa.inspect(flag.model)})
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    table: Any = column.table
    schema = translated.get(table.schema, table.schema)
    for found in sa.inspect(connection).get_columns(table.name, schema):
        kind = found["type"]
        if found["name"] == column.name and not isinstance(
            kind, sa.Boolean | sa.Integer | sa.Numeric | sa.types.NullType
        ):
            return str(kind)
    return None


def has_odd_values(session: Session, flag: Flag) -> bool:
    """Return whether some user has another value than 0, 1 and NULL in a flag's column."""
    column = _column(flag)
    dialect = session.get_bind(mapper=sa.inspect(flag.model)).dialect
    if column is None or (isinstance(column.type, sa.Boolean) and dialect.supports_native_boolean):
        return False
    number = sa.type_coerce(getattr(flag.model, str(flag.name)), sa.Integer)
    odd = sa.select(sa.literal(1)).select_from(flag.model)
    odd = odd.where(number.is_not(None), number.not_in((0, 1))).limit(1)
    return session.scalar(odd) is not None


def _column(flag: Flag) -> sa.Column[Any] | None:
    """Return the column that SQL reads, or ``None`` if the model computes the flag."""
    mapped = None if flag.name is None else mapped_property(flag.model, flag.name)
    if not isinstance(mapped, ColumnProperty) or not isinstance(mapped.columns[0], sa.Column):
        return None
    column = mapped.columns[0]
    return column if isinstance(column.type, sa.Boolean | sa.Integer | sa.Numeric) else None
