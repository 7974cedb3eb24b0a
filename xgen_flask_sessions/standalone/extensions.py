"""The plugin, for every module that calls it. It holds no state of its own."""

from __future__ import annotations

from xgen_flask_sessions import XgenSessions

sessions = XgenSessions()
