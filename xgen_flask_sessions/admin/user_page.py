"""The page of one user: active and ended sessions, revocations, addresses and devices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import request
from flask_login import current_user

from .. import clock
from ..errors import NotFound
from ..roster import records
from ..roster.ended import EXPIRED, ended_page
from ..roster.newest import newest_sessions
from ..roster.positions import Position
from ..roster.seen import seen
from ..roster.user_revocations import UserRevocation, find_act, revocation_page
from ..state import State, get_state
from ..store.tables import ACCOUNT_CHANGED, ENDED, FORCE_LOGOUT, SIGNED_OUT
from ..text import visible
from ..users.authority import NO_USER
from ..users.directory import Profile
from ..web import i18n
from ..web.request_token import outcome
from ..web.user_urls import url_of_user
from .admin_center_view import AdminCenterView, page_number
from .leaver_panel import leaver_panel
from .list_page import ENDPOINT
from .results import RECENT_US

_MAX_TIME = 18
"""The most digits of a time in an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user as the page's heading shows it."""

    profile: Profile
    exists: bool
    """Whether the account exists; a deleted one is known from its records."""
    is_active: bool
    is_own: bool
    """Whether it is the current user."""
    may_end: bool
    """Whether the current user may end the sessions."""
    url: str | None
    """The host's own page of the user, if it has one."""


def show(
    view: AdminCenterView,
    *,
    notice: str | None = None,
    failure: str | None = None,
    kept_us: int | None = None,
    retry: Sequence[tuple[str, str]] | None = None,
) -> Any:
    """Render the page of the requested user; with 404 if the user is unknown.

    :param view: Login Management.
    :param notice: The result of an act; by default, of the one that the address names.
    :param failure: The reason why an act failed.
    :param kept_us: Sessions that ended at this time keep their places in the list.
    :param retry: The fields of the form, if a second try may succeed.
    """
    state, session = get_state(), get_state().db.session()
    user_id = request.values.get("user_id", "")
    try:
        person = find_person(user_id)
    except NotFound:
        return view.render("xgen_sessions/user_unknown.html", ENDPOINT=ENDPOINT), 404
    act = None if notice or failure else _recent_act(user_id)
    if act is not None:  # the sessions that it ended keep their places in the list
        notice, kept_us = result_of(person, act.sessions_ended), act.revoked_us
    sightings = seen(session, user_id)
    known = (sightings.first_sign_in_us, sightings.last_login_us)
    revocations = revocation_page(
        session,
        user_id,
        _time(request.args.get("records")),
        since_us=min((at_us for at_us in known if at_us is not None), default=None),
    )
    ended = ended_page(session, user_id, Position.parse(request.args.get("ended", "")))
    token = outcome().token
    active = newest_sessions(session, user_id, page_number(), kept_us=kept_us)
    actors = [each.actor for each in revocations.revocations]
    actors += [each.actor for each in ended.sessions]
    return view.render(
        "xgen_sessions/user_page.html",
        ENDPOINT=ENDPOINT,
        person=person,
        sessions=active,
        revocations=revocations,
        ended=ended,
        seen=sightings,
        leaver=leaver_panel(
            user_id, exists=person.exists, is_own=person.is_own, sessions=active.total
        ),
        actor_names=_names(state, actors),
        reasons_of_ends=_reasons_of_ends(),
        current_session_id=token.session_id if token else None,
        confirm_first=state.settings.confirm_force_logout,
        retention_days=state.settings.retention.days,
        as_of=i18n.format_clock(clock.now_us(), state.settings),
        notice=notice,
        failure=failure,
        retry=retry,
        has_acted=bool(notice or failure),
        paged={name: bool(request.args.get(name)) for name in ("records", "ended")},
        account=account_state(person),
    )


def find_person(user_id: str) -> Person:
    """Return a user who exists or has signed in before.

    :raises NotFound: The user is unknown.
    """
    state = get_state()
    user = state.users.get(user_id)
    if user is None and not records.ever_signed_in(state.db.session(), user_id):
        raise NotFound(NO_USER)
    superuser = user is not None and state.users.may_be_superuser(user)
    return Person(
        profile=state.users.profile(user_id, user),
        exists=user is not None,
        is_active=user is not None and state.users.is_active(user),
        is_own=user_id == state.users.id_of(current_user),
        may_end=state.authority.may_force_logout(current_user, superuser=superuser),
        url=url_of_user(user_id) if user is not None else None,
    )


def account_state(person: Person) -> str:
    """Return the state of the account in words."""
    if not person.exists:
        return i18n.gettext("account deleted")
    active = i18n.gettext("account active")
    return active if person.is_active else i18n.gettext("account inactive")


def result_of(person: Person, sessions_ended: int) -> str:
    """Return the result of an act in words.

    :param person: The user, as it is now.
    :param sessions_ended: The number of sessions that ended.
    """
    username = visible(person.profile.username)
    if not sessions_ended:
        text = i18n.gettext("%(user)s had no active session.", user=username)
    else:
        text = i18n.ngettext(
            "%(num)d session of %(user)s ended",
            "%(num)d sessions of %(user)s ended",
            sessions_ended,
            user=username,
        )
    if person.exists and not person.is_active:
        return f"{text} · " + i18n.gettext("The account is inactive.")
    return text


def _recent_act(user_id: str) -> UserRevocation | None:
    """Return the current user's own recent act on the user that the address names."""
    act = find_act(get_state().db.session(), user_id, request.args.get("result", ""))
    return own_recent(act)


def own_recent(act: UserRevocation | None) -> UserRevocation | None:
    """Return an act if the current user did it a short time ago, or else ``None``."""
    state = get_state()
    if act is None or abs(clock.now_us() - act.revoked_us) >= RECENT_US:
        return None
    return act if act.actor == state.users.id_of(current_user) else None


def _names(state: State, actors: Iterable[str | None]) -> dict[str, str]:
    """Return the names of the actors that are users; others are commands."""
    ids = {actor for actor in actors if actor is not None}
    users = state.users.get_many(sorted(ids))
    return {
        user_id: visible(state.users.profile(user_id, user).username)
        for user_id, user in users.items()
    }


def _reasons_of_ends() -> dict[str, str]:
    return {
        FORCE_LOGOUT: i18n.gettext("Force logout"),
        SIGNED_OUT: i18n.gettext("Signed out"),
        ACCOUNT_CHANGED: i18n.gettext("Account changed"),
        ENDED: i18n.gettext("Ended"),
        EXPIRED: i18n.gettext("Expired"),
    }


def _time(text: str | None) -> int | None:
    """Return the time in microseconds that a part of an address names, or ``None``."""
    if not text or len(text) > _MAX_TIME or not (text.isascii() and text.isdigit()):
        return None
    return int(text)
