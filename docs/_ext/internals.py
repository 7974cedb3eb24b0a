"""Every import of the package that is not public, in one place."""

from __future__ import annotations

from xgen_flask_sessions.standalone.commands import cli as admin_center_commands
from xgen_flask_sessions.store.tables import Base as TablesBase

__all__ = ["TablesBase", "admin_center_commands"]
