"""Which engine is the host's? Asked at every verification, and so at little cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy


def chooses_engines(db: SQLAlchemy) -> bool:
    """Say whether the host's class chooses an engine in its own way, perhaps another each time."""
    return any(
        getattr(type(db), name) is not getattr(SQLAlchemy, name) for name in ("engine", "engines")
    )


def engine_of(db: SQLAlchemy) -> Callable[[], sa.Engine]:
    """Return what returns the engine of the application that first called it, as ``db.engine`` is.

    Flask-SQLAlchemy keeps an application's engines in one mapping for as long as the application
    lives, which need not be looked for each time. A class of the host's that chooses an engine in
    its own way is asked each time.

    :param db: The host's Flask-SQLAlchemy; the functions returned need an application context.
    """
    if chooses_engines(db):
        return lambda: db.engine
    engines: Mapping[str | None, sa.Engine] | None = None

    def get_engine() -> sa.Engine:
        nonlocal engines
        if engines is None:
            engines = db.engines
        return engines[None]

    return get_engine
