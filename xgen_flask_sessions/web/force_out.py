"""Force logout by an administrator: the one act behind the screen's button and the API's call."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from .. import lifecycle
from ..errors import Forbidden, NotFound
from ..roster import records
from ..state import State, get_state
from ..store.revocations import Revocation
from .request_token import recheck_token


def force_out(caller: Any, user_id: str, reason: str | None = None) -> Revocation:
    """End all sessions of a user on behalf of the current request's administrator.

    One transaction authorizes and acts, with both users' rows locked. An administrator demoted or
    forced out a moment ago can no longer act, and of two administrators forcing out each other, the
    second one fails.

    :param caller: The administrator.
    :param user_id: The id of the user to force out.
    :param reason: The reason, for the audit record.
    :raises NotFound: The user does not exist and never signed in.
    :raises Forbidden: The caller may not.
    :raises RateLimited: The caller did it too often.
    :raises AuthenticationError: The caller's own session has ended since the request began.
    :raises LedgerUnavailable: The database cannot be written; the sessions go on.
    """
    state = get_state()
    # Without locks first: a refusal keeps no other transaction waiting and is not counted.
    superuser = is_superuser(state, user_id)
    if not state.authority.may_force_logout(caller, superuser=superuser):
        raise Forbidden("You may not force out this user.")
    state.rate_limits.force_logout.take(state.users.id_of(caller))

    def authorize(session: Session) -> None:
        state.authority.check_force_logout(session, caller, user_id)
        recheck_token()

    why = lifecycle.cause(state, caller, reason)
    return lifecycle.force_logout_authorized(user_id, why, authorize=authorize)


def is_superuser(state: State, user_id: str) -> bool:
    """Return whether a user is a SuperUser.

    :raises NotFound: The user does not exist and never signed in.
    """
    user = state.users.get(user_id)
    if user is None and not records.ever_signed_in(state.db.session(), user_id):
        raise NotFound("There is no such user.")
    return user is not None and state.users.is_superuser(user)
