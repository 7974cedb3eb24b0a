"""On PostgreSQL, index by session only the rows that are not found by their key."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLE = "xgen_sessions"
_INDEX = "ix_xgen_sessions_session"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index(_INDEX, _TABLE)
        op.create_index(
            _INDEX, _TABLE, ["session_id"], postgresql_where=sa.text("session_id <> jti")
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index(_INDEX, _TABLE)
        op.create_index(_INDEX, _TABLE, ["session_id"])
