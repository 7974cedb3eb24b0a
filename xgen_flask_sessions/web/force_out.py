"""Force logout by an administrator, for the screen and the JSON API."""

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

    One transaction authorizes and acts, with both users' rows locked. A caller demoted or forced
    out mid-request cannot complete it; of two administrators forcing out each other, the second one
    fails.

    :param caller: The administrator.
    :param user_id: The id of the user to force out.
    :param reason: The reason, for the audit record.
    :raises NotFound: The user does not exist and never signed in.
    :raises Forbidden: The caller has no right to force out this user.
    :raises RateLimited: The caller has reached the limit.
    :raises AuthenticationError: The caller's own session has ended since the request began.
    :raises LedgerUnavailable: The database cannot be written; the sessions go on.
    """
    state = get_state()
    # First without locks: a refusal blocks no other transaction and does not count.
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
    return user is not None and state.users.may_be_superuser(user)
