"""Blinker signals. The sender is the Flask application.

They are sent once the change is committed; with ``commit=False``, when the host commits, from
within its commit: such a receiver must not use that SQLAlchemy session.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

session_issued = _signals.signal("session-issued")
"""A sign-in or a renewal was recorded. ``issued``: the ``IssuedToken``, ``user_id``."""

session_ended = _signals.signal("session-ended")
"""One session was ended. ``revocation``: the ``Revocation``."""

user_forced_out = _signals.signal("user-forced-out")
"""All sessions of a user, or of everyone, were ended. ``revocation``: the ``Revocation``."""

token_rejected = _signals.signal("token-rejected")
"""A request's token was refused. ``error``: the ``XgenSessionsError``."""
