"""The HttpOnly cookie in which browsers keep a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Response

from .. import clock
from ..settings import Settings
from ..state import get_app, get_state
from ..tokens.claims import MAX_COOKIE_BYTES, IssuedToken
from ..users.attributes import describe_value


def set_cookie(response: Response, issued: IssuedToken) -> None:
    """Put the token into the browser's cookie, where scripts cannot read it.

    :param response: The response to set it on.
    :param issued: The result of ``issue`` or ``renew``.
    :raises TypeError: *issued* is something else, such as the token's text.
    :raises ValueError: The cookie is over 4096 bytes long, which browsers drop.
    """
    if not isinstance(issued, IssuedToken):
        raise TypeError(f"The result of issue() is needed, not {describe_value(issued)}.")
    settings = get_state().settings
    put_token(response, settings.cookie_name, issued, _attributes(settings))


def unset_cookie(response: Response) -> None:
    """Remove the cookie from the browser. This ends no session: see ``end_session``."""
    settings = get_state().settings
    response.delete_cookie(settings.cookie_name, **_attributes(settings))


def put_token(
    response: Response, name: str, issued: IssuedToken, attributes: Mapping[str, Any]
) -> None:
    """Set a cookie to a token, until the token expires.

    :param attributes: The cookie's other attributes, named as in ``Response.set_cookie``.
    """
    size = len(name) + len(issued.token)
    if size > MAX_COOKIE_BYTES:
        raise ValueError(f"The cookie would have {size} bytes; browsers keep {MAX_COOKIE_BYTES}.")
    max_age = clock.seconds_until(issued.expires_us)
    response.set_cookie(name, issued.token, max_age=max_age, **attributes)


def _attributes(settings: Settings) -> dict[str, Any]:
    """Return the cookie's attributes; its place is that of Flask's session cookie."""
    app = get_app()
    return {
        "domain": app.session_interface.get_cookie_domain(app),
        "path": app.session_interface.get_cookie_path(app),
        "partitioned": app.session_interface.get_cookie_partitioned(app),
        "httponly": True,
        "secure": settings.cookie_secure,
        "samesite": settings.cookie_samesite,
    }
