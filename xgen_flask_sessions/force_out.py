"""Force logout by an administrator's hand: what the screen's button and the API's call share."""

from __future__ import annotations

from typing import Any

from .access import recheck_token
from .errors import Forbidden, NotFound
from .ledger import Revocation
from .state import State, get_state
from .transactions import writing


def force_out(caller: Any, user_id: str, reason: str | None = None) -> Revocation:
    """End all sessions of a user, for the administrator who sends the current request.

    One transaction checks and acts, with both users' rows locked: an administrator who was
    demoted or forced out a moment ago does nothing any more, and of two who force out each other,
    one is too late.

    :param caller: The administrator.
    :param user_id: Whom to force out.
    :param reason: Why, for the audit record.
    :raises NotFound: There is no such user, nor ever was one that signed in.
    :raises Forbidden: The caller may not.
    :raises RateLimited: The caller did it too often.
    :raises AuthenticationError: The caller's own session has ended meanwhile.
    :raises LedgerUnavailable: The database cannot be written; nothing was done.
    """
    state = get_state()
    # First without locks: what is refused anyway keeps nobody waiting, and counts for nothing.
    superuser = is_superuser(state, user_id)
    if not state.authority.may_force_logout(caller, superuser=superuser):
        raise Forbidden("You may not force out this user.")
    state.rates.force_logout.take(state.users.id_of(caller))
    with writing(state.changes, commit=True) as session:
        state.authority.check_force_logout(session, caller, user_id)
        recheck_token()
        return state.sessions.force_logout(user_id, actor=caller, reason=reason, commit=False)


def is_superuser(state: State, user_id: str) -> bool:
    """Say whether *user_id* is a SuperUser.

    :raises NotFound: There is no such user, nor ever was one that signed in.
    """
    user = state.users.get(user_id)
    if user is None and not state.roster.ever_signed_in(state.db.session(), user_id):
        raise NotFound("There is no such user.")
    return user is not None and state.users.is_superuser(user)
