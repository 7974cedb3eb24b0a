"""One log line for each sign-in, failed sign-in and revocation: the logger of :data:`LOGGER`.

Each line is a JSON object in ASCII, so that no username or header can begin a line of its own or
look like another member. Secrets are not logged. Warnings are failed sign-ins; the rest is INFO.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from flask import Flask

from ..errors import RateLimited
from ..lifecycle import origin
from ..signals import session_ended, session_issued, user_forced_out
from ..store.revocations import Revocation
from ..text import clean_text
from ..tokens.claims import IssuedToken

LOGGER: Final = "xgen_flask_sessions.audit"
MAX_USERNAME: Final = 150
"""Characters of a typed username that are logged."""

_log = logging.getLogger(LOGGER)
_ENDED: Final = {
    "user": "user_forced_out",
    "everyone": "everyone_forced_out",
    "session": "session_ended",
}


def watch(app: Flask) -> None:
    """Log the sign-ins and revocations of an application."""
    session_issued.connect(_log_issued, app)
    session_ended.connect(_log_revocation, app)
    user_forced_out.connect(_log_revocation, app)


def log_failed_sign_in(username: str) -> None:
    """Log a sign-in that failed.

    :param username: The username, as typed.
    """
    _write(logging.WARNING, "sign_in_failed", username=clean_text(username, MAX_USERNAME))


def log_limited_sign_in(username: str, error: RateLimited) -> None:
    """Log a sign-in that was refused because too many had failed.

    :param username: The username, as typed.
    """
    _write(
        logging.WARNING,
        "sign_in_limited",
        username=clean_text(username, MAX_USERNAME),
        retry_after_s=error.retry_after_s,
    )


def _log_issued(_: Flask, *, issued: IssuedToken, user_id: str, **__: Any) -> None:
    event = "signed_in" if issued.jti == issued.session_id else "renewed"
    _write(logging.INFO, event, user_id=user_id, session_id=issued.session_id)


def _log_revocation(_: Flask, *, revocation: Revocation, **__: Any) -> None:
    _write(
        logging.INFO,
        _ENDED[revocation.kind],
        user_id=revocation.user_id,
        session_id=revocation.session_id,
        sessions_ended=revocation.sessions_ended,
        actor=revocation.actor,
        reason=revocation.reason,
    )


def _write(level: int, event: str, **members: object) -> None:
    if not _log.isEnabledFor(level):
        return
    address, user_agent = origin()
    known = {"event": event, "address": address, **members, "user_agent": user_agent}
    _log.log(level, "%s", json.dumps({k: v for k, v in known.items() if v is not None}))
