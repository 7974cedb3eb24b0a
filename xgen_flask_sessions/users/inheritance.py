"""The tables of a user model: one, or several by inheritance or by a join."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import Mapper

from ..errors import ConfigurationError


def require_one_identity(model: type[Any]) -> None:
    """Check that no two users of a model can have the same primary key, in different tables.

    :param model: The host's user model. Its subclasses count as far as they are defined.
    :raises ConfigurationError: Concrete table inheritance allows it.
    """
    mapper: Mapper[Any] = sa.inspect(model)
    is_union = issubclass(model, ConcreteBase) and not issubclass(model, AbstractConcreteBase)
    if is_union or any(each.concrete for each in mapper.self_and_descendants if each is not mapper):
        raise ConfigurationError(
            f"{model.__name__} and its subclasses have tables of their own (concrete table "
            "inheritance), so two users may have the same id; use joined or single table "
            "inheritance, or pass a user_model= without concrete subclasses."
        )


def lockable_tables(mapper: Mapper[Any]) -> list[sa.Table] | None:
    """Return the tables whose rows a query for the model's objects must lock.

    Tables of subclasses that are loaded along (``with_polymorphic``, ``polymorphic_load``) come by
    outer joins, which PostgreSQL does not lock.

    :returns: ``None`` for all tables.
    :raises ConfigurationError: The rows cannot be locked.
    """
    selectable = mapper.selectable
    if not isinstance(selectable, sa.Table | sa.Join):
        raise ConfigurationError(
            f"The rows of {mapper.class_.__name__} come from a query, such as a union, and cannot "
            "be locked; pass a user_model= that is mapped to a table, without with_polymorphic."
        )
    return list(_inner_tables(mapper.persist_selectable)) if _joins_outer(selectable) else None


def _joins_outer(selectable: Any) -> bool:
    return isinstance(selectable, sa.Join) and (
        selectable.isouter or _joins_outer(selectable.left) or _joins_outer(selectable.right)
    )


def _inner_tables(selectable: Any) -> Iterator[sa.Table]:
    if isinstance(selectable, sa.Table):
        yield selectable
    elif isinstance(selectable, sa.Join):
        yield from _inner_tables(selectable.left)
        if not selectable.isouter:
            yield from _inner_tables(selectable.right)
