"""The acts of administrators on one user's sessions, for the screen and the JSON API.

One transaction authorizes and acts, with both users' rows locked. A caller demoted or forced out
mid-request cannot complete it; of two administrators forcing out each other, the second one fails.
Each act counts once for the rate limit; a refusal blocks no other transaction and does not count.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from .. import bulk, lifecycle
from ..bulk import EndedSessions as EndedSessions
from ..errors import BadRequest, NotFound
from ..roster import records
from ..state import State, get_state
from ..store.revocations import Revocation
from ..text import gettext_noop
from ..users.authority import NO_USER
from .bulk_acts import BulkResult as BulkResult
from .bulk_acts import Preview as Preview
from .bulk_acts import force_out_everyone as force_out_everyone
from .bulk_acts import force_out_several as force_out_several
from .bulk_acts import preview_everyone as preview_everyone
from .bulk_acts import preview_several as preview_several
from .leaver import Leaver as Leaver
from .leaver import LeaverPreview as LeaverPreview
from .leaver import leaver_preview as leaver_preview
from .leaver import process_leaver as process_leaver
from .request_token import recheck_token


def force_out(caller: Any, user_id: str, reason: str | None = None) -> Revocation:
    """End all sessions of a user on behalf of the current request's administrator.

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
    why = lifecycle.cause(state, caller, reason)
    act = _Act(state, caller, user_id)
    act.count()
    return lifecycle.force_logout_authorized(user_id, why, authorize=act.authorize)


def end_one(
    caller: Any, user_id: str, session_id: str, reason: str | None = None
) -> Revocation | None:
    """End one session of a user; parameters and errors as :func:`force_out`.

    :param session_id: The session's id.
    :returns: ``None`` if the session had already ended.
    :raises NotFound: The user is unknown, or has no session by this id.
    """
    state = get_state()
    why = lifecycle.cause(state, caller, reason)
    act = _Act(state, caller, user_id)
    if records.owner_of(state.db.session(), session_id) != user_id:
        raise NotFound(gettext_noop("This user has no session by this id."))
    act.count()
    return lifecycle.end_session_authorized(session_id, why, authorize=act.authorize)


def end_older(
    caller: Any,
    user_id: str,
    *,
    older_than_us: int | None = None,
    keep_newest: bool = False,
    reason: str | None = None,
) -> EndedSessions:
    """End a user's old sessions, or all but the newest; others as :func:`force_out`.

    The caller's own current session is no exception. Each transaction authorizes and acts for
    :data:`.bulk.SESSIONS_CHUNK` sessions.

    :param older_than_us: End the sessions that began longer ago, in microseconds.
    :param keep_newest: End all sessions but the one of the newest sign-in.
    :returns: The sessions that ended; with the error that stopped the act, unless it came at once.
    :raises BadRequest: Neither is given, or both, or the age is negative.
    """
    if (older_than_us is None) is not keep_newest or (older_than_us or 0) < 0:
        raise BadRequest(
            gettext_noop("Give either an age or the request to keep the newest session.")
        )
    state = get_state()
    why = lifecycle.cause(state, caller, reason)
    act = _Act(state, caller, user_id)
    act.count()
    bulk.finish_reads()
    return bulk.end_sessions(user_id, why, older_than_us=older_than_us, authorize=act.authorize)


class _Act:
    """One act of an administrator on a user.

    :raises NotFound: The user does not exist and never signed in.
    :raises Forbidden: The caller has no right to force out this user.
    """

    def __init__(self, state: State, caller: Any, user_id: str) -> None:
        self._state, self._caller, self._user_id = state, caller, user_id
        # First without locks: a refusal blocks no other transaction.
        state.authority.require_force_logout(caller, superuser=is_superuser(state, user_id))

    def count(self) -> None:
        """Count the act for the rate limit."""
        state = self._state
        state.rate_limits.force_logout.take(state.users.id_of(self._caller))

    def authorize(self, session: Session) -> None:
        """Check the permission in the transaction that acts."""
        self._state.authority.check_force_logout(session, self._caller, self._user_id)
        recheck_token()


def is_superuser(state: State, user_id: str) -> bool:
    """Return whether a user is a SuperUser.

    :raises NotFound: The user does not exist and never signed in.
    """
    user = state.users.get(user_id)
    if user is None and not records.ever_signed_in(state.db.session(), user_id):
        raise NotFound(NO_USER)
    return user is not None and state.users.may_be_superuser(user)
