"""The ``Host`` header of requests, which a client can set to anything."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from flask import Request
from werkzeug.exceptions import BadHost, SecurityError

from .request_scope import get_request

_NAME: Final = r"[\w.~!$&'()*+,;=-]"
_HOST: Final = re.compile(
    rf"(?:\[[\w.:%-]+\]|{_NAME}*(?:%[0-9A-Fa-f]{{2}}{_NAME}*)*)(?::[0-9]{{0,5}})?", re.ASCII
)
"""RFC 9110, section 7.2, and RFC 3986, section 3.2.2."""


def is_host_usable() -> bool:
    """Return whether URLs can be made for the current request's host.

    They cannot for a name such as ``a..b``, or for one that ``TRUSTED_HOSTS`` excludes.
    """
    return not isinstance(get_request().routing_exception, BadHost | SecurityError)


def require_usable_host(current: Request) -> None:
    """Refuse a request before a function of the application makes a URL for its host.

    :param current: The current request.
    :raises BadRequest: The ``Host`` header is malformed, or not trusted.
    """
    error = current.routing_exception
    if error is not None and isinstance(error, BadHost | SecurityError):
        raise error
    if not _is_well_formed(current.environ.get("HTTP_HOST", "")):
        raise BadHost


@lru_cache(maxsize=64)
def _is_well_formed(host: str) -> bool:
    if _HOST.fullmatch(host) is None:
        return False
    name = host.lower()
    if "xn--" in name:
        try:  # Werkzeug does so for URLs, and survives a malformed name on Python 3.13 only
            name.partition(":")[0].encode().decode("idna")
        except UnicodeError:
            return False
    return True
