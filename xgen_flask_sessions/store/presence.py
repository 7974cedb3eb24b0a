"""Whether a database has the plugin's tables."""

from __future__ import annotations

import weakref
from typing import Final

import sqlalchemy as sa

from .dialects.base import LOGINS

_with_tables: Final[weakref.WeakSet[sa.Pool]] = weakref.WeakSet()


def has_tables(connection: sa.Connection) -> bool:
    """Return whether the tables exist: without them, the host may still change its own."""
    pool = connection.engine.pool
    if pool in _with_tables:
        return True
    schemas = connection.get_execution_options().get("schema_translate_map") or {}
    present = sa.inspect(connection).has_table(LOGINS.name, schema=schemas.get(None))
    if present:
        _with_tables.add(pool)
    return present
