"""Record the login id of each session, and a mark of each account."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("xgen_sessions", sa.Column("login_id", sa.String(255)), schema=_schema())
    op.add_column("xgen_user_logins", sa.Column("account_mark", sa.String(32)), schema=_schema())


def downgrade() -> None:
    op.drop_column("xgen_user_logins", "account_mark", schema=_schema())
    op.drop_column("xgen_sessions", "login_id", schema=_schema())


def _schema() -> str | None:
    """Return the tables' schema: Alembic's ALTER TABLE ignores ``schema_translate_map``."""
    return op.get_context().version_table_schema
