"""A force logout of everyone: its page asks for a word, so that no click alone does it."""

from __future__ import annotations

import unicodedata
from typing import Any

from flask import redirect, request, url_for
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
from ..state import get_state
from ..store.transactions import UNREACHABLE, reporting_unreachable
from ..web import acts, i18n
from ..web.bulk_acts import Preview
from ..web.failures import note_failure
from ..web.forms import check_form
from ..web.problems import sign_in_url
from . import results
from .acting import requested_reason
from .admin_center_view import AdminCenterView
from .list_page import ENDPOINT, requested_listing, row_context


def word() -> str:
    """Return the word to type, in the current language."""
    return i18n.gettext("EVERYONE")


def show(view: AdminCenterView) -> Any:
    """Show the number of users and sessions, and ask for the word.

    :raises Forbidden: The current user may not force out everyone.
    """
    return _page(view, acts.preview_everyone(current_user))


def submit(view: AdminCenterView) -> Any:
    """End all sessions of all users if the word is right; then go to the sign-in page."""
    try:
        check_form()
        get_state().authority.require_everyone(current_user)
        reason = requested_reason()
        typed = unicodedata.normalize("NFC", request.form.get("word", "")[:100]).strip()
        if typed != word():
            return _page(view, acts.preview_everyone(current_user), is_wrong=True), 400
        with reporting_unreachable():
            acts.force_out_everyone(current_user, reason)
    except (AuthenticationError, CrossSiteRequest, Forbidden):
        raise
    except XgenSessionsError as error:
        return _failed(view, error)
    return redirect(sign_in_url() or url_for(f"{ENDPOINT}.index"), 303)


def _failed(view: AdminCenterView, error: XgenSessionsError) -> Any:
    note_failure(error)
    if isinstance(error, LedgerUnavailable) and not error.undone:
        text = i18n.gettext("It is not known whether everyone was signed out.")
    elif isinstance(error, BadRequest):
        text = i18n.gettext(error.detail)
    else:
        text = results.failure_text(error)
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    try:
        page = _page(view, acts.preview_everyone(current_user), failure=text)
    except (DatabaseUnavailable, *UNREACHABLE):
        raise error from None
    return page, error.status, headers


def _page(
    view: AdminCenterView, preview: Preview, *, failure: str | None = None, is_wrong: bool = False
) -> str:
    """Return the page, with the word and the reason as they were typed.

    :param failure: Why the act failed; its button then tries it again.
    :param is_wrong: Whether another word than :func:`word` was typed.
    """
    query: dict[str, Any] = requested_listing().query()
    return view.render(
        "xgen_sessions/everyone.html",
        preview=preview,
        word=word(),
        typed=request.form.get("word", "")[:100],
        is_wrong=is_wrong,
        failure=failure,
        reason=request.form.get("reason", ""),
        back=url_for(f"{ENDPOINT}.index", **query),
        **row_context(),
    )
