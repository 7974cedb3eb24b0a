"""The acts of a user's page: each acts once, and answers with what is true then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flask import Response, jsonify, make_response, redirect, request, url_for
from flask_login import current_user

from ..errors import (
    AuthenticationError,
    BadRequest,
    DatabaseUnavailable,
    LedgerUnavailable,
    NotFound,
    XgenSessionsError,
)
from ..roster.spans import parse_span
from ..roster.user_revocations import find_end
from ..state import get_state
from ..store.revocations import Revocation
from ..store.transactions import UNREACHABLE, reporting_unreachable
from ..text import gettext_noop
from ..web import acts, i18n
from ..web.acts import EndedSessions
from ..web.failures import note_failure
from ..web.forms import check_form
from ..web.problems import sign_in_url
from .acting import form_fields, has_ended_oneself, is_by_script, requested_reason
from .admin_center_view import AdminCenterView
from .list_page import ENDPOINT
from .results import cause_text, failure_text, may_retry
from .user_page import account_state, find_person, own_recent, result_of, show

Act = Callable[[str, str | None], EndedSessions]
"""Takes the user's id and a reason, and returns the revocations that were made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an act, for a script and for a page."""

    status: Literal["done", "failed", "unknown"]
    message: str
    code: int = 200
    """The HTTP status."""
    retry_after_s: int | None = None
    may_retry: bool = False
    """Whether a second try may succeed."""
    revocation_id: str | None = None
    """The audit record that the page reads the result from."""
    kept_us: int | None = None
    """Sessions that ended at this time keep their places."""
    ended: list[str] | None = field(default_factory=list)
    """The sessions that have ended; ``None`` for all of the user's."""
    account: str | None = None
    """The state of the account in words."""
    is_active: bool = True
    """Whether the account is active."""
    sign_in: str | None = None
    """The sign-in page, if the caller's own session has ended."""


def is_from_user_page() -> bool:
    """Return whether the current form is one of a user's page."""
    return request.form.get("at") == "user"


def force_logout(view: AdminCenterView) -> Any:
    """End all sessions of the user."""

    def force_out(user_id: str, reason: str | None) -> EndedSessions:
        return EndedSessions(done=[acts.force_out(current_user, user_id, reason)])

    return _act(view, force_out)


def end_session(view: AdminCenterView) -> Any:
    """End one session of the user."""
    session_id = request.form.get("session_id", "")

    def end(user_id: str, reason: str | None) -> EndedSessions:
        made = acts.end_one(current_user, user_id, session_id, reason)
        return EndedSessions(done=[] if made is None else [made])

    return _act(view, end, ended=[session_id])


def end_older(view: AdminCenterView) -> Any:
    """End the sessions of the user that began long ago, or all but the newest."""

    def end(user_id: str, reason: str | None) -> EndedSessions:
        if request.form.get("keep_newest"):
            return acts.end_older(current_user, user_id, keep_newest=True, reason=reason)
        number, unit = request.form.get("number", "").strip(), request.form.get("unit", "d")
        age_us = parse_span(request.form.get("older_than") or number + unit)
        if age_us is None:
            raise BadRequest(gettext_noop("Give the age as a whole number, 36,500 days at most."))
        return acts.end_older(current_user, user_id, older_than_us=age_us, reason=reason)

    return _act(view, end)


def process_leaver(view: AdminCenterView) -> Any:
    """End all sessions of the user, make the account inactive and revoke its roles."""

    def process(user_id: str, reason: str | None) -> EndedSessions:
        return EndedSessions(done=[acts.process_leaver(current_user, user_id, reason).revocation])

    return _act(view, process)


def _act(view: AdminCenterView, perform: Act, *, ended: list[str] | None = None) -> Any:
    """Perform an act on the user that the form names, and answer.

    :param ended: The session that has ended afterwards, whether by this act or before.
    """
    failed: XgenSessionsError | None = None
    try:
        check_form()
        result = _perform(request.form.get("user_id", ""), perform, ended)
    except XgenSessionsError as error:
        if isinstance(error, AuthenticationError | NotFound) and not is_by_script():
            raise
        note_failure(error)
        failed, result = error, _failure(error)
    return _for_script(result) if is_by_script() else _for_page(view, result, failed)


def _perform(user_id: str, perform: Act, ended: list[str] | None) -> Result:
    with reporting_unreachable():
        performed = perform(user_id, requested_reason())
    made = performed.done
    try:
        result = _result(user_id, made, ended)
    except (DatabaseUnavailable, *UNREACHABLE):  # it is done all the same
        message = i18n.gettext("No session had to be ended.")
        if made:
            message = i18n.gettext("It is done. Refresh shows what is true now.")
        result = Result(status="done", message=message, revocation_id=made[0].id if made else None)
    return result if performed.error is None else _stopped(result, made, performed.error)


def _stopped(result: Result, made: list[Revocation], error: XgenSessionsError) -> Result:
    """Return the result of an act that stopped after a part of the sessions had ended."""
    note_failure(error)
    is_unknown = isinstance(error, LedgerUnavailable) and not error.undone
    if is_unknown:
        text = i18n.gettext("It is not known whether the other sessions ended.")
    else:
        text = i18n.gettext("The other sessions go on.")
    return replace(
        result,
        status="unknown" if is_unknown else "failed",
        message=f"{result.message} · {cause_text(error)} {text}",
        code=error.status,
        retry_after_s=error.retry_after_s,
        may_retry=may_retry(error),
        revocation_id=None,
        kept_us=made[0].revoked_us if made else None,
        sign_in=sign_in_url() if isinstance(error, AuthenticationError) else result.sign_in,
    )


def _result(user_id: str, made: list[Revocation], ended: list[str] | None) -> Result:
    """Return the result of an act, in words; see :func:`_act`.

    :raises DatabaseUnavailable: The user cannot be read again.
    """
    person = find_person(user_id)
    gone = ended if ended is not None else [each.session_id for each in made if each.session_id]
    number = sum(each.sessions_ended for each in made)
    everything = any(each.kind == "user" for each in made)
    shown, kept_us = (made[0].id if made else None), None
    if ended is not None and not made:
        message = i18n.gettext("This session had already ended.")
        act = find_end(get_state().db.session(), user_id, ended[0])
        kept_us = None if act is None else act.revoked_us
        own = own_recent(act)
        if own is not None and own.kind != "everyone":  # the second click at a button
            message, shown = result_of(person, own.sessions_ended), own.id
    elif not made:
        message = i18n.gettext("No session had to be ended.")
    elif person.is_own and everything:
        message = i18n.gettext("You ended all your sessions.")
    else:
        message = result_of(person, number)
    is_out = made and person.is_own and has_ended_oneself([user_id] if everything else [])
    return Result(
        status="done",
        message=message,
        revocation_id=shown,
        kept_us=kept_us,
        ended=None if everything else gone,
        account=account_state(person),
        is_active=person.is_active,
        sign_in=sign_in_url() if is_out else None,
    )


def _failure(error: XgenSessionsError) -> Result:
    """Return what is certain after an error."""
    status: Literal["failed", "unknown"] = "failed"
    if isinstance(error, LedgerUnavailable) and not error.undone:
        status = "unknown"
        message = i18n.gettext(
            "It is not known whether the sessions ended: the database did not answer. Refresh "
            "shows what is true now."
        )
    else:
        message = failure_text(error, i18n.gettext("Nothing was changed."))
    return Result(
        status=status,
        message=message,
        code=error.status,
        retry_after_s=error.retry_after_s,
        may_retry=may_retry(error),
        sign_in=sign_in_url() if isinstance(error, AuthenticationError) else None,
    )


def _for_script(result: Result) -> Any:
    answer = jsonify(
        status=result.status,
        message=result.message,
        ended="all" if result.ended is None else result.ended,
        account=result.account,
        is_active=result.is_active,
        retry=result.may_retry,
        sign_in=result.sign_in,
    )
    answer.status_code = result.code
    return _with_retry_after(answer, result)


def _for_page(view: AdminCenterView, result: Result, error: XgenSessionsError | None) -> Any:
    """Redirect to the page, which reads the result from the record; show a failure at once.

    :param error: Why the act failed.
    :raises XgenSessionsError: It, if the page cannot be read, either.
    """
    if result.sign_in is not None:
        return redirect(result.sign_in, 303)
    user_id = request.form.get("user_id", "")
    if result.revocation_id is not None:
        ended = result.ended or []
        anchor = f"s-{ended[0]}" if len(ended) == 1 else None
        url = url_for(
            f"{ENDPOINT}.user",
            user_id=user_id,
            page=request.form.get("page") or None,
            result=result.revocation_id,
            _anchor=anchor,
        )
        return redirect(url, 303)
    is_done = result.status == "done"
    try:
        shown = show(
            view,
            notice=result.message if is_done else None,
            failure=None if is_done else result.message,
            kept_us=result.kept_us,
            retry=form_fields() if result.may_retry else None,
        )
    except (DatabaseUnavailable, *UNREACHABLE):
        if error is None:
            raise
        raise error from None
    page = shown[0] if isinstance(shown, tuple) else shown
    return _with_retry_after(make_response(page, result.code), result)


def _with_retry_after(answer: Response, result: Result) -> Response:
    if result.retry_after_s is not None:
        answer.headers["Retry-After"] = str(result.retry_after_s)
    return answer
