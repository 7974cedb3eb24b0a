"""The ``Host`` header of requests, which a client can set to anything."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import BadHost, SecurityError

from .request_scope import get_request


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
    if "xn--" in current.environ.get("HTTP_HOST", "").lower():
        try:
            current.url  # noqa: B018 - Werkzeug decodes the name in it
        except UnicodeError:
            raise BadHost from None
