"""What ``init_app`` sets up for one application, and where it is found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy

from .authority import Authority
from .checking import TokenChecker
from .denylist import Denylist
from .errors import ConfigurationError
from .pruning import OnTheWay
from .rates import Rates
from .relaying import Relaying
from .roster import Roster
from .settings import Settings
from .tokens import TokenCodec
from .transactions import Changes
from .users import UserDirectory
from .watching import Watch

if TYPE_CHECKING:
    from .extension import XgenSessions
    from .revoke_on import Triggers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """What ``init_app`` set up for one application, in ``app.extensions["xgen_sessions"]``."""

    sessions: XgenSessions
    settings: Settings
    db: SQLAlchemy
    codec: TokenCodec
    verifier: TokenChecker
    strict_verifier: TokenChecker
    """The same, but that it asks the database at each call, whatever the host wants otherwise."""
    denylist: Denylist
    watch: Watch | None
    """The denylist in memory, if the host wants it so."""
    relaying: Relaying | None
    """Takes the feed to Redis, if the host has one."""
    changes: Changes
    users: UserDirectory
    roster: Roster
    authority: Authority
    triggers: Triggers
    records_logins: bool
    """Whether the application has Flask-Login, whose sessions are recorded too."""
    rates: Rates
    on_the_way: OnTheWay
    form_secret: bytes = field(repr=False)


def is_registered() -> bool:
    """Say whether the current application has the plugin."""
    return "xgen_sessions" in current_app.extensions


def get_state() -> State:
    """Return what ``init_app`` set up for the current application.

    :raises ConfigurationError: It was not called.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    state = app.extensions.get("xgen_sessions")
    if state is None:
        raise ConfigurationError(
            "XgenSessions is not registered on this Flask app; call sessions.init_app(app, …)."
        )
    return cast("State", state)
