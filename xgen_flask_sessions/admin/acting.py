"""The acts of Login Management: a checked form, one act, and the answer to the browser.

A script gets the row and a sentence as JSON. A form without a script gets the list again, with the
rows in their places; see :mod:`.kept_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from flask import Response, jsonify, redirect, request, url_for
from flask_login import current_user

from ..errors import (
    AuthenticationError,
    BadRequest,
    DatabaseUnavailable,
    Forbidden,
    NotFound,
    RateLimited,
    XgenSessionsError,
)
from ..roster.kept import find_users
from ..roster.roster import ActiveUser
from ..roster.user_revocations import find_end
from ..state import get_state
from ..store.tables import MAX_REASON
from ..store.transactions import UNREACHABLE, reporting_unreachable
from ..text import gettext_noop, visible
from ..web import acts, i18n
from ..web.failures import note_failure
from ..web.forms import check_form
from ..web.problems import sign_in_url
from ..web.request_token import outcome
from ..web.same_site import FORM_FIELD
from . import kept_rows, results
from .admin_center_view import AdminCenterView, page_number
from .list_page import (
    ENDPOINT,
    list_context,
    requested_listing,
    row_context,
    rows_of,
    shown_ids,
)
from .user_page import own_recent

_SHOWN_IN_LIST = BadRequest, DatabaseUnavailable, Forbidden, RateLimited
"""Failures that the list shows; a form without its token gets an error page."""


def force_logout(view: AdminCenterView) -> Any:
    """End all sessions of a user; after one's own, go to the sign-in page."""
    user_id = request.form.get("user_id", "")
    return _act(
        view,
        user_id,
        lambda reason: acts.force_out(current_user, user_id, reason),
        _answer_row,
        done=gettext_noop("The user was signed out."),
        unknown=gettext_noop("It is not known whether %(user)s was signed out."),
    )


def end_session(view: AdminCenterView) -> Any:
    """End one session of a user; after one's own, go to the sign-in page."""
    user_id = request.values.get("user_id", "")
    session_id = request.form.get("session_id", "")
    return _act(
        view,
        user_id,
        lambda reason: acts.end_one(current_user, user_id, session_id, reason),
        _answer_session,
        done=gettext_noop("The session was ended."),
        unknown=gettext_noop("It is not known whether the session ended."),
    )


def confirm(view: AdminCenterView, *, failure: str | None = None) -> Any:
    """Ask before a force logout, for the reason or because the deployment requires it.

    :param failure: Why the reason that was typed is refused.
    """
    state = get_state()
    user_id = request.values.get("user_id", "")
    profile = state.users.profile(user_id, state.users.get(user_id))
    (found,) = _find(user_id) or (None,)
    if found is None:
        context = {"profile": None, **row_context()}
        return view.render("xgen_sessions/confirm.html", **context), NotFound.status
    state.authority.require_force_logout(current_user, superuser=profile.superuser)
    page = view.render(
        "xgen_sessions/confirm.html",
        profile=profile,
        number=found.active_sessions,
        kept=kept_rows.pack(shown_ids(), user_id),
        failure=failure,
        reason=request.form.get("reason", ""),
        **row_context(),
    )
    return (page, BadRequest.status) if failure else page


def may_end(user_id: str) -> bool:
    """Return whether the current user may end the sessions of a user."""
    state = get_state()
    user = state.users.get(user_id)
    superuser = user is not None and state.users.may_be_superuser(user)
    return state.authority.may_force_logout(current_user, superuser=superuser)


def is_by_script() -> bool:
    """Return whether the page's own script sent the request, and expects JSON."""
    return request.headers.get("X-Requested-With") == "XMLHttpRequest"


def _act(
    view: AdminCenterView,
    user_id: str,
    act: Callable[[str | None], Any],
    answer: Callable[[AdminCenterView, str, Any], Response],
    *,
    done: str,
    unknown: str,
) -> Any:
    """Check the form, act, and answer the script or redirect to the list.

    :param done: The result if the row cannot be read again.
    :param unknown: The result if the database did not answer the commit.
    """
    try:
        check_form()
        with reporting_unreachable():
            record = act(requested_reason())
    except AuthenticationError:
        raise  # to the sign-in page
    except XgenSessionsError as error:
        return _failed(view, user_id, error, unknown)
    if has_ended_oneself([user_id]) and (url := sign_in_url()) is not None:
        return jsonify(status="done", sign_in=url) if is_by_script() else redirect(url, 303)
    if is_by_script():
        try:
            return answer(view, user_id, record)
        except (DatabaseUnavailable, *UNREACHABLE):  # it is done all the same
            text = _had_ended() if record is None else i18n.gettext(done)
            return jsonify(status="done", message=text)
    if record is None and not _has_ended_it(user_id):
        context = list_context(failure=_had_ended(), expanded=[user_id])
        return view.render("xgen_sessions/login_management.html", **context)
    return _back(user_id, expanded=request.args.get("user_id"))


def requested_reason() -> str | None:
    """Return the reason in the form, if there is one.

    :raises BadRequest: It is too long.
    """
    reason = request.form.get("reason", "").replace("\r\n", "\n").strip()  # as forms send lines
    if len(reason) > MAX_REASON:
        raise BadRequest(gettext_noop("A reason has at most 500 characters."))
    return reason or None


def has_ended_oneself(user_ids: Collection[str]) -> bool:
    """Return whether an act has ended the session of the current request.

    :param user_ids: The users that were forced out.
    """
    token = outcome().token
    if token is None:  # a session of Flask-Login alone
        return get_state().users.id_of(current_user) in user_ids
    try:
        get_state().strict_checker.recheck(token)
    except AuthenticationError:
        return True
    except XgenSessionsError:
        return False
    return False


def _find(user_id: str) -> list[ActiveUser]:
    state = get_state()
    return find_users(state.db.session(), state.users, state.roster, [user_id])


def _answer_row(view: AdminCenterView, user_id: str, record: Any) -> Response:
    users = _find(user_id)
    username = visible(users[0].profile.username) if users else user_id
    result = results.of_record(record, username)
    rows = rows_of(users, results={user_id: result})
    return jsonify(
        status=result.status,
        message=result.message,
        row=view.render("xgen_sessions/_rows.html", rows=rows, **row_context()),
    )


def _answer_session(view: AdminCenterView, user_id: str, record: Any) -> Response:
    ended = record is not None
    text = i18n.gettext("Ended") if ended else i18n.gettext("Already ended")
    return jsonify(
        status="done" if ended else "stale",
        text=text,
        message=i18n.gettext("The session was ended.") if ended else _had_ended(),
        row=view.render("xgen_sessions/_rows.html", rows=rows_of(_find(user_id)), **row_context()),
    )


def _has_ended_it(user_id: str) -> bool:
    """Return whether the current user ended the session of the form a moment ago."""
    session_id = request.form.get("session_id", "")
    return own_recent(find_end(get_state().db.session(), user_id, session_id)) is not None


def _had_ended() -> str:
    return i18n.gettext("The session had already ended.")


def _failed(view: AdminCenterView, user_id: str, error: XgenSessionsError, unknown: str) -> Any:
    """Answer an act that failed: in the row, in the list, or as an error page; see :func:`_act`."""
    unknown = i18n.gettext(unknown, user=visible(_username(user_id)))
    result = results.of_error(error, unknown)
    may_retry = results.may_retry(error)
    if is_by_script():
        note_failure(error)
        answer = jsonify(
            status=result.status, message=result.message, code=error.code, retry=may_retry
        )
        answer.status_code = error.status
        if error.retry_after_s:
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer
    if isinstance(error, NotFound):
        raise BadRequest(error.detail) from None
    if not isinstance(error, _SHOWN_IN_LIST):
        raise error
    note_failure(error)
    if isinstance(error, BadRequest) and request.endpoint == f"{ENDPOINT}.force_logout":
        return confirm(view, failure=result.message)  # with the reason, to be shortened
    return answer_in_list(view, error, result.message, retry=form_fields() if may_retry else None)


def answer_in_list(
    view: AdminCenterView, error: XgenSessionsError, text: str, *, retry: Any = None
) -> Any:
    """Answer a form without a script with the list, and the reason why its act failed.

    :param retry: The fields of a form for a second try.
    :raises XgenSessionsError: The list cannot be read, either.
    """
    try:
        context = list_context(failure=text, retry=retry)
        page = view.render("xgen_sessions/login_management.html", **context)
    except (DatabaseUnavailable, *UNREACHABLE):
        raise error from None
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    return page, error.status, headers


def form_fields() -> list[tuple[str, str]]:
    """Return the fields of the current form, but for its token."""
    return [each for each in request.form.items(multi=True) if each[0] != FORM_FIELD]


def _username(user_id: str) -> str:
    """Return the username if the database answers, otherwise the id."""
    state = get_state()
    try:
        return state.users.profile(user_id, state.users.get(user_id)).username
    except (XgenSessionsError, *UNREACHABLE):
        return user_id


def _back(user_id: str, *, expanded: str | None) -> Any:
    """Redirect to the list, with the rows in their places and the acted row in view."""
    shown = kept_rows.unpack(request.form.get(kept_rows.PARAMETER, "")) or [user_id]
    kept = kept_rows.pack(shown, user_id)
    query: dict[str, Any] = {**requested_listing().query(), kept_rows.PARAMETER: kept}
    if (number := page_number()) > 1:
        query["page"] = number
    if expanded:
        query["expand"] = expanded
    ids = kept_rows.unpack(kept)
    place = ids.index(user_id) + 1 if user_id in ids else 1
    return redirect(url_for(f"{ENDPOINT}.index", **query, _anchor=f"user-{place}"), 303)
