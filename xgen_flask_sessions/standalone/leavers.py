"""The plugin's view of the Admin Center's accounts: their roles and their pages."""

from __future__ import annotations

from typing import Final

from flask import url_for

from xgen_flask_sessions.standalone.models import User
from xgen_flask_sessions.standalone.user_admin import ENDPOINT, MAX_ID

SUPERUSER: Final = "SuperUser"


def roles_of(user: User) -> list[str]:
    """Return the names of what a leaver loses: the roles, and the rank of a SuperUser."""
    roles = [role.name for role in user.roles]
    return [*roles, SUPERUSER] if user.is_superuser else roles


def revoke_roles(user: User) -> list[str]:
    """Revoke all roles of a leaver and the rank of a SuperUser, and return their names.

    Otherwise the account would be a SuperUser's again as soon as it is active again.
    """
    names = roles_of(user)
    user.roles = []
    user.is_superuser = False
    return names


def user_url(user_id: str) -> str | None:
    """Return the address of a user's page in User Management; ``None`` if the id is no number.

    Whether there is such a user is not looked up.
    """
    if not (user_id.isascii() and user_id.isdecimal()) or int(user_id) > MAX_ID:
        return None
    return url_for(f"{ENDPOINT}.edit", user_id=int(user_id))
