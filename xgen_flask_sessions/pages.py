"""What a host's own pages ask about the current request, and give to the browser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from flask import request
from werkzeug.wrappers import Response

from . import clock
from .access import outcome
from .errors import TokenMissing, XgenSessionsError
from .issuing import IssuedToken, origin
from .same_site import is_local_path, is_same_site
from .state import get_state
from .streams import while_valid


class PageHelpers:
    """Calls for sign-in pages, cookies and streams; each needs a request."""

    def rejection(self) -> XgenSessionsError | None:
        """Return why the current request's token is refused; ``None`` if it is not, or none came.

        A sign-in page can tell people with it that an administrator ended their session: it is
        then a ``SessionRevoked`` whose ``forced`` is true.
        """
        error = outcome().error
        return None if isinstance(error, TokenMissing) else error

    def is_same_site(self) -> bool:
        """Say whether the current request comes from this site, or from no browser at all.

        A sign-in form that looks at it lets no other site sign a browser in.
        """
        return is_same_site(request, get_state().settings.trusted_origins)

    def check_sign_in_rate(self, username: str) -> None:
        """Look whether a password for *username* may be tried, before one is checked.

        Only what :meth:`count_failed_sign_in` was told counts: failures for the same username
        from the same address, and from the same address at all. Failures from elsewhere lock
        nobody out.

        :param username: As it was typed.
        :raises RateLimited: Too many have failed; its ``retry_after_s`` says when to come back.
        """
        get_state().rates.sign_in.check(origin()[0], username)

    def count_failed_sign_in(self, username: str) -> None:
        """Count a wrong password for *username*, from the current request's address."""
        get_state().rates.sign_in.failed(origin()[0], username)

    def require_database(self) -> None:
        """Make sure that the database answers, before a sign-in page waits for it.

        Drivers wait for a silent server as long as it takes; this, as long as the deadline.

        :raises DenylistUnavailable: It does not answer in time.
        """
        get_state().denylist.require_reachable()

    def next_path(self, default: str = "/") -> str:
        """Return where to go after signing in: the request's ``next`` if it is a path here.

        :param default: Where to go otherwise.
        """
        target = request.values.get("next", "")
        return target if is_local_path(target) else default

    def set_cookie(self, response: Response, issued: IssuedToken) -> None:
        """Put the token into the browser's cookie, out of reach of scripts.

        :param response: The response to set it on.
        :param issued: What :meth:`issue` or :meth:`renew` returned.
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

    def unset_cookie(self, response: Response) -> None:
        """Remove the cookie from the browser. This ends no session: see :meth:`end_session`."""
        settings = get_state().settings
        response.delete_cookie(
            settings.cookie_name,
            httponly=True,
            secure=settings.cookie_secure,
            samesite=settings.cookie_samesite,
        )

    def while_valid(
        self,
        source: Iterable[Any],
        *,
        every: float = 1.0,
        heartbeat: str | bytes | None = None,
    ) -> Iterator[Any]:
        """Return a stream that ends once the current request's token is no longer valid.

        For answers that go on, such as server-sent events::

            return Response(sessions.while_valid(events()), mimetype="text/event-stream")

        The token is checked again every second, or as told, also while *source* has nothing to
        say; when it cannot be checked, the stream ends too. *source* runs in a thread of its own,
        in an application context and in no request's. It is closed with the stream; one that is
        waiting then, as soon as it has said its next word.

        :param source: What the stream is to say.
        :param every: Seconds between two checks.
        :param heartbeat: Said after a check if nothing else was, such as a comment of an event
            stream: only by sending does a server learn that a client has gone.
        :raises TokenError: The request has no valid token.
        :raises DenylistUnavailable: The database cannot be asked.
        """
        result = outcome()
        if result.token is None:
            raise result.error or TokenMissing()
        return while_valid(source, result.token, every=every, heartbeat=heartbeat)
