"""Login Management and force logout for Flask-Admin, backed by a JWT denylist.

How the package is laid out; each module knows those below it and none above:

``standalone/``
    A complete Admin Center: to run as it is, or to read as the example of a host.
``extension``
    :class:`XgenSessions`: wires everything to an application, and is what a host calls.
``admin``, ``api``, ``cli``
    The screen, the JSON API, the commands. They hold no rules: those are in ``authority``.
``login``, ``access``
    The doors: Flask-Login, and ``token_required``. ``problems`` answers who is turned away,
    ``same_site`` keeps other sites' requests out.
``authority``
    Who may look, and who may force out whom.
``ledger``, ``roster``, ``verifier``
    Writes; reads for people; a token in, a :class:`VerifiedToken` out. None knows Flask.
``stamps``, ``denylist``, ``tokens``, ``keys``, ``users``, ``models``
    The order of sign-ins and force logouts. Is it revoked? JWTs and their keys. The host's user
    table. Our tables.
``state``, ``transactions``, ``outbox``, ``templating``, ``forms``, ``representations``
    What ``init_app`` set up. Changes, and telling of them. What templates, forms and JSON share.
``coexistence``, ``migrate``
    Getting along with the host's other extensions. The tables' own migrations.
``settings``, ``errors``, ``signals``, ``devices``, ``i18n``, ``clock``
    What all of them stand on.
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
