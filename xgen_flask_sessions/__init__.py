"""Login Management and force logout for Flask-Admin, backed by a JWT denylist.

How the package is laid out, from the top; a module imports only from its own line or below:

``standalone/``
    A complete Admin Center: to run as it is, or to read as the example of a host.
``extension``
    :class:`XgenSessions`: wires everything to an application, and is what a host calls.
``admin``, ``api``, ``cli``, ``templating``
    The screen, the JSON API, the commands, what templates may call. They hold no rules.
``doctor``
    Finds what an application has set up wrongly.
``coexistence``, ``engines``, ``forms``, ``login``, ``access``
    The doors: the host's other extensions, its database, forms, Flask-Login, ``token_required``.
``force_out``, ``state``, ``representations``, ``openapi``, ``authority``
    The button's force logout. What ``init_app`` set up. Rows as JSON, and all of the API
    described. Who may look, and who may force out whom.
``roster``, ``listing``, ``host_table``, ``checking``
    Reads for people, in any order. A token in, a :class:`VerifiedToken` out.
``watching``, ``relaying``, ``following``, ``wakes``
    The denylist in memory. The thread that takes the feed to Redis. The thread that reads the
    feed, and how it notices that there is more.
``users``, ``tokens``, ``denylist``, ``transactions``, ``reach``, ``problems``, ``migrate``
    The host's user table. JWTs. Is it revoked? Commits, on connections that answer. Refusals over
    HTTP. Our tables' history.
``verifier``, ``revocations``
    The same for services without our database, which hear of revocations by Redis.
``relay``, ``redis_feed``
    The feed of revocations, taken to Redis.
``ledger``, ``statements``, ``pruning``, ``feed``
    Every write, and what it sends to the database. Old rows, deleted. What those who hold the
    denylist in memory must learn of.
``stamps``, ``outbox``, ``pool``, ``drivers``, ``watchdog``, ``keys``, ``rates``, ``i18n``
    The order of sign-ins and force logouts. What waits for the commit. The verifier's own
    connections, and their deadlines. Keys. Rate limits. Languages.
``models``, ``events``, ``settings``, ``devices``, ``terminal``, ``same_site``, ``signals``,
``marks``, ``errors``, ``clock``, ``threads``
    What all of them stand on.

``tokens``, ``keys``, ``denylist``, ``reach``, ``checking``, ``relay``, ``ledger``, ``statements``,
``pruning``, ``stamps``, ``rates`` and what they stand on know nothing of Flask. SQL is in
``ledger``, ``statements``, ``pruning``, ``stamps``, ``roster`` and ``denylist``, and for the
host's user table in ``users``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .access import current_token, token_required
    from .claims import IssuedToken, VerifiedToken
    from .errors import (
        AuthenticationError,
        ConfigurationError,
        CrossSiteRequest,
        DenylistUnavailable,
        Forbidden,
        LedgerUnavailable,
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
    from .extension import XgenSessions
    from .ledger import Revocation
    from .marks import open_to_all
    from .signals import session_ended, session_issued, token_rejected, user_forced_out
    from .users import UserFields

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "CrossSiteRequest",
    "DenylistUnavailable",
    "Forbidden",
    "IssuedToken",
    "LedgerUnavailable",
    "RateLimited",
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
    "open_to_all",
    "session_ended",
    "session_issued",
    "token_rejected",
    "token_required",
    "user_forced_out",
]

_MODULES: Final = {
    "access": ("current_token", "token_required"),
    "claims": ("IssuedToken", "VerifiedToken"),
    "errors": (
        "AuthenticationError",
        "ConfigurationError",
        "CrossSiteRequest",
        "DenylistUnavailable",
        "Forbidden",
        "LedgerUnavailable",
        "RateLimited",
        "SessionRevoked",
        "TokenAmbiguous",
        "TokenError",
        "TokenExpired",
        "TokenInvalid",
        "TokenMissing",
        "UserInactive",
        "XgenSessionsError",
    ),
    "extension": ("XgenSessions",),
    "ledger": ("Revocation",),
    "marks": ("open_to_all",),
    "signals": ("session_ended", "session_issued", "token_rejected", "user_forced_out"),
    "users": ("UserFields",),
}

_HOME: Final = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a module of the package at the first use of what it exports (PEP 562).

    So a service that only verifies tokens loads no Flask.
    """
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
