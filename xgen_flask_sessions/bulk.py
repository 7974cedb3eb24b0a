"""Revocations of several users in bounded transactions, and of several sessions of one user.

Like :mod:`.lifecycle`, these functions choose the transactions, call the store and send the
signals. After a failure, a result says exactly how far the act came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from blinker import NamedSignal
from sqlalchemy.orm import Session

from . import clock
from .errors import HookFailed, LedgerUnavailable, XgenSessionsError
from .request_acts import find_acts
from .signals import session_ended, user_forced_out
from .state import get_app, get_state
from .store import bulk, commit_hooks
from .store.bulk import BulkResult as BulkResult
from .store.bulk import EndedSessions as EndedSessions
from .store.revocations import Cause, Revocation
from .text import traceback_of

_log = logging.getLogger(__name__)

CHUNK: Final = 100
"""Users in one transaction: sign-ins of these users wait for it."""
SESSIONS_CHUNK: Final = 500
"""Sessions of a user in one transaction: sign-ins of the user wait for it."""

_HALFWAY: Final = "A function of this application failed, and the act stopped."

Refusals = Mapping[str, XgenSessionsError]
"""The error of each user that may not be forced out."""


def force_logout_several(
    user_ids: Sequence[str],
    why: Cause,
    *,
    authorize: Callable[[Session, Sequence[str]], Refusals] | None = None,
) -> BulkResult:
    """End every session of several users, in transactions of :data:`CHUNK` users each.

    A transaction that the database refuses, such as by a trigger, does not stop the others. Any
    other error does; one that is not the package's is raised only if it is the first transaction's.

    :param user_ids: Their ids, each once.
    :param why: The cause, for the audit records.
    :param authorize: Called in each transaction before it changes a row; returns the refusals among
        its users, or raises to stop the act. By default, all users are allowed.
    """
    result = BulkResult()
    transactions = get_state().transactions
    for first in range(0, len(user_ids), CHUNK):
        chunk = user_ids[first : first + CHUNK]
        try:
            made, refused = transactions.retry_after_deadlock(
                True, partial(_force_logout, chunk, why, authorize)
            )
        except LedgerUnavailable as error:
            result.error = result.error or error
            (result.failed if error.undone else result.failed_unknown).extend(chunk)
            if not error.refused:
                result.not_reached.extend(user_ids[first + CHUNK :])
                break
        except Exception as error:
            if first == 0 and not isinstance(error, XgenSessionsError):
                raise
            result.error = _stopping(error)
            result.not_reached.extend(user_ids[first:])
            break
        else:
            result.done += made
            result.refused += refused.items()
            announce(user_forced_out, made)
    return result


def _force_logout(
    user_ids: Sequence[str],
    why: Cause,
    authorize: Callable[[Session, Sequence[str]], Refusals] | None,
) -> tuple[list[Revocation], Refusals]:
    with get_state().transactions.write(commit=True) as session:
        refused = {} if authorize is None else authorize(session, user_ids)
        allowed = [user_id for user_id in user_ids if user_id not in refused]
        made = bulk.force_logout_many(session, allowed, why)
        acts = find_acts()
        if acts is not None:
            for revocation in made:
                acts.note_revocation(session, revocation)
    return made, refused


def end_sessions(
    user_id: str,
    why: Cause,
    *,
    older_than_us: int | None,
    authorize: Callable[[Session], object] | None = None,
) -> EndedSessions:
    """End a user's sessions that began long ago, or all but the newest.

    The oldest end first, in transactions of :data:`SESSIONS_CHUNK` sessions each. The records of
    all of them have one time, that of the act.

    :param user_id: The user's id.
    :param why: The cause, for the audit records.
    :param older_than_us: The age, in microseconds, of the sessions to end; ``None`` for all but
        the newest.
    :param authorize: Called in each transaction before it changes a row; raises to prevent it.
    :raises LedgerUnavailable: The database cannot be written; no session ended.
    """
    state, at_us = get_state(), clock.now_us()
    transactions = state.transactions
    leeway_us = state.settings.leeway // timedelta(microseconds=1)
    with transactions.write(commit=True, bounded=False) as session:
        due = bulk.find_due(
            session, user_id, at_us, older_than_us=older_than_us, leeway_us=leeway_us
        )

    def end(session_ids: Sequence[str]) -> list[Revocation]:
        with transactions.write(commit=True) as session:
            if authorize is not None:
                authorize(session)
            return bulk.end_sessions(
                session, user_id, session_ids, why, at_us=at_us, leeway_us=leeway_us
            )

    result = EndedSessions()
    for first in range(0, max(len(due), 1), SESSIONS_CHUNK):  # one at least: it authorizes
        chunk = due[first : first + SESSIONS_CHUNK]
        try:
            made = transactions.retry_after_deadlock(True, partial(end, chunk))
        except Exception as error:
            if first == 0:
                raise
            result.error = _stopping(error)
            break
        result.done[:0] = made
        announce(session_ended, made)
    return result


def _stopping(error: Exception) -> XgenSessionsError:
    """Return the error of a result whose act stopped halfway; one that is not ours is logged."""
    if isinstance(error, XgenSessionsError):
        return error
    _log.error("The act stopped: a function of this application failed.\n%s", traceback_of(error))
    return HookFailed(_HALFWAY).caused_by(error)


def finish_reads() -> None:
    """End the transaction of the reads that came before an act, so that it can be retried.

    :raises LedgerUnavailable: The database cannot be used; the act was not tried.
    """
    try:
        with get_state().transactions.write(commit=True):
            pass
    except LedgerUnavailable as error:  # even if this commit was not answered, no session ended
        raise LedgerUnavailable(refused=error.refused) from error


def announce(signal: NamedSignal, made: Sequence[Revocation]) -> None:
    """Send a signal for each revocation; the error of a receiver does not stop the act."""
    sender: Any = get_app()
    for revocation in made:
        commit_hooks.send_now(partial(signal.send, sender, revocation=revocation))
