"""The rules for users: the values that a form may hold, and the errors that state the rules."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from xgen_flask_sessions import gettext_noop
from xgen_flask_sessions.standalone.models import MAX_NAME, MAX_ROLE, MAX_USERNAME

MAX_ROLES: Final = 20
_MAX_PARTS: Final = 100
"""Names of roles that are read, repeated and empty ones included."""
_EXPANSION: Final = 4
"""Characters at most that one composed character is typed as (Unicode Standard Annex 15)."""

NAME_RULE: Final = gettext_noop("A name has at most 150 printable characters.")
DEPARTMENT_RULE: Final = gettext_noop("A department has at most 150 printable characters.")
ROLES_RULE: Final = gettext_noop("At most 20 roles, each of at most 50 printable characters.")
USERNAME_RULE: Final = gettext_noop(
    "A username has 1 to 150 printable characters, and no spaces at either end."
)
USERNAME_TAKEN: Final = gettext_noop("This username is taken.")
PASSWORD_RULE: Final = gettext_noop("A password has 8 to 256 characters.")
LAST_SUPERUSER: Final = gettext_noop(
    "This is the last active SuperUser. Make another user a SuperUser first."
)
AT_ONCE: Final = gettext_noop("Another administrator made a change at the same time. Try again.")
NOT_IN_TIME: Final = gettext_noop(
    "The database did not answer in time. Nothing was changed. Try again."
)
REFUSED: Final = gettext_noop(
    "The database refused the change. Nothing was changed. The log says why."
)
UNKNOWN: Final = gettext_noop(
    "The database went away while the change was made. Check whether it was made."
)
CHANGED_MEANWHILE: Final = gettext_noop(
    "Another administrator changed this user meanwhile. Nothing was saved. Your input is still "
    "here, with the new values beside it. Save again to apply it."
)


NOT_ONE_PART: Final = gettext_noop(
    "You changed more than one part of the page. Nothing was saved. Save each part with its own "
    "button."
)


class AccountError(ValueError):
    """The request is against the rules; the change was not made.

    :param field: The name of the form field; empty if it concerns none.
    :param message: A sentence for people, in English: a msgid.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(message)


class ChangeFailed(AccountError):
    """The database could not make the change, in time or at all.

    :param undone: Whether nothing was changed for certain.
    :param refused: Whether it refused the change.
    """

    def __init__(self, *, undone: bool = True, refused: bool = False) -> None:
        super().__init__("", REFUSED if refused else NOT_IN_TIME if undone else UNKNOWN)


class StaleError(AccountError):
    """The user has changed since the form was shown."""

    def __init__(self) -> None:
        super().__init__("", CHANGED_MEANWHILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user's name, department and roles, as typed in a form."""

    name: str | None
    department: str | None
    roles: tuple[str, ...]

    @classmethod
    def parse(
        cls, name: str, department: str, roles: str, *, chosen: Iterable[str] = ()
    ) -> Profile:
        """Parse a profile from the texts of a form.

        :param roles: Names, separated by commas.
        :param chosen: Names of further roles, such as those of check boxes.
        :raises AccountError: One of them is too long, or not printable.
        """
        parts = [*chosen, *roles.split(",", _MAX_PARTS)]
        names = dict.fromkeys(part for part in (_tidy(part, MAX_ROLE) for part in parts) if part)
        if (
            len(parts) > _MAX_PARTS
            or len(names) > MAX_ROLES
            or any(not _is_text(role, MAX_ROLE) for role in names)
        ):
            raise AccountError("roles", ROLES_RULE)
        return cls(
            name=_optional("name", NAME_RULE, name),
            department=_optional("department", DEPARTMENT_RULE, department),
            roles=tuple(names),
        )


def is_username(text: str) -> bool:
    """Return whether *text*, in its composed form, may be a username."""
    return _is_text(text, MAX_USERNAME) and text == text.strip()


def _is_text(text: str, length: int) -> bool:
    # Neither control characters nor lone surrogates are printable.
    return 0 < len(text) <= length and text.isprintable()


def _optional(field: str, rule: str, text: str) -> str | None:
    tidy = _tidy(text, MAX_NAME)
    if tidy and not _is_text(tidy, MAX_NAME):
        raise AccountError(field, rule)
    return tidy or None


def _tidy(text: str, length: int) -> str:
    return composed_form(text.strip(), length).strip()


def composed_form(text: str, length: int) -> str:
    """Return *text* in its composed form (NFC).

    A text that is too long for *length* characters is returned as it is: to compose takes the
    square of its length.
    """
    return unicodedata.normalize("NFC", text) if len(text) <= _EXPANSION * length else text


def spellings_of(text: str, composed: str) -> list[str]:
    """Return a name as it is, composed and decomposed, each once: it may be imported in any form.

    :param composed: The result of :func:`composed_form`.
    """
    decomposed = unicodedata.normalize("NFD", composed) if len(composed) <= MAX_NAME else composed
    return list(dict.fromkeys((text, composed, decomposed)))
