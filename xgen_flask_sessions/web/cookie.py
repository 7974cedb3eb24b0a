"""The HttpOnly cookie in which browsers keep a token."""

from __future__ import annotations

from werkzeug.wrappers import Response

from .. import clock
from ..state import get_state
from ..tokens.claims import IssuedToken


def set_cookie(response: Response, issued: IssuedToken) -> None:
    """Put the token into the browser's cookie, where scripts cannot read it.

    :param response: The response to set it on.
    :param issued: The result of ``issue`` or ``renew``.
    """
    settings = get_state().settings
    response.set_cookie(
        settings.cookie_name,
        issued.token,
        max_age=clock.seconds_until(issued.expires_us),
        httponly=True,
        secure=settings.cookie_secure,
        samesite=settings.cookie_samesite,
    )


def unset_cookie(response: Response) -> None:
    """Remove the cookie from the browser. This ends no session: see ``end_session``."""
    settings = get_state().settings
    response.delete_cookie(
        settings.cookie_name,
        httponly=True,
        secure=settings.cookie_secure,
        samesite=settings.cookie_samesite,
    )
