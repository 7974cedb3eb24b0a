"""The objects that ``init_app`` builds for one application, and the look-up of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, current_app, has_app_context
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy

from .denylist.checker import TokenChecker
from .denylist.strict import StrictDenylist
from .denylist.watch import Watch
from .errors import ConfigurationError
from .feed.relay import Relay
from .rate_limits import RateLimits
from .roster.roster import Roster
from .settings import Settings
from .store.pruning import PiggybackPruning
from .store.transactions import Transactions
from .tokens.codec import TokenCodec
from .users.account_hooks import AccountHooks
from .users.authority import Authority
from .users.directory import UserDirectory
from .users.triggers import Triggers

get_app: Callable[[], Flask] = current_app._get_current_object  # type: ignore[attr-defined]
"""Return the current application itself instead of its proxy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """The plugin's objects for one application, in ``app.extensions["xgen_sessions"]``."""

    settings: Settings
    db: SQLAlchemy
    codec: TokenCodec
    checker: TokenChecker
    strict_checker: TokenChecker
    """Asks the database at each call, whatever ``CONSISTENCY`` is."""
    denylist: StrictDenylist
    watch: Watch | None
    """The denylist in memory, with ``CONSISTENCY`` "watch"."""
    relay: Relay | None
    """Publishes the feed to Redis, with ``REDIS_URL``."""
    transactions: Transactions
    users: UserDirectory
    roster: Roster
    authority: Authority
    account: AccountHooks
    """The host's own functions for accounts."""
    triggers: Triggers
    login_manager: LoginManager | None
    """The host's Flask-Login, if it was passed to ``init_app``."""
    records_logins: bool
    """Whether the application has Flask-Login, whose sessions are recorded, too."""
    rate_limits: RateLimits
    pruning: PiggybackPruning
    form_secrets: tuple[bytes, ...] = field(repr=False)


def find_state() -> State | None:
    """Return the plugin's objects for the current application, or ``None`` without any."""
    return current_app.extensions.get("xgen_sessions") if has_app_context() else None


def get_state() -> State:
    """Return the plugin's objects for the current application.

    :raises ConfigurationError: ``init_app`` was not called.
    """
    state: State | None = get_app().extensions.get("xgen_sessions")
    if state is None:
        raise ConfigurationError(
            "XgenSessions is not registered on this Flask app; call sessions.init_app(app, …)."
        )
    return state
