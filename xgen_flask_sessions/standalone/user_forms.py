"""The parts of a user's page, as typed, as shown before and as stored now.

The page is one form with a button for each part, so that whatever is typed anywhere comes with each
of them, without JavaScript. A part that is not saved is shown again as typed. Where another
administrator made a change meanwhile, the page shows both values. Passwords are never shown again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.models import User
from xgen_flask_sessions.standalone.rules import Profile

ACCESS: Final = ("status", "superuser")
PROFILE: Final = ("name", "department", "roles")
PARTS: Final = {"access": ACCESS, "profile": PROFILE}
"""The fields of each part; the part "password" has none that are shown again."""


@dataclass(slots=True)
class UserForms:
    """The values that the page shows.

    :param values: The value of each field; that of ``roles`` is a set of names.
    :param now: The stored value of fields where it differs from the typed one, and from the one
        that was shown when it was typed.
    :param unsaved: The parts with typed values that are not stored.
    :param new_roles: The text of the field for further roles.
    :param end_sessions: Whether a new password shall end all sessions.
    :param lost_password: Whether a password was typed that was not set.
    """

    values: dict[str, Any]
    now: dict[str, Any] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)
    new_roles: str = ""
    end_sessions: bool = True
    lost_password: bool = False


def stored(user: User) -> UserForms:
    """Return the page of a user as stored, with nothing typed."""
    return UserForms(_stored_values(user))


class TypedForms:
    """What a request has typed into the page of a user.

    :param form: The fields. A part of which they hold nothing counts as unchanged.
    """

    def __init__(self, form: MultiDict[str, str]) -> None:
        self._form = form
        self.password = form.get("password", "")
        self.end_sessions = "end_sessions" in form
        self.active = form.get("status") == "active"
        self.superuser = "superuser" in form
        self.new_roles = form.get("roles", "")
        self._values: dict[str, Any] = {}
        if "status" in form:
            self._values |= {"status": form["status"], "superuser": self.superuser}
        if "name" in form:
            self._values |= {
                "name": form["name"].strip(),
                "department": form.get("department", "").strip(),
                "roles": frozenset(form.getlist("role")),
            }
        self._shown = _shown_values(form)

    def profile(self) -> Profile:
        """Return the typed profile.

        :raises AccountError: It is against the rules.
        """
        return Profile.parse(
            *(self._form.get(name, "") for name in ("name", "department", "roles")),
            chosen=self._form.getlist("role"),
        )

    def shown(self, part: str) -> str:
        """Return the text by which :mod:`.accounts` detects changes since the page was shown."""
        return self._form.get(f"shown_{part}", "")

    def changed_parts(self) -> list[str]:
        """Return the parts in which something was typed."""
        parts = [part for part, names in PARTS.items() if any(map(self._is_typed, names))]
        if self.new_roles.strip() and "profile" not in parts:
            parts.append("profile")
        return [*parts, *(["password"] if self.password else [])]

    def merged(self, user: User, *, saved: str | None = None) -> UserForms:
        """Return the page to show: typed values where they are not stored, otherwise stored ones.

        :param user: The user as stored now.
        :param saved: The part that was saved just now; its typed values are no longer needed.
        """
        forms = stored(user)
        for part, names in PARTS.items():
            if part != saved:
                for name in filter(self._is_typed, names):
                    self._merge(forms, part, name)
        if saved != "profile" and self.new_roles.strip():
            forms.new_roles = self.new_roles
            forms.unsaved.add("profile")
        if saved != "password":
            forms.lost_password = bool(self.password)
            forms.end_sessions = self.end_sessions or not self._values
        return forms

    def is_stored(self, user: User, part: str) -> bool:
        """Return whether the typed values of a part are those that are stored."""
        now = _stored_values(user)
        return all(self._values.get(name) == now[name] for name in PARTS[part]) and not (
            part == "profile" and self.new_roles.strip()
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Return the fields to send again after a question, without passwords and tokens."""
        dropped = ("password", "csrf_token", "confirmed")
        return [each for each in self._form.items(multi=True) if each[0] not in dropped]

    def _is_typed(self, name: str) -> bool:
        return name in self._values and self._values[name] != self._shown.get(name)

    def _merge(self, forms: UserForms, part: str, name: str) -> None:
        """Put a typed value into *forms*, beside the stored one if that is new."""
        typed, now, before = self._values[name], forms.values[name], self._shown.get(name)
        if name == "roles" and before is not None:
            typed = (now | (typed - before)) - (before - typed)
        if typed == now:
            return
        forms.values[name] = typed
        forms.unsaved.add(part)
        if now != before:
            forms.now[name] = now


def _stored_values(user: User) -> dict[str, Any]:
    return {
        "status": "active" if user.is_active else "inactive",
        "superuser": user.is_superuser,
        "name": user.name or "",
        "department": user.department or "",
        "roles": frozenset(role.name for role in user.roles),
    }


def _shown_values(form: MultiDict[str, str]) -> dict[str, Any]:
    """Return the values that the page had; a field is missing if the request does not tell."""
    try:
        active, superuser = json.loads(form.get("shown_access", ""))
        access = {"status": "active" if active else "inactive", "superuser": bool(superuser)}
    except (ValueError, TypeError, RecursionError):
        access = {}
    try:
        name, department, roles = json.loads(form.get("shown_profile", ""))
        profile = {
            "name": (name or "").strip(),
            "department": (department or "").strip(),
            "roles": frozenset(map(str, roles)),
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        profile = {}
    return access | profile


def shown_texts(user: User) -> dict[str, str]:
    """Return the texts for :meth:`TypedForms.shown`, by the name of their hidden field."""
    return {
        "shown_access": accounts.shown_access(user),
        "shown_profile": accounts.shown_profile(user),
    }
