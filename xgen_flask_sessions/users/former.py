"""A user object as it was before the changes that are being flushed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property
from types import CodeType, FunctionType, MethodType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapper


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
    """Return the attributes that login ids may read, or ``None`` if that cannot be told.

    They are those that the user's own login id reads, and each name in the code of the method: for
    other users it may take another branch, and a subclass of the model may override it.

    :param id_method: The method that returns it, such as ``get_id``.
    """
    former = Former(user)
    try:
        getattr(type(user), id_method)(former)
    except Exception:  # the host's code
        return None
    names = set(former._read)
    for mapper in sa.inspect(type(user)).base_mapper.self_and_descendants:
        names |= _names_in_code(mapper, id_method, set())
    return names


def _names_in_code(mapper: Mapper[Any], name: str, found: set[str]) -> set[str]:
    """Add a name to *found*, and the names in the code of that method or property; return them."""
    if name in found:
        return found
    found.add(name)
    if name in mapper.synonyms:
        return _names_in_code(mapper, mapper.synonyms[name].name, found)
    static = inspect.getattr_static(mapper.class_, name, None)
    function = getattr(static, "fget", None) or getattr(static, "func", static)
    if isinstance(function, FunctionType):
        for each in _names_of(inspect.unwrap(function).__code__):
            _names_in_code(mapper, each, found)
    return found


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names_of(inner)


def former_value(user: Any, name: str) -> Any:
    """Return an attribute's value before the flush.

    :raises FormerValueUnknown: That cannot be told.
    """
    try:
        return getattr(Former(user), name)
    except Exception as error:  # the host's code
        raise FormerValueUnknown(name) from error
