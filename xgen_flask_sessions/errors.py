"""Every error of the package.

An :class:`XgenSessionsError` that reaches HTTP carries the parts of its answer: ``status``, a
stable ``code`` for programs and a ``detail`` for people.
"""

from __future__ import annotations

from typing import ClassVar, Self


class ConfigurationError(ValueError):
    """The application is set up wrongly; the message names the setting and the fix."""


class UnsupportedDatabase(ConfigurationError):
    """The database, its version or its driver is not one that the plugin works with."""


class XgenSessionsError(Exception):
    """Base of the errors that a request may raise.

    :param detail: One sentence for people; ``default_detail`` if left out.
    """

    status: ClassVar[int] = 500
    """The HTTP status that answers it."""
    code: ClassVar[str] = "error"
    """A stable name for programs."""
    default_detail: ClassVar[str] = "The request failed."
    oauth_error: ClassVar[str | None] = None
    """The ``error`` of the ``WWW-Authenticate`` challenge (RFC 6750, section 3.1), if any."""
    retry_after_s: int | None = None
    """Seconds after which a retry may succeed (``Retry-After``), if one may."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.default_detail
        super().__init__(self.detail)

    def caused_by(self, error: BaseException) -> Self:
        """Set the cause, as ``raise … from error`` does, and return the error itself."""
        self.__cause__ = error
        return self


class AuthenticationError(XgenSessionsError):
    """The caller is refused: no token, an invalid one, or an inactive user."""

    status = 401
    oauth_error: ClassVar[str | None] = "invalid_token"


class TokenError(AuthenticationError):
    """The token is missing, malformed, forged, expired or revoked."""


class TokenMissing(TokenError):
    """The request carried no token."""

    code = "token_missing"
    default_detail = "This call needs a token."
    oauth_error = None


class TokenInvalid(TokenError):
    """The token is not one that this deployment issued for this use."""

    code = "token_invalid"
    default_detail = "The token is not valid."


class TokenExpired(TokenError):
    """The token's ``exp`` has passed."""

    code = "token_expired"
    default_detail = "The token has expired."


class SessionRevoked(TokenError):
    """The token's session was ended.

    :param forced: Whether an administrator ended it by a force logout.
    :param account_changed: Whether a change of the account ended it, such as a new password.
    :param user_id: The session's user, if known.
    :param session_id: The session's id, if known.
    """

    code = "session_revoked"
    default_detail = "The session has ended."

    def __init__(
        self,
        detail: str | None = None,
        *,
        forced: bool = False,
        account_changed: bool = False,
        user_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.forced = forced
        self.account_changed = account_changed
        self.user_id = user_id
        self.session_id = session_id
        if forced and detail is None:
            detail = "An administrator ended the session."
        elif account_changed and detail is None:
            detail = "The account was changed, for example its password. Sign in again."
        super().__init__(detail)


class UserInactive(AuthenticationError):
    """The account is inactive or no longer exists: it may neither sign in nor use a session."""

    code = "user_inactive"
    default_detail = "The account is inactive."


class TokenAmbiguous(XgenSessionsError):
    """The request carried a token in the header and in the cookie (RFC 6750, section 2).

    Or its cookies hold valid sessions of several users.
    """

    status = 400
    code = "token_ambiguous"
    oauth_error = "invalid_request"
    default_detail = "Send the token in the Authorization header or in the cookie, not in both."


class CrossSiteRequest(XgenSessionsError):
    """A request with an unsafe method carried the cookie, but came from another site."""

    status = 403
    code = "cross_site"
    default_detail = "The request came from another site."


class Forbidden(XgenSessionsError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    default_detail = "You may not do this."


class NotFound(XgenSessionsError):
    """There is no such user or session."""

    status = 404
    code = "not_found"
    default_detail = "There is no such user or session."


class BadRequest(XgenSessionsError):
    """The request cannot be understood."""

    status = 400
    code = "bad_request"
    default_detail = "The request cannot be understood."


class RateLimited(XgenSessionsError):
    """The rate limit is reached (RFC 6585, section 4). The act was not done.

    :param retry_after_s: Seconds after which it may be done again.
    """

    status = 429
    code = "rate_limited"
    default_detail = "Too many requests. The request was not carried out."

    def __init__(self, detail: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DatabaseUnavailable(XgenSessionsError):
    """The database does not answer. No token passes meanwhile."""

    status = 503
    code = "database_unavailable"
    default_detail = "The database cannot be used right now."
    retry_after_s: int | None = 1


class DenylistUnavailable(DatabaseUnavailable):
    """The database does not answer, so that no token can be checked for revocation."""

    code = "denylist_unavailable"
    default_detail = "Sessions cannot be checked right now."


class HookFailed(XgenSessionsError):
    """A function of the host's, such as ``deactivate=``, failed within a change.

    The change was rolled back, and nothing was done. The log has the traceback.
    """

    code = "hook_failed"
    default_detail = "A step of this application failed. Nothing was done."


class LedgerUnavailable(DatabaseUnavailable):
    """The database could not make a change: a sign-in, a revocation, or a host's own.

    :param undone: Whether nothing was changed. It is unknown if the commit was not answered.
    :param refused: Whether the database refused the change, as a trigger, a constraint, a missing
        privilege or a full disk does: a retry does not help.
    """

    code = "ledger_unavailable"
    default_detail = "Sessions cannot be changed right now. Nothing was done."

    def __init__(
        self, detail: str | None = None, *, undone: bool = True, refused: bool = False
    ) -> None:
        self.undone = undone
        self.refused = refused
        if refused and detail is None:
            detail = "The database refused the change. Nothing was done."
        super().__init__(detail)
