"""A user object as it was before the changes that are being flushed."""

from __future__ import annotations

import inspect
from functools import cached_property
from types import FunctionType, MethodType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property


class FormerValueUnknown(Exception):
    """An attribute was set without having been loaded before."""


class Former:
    """Stands for a user object in calls of its methods and properties.

    They see the former values of the mapped columns.

    :param user: A user object that is being flushed.
    """

    def __init__(self, user: Any) -> None:
        self._user = user
        self._read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        user = self._user
        static = inspect.getattr_static(type(user), name, None)
        if isinstance(static, property | hybrid_property) and static.fget is not None:
            return static.fget(self)
        if isinstance(static, cached_property):
            return static.func(self)
        if isinstance(static, FunctionType):
            return MethodType(static, self)
        mapper = sa.inspect(type(user))
        if name in mapper.synonyms:
            return getattr(self, mapper.synonyms[name].name)
        self._read.add(name)
        if name not in mapper.column_attrs:
            return getattr(user, name)
        history = sa.inspect(user).attrs[name].history
        if history.deleted:
            return history.deleted[0]
        if history.added:
            raise FormerValueUnknown(name)
        return getattr(user, name)


def former_login_id(user: Any, id_method: str) -> str | None:
    """Return the login id before the flush, or ``None`` if that cannot be told.

    :param id_method: The method that returns it, such as ``get_id``.
    """
    try:
        return str(getattr(type(user), id_method)(Former(user)))
    except Exception:  # the host's code: for example, super() refuses the stand-in
        return None


def attributes_of_login_id(user: Any, id_method: str) -> set[str] | None:
    """Return the attributes that the login id reads, or ``None`` if that cannot be told.

    :param id_method: The method that returns it, such as ``get_id``.
    """
    former = Former(user)
    try:
        getattr(type(user), id_method)(former)
    except Exception:  # the host's code
        return None
    return former._read


def former_value(user: Any, name: str) -> Any:
    """Return an attribute's value before the flush.

    :raises FormerValueUnknown: That cannot be told.
    """
    try:
        return getattr(Former(user), name)
    except Exception as error:  # the host's code
        raise FormerValueUnknown(name) from error
