"""The list of Login Management: the requested rows, and the context of its templates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import request
from flask_login import current_user
from werkzeug.datastructures import MultiDict

from ..roster.filtered import UnkeyedAddresses
from ..roster.kept import find_users
from ..roster.listing import COLUMNS, Column, Listing, parse_listing
from ..roster.roster import ActiveUser, Page, SessionPage
from ..state import get_state
from ..web import i18n
from ..web.request_token import outcome
from . import kept_rows
from .admin_center_view import page_number
from .filters import filters_of
from .host_links import ENDPOINT as ENDPOINT
from .list_age import ListAge
from .results import Result, ended_sessions_notes, recent_results

SESSIONS_SHOWN = 20
"""Sessions in an expanded row; the user's page has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the list, for the macro ``user_row``."""

    user: ActiveUser
    number: int
    """The place on the page, counted from 1; the row's id is ``user-NUMBER``."""
    may_force_logout: bool
    is_own: bool
    """Whether the row is the current user's."""
    sessions: SessionPage | None = None
    """The newest sessions, if the row is expanded."""
    result: Result | None = None
    """The result of the current user's own act a moment ago."""
    note: str | None = None
    """A sentence above the sessions, if the row is expanded."""


def list_context(
    *,
    failure: str | None = None,
    retry: Sequence[tuple[str, str]] | None = None,
    expanded: Collection[str] = (),
) -> dict[str, Any]:
    """Return the context of ``login_management.html`` for the current request.

    After an act, the rows are those of before it, in their places; see :mod:`.kept_rows`.

    :param failure: The reason why an act failed.
    :param retry: The fields of a form that tries it again.
    :param expanded: The ids of users whose sessions are shown, besides those in the address.
    """
    state = get_state()
    session = state.db.session()
    age = ListAge.of(requested_listing())
    summary = state.roster.summary(session)
    columns = state.roster.columns(session)
    listing, faults = _read_listing(columns)
    page = Page([], 1, 1, 0)
    if not faults:
        try:
            page = state.roster.nearest_page(
                session, page_number(), listing, active_users=summary.active_users
            )
        except UnkeyedAddresses as error:
            faults.append(error.detail)
    kept = [] if faults else _kept_users()
    users = kept or page.users
    own_id = state.users.id_of(current_user)
    results = recent_results(kept, own_id, has_failed=failure is not None) if kept else {}
    return {
        "age": age,
        "summary": summary,
        "page": page,
        "rows": rows_of(
            users,
            expanded={*request.args.getlist("expand"), *expanded},
            results=results,
            notes=ended_sessions_notes(kept, own_id) if kept else None,
        ),
        "kept": kept_rows.pack([user.profile.user_id for user in users]),
        "has_acted": bool(kept),
        "columns": columns,
        "listing": listing,
        "filters": filters_of(listing, f"{ENDPOINT}.index"),
        "faults": [i18n.gettext(fault) for fault in faults],
        "failure": failure,
        "retry": retry,
        "may_end_everyone": state.authority.may_force_out_everyone(current_user),
        **row_context(listing, page.number),
    }


def _kept_users() -> list[ActiveUser]:
    """Return the users of the page before an act; none on any other page."""
    ids = kept_rows.unpack(request.values.get(kept_rows.PARAMETER, ""))
    state = get_state()
    return find_users(state.db.session(), state.users, state.roster, ids)


def shown_ids() -> list[str]:
    """Return the ids of the users that the requested page of the list shows."""
    kept = kept_rows.unpack(request.values.get(kept_rows.PARAMETER, ""))
    if kept:
        return kept
    state = get_state()
    session = state.db.session()
    listing = requested_listing(state.roster.columns(session))
    page = state.roster.nearest_page(session, page_number(), listing)
    return [user.profile.user_id for user in page.users]


def rows_of(
    users: Sequence[ActiveUser],
    *,
    expanded: Collection[str] = (),
    results: Mapping[str, Result] | None = None,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return the rows of some users.

    :param expanded: The ids of the users whose sessions are shown below their rows.
    :param results: The results of the current user's own acts, by user id.
    :param notes: The sentences above the sessions of expanded rows, by user id.
    """
    state = get_state()
    own_id = state.users.id_of(current_user)
    may = {
        superuser: state.authority.may_force_logout(current_user, superuser=superuser)
        for superuser in {user.profile.superuser for user in users}
    }
    return [
        Row(
            user=user,
            number=number,
            may_force_logout=may[user.profile.superuser],
            is_own=user.profile.user_id == own_id,
            sessions=newest_sessions(user.profile.user_id)
            if user.profile.user_id in expanded
            else None,
            result=(results or {}).get(user.profile.user_id),
            note=(notes or {}).get(user.profile.user_id),
        )
        for number, user in enumerate(users, 1)
    ]


def newest_sessions(user_id: str) -> SessionPage:
    """Return the newest active sessions of a user, and the number of all of them."""
    state = get_state()
    return state.roster.session_page(state.db.session(), user_id, 1, size=SESSIONS_SHOWN)


def row_context(listing: Listing | None = None, number: int | None = None) -> dict[str, Any]:
    """Return the variables that the templates of a row and of its sessions read.

    :param listing: The list that links lead back to; by default, the requested one.
    :param number: The page that links lead back to; by default, the requested one.
    """
    token = outcome().token
    state = get_state()
    return {
        "ENDPOINT": ENDPOINT,
        "query": (requested_listing() if listing is None else listing).query(),
        "page_number": page_number() if number is None else number,
        "confirm_first": state.settings.confirm_force_logout,
        "current_session_id": token.session_id if token else None,
        "own_id": state.users.id_of(current_user),
        "may_process_leavers": state.authority.may_process_leavers(current_user),
    }


def requested_listing(columns: Sequence[Column] = COLUMNS) -> Listing:
    """Return the requested list; an invalid parameter means the default.

    :param columns: The columns that exist.
    """
    return _read_listing(columns)[0]


def _read_listing(columns: Sequence[Column]) -> tuple[Listing, list[str]]:
    """Return the requested list, and the faults of its parameters: then no row is shown."""
    given = request.args.copy()
    if request.method == "POST":
        for name in request.form.keys() - given.keys():
            given.setlist(name, request.form.getlist(name))
    query = MultiDict((name, text.strip()) for name, text in given.items(multi=True))
    return parse_listing(query, columns, zone=get_state().settings.timezone)
