"""The result of a force logout of several users: a line for each of them, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flask_login import current_user

from ..bulk import BulkResult
from ..errors import XgenSessionsError
from ..state import get_state
from ..store.transactions import UNREACHABLE
from ..text import visible
from ..users.directory import Profile, batches
from ..web import acts, i18n
from .results import cause_text, own_force_logouts

NAMES_SHOWN = 5
"""The names in one part of a summary; of the others, it has the number."""

Status = Literal["done", "stale", "refused", "failed", "unknown", "active"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The result for one of the chosen users.

    :param status: ``stale`` without an active session; ``failed`` if the act did not reach the
        user or was undone; ``active`` if there is no record of an act of a moment ago.
    :param sessions: The sessions that ended, or for ``active``, those that go on.
    :param reason: The reason of a refusal.
    """

    profile: Profile
    status: Status
    sessions: int = 0
    reason: str = ""

    @property
    def username(self) -> str:
        """The username, with marks for invisible characters."""
        return visible(self.profile.username)

    @property
    def may_retry(self) -> bool:
        """Whether a second try may succeed."""
        return self.status in ("failed", "unknown")

    @property
    def text(self) -> str:
        """The result in a few words."""
        if self.status == "done":
            return i18n.ngettext("%(num)d session", "%(num)d sessions", self.sessions)
        if self.status == "stale":
            return i18n.gettext("No active session")
        if self.status == "refused":
            return self.reason
        if self.status == "unknown":
            return i18n.gettext("It is not known whether the user was signed out.")
        if self.status == "failed":
            return i18n.gettext("Not signed out.")
        return i18n.ngettext(
            "Not signed out · %(num)d active session",
            "Not signed out · %(num)d active sessions",
            self.sessions,
        )


def lines_of(result: BulkResult, user_ids: Sequence[str]) -> list[Line]:
    """Return the lines of an act that has just been done, in the order of *user_ids*."""
    found: dict[str, dict[str, Any]] = {}
    for made in result.done:
        status = "done" if made.sessions_ended else "stale"
        found[str(made.user_id)] = {"status": status, "sessions": made.sessions_ended}
    for user_id, error in result.refused:
        found[user_id] = {"status": "refused", "reason": i18n.gettext(error.detail)}
    for user_id in [*result.failed, *result.not_reached]:
        found[user_id] = {"status": "failed"}
    for user_id in result.failed_unknown:
        found[user_id] = {"status": "unknown"}
    profiles = profiles_of(found)
    ids = [user_id for user_id in dict.fromkeys(user_ids) if user_id in found]
    return [Line(profile=profiles[user_id], **found[user_id]) for user_id in ids]


def past_lines(user_ids: Sequence[str]) -> list[Line]:
    """Return the lines of the caller's own act of a moment ago, from the audit records.

    Of a user without such a record, the line has the state of now.

    :raises Forbidden: The caller may force out no user.
    :raises BadRequest: There are too many ids, or none.
    """
    state = get_state()
    now = acts.preview_several(current_user, user_ids)
    active = {profile.user_id: (profile, number) for profile, number in now.chosen}
    refused = dict(now.refused)
    records = own_force_logouts(list(active) + list(refused), state.users.id_of(current_user))
    profiles = profiles_of(refused) | {user_id: each for user_id, (each, _) in active.items()}
    lines = []
    for user_id in dict.fromkeys(user_ids):
        profile, record = profiles[user_id], records.get(user_id)
        if record is not None:
            ended = record.sessions_ended
            lines.append(Line(profile=profile, status="done" if ended else "stale", sessions=ended))
        elif user_id in refused:
            reason = i18n.gettext(refused[user_id].detail)
            lines.append(Line(profile=profile, status="refused", reason=reason))
        else:
            number = active[user_id][1]
            lines.append(
                Line(profile=profile, status="active" if number else "stale", sessions=number)
            )
    return lines


def profiles_of(user_ids: Iterable[str]) -> dict[str, Profile]:
    """Return the profiles of users; the ids alone, if the database does not answer."""
    users = get_state().users
    ids = list(user_ids)
    people: dict[str, Any] = {}
    try:
        for batch in batches(ids):
            people |= users.get_many(batch)
    except (XgenSessionsError, *UNREACHABLE):
        people = {}
    return {user_id: users.profile(user_id, people.get(user_id)) for user_id in ids}


def summary(lines: Sequence[Line], error: XgenSessionsError | None = None) -> str:
    """Return the result of the whole act in sentences, which name all but the users signed out.

    :param error: The error that stopped the act.
    """
    by_status: dict[str, list[Line]] = {}
    for line in lines:
        by_status.setdefault(line.status, []).append(line)
    parts = []
    if done := by_status.get("done"):
        parts.append(_signed_out(len(done), sum(line.sessions for line in done)))
    if stale := by_status.get("stale"):
        text = i18n.ngettext(
            "%(num)d user had no active session any more.",
            "%(num)d users had no active session any more.",
            len(stale),
        )
        parts.append(text)
    parts += _refusals(by_status.get("refused", []))
    if failed := by_status.get("failed"):
        parts.append(_not_signed_out(failed))
    if unknown := by_status.get("unknown"):
        text = i18n.ngettext(
            "It is not known whether %(num)d user was signed out: %(names)s.",
            "It is not known whether %(num)d users were signed out: %(names)s.",
            len(unknown),
            names=_names(unknown),
        )
        parts.append(text)
    if active := by_status.get("active"):
        parts.append(_not_signed_out(active))
    if error is not None and ("failed" in by_status or (active and not unknown)):
        parts.append(cause_text(error))
    return " ".join(parts)


def _signed_out(users: int, sessions: int) -> str:
    return i18n.gettext(
        "%(users)s, %(sessions)s.",
        users=i18n.ngettext("%(num)d user signed out", "%(num)d users signed out", users),
        sessions=i18n.ngettext("%(num)d session ended", "%(num)d sessions ended", sessions),
    )


def _not_signed_out(lines: Sequence[Line]) -> str:
    return i18n.ngettext(
        "%(num)d user was not signed out: %(names)s.",
        "%(num)d users were not signed out: %(names)s.",
        len(lines),
        names=_names(lines),
    )


def _refusals(lines: Sequence[Line]) -> list[str]:
    by_reason: dict[str, list[Line]] = {}
    for line in lines:
        by_reason.setdefault(line.reason, []).append(line)
    return [
        i18n.ngettext(
            "%(num)d refused: %(names)s. %(reason)s",
            "%(num)d refused: %(names)s. %(reason)s",
            len(each),
            names=_names(each),
            reason=reason,
        )
        for reason, each in by_reason.items()
    ]


def _names(lines: Sequence[Line]) -> str:
    names = ", ".join(line.username for line in lines[:NAMES_SHOWN])
    more = len(lines) - NAMES_SHOWN
    if more <= 0:
        return names
    return i18n.ngettext(
        "%(names)s and %(num)d more", "%(names)s and %(num)d more", more, names=names
    )


def results_by_user(lines: Sequence[Line]) -> Mapping[str, dict[str, Any]]:
    """Return the lines for the page's script, by user id."""
    return {
        line.profile.user_id: {"status": line.status, "text": line.text, "retry": line.may_retry}
        for line in lines
    }
