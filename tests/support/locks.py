"""Lock waits in PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa


def is_anybody_waiting(engine: sa.Engine) -> bool:
    """Return whether a PostgreSQL server process waits for a lock in this database."""
    query = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    with engine.connect() as connection:
        return bool(connection.exec_driver_sql(query).scalar_one())
