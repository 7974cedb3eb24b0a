"""Login Management and force logout for Flask-Admin, backed by a JWT denylist.

Public are the names in ``__all__``, :mod:`xgen_flask_sessions.verifier` and the command line. The
other modules are internal; their rooms import downwards only:

==================  ==============================================================================
``standalone``      A complete Admin Center, and an example of a host.
``extension``       :class:`XgenSessions`: ``init_app`` and the calls of a host.
``cli``             The commands ``flask xgen-sessions``.
``admin``           The screen Login Management.
``api``             The JSON API and its OpenAPI document.
``web``             Requests: finding the token, refusing, redirecting; Flask-Login; cookies; forms.
``bulk``            Force logouts of several users, and ends of several sessions of a user.
``lifecycle``       A session's life: issue, renew, verify, end, force logout, prune.
``request_acts``    The sign-ins and revocations that the current request made.
``state``           The objects that ``init_app`` built for one application.
``denylist``        Whether a token is revoked.
``roster``          Lists of the signed-in users and their sessions.
``rate_limits``     How often an act is allowed.
``verifier``        The denylist for services without the database.
``feed``            How other processes hear of a revocation.
``users``           The host's users.
``settings``        The ``XGEN_SESSIONS_*`` settings.
``store``           The plugin's tables, and every statement that changes them.
``tokens``          JSON Web Tokens.
``connections``     Connections to the host's database, with a deadline on every call.
==================  ==============================================================================

At the bottom are ``errors``, ``clock``, ``changes``, ``runtime``, ``signals`` and ``text``. Each
room's docstring states its knowledge and its limits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .errors import (
    AuthenticationError,
    BadRequest,
    ConfigurationError,
    CrossSiteRequest,
    DatabaseUnavailable,
    DenylistUnavailable,
    Forbidden,
    HookFailed,
    LedgerUnavailable,
    NotFound,
    RateLimited,
    SessionRevoked,
    TokenAmbiguous,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    UserInactive,
    XgenSessionsError,
)

if TYPE_CHECKING:
    from .admin.admin_center_view import AdminCenterView
    from .cli.commands import cli_errors
    from .extension import XgenSessions
    from .roster.devices import Device
    from .roster.roster import ActiveSession
    from .roster.user_sign_ins import SignIns
    from .signals import session_ended, session_issued, token_rejected, user_forced_out
    from .store.dialects import is_conflict
    from .store.revocations import Revocation
    from .store.sign_ins import PastSignIn
    from .text import cause_of, traceback_of
    from .tokens.claims import IssuedToken, VerifiedToken
    from .users.fields import UserFields
    from .web.i18n import gettext, gettext_noop, lazy_gettext, ngettext
    from .web.marks import guarded_by, open_to_all
    from .web.request_token import current_token, token_required

    __version__: str

__all__ = [
    "ActiveSession",
    "AdminCenterView",
    "AuthenticationError",
    "BadRequest",
    "ConfigurationError",
    "CrossSiteRequest",
    "DatabaseUnavailable",
    "DenylistUnavailable",
    "Device",
    "Forbidden",
    "HookFailed",
    "IssuedToken",
    "LedgerUnavailable",
    "NotFound",
    "PastSignIn",
    "RateLimited",
    "Revocation",
    "SessionRevoked",
    "SignIns",
    "TokenAmbiguous",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "UserFields",
    "UserInactive",
    "VerifiedToken",
    "XgenSessions",
    "XgenSessionsError",
    "cause_of",
    "cli_errors",
    "current_token",
    "gettext",
    "gettext_noop",
    "guarded_by",
    "is_conflict",
    "lazy_gettext",
    "ngettext",
    "open_to_all",
    "session_ended",
    "session_issued",
    "token_rejected",
    "token_required",
    "traceback_of",
    "user_forced_out",
]

_LAZY: Final = {
    "ActiveSession": "roster.roster",
    "AdminCenterView": "admin.admin_center_view",
    "Device": "roster.devices",
    "IssuedToken": "tokens.claims",
    "PastSignIn": "store.sign_ins",
    "Revocation": "store.revocations",
    "SignIns": "roster.user_sign_ins",
    "UserFields": "users.fields",
    "VerifiedToken": "tokens.claims",
    "XgenSessions": "extension",
    "cause_of": "text",
    "cli_errors": "cli.commands",
    "current_token": "web.request_token",
    "gettext": "web.i18n",
    "gettext_noop": "web.i18n",
    "guarded_by": "web.marks",
    "is_conflict": "store.dialects",
    "lazy_gettext": "web.i18n",
    "ngettext": "web.i18n",
    "open_to_all": "web.marks",
    "session_ended": "signals",
    "session_issued": "signals",
    "token_rejected": "signals",
    "token_required": "web.request_token",
    "traceback_of": "text",
    "user_forced_out": "signals",
}
"""Modules that are imported at the first use of a name, so that a verifier loads no Flask."""

if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Import the module of a public name at its first use (PEP 562)."""
        if name == "__version__":
            from importlib.metadata import version

            return version("xgen-flask-sessions")
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = globals()[name] = getattr(import_module(f".{_LAZY[name]}", __name__), name)
        except AttributeError as error:
            # An AttributeError from here means that the name does not exist; Python would replace
            # it by "cannot import name".
            raise ImportError(
                f"{name} cannot be loaded, because {__name__}.{_LAZY[name]} failed: {error}",
                name=f"{__name__}.{_LAZY[name]}",
            ) from error
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
