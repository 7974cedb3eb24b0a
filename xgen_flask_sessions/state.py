"""What ``init_app`` sets up for one application, and where it is found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from flask import current_app
from flask_sqlalchemy import SQLAlchemy

from .authority import Authority
from .errors import ConfigurationError
from .roster import Roster
from .settings import Settings
from .tokens import TokenCodec
from .users import UserDirectory
from .verifier import Verifier

if TYPE_CHECKING:
    from .extension import XgenSessions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """What ``init_app`` set up for one application, in ``app.extensions["xgen_sessions"]``."""

    sessions: XgenSessions
    settings: Settings
    db: SQLAlchemy
    codec: TokenCodec
    verifier: Verifier
    users: UserDirectory
    roster: Roster
    authority: Authority
    form_secret: bytes = field(repr=False)


def get_state() -> State:
    """Return what ``init_app`` set up for the current application.

    :raises ConfigurationError: It was not called.
    """
    state = current_app.extensions.get("xgen_sessions")
    if state is None:
        raise ConfigurationError(
            "XgenSessions is not registered on this Flask app; call sessions.init_app(app, …)."
        )
    return cast("State", state)
