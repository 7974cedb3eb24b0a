"""The driver's connections within the wrappers of pools."""

from __future__ import annotations

from typing import Any


def unwrap(dbapi_connection: Any) -> Any:
    """Return the driver's own connection within the wrappers of DBUtils."""
    while (inner := getattr(dbapi_connection, "_con", None)) is not None:
        dbapi_connection = inner
    return dbapi_connection
