"""The engine of the host's database, looked up at every verification."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy


def chooses_engines(db: SQLAlchemy) -> bool:
    """Return whether the host's subclass chooses engines itself, possibly one for each call."""
    return any(
        getattr(type(db), name) is not getattr(SQLAlchemy, name) for name in ("engine", "engines")
    )


class HostEngine:
    """A faster ``db.engine`` for one application.

    Flask-SQLAlchemy keeps an application's engines in one mapping as long as the application lives,
    so the mapping is looked up once. A subclass that chooses engines itself is asked each time.

    :param db: The host's Flask-SQLAlchemy.
    """

    def __init__(self, db: SQLAlchemy) -> None:
        self._db = db
        self._is_fixed = not chooses_engines(db)
        self._engines: Mapping[str | None, sa.Engine] | None = None

    def get(self) -> sa.Engine:
        """Return the engine, within an application context."""
        engines = self._engines
        if engines is not None:
            return engines[None]
        if self._is_fixed:
            self._engines = self._db.engines
        return self._db.engine
