"""Record the changes of the account with the revocation of a leaver."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_REVOCATIONS = "xgen_revocations"


def upgrade() -> None:
    op.add_column(_REVOCATIONS, sa.Column("details", sa.String(2000)), schema=_schema())


def downgrade() -> None:
    op.drop_column(_REVOCATIONS, "details", schema=_schema())


def _schema() -> str | None:
    """Return the tables' schema: Alembic's ALTER TABLE ignores ``schema_translate_map``."""
    return op.get_context().version_table_schema
