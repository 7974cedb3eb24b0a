"""The results of User Management, in words: each says what was done, from what was changed."""

from __future__ import annotations

from typing import Final

from xgen_flask_sessions import gettext, gettext_noop, ngettext
from xgen_flask_sessions.standalone.accounts import AccessChange
from xgen_flask_sessions.standalone.models import User

NOTHING: Final = gettext_noop("Nothing was changed.")
AS_CHOSEN: Final = gettext_noop("The user already is as you chose. Nothing was changed.")
OWN_PASSWORD: Final = gettext_noop(
    "You reset your password and ended all your sessions. Sign in with the new password."
)
STEPPED_DOWN: Final = gettext_noop("You gave up your SuperUser rights.")


def created(user: User) -> str:
    """Return the result of creating *user*."""
    return gettext("The user %(user)s was created.", user=user.username)


def profile(user: User) -> str:
    """Return the result of changing the profile of *user*."""
    return gettext("The profile of %(user)s was saved.", user=user.username)


def password(user: User, ended: int | None) -> str:
    """Return the result of a password reset.

    :param ended: The number of sessions that ended; ``None`` if they were not to end.
    """
    reset = gettext("The password of %(user)s was reset.", user=user.username)
    if ended is None:
        kept = gettext("The sessions of this user were not ended.")
        return f"{reset} {kept}"
    return f"{reset} {_sessions_ended(ended)}"


def access(user: User, change: AccessChange) -> str:
    """Return the result of a change of access."""
    name = user.username
    said = []
    if change.active is False:
        said += [gettext("%(user)s was set to Inactive.", user=name)]
        said += [_sessions_ended(change.sessions_ended)]
    if change.active is True:
        said += [gettext("%(user)s was set to Active.", user=name)]
    if change.superuser is True:
        said += [gettext("%(user)s was made a SuperUser.", user=name)]
    if change.superuser is False:
        said += [gettext("SuperUser rights were taken from %(user)s.", user=name)]
    return " ".join(said or [gettext(NOTHING)])


def left(change: AccessChange) -> str:
    """Return the result of setting one's own account to Inactive."""
    own = gettext("You set your own account to Inactive.")
    return f"{own} {_sessions_ended(change.sessions_ended)}"


def _sessions_ended(number: int) -> str:
    if not number:
        return gettext("There was no session to end.")
    return ngettext("%(num)d session ended.", "%(num)d sessions ended.", number)
