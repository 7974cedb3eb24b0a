"""Force logout of several users, and of everyone, by an administrator; with previews."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from .. import bulk, lifecycle
from ..bulk import BulkResult as BulkResult
from ..errors import BadRequest, Forbidden, NotFound, XgenSessionsError
from ..state import State, get_state
from ..store import accounts
from ..store.revocations import Revocation
from ..text import gettext_noop
from ..tokens.claims import is_user_id
from ..users.authority import NO_USER, RANK
from ..users.directory import Profile, batches
from .request_token import recheck_token

MOST_USERS: Final = 1000
"""Users that one act may force out."""
NONE_CHOSEN: Final = gettext_noop("Choose at least one user.")
TOO_MANY_CHOSEN: Final = gettext_noop("Choose at most 1,000 users at once.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The extent of a force logout before it is done."""

    users: int
    """The number of users that would be forced out."""
    sessions: int
    """The number of their active sessions."""
    chosen: list[tuple[Profile, int]] = field(default_factory=list)
    """Each user with the number of active sessions; empty for everyone."""
    refused: list[tuple[str, XgenSessionsError]] = field(default_factory=list)
    """The users that do not exist or may not be forced out."""


def force_out_several(
    caller: Any, user_ids: Iterable[str], reason: str | None = None
) -> BulkResult:
    """End all sessions of several users on behalf of the current request's administrator.

    Each transaction authorizes and acts for :data:`.bulk.CHUNK` users, with their rows locked; the
    caller's own come last. The act counts once for the rate limit, unless it is refused for all.

    :param caller: The administrator.
    :param user_ids: The ids of the users; an id that is given twice counts once.
    :param reason: The reason, for the audit records.
    :returns: The account of the act. A caller demoted or forced out meanwhile, or a database that
        does not answer, stops it: the result has the error.
    :raises BadRequest: There is no id, one that is no text, or more than :data:`MOST_USERS`.
    :raises RateLimited: The caller has reached the limit; no session ended.
    :raises LedgerUnavailable: The database cannot be used; no session ended.
    """
    state = get_state()
    why = lifecycle.cause(state, caller, reason)
    own_id = state.users.id_of(caller)
    allowed, _, refused = _sort_out(state, caller, user_ids)
    if not allowed:
        return BulkResult(refused=refused)
    state.rate_limits.force_logout.take(own_id)
    allowed.sort(key=lambda user_id: user_id == own_id)

    def authorize(session: Session, chunk: Sequence[str]) -> dict[str, Forbidden]:
        found = state.authority.check_force_logouts(session, caller, chunk)
        recheck_token()
        return found

    bulk.finish_reads()
    result = bulk.force_logout_several(allowed, why, authorize=authorize)
    result.refused[:0] = refused
    return result


def preview_several(caller: Any, user_ids: Iterable[str]) -> Preview:
    """Return the extent of :func:`force_out_several`; parameters and errors as there."""
    state = get_state()
    allowed, people, refused = _sort_out(state, caller, user_ids)
    counts: dict[str, int] = {}
    for batch in batches(allowed):
        counts |= state.roster.count_sessions_of(state.db.session(), batch)
    chosen = [
        (state.users.profile(user_id, people.get(user_id)), counts.get(user_id, 0))
        for user_id in allowed
    ]
    return Preview(users=len(chosen), sessions=sum(counts.values()), chosen=chosen, refused=refused)


def force_out_everyone(caller: Any, reason: str | None = None) -> Revocation:
    """End all sessions of all users, the caller included, on behalf of a SuperUser.

    :param caller: The administrator.
    :param reason: The reason, for the audit record.
    :raises Forbidden: The caller may not, or is no SuperUser.
    :raises RateLimited: The caller has reached the limit.
    :raises AuthenticationError: The caller's own session has ended since the request began.
    :raises LedgerUnavailable: The database cannot be written; the sessions go on.
    """
    state = get_state()
    why = lifecycle.cause(state, caller, reason)
    state.authority.require_everyone(caller)
    state.rate_limits.force_logout.take(state.users.id_of(caller))

    def authorize(session: Session) -> None:
        state.authority.check_everyone(session, caller)
        recheck_token()

    bulk.finish_reads()
    return lifecycle.force_logout_everyone_authorized(why, authorize=authorize)


def preview_everyone(caller: Any) -> Preview:
    """Return the extent of :func:`force_out_everyone`.

    :raises Forbidden: The caller may not, or is no SuperUser.
    """
    state = get_state()
    state.authority.require_everyone(caller)
    summary = state.roster.summary(state.db.session())
    return Preview(users=summary.active_users, sessions=summary.active_sessions)


def _sort_out(
    state: State, caller: Any, user_ids: Iterable[str]
) -> tuple[list[str], dict[str, Any], list[tuple[str, XgenSessionsError]]]:
    """Return the users that the caller may force out, the user objects, and the refusals.

    It takes no locks: a refusal blocks no other transaction.

    :raises BadRequest: There is no id, one that is no text, or too many.
    :raises Forbidden: The caller may force out no user.
    """
    ids = list(dict.fromkeys(user_ids))
    if not ids or not all(isinstance(user_id, str) for user_id in ids):
        raise BadRequest(NONE_CHOSEN)
    if len(ids) > MOST_USERS:
        raise BadRequest(TOO_MANY_CHOSEN)
    state.authority.require_force_logout(caller, superuser=False)
    outranks = state.authority.outranks(caller, superuser=True)
    people: dict[str, Any] = {}
    known: set[str] = set()
    for batch in batches(filter(is_user_id, ids)):
        people |= state.users.get_many(batch)
        known.update(accounts.known(state.db.session(), batch))
    allowed: list[str] = []
    refused: list[tuple[str, XgenSessionsError]] = []
    for user_id in ids:
        user = people.get(user_id)
        if user is None and user_id not in known:
            refused.append((user_id, NotFound(NO_USER)))
        elif user is not None and not outranks and state.users.may_be_superuser(user):
            refused.append((user_id, Forbidden(RANK)))
        else:
            allowed.append(user_id)
    return allowed, people, refused
