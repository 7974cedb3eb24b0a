"""Blinker signals. The sender is the Flask application.

A signal is sent after the commit of its change. With ``commit=False`` that is from within the
host's own commit: a receiver must not use that SQLAlchemy session.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

session_issued = _signals.signal("session-issued")
"""A sign-in or a renewal was recorded.

Arguments: ``issued``, the :class:`~xgen_flask_sessions.IssuedToken`, and ``user_id``.
"""

session_ended = _signals.signal("session-ended")
"""One session was ended.

Argument: ``revocation``, the :class:`~xgen_flask_sessions.Revocation`.
"""

user_forced_out = _signals.signal("user-forced-out")
"""All sessions of a user, or of everyone, were ended.

Argument: ``revocation``, the :class:`~xgen_flask_sessions.Revocation`.
"""

token_rejected = _signals.signal("token-rejected")
"""The token of a request was refused.

Argument: ``error``, the :class:`~xgen_flask_sessions.XgenSessionsError`.
"""
