"""Calls about the current request for the host's own sign-in pages."""

from __future__ import annotations

from flask import request

from ..errors import (
    CrossSiteRequest,
    RateLimited,
    SessionRevoked,
    TokenMissing,
    XgenSessionsError,
)
from ..roster import records
from ..roster.devices import client_address
from ..state import get_state
from ..store.revocations import Revocation
from . import audit
from .request_token import outcome
from .same_site import is_local_path
from .same_site import is_same_site as is_request_same_site


def rejection() -> XgenSessionsError | None:
    """Return why the current request's token is refused, or ``None``.

    It is ``None`` for a valid token and for a request without one. After a force logout it is a
    ``SessionRevoked`` with ``forced`` true, so that a sign-in page can explain the reason.
    """
    error = outcome().error
    return None if isinstance(error, TokenMissing) else error


def revocation() -> Revocation | None:
    """Return the revocation that ended the session of the current request's token, or ``None``.

    Its ``actor`` is the user's own id where the user did it: a sign-in page then names no
    administrator. The token is genuine: a forged one reveals no revocation.

    :raises DatabaseUnavailable: The database does not answer in time.
    """
    error = rejection()
    if not isinstance(error, SessionRevoked) or error.session_id is None:
        return None
    require_database()
    return records.revocation_that_ended(get_state().db.session(), error.session_id)


def is_same_site() -> bool:
    """Return whether the current request comes from this site, or was not sent by a browser.

    A sign-in form that checks it prevents another site from signing a browser in.
    """
    return is_request_same_site(request, get_state().settings.trusted_origins)


def check_sign_in_rate(username: object) -> None:
    """Check the limits of failed sign-ins. Call it before checking a password.

    They count the failures that :func:`count_failed_sign_in` recorded: for the same username from
    the same address, and from the same address in total. Failures from other addresses do not
    count, so that they cannot lock a user out. A page of another site cannot spend the limit of its
    visitors: its requests are refused.

    :param username: The username, as typed. In a JSON body, it may be a number or anything else.
    :raises CrossSiteRequest: The request comes from another site; see :func:`is_same_site`.
    :raises RateLimited: Too many sign-ins failed; ``retry_after_s`` is the wait in seconds.
    """
    if not is_same_site():
        raise CrossSiteRequest
    typed = _as_text(username)
    try:
        get_state().rate_limits.sign_in.check(client_address(request.remote_addr), typed)
    except RateLimited as error:
        audit.log_limited_sign_in(typed, error)
        raise


def count_failed_sign_in(username: object) -> None:
    """Count a wrong password for *username*, from the current request's address, and log it.

    A request from another site does not count: it cannot have passed :func:`check_sign_in_rate`.
    """
    typed = _as_text(username)
    audit.log_failed_sign_in(typed)
    if is_same_site():
        get_state().rate_limits.sign_in.failed(client_address(request.remote_addr), typed)


def _as_text(username: object) -> str:
    return "" if username is None else str(username)


def require_database() -> None:
    """Check that the database answers within ``XGEN_SESSIONS_DEADLINE``.

    Call it before a sign-in page's first query: a driver waits for a silent server without a limit.

    :raises DenylistUnavailable: The database does not answer in time.
    """
    get_state().denylist.require_reachable()


def next_path(default: str | None = None) -> str:
    """Return the path to go to after signing in: the request's ``next`` if it is on this site.

    :param default: The path otherwise; by default, the root of the application.
    """
    target = request.values.get("next", "")
    if is_local_path(target):
        return target
    return f"{request.script_root}/" if default is None else default
