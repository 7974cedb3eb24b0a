"""The names of the host's user attributes, and the check that they are what they are named for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa

from ..errors import ConfigurationError
from .attributes import (
    MISSING,
    Flag,
    Label,
    column_type,
    fault_of_flag,
    fault_of_method,
    find,
    find_hidden_column,
    is_constant,
    is_missing,
    is_stored,
    mapped_property,
    raises_at_load,
)

_ACTIVE_COLUMNS: Final = ("active", "enabled", "is_enabled")
"""Columns that say whether a user is active."""
_NO_FLAGS: Final = (sa.Date, sa.DateTime, sa.Time, sa.Interval, sa.LargeBinary, sa.JSON)
"""Types of columns that do not say whether a user is active, whatever their names."""
_BLOCKING_COLUMNS: Final = (
    "disabled", "is_disabled", "inactive", "is_inactive", "blocked", "is_blocked", "banned",
    "is_banned", "suspended", "is_suspended", "locked", "is_locked", "deactivated",
    "deactivated_at", "disabled_at", "blocked_at", "banned_at", "suspended_at", "deleted",
    "is_deleted", "deleted_at", "status", "account_status", "activated", "is_activated", "isActive",
)  # fmt: skip
"""Columns that may say that a user is inactive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFields:
    """The names of the host's user attributes.

    An attribute that the model lacks counts as not set, unless it is named here. ``None`` says that
    the model has none: it is not read, whatever is called so.

    :param id: The result of ``get_id()``, if it is another attribute than the primary key.
    :param username: The name for signing in.
    :param name: The display name.
    :param department: The department.
    :param superuser: Whether the user is a SuperUser: a column of the type Boolean or a number, 0
        or 1, or a property that returns True or False.
    :param active: Whether the user may sign in; likewise.
    :param account: An attribute that never changes and that no two accounts share, such as a UUID
        or the time of creation. It distinguishes a deleted user from a later one with the same
        primary key; the username if left out.
    """

    id: str | None = None
    username: str = "username"
    name: str | None = "name"
    department: str | None = "department"
    superuser: str | None = "is_superuser"
    active: str | None = "is_active"
    account: str | None = None


class UserAttributes:
    """The attributes of the host's user model, as ``UserFields`` names them.

    :param model: The host's user model.
    :param user_fields: The names.
    :raises ConfigurationError: An attribute is missing, or is not what it is named for.
    """

    def __init__(self, model: type[Any], user_fields: UserFields) -> None:
        _require_attributes(model, user_fields)
        _require_own_active(model, user_fields)
        fix = "otherwise name another attribute with user_fields=UserFields({}=…), or None".format
        column = "name a column with user_fields=UserFields({}=…)".format
        self.superuser = Flag(model, user_fields.superuser, fix=fix("superuser"))
        self.active = Flag(model, user_fields.active, fix=fix("active"), default=True)
        self.authenticated = Flag(
            model, "is_authenticated", fix="Flask-Login reads it without calling it"
        )
        self.username = Label(model, user_fields.username, fix=column("username"), searched=True)
        self.name = Label(model, user_fields.name, fix=fix("name"))
        self.department = Label(model, user_fields.department, fix=fix("department"))


def _require_attributes(model: type[Any], user_fields: UserFields) -> None:
    """Check that the attributes exist that the host named.

    :raises ConfigurationError: The model lacks one, or has no username.
    """
    if not isinstance(user_fields, UserFields):
        raise ConfigurationError("user_fields= takes a UserFields object.")
    for field in fields(UserFields):
        name = getattr(user_fields, field.name)
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(f"UserFields({field.name}=…) takes the name of an attribute.")
        required = field.name == "username" or (name is not None and name != field.default)
        if required and (name is None or find(model, name) is MISSING):
            raise ConfigurationError(
                f"{model.__name__} has no attribute {name!r}; "
                f"pass user_fields=UserFields({field.name}=…) with the one it has."
            )
        if name is not None and raises_at_load(model, name):
            raise ConfigurationError(
                f"{model.__name__}.{name} is deferred with raiseload, so it cannot be read of a "
                "user that your queries load; leave raiseload out, or pass "
                f"user_fields=UserFields({field.name}=…) with another attribute."
            )


def _require_own_active(model: type[Any], user_fields: UserFields) -> None:
    """Check that an ``is_active`` that is the same for every user hides no column.

    That of Flask-Login's ``UserMixin`` is always true.

    :raises ConfigurationError: It does.
    """
    if not is_never_inactive(model, user_fields):
        return
    hidden = find_hidden_column(model, "is_active")
    if hidden is not None:
        raise ConfigurationError(
            f"{hidden.__name__} declares the column 'is_active', but SQLAlchemy did not map it: "
            f"another base class of {model.__name__}, such as Flask-Login's UserMixin, has an "
            "is_active, which is the same for every user; declare the column on "
            f"{model.__name__} itself, with mapped_column()."
        )
    name = _find_own_active(model)
    if name is not None:
        instead = f"pass user_fields=UserFields(active={name!r})"
        if fault_of_flag(model, name) is not None:
            instead = f"define is_active as a property that reads {name!r}"
        raise ConfigurationError(
            f"{model.__name__} has {name!r}, but its is_active, such as that of Flask-Login's "
            f"UserMixin, is the same for every user; {instead}, or pass "
            "user_fields=UserFields(active=None) if no user is ever inactive."
        )


def _find_own_active(model: type[Any]) -> str | None:
    """Return a column or hybrid property that seems to say whether a user is active, or ``None``.

    A column may have that name in the database only.
    """
    columns = sa.inspect(model).columns.items()
    own_names = (*_ACTIVE_COLUMNS, "is_active")
    renamed: list[str] = [key for key, column in columns if column.name in own_names]
    for name in (*_ACTIVE_COLUMNS, *renamed):
        if is_stored(model, name) and not isinstance(column_type(model, name), _NO_FLAGS):
            return name
    return None


def is_never_inactive(model: type[Any], user_fields: UserFields) -> bool:
    """Return whether the conventional ``is_active`` is missing, or cannot depend on the user."""
    if user_fields.active != "is_active":
        return False
    return find(model, "is_active") is MISSING or is_constant(model, "is_active")


def find_blocking_columns(model: type[Any], user_fields: UserFields) -> list[str]:
    """Return the columns that seem to say that a user is inactive, and that are not read."""
    if not is_never_inactive(model, user_fields):
        return []
    return [name for name in _BLOCKING_COLUMNS if column_type(model, name) is not None]


def require_login_attributes(model: type[Any], id_method: str) -> None:
    """Check that the model has what Flask-Login reads of a user.

    :param id_method: The method for the id of a user; Flask-Login's ``id_attribute``.
    :raises ConfigurationError: It lacks something, or has something else under that name.
    """
    if mapped_property(model, "id") is None and find(model, "id") is MISSING:
        module = getattr(find(model, id_method), "__module__", "")
        if module.startswith("flask_login"):
            raise ConfigurationError(
                f"{model.__name__} has no attribute 'id', which Flask-Login's get_id() returns; "
                "define get_id() on the model."
            )
    fault = fault_of_method(model, id_method)
    if fault is None and is_missing(model, "is_authenticated"):
        raise ConfigurationError(
            f"{model.__name__} has no attribute 'is_authenticated', which Flask-Login reads; "
            "inherit from flask_login.UserMixin, or define it as a property."
        )
    if fault is not None:
        raise ConfigurationError(
            f"{model.__name__}.{id_method} {fault}; Flask-Login calls it for the id of a user: "
            "inherit from flask_login.UserMixin, or define it as a method."
        )
