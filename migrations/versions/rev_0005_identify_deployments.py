"""Give the deployment an id of its own, which its tokens and its feed carry."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("xgen_feed_head", sa.Column("deployment_id", sa.String(36)), schema=_schema())


def downgrade() -> None:
    op.drop_column("xgen_feed_head", "deployment_id", schema=_schema())


def _schema() -> str | None:
    """Return the tables' schema: Alembic's ALTER TABLE ignores ``schema_translate_map``."""
    return op.get_context().version_table_schema
