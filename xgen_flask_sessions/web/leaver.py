"""The leaver: force logout, inactive, roles, in one transaction with one audit record.

The account is changed first and the sessions end last, because locks are taken in that order; the
commit makes all of it true at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException

from .. import bulk, lifecycle
from ..errors import BadRequest, Forbidden, HookFailed, NotFound, XgenSessionsError
from ..request_acts import find_acts
from ..roster import records
from ..signals import user_forced_out
from ..state import State, get_state
from ..store import commit_hooks, leaver_details, revocations
from ..store.revocations import Cause, Revocation
from ..store.transactions import is_unreachable
from ..text import gettext_noop, traceback_of
from ..users.account_hooks import names_of
from ..users.authority import LEAVERS, NO_USER
from .account_changes import ending_elsewhere
from .request_token import recheck_token

ONESELF: Final = gettext_noop("You cannot process yourself as a leaver. Another administrator can.")

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaver:
    """What was done for a leaver."""

    revocation: Revocation
    deactivated: bool
    """Whether this made the account inactive."""
    roles: list[str]
    """The names of the roles that were revoked, as far as the host tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaverPreview:
    """What would be done for a leaver, besides ending the sessions."""

    will_deactivate: bool
    """Whether the account will become inactive: it is active, and the host can change it."""
    roles: list[str] | None
    """The names of the roles that will be revoked; ``None`` if the host does not tell."""
    is_active: bool
    """Whether the account exists and is active."""
    revokes_roles: bool
    """Whether roles will be revoked, whichever they are."""


def process_leaver(caller: Any, user_id: str, reason: str | None = None) -> Leaver:
    """Process a leaver on behalf of the current request's administrator.

    It ends the user's sessions, makes the account inactive and revokes the roles, as ``init_app``
    was told. After a deadlock it is tried again, functions of the host's included.

    :param caller: The administrator.
    :param user_id: The id of the user; one that is inactive or deleted already is no error.
    :param reason: The reason, for the audit record.
    :raises NotFound: The user does not exist and never signed in.
    :raises Forbidden: The caller may not process leavers, or a function of the host's refuses.
    :raises BadRequest: The user is the caller.
    :raises HookFailed: A function of the host's failed; nothing was done.
    :raises RateLimited: The caller has reached the limit.
    :raises AuthenticationError: The caller's own session has ended since the request began.
    :raises LedgerUnavailable: The database cannot be written.
    """
    state = get_state()
    why = lifecycle.cause(state, caller, reason)
    _require_leaver(state, caller, user_id)
    state.rate_limits.force_logout.take(state.users.id_of(caller))
    bulk.finish_reads()

    def authorize(session: Session) -> Any | None:
        user = state.authority.check_leaver(session, caller, user_id)
        recheck_token()
        return user

    return process(user_id, why, authorize=authorize)


def leaver_preview(caller: Any, user_id: str) -> LeaverPreview:
    """Return what :func:`process_leaver` would do; parameters and errors as there."""
    state = get_state()
    _require_leaver(state, caller, user_id)
    user, hooks = state.users.get(user_id), state.account
    is_active = user is not None and state.users.is_active(user)
    roles: list[str] | None = []
    if user is not None and hooks.revoke_roles is not None:
        roles = None if hooks.roles_of is None else _read_roles(hooks.roles_of, user)
    return LeaverPreview(
        will_deactivate=is_active and hooks.deactivate is not None,
        roles=roles,
        is_active=is_active,
        revokes_roles=user is not None and hooks.revoke_roles is not None,
    )


def process(user_id: str, why: Cause, *, authorize: Callable[[Session], Any | None]) -> Leaver:
    """Process a leaver in one transaction.

    :param user_id: The user's id.
    :param why: The cause, for the audit record.
    :param authorize: Called in the transaction before it changes a row; returns the locked user,
        or raises to prevent it.
    """
    state = get_state()

    def change() -> Leaver:
        with state.transactions.write(commit=True) as session:
            user = authorize(session)
            deactivated, roles = False, list[str]()
            if user is not None:
                with ending_elsewhere(user_id):
                    deactivated, roles = _change_account(state, session, user)
            details = leaver_details.encode(deactivated=deactivated, roles=roles)
            revocation = revocations.force_logout(session, user_id, why, details=details)
            acts = find_acts()
            if acts is not None:
                acts.note_revocation(session, revocation)
        return Leaver(revocation=revocation, deactivated=deactivated, roles=roles)

    done = state.transactions.retry_after_deadlock(True, change)
    bulk.announce(user_forced_out, [done.revocation])
    return done


def _change_account(state: State, session: Session, user: Any) -> tuple[bool, list[str]]:
    """Make an account inactive and revoke its roles; return whether it became so, and the roles."""
    hooks, was_active = state.account, state.users.is_active(user)
    if was_active and hooks.deactivate is not None:
        _call(session, "deactivate", hooks.deactivate, user)
    roles: list[str] = []
    if hooks.revoke_roles is not None:
        revoke = hooks.revoke_roles
        roles = _call(session, "revoke_roles", lambda user: names_of(revoke(user)), user)
    return was_active and not state.users.is_active(user), roles


def _call(session: Session, name: str, hook: Callable[[Any], _T], user: Any) -> _T:
    """Call a function of the host's, and flush its changes.

    :raises HookFailed: It failed, or it ended the transaction.
    """
    transaction = session.get_transaction()
    try:
        with ExitStack() as stack:
            stack.enter_context(commit_hooks.no_commit(session))
            result = hook(user)
            session.flush()
        if session.get_transaction() is not transaction:
            raise RuntimeError(f"{name}= ended the transaction that it was called in.")
    except (XgenSessionsError, HTTPException):
        raise  # the host's own answer
    except Exception as error:
        if isinstance(error, SQLAlchemyError) and is_unreachable(error):
            raise
        _log.error("%s= failed, and was rolled back.\n%s", name, traceback_of(error))
        raise HookFailed(f"{name}= of this application failed. Nothing was done.") from error
    return result


def _read_roles(roles_of: Callable[[Any], object], user: Any) -> list[str] | None:
    try:
        return names_of(roles_of(user))
    except SQLAlchemyError:
        raise
    except Exception as error:
        _log.error("roles_of= failed.\n%s", traceback_of(error))
        return None


def _require_leaver(state: State, caller: Any, user_id: str) -> None:
    """Check that the caller may process the user as a leaver, without locks."""
    if not state.authority.may_process_leavers(caller):
        raise Forbidden(LEAVERS)
    if state.users.id_of(caller) == user_id:
        raise BadRequest(ONESELF)
    if state.users.get(user_id) is None and not records.ever_signed_in(state.db.session(), user_id):
        raise NotFound(NO_USER)
