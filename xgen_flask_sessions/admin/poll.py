"""Keeping an open list current: the conditional poll, and the rows that it leads to.

A page asks every few seconds whether anything changed (``GET …/poll`` with the tag that it has),
and gets 304 at the cost of two small statements. After 200 it asks for the rows that it shows
(``POST …/rows``); it never gets rows that it does not show, only their number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Response, jsonify, request

from .. import clock
from ..errors import BadRequest
from ..roster.listing import DEFAULT, Listing
from ..roster.roster import PAGE_SIZE, Summary
from ..state import get_state
from ..tokens.claims import is_user_id
from ..web import i18n
from ..web.forms import check_form
from . import kept_rows
from .admin_center_view import AdminCenterView
from .list_age import MISSED_US, ListAge
from .list_page import requested_listing, row_context, rows_of

MAX_ROWS = 200
"""The rows that one request may ask for."""
_MAX_DIGITS = 18


def poll() -> Response:
    """Return the summary as it is now, or 304 if the list is as the request's tags say.

    The tag ``*`` fits any list (RFC 9110, section 13.1.2): the session guard sends it, to learn
    whether the session is still valid, and no list is read for it.
    """
    if request.if_none_match.star_tag:
        return Response(status=304)
    fresh = ListAge.of(requested_listing())
    tag = fresh.etag.removeprefix("W/").strip('"')
    if request.if_none_match.contains_weak(tag):
        answer = Response(status=304)
    else:
        state = get_state()
        answer = jsonify(
            as_of=clock.to_rfc3339(fresh.as_of_us),
            offset_s=fresh.offset_s,
            summary=_shown(state.roster.summary(state.db.session())),
        )
    answer.set_etag(tag, weak=True)
    return answer


def rows(view: AdminCenterView) -> Response:
    """Return the requested rows as they are now, and the number of users that came meanwhile.

    Of a user without an active session, there is no row.
    """
    check_form()
    loaded_us = _requested_time()
    recent = {*kept_rows.unpack(request.form.get("recent", ""))}
    ids = {each for each in request.form.getlist("shown") if is_user_id(each)}
    if len(ids) > MAX_ROWS:
        raise BadRequest(f"At most {MAX_ROWS} rows can be asked for at once.")
    listing = requested_listing()
    state = get_state()
    users = state.roster.active_of(state.db.session(), sorted(ids))
    found = view.render("xgen_sessions/_rows.html", rows=rows_of(users), **row_context(listing))
    return jsonify(rows=found, newcomers=_newcomers(listing, ids, loaded_us, recent))


def _newcomers(
    listing: Listing, shown: set[str], loaded_us: int, recent: set[str]
) -> dict[str, Any]:
    """Return the number of users that signed in since the page was loaded, and the text for it.

    They are looked for among the newest of the list; more than a page of them is "50+". A sign-in
    takes its time before it is committed: the page may have missed one of a little before.

    :param shown: The ids of the users that the page shows.
    :param loaded_us: The time of the page.
    :param recent: The ids of the users whose sign-ins of a little before it did not miss; they may
        be on another page.
    """
    state = get_state()
    newest = replace(listing, sort=DEFAULT, descending=True)
    page = state.roster.page(state.db.session(), 1, newest)
    count = sum(
        (user.last_login_us or 0) >= loaded_us - MISSED_US * (user.profile.user_id not in recent)
        and user.profile.user_id not in shown
        for user in page.users
    )
    number = i18n.format_number(count) + ("+" if count >= PAGE_SIZE else "")
    text = i18n.ngettext("%(count)s new sign-in", "%(count)s new sign-ins", count, count=number)
    return {"count": count, "text": text}


def _requested_time() -> int:
    """Return the time of the page, in microseconds.

    :raises BadRequest: The parameter is no number of microseconds.
    """
    text = request.form.get("loaded_us", "")
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        raise BadRequest("loaded_us is a time in microseconds.")
    return int(text)


def _shown(summary: Summary) -> dict[str, str]:
    return {
        "active_users": i18n.format_number(summary.active_users),
        "active_sessions": i18n.format_number(summary.active_sessions),
        "superusers": i18n.format_number(summary.superusers),
    }
