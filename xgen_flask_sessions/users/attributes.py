"""The attributes of the host's user model: what each is, and how to read it in Python and in SQL.

An attribute may be a column, a property or a constant, and it may be something that Python takes
for true whatever it says: a method, the text "N", a list of roles. Such an attribute stops the
start, and such a value counts neither as true nor as false.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.associationproxy import AssociationProxy
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    MappedColumn,
    MapperProperty,
    QueryableAttribute,
    RelationshipProperty,
    SynonymProperty,
    declared_attr,
)

from ..errors import ConfigurationError
from ..text import traceback_of

_log = logging.getLogger(__name__)

MISSING: Final = object()
"""Stands for an attribute that a class does not have."""

_METHODS: Final = (staticmethod, classmethod, functools.partialmethod, hybrid_method)
_CACHED: Final = ("cached_property", "memoized_property")
"""The names of the descriptors of functools, Werkzeug and SQLAlchemy that keep the first value."""
_NO_ANSWER: Final = (exc.DBAPIError, exc.TimeoutError)
"""Errors that mean that the database did not answer; an attribute may be read from it."""


class Flag:
    """An attribute that says yes or no about a user, such as ``is_superuser``.

    :param model: The host's user model.
    :param name: The attribute; ``None`` if the model has none.
    :param fix: The advice if the attribute is unsuitable.
    :param default: The value for a user without the attribute.
    :raises ConfigurationError: The attribute cannot say yes or no; the message names it.
    """

    def __init__(
        self, model: type[Any], name: str | None, *, fix: str, default: bool = False
    ) -> None:
        self.model, self.name, self._fix, self._default = model, name, fix, default
        self._readers: dict[type[Any], Callable[[Any], Any]] = {}
        self._reported: set[tuple[type[Any], str]] = set()
        self._column: sa.types.TypeEngine[Any] | None = None
        self.exists = name is not None and find(model, name) is not MISSING
        if name is None or not self.exists:
            return
        fault = fault_of_flag(model, name)
        if fault is not None:
            raise ConfigurationError(f"{model.__name__}.{name} {fault}; {fix}.")
        kind = column_type(model, name)
        if isinstance(kind, sa.Boolean | sa.Integer | sa.Numeric):
            self._column = kind

    def read(self, user: Any) -> bool | None:
        """Return the value for a user object.

        True are ``True`` and 1; false are ``False``, 0 and ``None``.

        :returns: ``None`` if the value is none of these, or cannot be read; that is logged.
        :raises sqlalchemy.exc.DBAPIError: The database did not answer.
        """
        if self.name is None:
            return self._default
        try:
            value = self._reader(type(user))(user)
        except _NO_ANSWER:
            raise
        except Exception as error:
            self._report(user, "cannot be read", f"\n{traceback_of(error)}")
            return None
        flag = to_flag(value)
        if flag is None:
            self._report(user, f"is {describe_value(value)}, which is neither true nor false")
        return flag

    def condition(self, dialect: sa.Dialect) -> sa.ColumnElement[bool] | None:
        """Return the SQL condition for the users of whom :meth:`read` returns true.

        :returns: ``None`` if Python alone can tell.
        """
        kind = None if self._column is None else self._column.dialect_impl(dialect)  # a variant
        if not isinstance(kind, sa.Boolean | sa.Integer | sa.Numeric):
            return None
        attribute = getattr(self.model, str(self.name))
        condition: sa.ColumnElement[bool]
        if not isinstance(kind, sa.Boolean):
            condition = attribute == 1
        elif dialect.name != "sqlite":
            condition = attribute.is_(True)
        else:  # a column holds any value there, and SQLAlchemy reads it as Python's bool() does
            number, text = sa.type_coerce(attribute, sa.Integer), sa.type_coerce(attribute, sa.Text)
            condition = sa.or_(number > 0, number < 0) & (text != "")
        return condition

    def _reader(self, kind: type[Any]) -> Callable[[Any], Any]:
        reader = self._readers.get(kind)
        if reader is None:
            reader = self._readers[kind] = self._make_reader(kind)
        return reader

    def _make_reader(self, kind: type[Any]) -> Callable[[Any], Any]:
        name, default = str(self.name), self._default
        found = find(kind, name)
        if type(found).__name__ in _CACHED:  # its first value would outlive a change of the row
            read: Callable[[Any], Any] = getattr(found, "func", None) or found.fget
            return read
        if is_missing(kind, name) and not default:
            return lambda _: default  # no class with SuperUsers has it, so SQL counts none
        return lambda user: getattr(user, name, default)

    def _report(self, user: Any, fault: str, more: str = "") -> None:
        """Log a fault of the attribute, once for each class of users."""
        if (type(user), fault) not in self._reported and len(self._reported) < _MOST_REPORTS:
            self._reported.add((type(user), fault))
            _log.error("%s.%s %s; %s.%s", type(user).__name__, self.name, fault, self._fix, more)


_MOST_REPORTS: Final = 20


class Label:
    """An attribute with text about a user, such as the name.

    :param model: The host's user model.
    :param name: The attribute; ``None`` if the model has none.
    :param fix: The advice if the attribute is unsuitable.
    :param searched: Whether users are found by it, which needs SQL.
    :raises ConfigurationError: The attribute is no text; the message names it.
    """

    def __init__(
        self, model: type[Any], name: str | None, *, fix: str, searched: bool = False
    ) -> None:
        self.name, self._searched = name, searched
        self._reported: set[type[Any]] = set()
        if name is None:
            return
        fault = _fault_of_label(model, name, searched=searched)
        if fault is not None:
            raise ConfigurationError(f"{model.__name__}.{name} {fault}; {fix}.")

    def read(self, user: Any) -> str | None:
        """Return the text for a user object; ``None`` if it is empty or cannot be read.

        Spaces at its ends are removed, unless users are found by it.

        :raises sqlalchemy.exc.DBAPIError: The database did not answer.
        """
        if self.name is None:
            return None
        try:
            text = _to_text(getattr(user, self.name, None))
            return (text if self._searched else text.strip()) or None
        except _NO_ANSWER:
            raise
        except Exception as error:
            if type(user) not in self._reported:
                self._reported.add(type(user))
                kind = type(user).__name__
                _log.error("%s.%s cannot be read.\n%s", kind, self.name, traceback_of(error))
            return None


def to_flag(value: Any) -> bool | None:
    """Return whether a value is true (``True``, 1) or false (``False``, 0, ``None``).

    :returns: ``None`` for any other value. Python's ``bool()`` is true for a method, a coroutine,
        the text "N" and a list of roles.
    """
    if value is True or value is False:
        return value
    if value is None:
        return False
    if isinstance(value, int | float | Decimal) and value in (0, 1):
        return bool(value)
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that it was never awaited
    return None


def find(kind: type[Any], name: str) -> Any:
    """Return an attribute of a class without calling it, or :data:`MISSING`."""
    return inspect.getattr_static(kind, name, MISSING)


def is_constant(kind: type[Any], name: str) -> bool:
    """Return whether an attribute is the same for all objects: a constant, or a property so."""
    found = find(kind, name)
    if isinstance(found, bool):
        return True
    read = getattr(found, "fget", None) or getattr(found, "func", None)
    code = getattr(read, "__code__", None)
    return code is not None and not (code.co_names or code.co_freevars)


def is_missing(kind: type[Any], name: str) -> bool:
    """Return whether the objects of a class lack an attribute; ``__getattr__`` may add any."""
    return find(kind, name) is MISSING and find(kind, "__getattr__") is MISSING


def is_stored(model: type[Any], name: str) -> bool:
    """Return whether an attribute's values are in the database, or a hybrid computes them."""
    mapped = mapped_property(model, name)
    return isinstance(mapped, ColumnProperty) or isinstance(find(model, name), hybrid_property)


def find_hidden_column(model: type[Any], name: str) -> type[Any] | None:
    """Return the class that declares a column which another base class keeps unmapped.

    SQLAlchemy does not map a mixin's column if an earlier base class has an attribute of its name,
    nor one that the mixin only annotates if any base class has.
    """
    if mapped_property(model, name) is not None:
        return None
    for kind in model.__mro__:
        declared = vars(kind).get(name)
        if isinstance(declared, sa.Column | MappedColumn | declared_attr):
            return kind
        if declared is None and "Mapped[" in str(inspect.get_annotations(kind).get(name)):
            return kind
    return None


def column_type(model: type[Any], name: str) -> sa.types.TypeEngine[Any] | None:
    """Return the type of a mapped column; ``None`` if the attribute is something else."""
    mapped = mapped_property(model, name)
    return _stored_type(mapped) if isinstance(mapped, ColumnProperty) else None


def is_column(model: type[Any], name: str) -> bool:
    """Return whether an attribute is a column by its own name: a flush can change it.

    It configures no mapper, as ``column_attrs`` does: the host's other models may be missing yet.
    """
    mapper = sa.inspect(model)
    mapped = mapper.get_property(name) if mapper.has_property(name) else None
    return isinstance(mapped, ColumnProperty) and isinstance(mapped.columns[0], sa.Column)


def raises_at_load(model: type[Any], name: str) -> bool:
    """Return whether an attribute is deferred with raiseload, so that only some queries load it."""
    strategy = getattr(mapped_property(model, name), "strategy_key", None)
    return bool(dict(strategy or ()).get("raiseload"))


def sql_expression(model: type[Any], name: str | None) -> Any | None:
    """Return an attribute's SQL expression, or ``None`` if Python alone can compute it."""
    try:
        attribute = None if name is None else getattr(model, name, None)
        if isinstance(mapped_property(model, str(name)), RelationshipProperty):
            return None
        is_usable = isinstance(attribute, QueryableAttribute) and attribute.type is not None
    except Exception:  # such as a hybrid property that calls bool()
        return None
    return attribute if is_usable else None


def fault_of_method(model: type[Any], name: str) -> str | None:
    """Return the fault if a class lacks a method, or ``None``."""
    found = find(model, name)
    if found is MISSING:
        return "does not exist" if is_missing(model, name) else None
    if _is_asynchronous(found):
        return "is a coroutine function"
    return None if _is_method(found) else "is no method"


def mapped_property(model: type[Any], name: str) -> MapperProperty[Any] | None:
    """Return the mapped property of a name, behind synonyms that only rename it."""
    mapper = sa.inspect(model)
    while mapper.has_property(name):
        found: MapperProperty[Any] = mapper.get_property(name)
        if not isinstance(found, SynonymProperty) or not _only_renames(found):
            return found
        name = found.name
    return None


def _only_renames(synonym: SynonymProperty[Any]) -> bool:
    read = getattr(synonym.descriptor, "fget", None)
    return synonym.descriptor is None or getattr(read, "__module__", "").startswith("sqlalchemy.")


def fault_of_flag(model: type[Any], name: str) -> str | None:
    """Return the fault of an attribute that cannot say yes or no, or ``None``."""
    found, mapped = find(model, name), mapped_property(model, name)
    if isinstance(mapped, ColumnProperty):
        return _fault_of_column(mapped)
    if isinstance(mapped, RelationshipProperty | CompositeProperty):
        return "is a relationship, not a yes or no"
    if isinstance(found, AssociationProxy):
        return "is an association proxy, not a yes or no"
    if _is_method(found):
        return "is a method, and Python takes a method for true; make it a property"
    if _is_asynchronous(getattr(found, "fget", None) or getattr(found, "func", None)):
        return "is a coroutine function, and Python takes a coroutine for true"
    if hasattr(type(found), "__get__") or found is None or isinstance(found, bool):
        return None
    if isinstance(found, int) and found in (0, 1):
        return None
    return f"is {describe_value(found)}, not a yes or no"


def _fault_of_column(mapped: ColumnProperty[Any]) -> str | None:
    if dict(mapped.strategy_key or ()).get("query_expression"):
        return "is a query expression, which is empty unless a query sets it"
    kind = _stored_type(mapped)
    if isinstance(kind, sa.Boolean | sa.Integer | sa.Numeric | sa.types.TypeDecorator):
        return None
    if isinstance(kind, sa.types.NullType):
        return None
    return (
        f"is a column of the type {kind!r}, and Python takes any text or date for true; "
        "make it a Boolean column, or add a property that returns True or False"
    )


def _stored_type(mapped: ColumnProperty[Any]) -> sa.types.TypeEngine[Any]:
    return base_type(mapped.columns[0].type)


def base_type(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Return the type of a column's values: of a domain of PostgreSQL, the type below it."""
    domain: Any = kind
    inner: sa.types.TypeEngine[Any] = domain.data_type if kind.__visit_name__ == "DOMAIN" else kind
    return inner


def _fault_of_label(model: type[Any], name: str, *, searched: bool) -> str | None:
    """Return the fault of an attribute that is no text, or ``None``."""
    found, mapped = find(model, name), mapped_property(model, name)
    if _is_method(found):
        return "is a method, not a text; make it a property"
    if _is_asynchronous(getattr(found, "fget", None) or getattr(found, "func", None)):
        return "is a coroutine function, not a text"
    if not searched or found is MISSING:
        return None
    if isinstance(mapped, ColumnProperty):
        kind = _stored_type(mapped)
        texts = (sa.String, sa.Integer, sa.Uuid, sa.types.TypeDecorator, sa.types.NullType)
        if isinstance(kind, texts) and not isinstance(kind, sa.Enum):
            return None
        return f"is a column of the type {kind!r}, not a name"
    if isinstance(mapped, RelationshipProperty | CompositeProperty):
        return "is a relationship, not a name"
    if sql_expression(model, name) is None and not isinstance(found, AssociationProxy):
        return "is computed in Python, and a user is found by it in the database"
    return None


def _is_method(found: Any) -> bool:
    return isinstance(found, _METHODS) or (callable(found) and not isinstance(found, property))


def _is_asynchronous(found: Any) -> bool:
    found = getattr(found, "__func__", found)
    return inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found)


def describe_value(value: object) -> str:
    """Describe a value without repeating it, unless it is a number."""
    if isinstance(value, int | float | Decimal):
        return str(value)
    return f"of the type {type(value).__name__}"


def _to_text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, Enum):
        value = value.value if isinstance(value.value, str) else value.name
    elif not isinstance(value, int | float) and type(value).__str__ is object.__str__:
        return ""  # or it would read "<Department 3>"
    return str(value)
