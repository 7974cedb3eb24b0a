"""Login Management and force logout for Flask-Admin, backed by a JWT denylist.

How the package is laid out, from the top; a module imports only from its own line or below:

``standalone/``
    A complete Admin Center: to run as it is, or to read as the example of a host.
``extension``
    :class:`XgenSessions`: wires everything to an application, and is what a host calls.
``admin``, ``api``, ``cli``, ``templating``
    The screen, the JSON API, the commands, what templates may call. They hold no rules.
``coexistence``, ``forms``, ``login``, ``access``
    The doors: the host's other extensions, forms, Flask-Login, ``token_required``.
``state``, ``representations``, ``authority``
    What ``init_app`` set up. Rows as JSON. Who may look, and who may force out whom.
``roster``, ``verifier``
    Reads for people. A token in, a :class:`VerifiedToken` out.
``users``, ``tokens``, ``denylist``, ``transactions``, ``problems``, ``migrate``
    The host's user table. JWTs. Is it revoked? Commits. Refusals over HTTP. Our tables' history.
``ledger``, ``stamps``, ``outbox``, ``keys``, ``i18n``
    Every write. The order of sign-ins and force logouts. News after the commit. Keys. Languages.
``models``, ``settings``, ``devices``, ``same_site``, ``signals``, ``errors``, ``clock``
    What all of them stand on.

``tokens``, ``keys``, ``denylist``, ``verifier``, ``ledger``, ``stamps`` and what they stand on
know nothing of Flask. SQL is in ``ledger``, ``stamps``, ``roster`` and ``denylist``, and for the
host's user table in ``users``.
"""

from .access import current_token, token_required
from .errors import (
    AuthenticationError,
    ConfigurationError,
    CrossSiteRequest,
    DenylistUnavailable,
    Forbidden,
    LedgerUnavailable,
    SessionRevoked,
    TokenAmbiguous,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    UserInactive,
    XgenSessionsError,
)
from .extension import IssuedToken, XgenSessions
from .ledger import Revocation
from .signals import session_ended, session_issued, token_rejected, user_forced_out
from .users import UserFields
from .verifier import VerifiedToken

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "CrossSiteRequest",
    "DenylistUnavailable",
    "Forbidden",
    "IssuedToken",
    "LedgerUnavailable",
    "Revocation",
    "SessionRevoked",
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
    "current_token",
    "session_ended",
    "session_issued",
    "token_rejected",
    "token_required",
    "user_forced_out",
]
