"""The results of acts in words: of an audit record, or of an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from .. import clock
from ..clock import SECOND_US
from ..errors import (
    AuthenticationError,
    BadRequest,
    CrossSiteRequest,
    DatabaseUnavailable,
    HookFailed,
    LedgerUnavailable,
    RateLimited,
    XgenSessionsError,
)
from ..roster.kept import revocations_by
from ..roster.records import PastRevocation
from ..roster.roster import ActiveUser
from ..state import get_state
from ..text import visible
from ..tokens.claims import is_user_id
from ..users.directory import batches
from ..web import i18n

RECENT_US: Final = 300 * SECOND_US
"""Microseconds for which an act's result is shown to its actor."""
_REPEAT_US: Final = 10 * SECOND_US
"""Microseconds within which a second click repeats an act."""
_JUST_NOW_US: Final = 5 * SECOND_US
"""Microseconds for which a result is shown beside a new sign-in of the user."""

Status = Literal["done", "stale", "failed", "unknown"]


class Record(Protocol):
    """An audit record: a ``Revocation`` or a ``PastRevocation``."""

    @property
    def sessions_ended(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an act, for the row and for screen readers."""

    status: Status
    text: str
    """A few words for the row."""
    message: str
    """A sentence with the user's name."""


def of_record(record: Record, username: str, *, is_back: bool = False) -> Result:
    """Return the result of a force logout.

    :param is_back: Whether the user has signed in again since.
    """
    return of_number(record.sessions_ended, username, is_back=is_back)


def of_number(ended: int, username: str, *, is_back: bool = False) -> Result:
    """Return the result of a force logout by its number of sessions; see :func:`of_record`."""
    if not ended:
        return Result(
            status="stale",
            text=i18n.gettext("No active session"),
            message=i18n.gettext("%(user)s had no active session any more.", user=username),
        )
    text = i18n.ngettext("%(num)d session", "%(num)d sessions", ended)
    if is_back:
        text = i18n.gettext("%(sessions)s · signed in again", sessions=text)
    return Result(
        status="done",
        text=text,
        message=i18n.ngettext(
            "%(user)s was signed out: %(num)d session ended.",
            "%(user)s was signed out: %(num)d sessions ended.",
            ended,
            user=username,
        ),
    )


def recent_results(
    users: Sequence[ActiveUser], actor: str, *, has_failed: bool = False
) -> dict[str, Result]:
    """Return the results of an administrator's own force logouts in the last minutes, by user id.

    A click repeated within seconds ends no session; the result of the first one is shown. A user
    who has signed in again has an old result no more.

    :param has_failed: Whether an act has just failed: every active user has a button, then.
    """
    newest = own_force_logouts([user.profile.user_id for user in users], actor)
    results = {}
    for user in users:
        found = newest.get(user.profile.user_id)
        is_back = user.active_sessions > 0
        if found is None:
            continue
        is_new = not has_failed and found.revoked_us > clock.now_us() - _JUST_NOW_US
        if is_new or not is_back:
            username = visible(user.profile.username)
            results[user.profile.user_id] = of_record(found, username, is_back=is_back)
    return results


def own_force_logouts(user_ids: Iterable[str], actor: str) -> dict[str, PastRevocation]:
    """Return an administrator's own force logouts of the last minutes, one for each user.

    A click repeated within seconds ends no session: the record of the first one counts.
    """
    newest: dict[str, PastRevocation] = {}
    for past in _own_recent(user_ids, actor):
        if past.kind != "user" or past.user_id is None:
            continue
        before = newest.get(past.user_id)
        is_repeated = before is not None and past.revoked_us - before.revoked_us < _REPEAT_US
        if before is None or past.sessions_ended or not is_repeated:
            newest[past.user_id] = past
    return newest


def ended_sessions_notes(users: Sequence[ActiveUser], actor: str) -> dict[str, str]:
    """Return how many single sessions an administrator has ended in the last minutes, by user id.

    The sentences stand above the sessions of an expanded row.
    """
    ids = [user.profile.user_id for user in users]
    numbers = Counter(past.user_id for past in _own_recent(ids, actor) if past.kind == "session")
    return {
        user.profile.user_id: _ended(number, visible(user.profile.username))
        for user in users
        if (number := numbers[user.profile.user_id])
    }


def _ended(number: int, username: str) -> str:
    if number == 1:
        return i18n.gettext("One session of %(user)s ended.", user=username)
    return i18n.ngettext(
        "%(num)d session of %(user)s ended.",
        "%(num)d sessions of %(user)s ended.",
        number,
        user=username,
    )


def _own_recent(user_ids: Iterable[str], actor: str) -> Iterator[PastRevocation]:
    session = get_state().db.session()
    since_us = clock.now_us() - RECENT_US
    for batch in batches(filter(is_user_id, user_ids)):
        yield from revocations_by(session, actor, batch, since_us)


def of_error(error: XgenSessionsError, unknown: str) -> Result:
    """Return the result of an act that failed: whether it may be done all the same.

    :param unknown: The text if it may.
    """
    if isinstance(error, LedgerUnavailable) and not error.undone:
        return Result(status="unknown", text=unknown, message=unknown)
    text = failure_text(error)
    return Result(status="failed", text=text, message=text)


def may_retry(error: XgenSessionsError) -> bool:
    """Return whether a second try of an act that failed may succeed."""
    return error.retry_after_s is not None and not getattr(error, "refused", False)


def failure_text(error: XgenSessionsError, nothing: str | None = None) -> str:
    """Return why an act did nothing.

    :param nothing: The sentence that says so; by default, that nobody was signed out.
    """
    if isinstance(error, RateLimited):
        return too_often(error.retry_after_s or 1)
    if isinstance(error, BadRequest):
        return i18n.gettext(error.detail)
    parts = [cause_text(error), nothing or i18n.gettext("Nobody was signed out.")]
    if isinstance(error, CrossSiteRequest):
        parts.append(i18n.gettext("Reload the page."))
    return " ".join(parts)


def cause_text(error: XgenSessionsError) -> str:
    """Return why an act, or the rest of it, was not done."""
    if getattr(error, "refused", False):
        return i18n.gettext("The database refused the change.")
    if isinstance(error, DatabaseUnavailable):
        return i18n.gettext("The database did not answer.")
    if isinstance(error, HookFailed):
        return i18n.gettext("A function of this application failed. The log says why.")
    if isinstance(error, CrossSiteRequest):
        return i18n.gettext("The page is out of date.")
    if isinstance(error, AuthenticationError):
        return i18n.gettext("Your own session has ended.")
    return i18n.gettext(error.detail)


def too_often(wait_s: int) -> str:
    """Return the text for a force logout that the rate limit refused.

    :param wait_s: Seconds after which it may be done.
    """
    return i18n.ngettext(
        "Too many force logouts in a short time. No user was signed out. Try again in %(num)d "
        "second.",
        "Too many force logouts in a short time. No user was signed out. Try again in %(num)d "
        "seconds.",
        wait_s,
    )
