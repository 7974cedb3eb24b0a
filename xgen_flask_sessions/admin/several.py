"""A force logout of several users: the preview, the act, and its result as a page or as JSON.

Without a script, the check boxes of the list lead to a preview, and its button to the act. A script
sends the act of the list's bar at once. A result is read from the audit records. An act
that stopped has no record: the answer to the act itself says so, and no address does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flask import Response, jsonify, redirect, request, url_for
from flask_login import current_user

from ..errors import (
    AuthenticationError,
    BadRequest,
    CrossSiteRequest,
    DatabaseUnavailable,
    Forbidden,
    LedgerUnavailable,
    XgenSessionsError,
)
from ..roster.kept import find_users
from ..state import get_state
from ..store.transactions import UNREACHABLE, reporting_unreachable
from ..users.directory import batches
from ..web import acts, i18n
from ..web.bulk_acts import MOST_USERS, NONE_CHOSEN, TOO_MANY_CHOSEN, BulkResult
from ..web.failures import note_failure
from ..web.forms import check_form
from ..web.problems import sign_in_url
from . import results
from .acting import answer_in_list, has_ended_oneself, is_by_script, requested_reason
from .admin_center_view import AdminCenterView, page_number
from .list_page import ENDPOINT, requested_listing, row_context, rows_of
from .several_lines import Line, lines_of, past_lines, profiles_of, results_by_user, summary

CHOSEN: Final = "users"
"""The field of the chosen users' ids."""
LONGEST_ADDRESS: Final = 4000
"""Characters of ids in an address; many servers refuse addresses over 8,000 characters."""


def show(view: AdminCenterView) -> Any:
    """Show the preview of the chosen users, or with ``after``, the result of the act."""
    ids = list(dict.fromkeys(request.args.getlist(CHOSEN)))
    if not ids:  # such as after a change of the language
        return view.back(lang=request.args.get("lang"), **requested_listing().query())
    if not request.args.get("after"):
        return _preview(view, ids)
    return _result_page(view, past_lines(ids))


def submit(view: AdminCenterView) -> Any:
    """Lead the list's form to the preview; with ``act``, end all sessions of the chosen users."""
    ids = list(dict.fromkeys(request.form.getlist(CHOSEN)))
    try:
        check_form()
        _check_number(ids)
        if not request.form.get("act"):
            return _to_preview(view, ids)
        result = _act(ids)
    except AuthenticationError:
        raise  # to the sign-in page
    except XgenSessionsError as error:
        return _failed(view, ids, error)
    if isinstance(result.error, AuthenticationError):
        raise result.error
    if result.error is not None:
        note_failure(result.error)
    done = [str(each.user_id) for each in result.done]
    if has_ended_oneself(done) and (url := sign_in_url()) is not None:
        return jsonify(status="done", sign_in=url) if is_by_script() else redirect(url, 303)
    lines = lines_of(result, ids)
    if is_by_script():
        return _answer_script(view, lines, result)
    address = _address(ids, after=1)
    if result.error is None and len(address) <= LONGEST_ADDRESS:
        return redirect(address, 303)
    return _result_page(view, lines, result.error)


def _act(ids: Sequence[str]) -> BulkResult:
    with reporting_unreachable():
        return acts.force_out_several(current_user, ids, requested_reason())


def _check_number(ids: Sequence[str]) -> None:
    if not ids:
        raise BadRequest(NONE_CHOSEN)
    if len(ids) > MOST_USERS:
        raise BadRequest(TOO_MANY_CHOSEN)


def _to_preview(view: AdminCenterView, ids: Sequence[str]) -> Any:
    address = _address(ids)
    return redirect(address, 303) if len(address) <= LONGEST_ADDRESS else _preview(view, ids)


def _address(ids: Sequence[str], **more: Any) -> str:
    query = {**requested_listing().query(), **more, CHOSEN: list(ids)}
    return url_for(f"{ENDPOINT}.several", page=_page(), **query)


def _page() -> int | None:
    number = page_number()
    return number if number > 1 else None


def _preview(view: AdminCenterView, ids: Sequence[str], *, failure: str | None = None) -> str:
    """Return the page that says who would be forced out.

    :param failure: Why the act, which this page asked for, failed.
    """
    preview = acts.preview_several(current_user, ids)
    own_id = get_state().users.id_of(current_user)
    refused = profiles_of(user_id for user_id, _ in preview.refused)
    return view.render(
        "xgen_sessions/several.html",
        preview=preview,
        refused=[(refused[each], i18n.gettext(error.detail)) for each, error in preview.refused],
        is_own=any(profile.user_id == own_id for profile, _ in preview.chosen),
        failure=failure,
        reason=request.form.get("reason", ""),
        back=_back_url(),
        **row_context(),
    )


def _back_url() -> str:
    query: dict[str, Any] = requested_listing().query()
    return url_for(f"{ENDPOINT}.index", page=_page(), **query)


def _result_page(
    view: AdminCenterView, lines: Sequence[Line], error: XgenSessionsError | None = None
) -> Any:
    page = view.render(
        "xgen_sessions/several_result.html",
        lines=lines,
        summary=summary(lines, error),
        again=[line.profile.user_id for line in lines if line.may_retry],
        all_done=all(line.status == "done" for line in lines),
        reason=request.form.get("reason", ""),
        back=_back_url(),
        **row_context(),
    )
    return (page, error.status, _headers(error)) if error is not None else page


def _answer_script(view: AdminCenterView, lines: Sequence[Line], result: BulkResult) -> Response:
    done = [line for line in lines if line.status in ("done", "stale")]
    status = "unknown" if result.failed_unknown else "done" if done else "failed"
    answer = jsonify(
        status=status,
        message=summary(lines, result.error),
        users=results_by_user(lines),
        rows=_rows(view, done),
    )
    if result.error is not None:
        answer.status_code = result.error.status
        answer.headers.update(_headers(result.error))
    return answer


def _rows(view: AdminCenterView, lines: Sequence[Line]) -> str:
    """Return the rows as they are now; none if the database does not answer any more."""
    state = get_state()
    found = {
        line.profile.user_id: results.of_number(line.sessions, line.username) for line in lines
    }
    try:
        users = [
            user
            for batch in batches(found)
            for user in find_users(state.db.session(), state.users, state.roster, batch)
        ]
        rows = rows_of(users, results=found)
        return view.render("xgen_sessions/_rows.html", rows=rows, **row_context())
    except (DatabaseUnavailable, *UNREACHABLE):
        return ""


def _failed(view: AdminCenterView, ids: Sequence[str], error: XgenSessionsError) -> Any:
    """Answer an act that ended no session."""
    if not is_by_script() and isinstance(error, Forbidden | CrossSiteRequest):
        raise error
    note_failure(error)
    text = _failure(error)
    if is_by_script():
        is_unknown = isinstance(error, LedgerUnavailable) and not error.undone
        answer = jsonify(
            status="unknown" if is_unknown else "failed",
            message=text,
            code=error.code,
            retry=results.may_retry(error),
        )
        answer.status_code = error.status
        answer.headers.update(_headers(error))
        return answer
    if not 1 <= len(ids) <= MOST_USERS:
        return answer_in_list(view, error, text)
    try:
        return _preview(view, ids, failure=text), error.status, _headers(error)
    except (DatabaseUnavailable, *UNREACHABLE):
        raise error from None


def _failure(error: XgenSessionsError) -> str:
    if isinstance(error, BadRequest):
        return i18n.gettext(error.detail)
    if isinstance(error, LedgerUnavailable) and not error.undone:
        return i18n.gettext("It is not known whether the users were signed out.")
    return results.failure_text(error)


def _headers(error: XgenSessionsError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
