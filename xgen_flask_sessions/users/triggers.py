"""The changes of a user that end the user's sessions (``revoke_on=``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from ..errors import ConfigurationError
from .attributes import is_column, mapped_property


class Triggers:
    """The attributes of a user model whose change ends sessions.

    :param model: The host's user model.
    :param attributes: Names of mapped attributes.
    :param active: The name of the attribute for active users: only its change to false counts.
    :raises ConfigurationError: A name is not that of a mapped attribute.
    """

    def __init__(self, model: type[Any], attributes: Collection[str], active: str | None) -> None:
        mapper: Mapper[Any] = sa.inspect(model)
        if isinstance(attributes, str) or not isinstance(attributes, Iterable):
            raise ConfigurationError("revoke_on= takes a list of names of attributes.")
        attributes = list(attributes)  # a generator can be read only once
        for name in attributes:
            if not isinstance(name, str) or not is_column(model, name):
                raise ConfigurationError(
                    f"{model.__name__} has no mapped attribute {name!r}; revoke_on= takes the "
                    "names of columns, such as 'password_hash'."
                )
        self.mapper = mapper
        renamed = None if active is None else mapped_property(model, active)
        self.active = active if renamed is None else renamed.key
        self.attributes = frozenset(attributes)

    @cached_property
    def by_column(self) -> dict[str, str]:
        """The names of attributes by those of their columns.

        Built when all of the host's models are configured, which init_app may precede.
        """
        return {
            column.name: attribute.key
            for attribute in self.mapper.column_attrs
            for column in attribute.columns
            if isinstance(column, sa.Column)
        }
