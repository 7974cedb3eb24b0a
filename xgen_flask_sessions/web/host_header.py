"""The ``Host`` header of requests, which a client can set to anything."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import BadHost, SecurityError


def is_host_usable() -> bool:
    """Return whether URLs can be made for the current request's host.

    They cannot for a name such as ``a..b``, or for one that ``TRUSTED_HOSTS`` excludes.
    """
    return not isinstance(request.routing_exception, BadHost | SecurityError)


def require_usable_host() -> None:
    """Refuse the current request before a function of the application makes a URL for its host.

    :raises BadRequest: The ``Host`` header is malformed, or not trusted.
    """
    if not is_host_usable():
        raise request.routing_exception or BadHost()
    if "xn--" in request.environ.get("HTTP_HOST", "").lower():
        try:
            request.url  # noqa: B018 - Werkzeug decodes the name in it
        except UnicodeError:
            raise BadHost from None
