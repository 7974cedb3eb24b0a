"""Links to the host's own pages of users (``user_url=``)."""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import urlsplit

from ..state import get_state
from ..text import traceback_of
from ..users.attributes import describe_value
from .same_site import MAX_PATH, is_local_path

_log = logging.getLogger(__name__)

_reported: Final[set[str]] = set()


def url_of_user(user_id: str) -> str | None:
    """Return the address of the host's page of a user, or ``None`` without one.

    Only a path on this site, or an ``http`` or ``https`` URL, is a link; errors of the host's
    function and other results are logged once and give none.
    """
    function = get_state().account.user_url
    if function is None:
        return None
    try:
        url: Any = function(user_id)  # whatever the host returns
    except Exception as error:
        _report(type(error).__name__, f"failed.\n{traceback_of(error)}")
        return None
    if url is None:
        return None
    if not isinstance(url, str):
        _report(type(url).__name__, f"returned {describe_value(url)}, not a text.")
        return None
    if is_local_path(url) or _is_web_url(url):
        return url
    _report("", "returned neither a path nor an http or https URL.")
    return None


def _is_web_url(url: str) -> bool:
    if len(url) > MAX_PATH or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def _report(kind: str, fault: str) -> None:
    """Log a fault once for each kind: a page asks for many users."""
    if kind not in _reported:
        _reported.add(kind)
        _log.error("user_url= %s", fault)
