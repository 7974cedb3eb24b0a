"""The effects of a change of a user: sessions end, and the account's mark follows.

Each function works in the transaction that changes the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy.orm import Session

from ..lifecycle import announce, cause
from ..request_acts import RequestActs, find_acts
from ..signals import user_forced_out
from ..state import State
from ..store import accounts, dialects, revocations
from ..store.presence import has_tables
from ..store.revocations import Revocation
from ..store.sign_ins import ID_REUSED, Identity
from ..store.tables import ACCOUNT_CHANGED, FORCE_LOGOUT
from ..users.directory import batches
from ..users.former import FormerValueUnknown, former_login_id
from .request_token import outcome

DELETED: Final = "user deleted"
INACTIVE: Final = "made inactive"
ID_CHANGED: Final = "user id changed"
LOGIN_ID_CHANGED: Final = "sign-in id changed"

_ended_elsewhere: Final[ContextVar[str | None]] = ContextVar("_ended_elsewhere", default=None)


def is_possible(session: Session) -> bool:
    """Return whether the database has the plugin's tables, so that sessions may exist."""
    return has_tables(dialects.connection_of(session))


def follow_flush(state: State, session: Session, user: Any) -> None:
    """Have the mark follow a user object that is being flushed; end sessions of other login ids."""
    _follow_mark(state, session, user)
    if state.users.has_plain_login_id:
        return
    login_id = state.users.login_id_of(user)
    if former_login_id(user, state.users.id_method) == login_id or not is_possible(session):
        return
    user_id = state.users.ids_of_flushed(user)[0]
    if accounts.has_other_login_id(session, user_id, login_id):
        end_sessions(state, session, [user_id], LOGIN_ID_CHANGED)


def _follow_mark(state: State, session: Session, user: Any) -> None:
    users = state.users
    try:
        former = users.former_mark(user)
    except FormerValueUnknown:
        return  # the mark stays: if the username has changed, the sessions are refused
    if former == users.mark_of(user) or not is_possible(session):
        return
    user_id = users.ids_of_flushed(user)[0]
    # As the database has it: a column's type may change the value.
    now = users.read(users.connection_of(session), [user_id]).get(user_id)
    if now is not None:
        accounts.change_mark(session, user_id, old=former, new=now.mark)


def follow_statement(
    state: State, session: Session, before: Mapping[str, Identity], *, ended: bool
) -> None:
    """Do the same for the users that a statement has changed.

    :param before: Their identities before the statement, by account.
    :param ended: Whether their sessions have ended already.
    """
    if not before:
        return
    after = state.users.read(state.users.connection_of(session), before)
    for user_id in before.keys() & after.keys():
        old, new = before[user_id], after[user_id]
        if old.mark != new.mark:
            accounts.change_mark(session, user_id, old=old.mark, new=new.mark)
        if old.login_id != new.login_id and not ended:
            end_sessions(state, session, [user_id], LOGIN_ID_CHANGED)


def end_earlier_accounts(state: State, session: Session, users: Sequence[Any]) -> None:
    """End the sessions of earlier accounts that had the ids of new users.

    :param users: The user objects that were inserted.
    """
    if not is_possible(session):
        return
    ids = [state.users.ids_of_flushed(user)[0] for user in users]
    for batch in batches(ids):
        for user_id in accounts.known(session, batch):
            end_sessions(state, session, [user_id], ID_REUSED)
            accounts.forget_mark(session, user_id)


@contextmanager
def ending_elsewhere(user_id: str) -> Iterator[None]:
    """End no sessions of a user for changes within the block: its caller does, in the transaction.

    So an act on an account has one audit record.
    """
    token = _ended_elsewhere.set(user_id)
    try:
        yield
    finally:
        _ended_elsewhere.reset(token)


def end_sessions(state: State, session: Session, user_ids: Sequence[str], reason: str) -> None:
    """End all sessions of users in the transaction that changes or deletes them.

    :param user_ids: Their accounts.
    :param reason: The reason, for the audit record.
    """
    if len(user_ids) > 1:  # most of many may never have signed in
        user_ids = [
            user_id for batch in batches(user_ids) for user_id in accounts.known(session, batch)
        ]
    for user_id in user_ids:
        if user_id == _ended_elsewhere.get():
            continue
        revocation = _force_out(state, session, user_id, reason)
        announce(session, user_forced_out.send, revocation=revocation)


def _force_out(state: State, session: Session, user_id: str, reason: str) -> Revocation:
    """End a user's sessions; those that begin in the current request survive a new password."""
    acts = find_acts()
    actor = None if acts is None else _actor(acts, user_id)
    why = cause(state, actor, reason)
    end_reason = ACCOUNT_CHANGED if actor in (None, user_id) else FORCE_LOGOUT
    if acts is None or reason.startswith((DELETED, INACTIVE, ID_REUSED, ID_CHANGED)):
        return revocations.force_logout(session, user_id, why, end_reason=end_reason)
    previous_us = None
    if user_id in acts.signed_in:
        previous_us = revocations.invalid_before_us(session, user_id)
    if user_id in acts.issued:
        kept = acts.issued[user_id]
        revocation = revocations.force_logout_except(session, user_id, kept, why)
    else:
        revocation = revocations.force_logout(session, user_id, why, end_reason=end_reason)
    acts.note_revocation(session, revocation, previous_us=previous_us)
    return revocation


def _actor(acts: RequestActs, user_id: str) -> str | None:
    """Return the user that makes the change: the caller, or the user that signs in."""
    if user_id in acts.signed_in or user_id in acts.issued:
        return user_id
    token = outcome().token
    return None if token is None else token.user_id
