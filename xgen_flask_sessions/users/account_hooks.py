"""The host's own functions for accounts: deactivation, roles, and links to its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import iscoroutinefunction, signature
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import ColumnProperty

from ..errors import ConfigurationError
from ..text import clean_text
from .attributes import describe_value, mapped_property

Deactivate = Callable[[Any], object]
"""Takes a user object of the host, and makes the account inactive."""
Roles = Callable[[Any], Iterable[str] | None]
"""Takes a user object of the host, and returns names of roles."""
UserUrl = Callable[[str], str | None]
"""Takes a user's id, and returns the address of the host's page for the user."""

_LONGEST_NAME: Final = 150


@dataclass(frozen=True, slots=True)
class AccountHooks:
    """The host's functions for accounts; see :meth:`of`."""

    deactivate: Deactivate | None
    """``None`` if an account cannot be made inactive."""
    revoke_roles: Roles | None
    roles_of: Roles | None
    user_url: UserUrl | None

    @classmethod
    def of(
        cls,
        model: type[Any],
        active: str | None,
        *,
        deactivate: Deactivate | None = None,
        revoke_roles: Roles | None = None,
        roles_of: Roles | None = None,
        user_url: UserUrl | None = None,
    ) -> AccountHooks:
        """Return the functions that a host passed, and the default for *deactivate*.

        :param model: The host's user model.
        :param active: The attribute for active users. By default it is set to false, if it is a
            column.
        :raises ConfigurationError: One of them is no function of one argument.
        """
        passed = {
            "deactivate": deactivate,
            "revoke_roles": revoke_roles,
            "roles_of": roles_of,
            "user_url": user_url,
        }
        for name, function in passed.items():
            if function is not None:
                require_function(name, function, "an id" if name == "user_url" else "a user object")
        return cls(deactivate or _setting(model, active), revoke_roles, roles_of, user_url)


def require_function(name: str, function: Any, argument: str) -> None:
    """Check that a parameter of ``init_app`` is a function of one argument.

    :param name: The name of the parameter.
    :param argument: The argument, in words.
    :raises ConfigurationError: It is not.
    """
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(f"{name}= must be a function that takes {argument}.")
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        raise ConfigurationError(f"{name}= must not be a coroutine function.")
    try:
        signature(function).bind(object())
    except TypeError:
        raise ConfigurationError(f"{name}= must take one argument, {argument}.") from None
    except ValueError:
        pass  # a builtin without a signature


def names_of(roles: object) -> list[str]:
    """Return the names of roles that a host's function returned, cleaned.

    :raises TypeError: They are no list of texts.
    """
    if roles is None:
        return []
    if isinstance(roles, str | bytes) or not isinstance(roles, Iterable):
        raise TypeError(f"The names of roles are a list, not {describe_value(roles)}.")
    names = list(roles)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"The name of a role is a text, not {describe_value(wrong[0])}.")
    return [clean_text(name, _LONGEST_NAME) or "" for name in names]


def _setting(model: type[Any], active: str | None) -> Deactivate | None:
    """Return a function that sets the attribute for active users to false, if it is a column."""
    mapped = None if active is None else mapped_property(model, active)
    if not isinstance(mapped, ColumnProperty) or not isinstance(mapped.columns[0], sa.Column):
        return None
    name, kind = mapped.key, mapped.columns[0].type
    # A driver may refuse Python's False for a number.
    value = 0 if isinstance(kind, sa.Integer | sa.Numeric) else False

    def deactivate(user: Any) -> None:
        setattr(user, name, value)

    return deactivate
