"""Give each address a key that orders as a number, and index the filters of lists.

Rows that exist have no key yet: ``xgen-sessions upgrade`` and ``prune`` give them theirs
afterwards, a few in each transaction.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SESSIONS = "xgen_sessions"
_LOGINS = "xgen_user_logins"
_USER = "ix_xgen_sessions_user"
_USER_COLUMNS = ["user_id", "ended_us", "expires_us"]
_ADDRESS = "ix_xgen_sessions_address"


def upgrade() -> None:
    op.add_column(_SESSIONS, sa.Column("ip_key", sa.String(33)), schema=_schema())
    op.add_column(_LOGINS, sa.Column("last_ip_key", sa.String(33)), schema=_schema())
    op.create_index(
        _ADDRESS,
        _SESSIONS,
        ["ip_key", "ended_us", "user_id", "expires_us"],
        postgresql_where=sa.text("ended_us IS NULL"),
    )
    _replace_user_index([*_USER_COLUMNS, "signed_in_us", "ip_key"])


def downgrade() -> None:
    _replace_user_index(_USER_COLUMNS)
    op.drop_index(_ADDRESS, _SESSIONS)
    op.drop_column(_LOGINS, "last_ip_key", schema=_schema())
    op.drop_column(_SESSIONS, "ip_key", schema=_schema())


def _replace_user_index(columns: list[str]) -> None:
    if op.get_bind().dialect.name in ("mysql", "mariadb"):
        # In one statement: each would commit, and force logouts name the index.
        table = f"{_schema()}.{_SESSIONS}" if _schema() else _SESSIONS
        names = ", ".join(columns)
        op.execute(f"ALTER TABLE {table} DROP INDEX {_USER}, ADD INDEX {_USER} ({names})")
    else:
        op.drop_index(_USER, _SESSIONS)
        op.create_index(_USER, _SESSIONS, columns)


def _schema() -> str | None:
    """Return the tables' schema: Alembic's ALTER TABLE ignores ``schema_translate_map``."""
    return op.get_context().version_table_schema
