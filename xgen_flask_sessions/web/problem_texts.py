"""The words of an error page: its title, the cause, and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import (
    CrossSiteRequest,
    Forbidden,
    LedgerUnavailable,
    RateLimited,
    XgenSessionsError,
)
from ..text import visible
from .i18n import gettext, gettext_noop, is_known, ngettext

RELOAD: Final = gettext_noop("Reload the page and try again.")
LATER: Final = gettext_noop("Try again in a moment.")

_TEXTS: Final = {
    400: (gettext_noop("The request is not valid"), "", RELOAD),
    401: (gettext_noop("You are not signed in"), "", gettext_noop("Sign in and try again.")),
    403: (
        gettext_noop("You may not open this page"),
        gettext_noop("Your account has no access."),
        gettext_noop("Ask an administrator for access, or sign in as another user."),
    ),
    404: (
        gettext_noop("Page not found"),
        gettext_noop("The address may be mistyped, or the page no longer exists."),
        "",
    ),
    405: (
        gettext_noop("This page cannot be opened directly"),
        gettext_noop("It only accepts a submitted form."),
        "",
    ),
    409: (
        gettext_noop("The page is out of date"),
        gettext_noop("The data was changed in the meantime."),
        RELOAD,
    ),
    413: (gettext_noop("The request is too large"), "", gettext_noop("Go back, and send less.")),
    429: (
        gettext_noop("Too many requests"),
        gettext_noop("The request was not carried out."),
        gettext_noop("Try again in a minute."),
    ),
    500: (gettext_noop("Something went wrong"), gettext_noop("The error was logged."), LATER),
    503: (
        gettext_noop("Not available right now"),
        gettext_noop("The database cannot be reached."),
        LATER,
    ),
}
"""For each status: the title, the cause and the next step, unless the error says more."""

DETAILS: Final = (
    gettext_noop("The request came from another site."),
    gettext_noop("There is no such user or session."),
    gettext_noop("The database cannot be used right now."),
    gettext_noop("Sessions cannot be checked right now."),
    gettext_noop("Sessions cannot be changed right now. Nothing was done."),
    gettext_noop("The database refused the change. Nothing was done."),
)
"""Sentences of ``errors``, which knows no translations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemText:
    """The words of an error page, in the current language."""

    status: int
    title: str
    cause: str
    """May be empty if the title says it all."""
    step: str
    """The next step in a sentence; may be empty if the page's link is the step."""


def describe(
    status: int,
    error: XgenSessionsError | None,
    *,
    may_view: bool = False,
    username: str | None = None,
) -> ProblemText:
    """Return the words for an error page.

    :param status: The status of the answer.
    :param error: The error that it answers, if it is the package's.
    :param may_view: Whether the caller has access to the page, so that an act alone was refused.
    :param username: The name of the caller, if it explains the refusal.
    """
    title, cause, step = _TEXTS.get(status, _TEXTS[400 if status < 500 else 500])
    if isinstance(error, CrossSiteRequest):
        title, step = gettext_noop("The request was refused"), RELOAD
    elif isinstance(error, Forbidden) and may_view:
        title = gettext_noop("You may not do this")
        step = gettext_noop("Ask an administrator who has this right.")
    elif isinstance(error, LedgerUnavailable) and not error.undone:
        step = ""  # the cause says it: to try again might do it twice
    elif isinstance(error, LedgerUnavailable) and error.refused:
        step = gettext_noop("The log says why.")
    if error is not None and is_known(error.detail):
        cause = error.detail
    wait_s = error.retry_after_s if isinstance(error, RateLimited) else None
    causes = [gettext(cause)] if cause else []
    if username:
        causes.append(gettext("You are signed in as %(user)s.", user=visible(username)))
    return ProblemText(
        status=status,
        title=gettext(title),
        cause=" ".join(causes),
        step=_wait(wait_s) if wait_s else gettext(step) if step else "",
    )


def _wait(seconds: int) -> str:
    return ngettext("Try again in %(num)d second.", "Try again in %(num)d seconds.", seconds)
