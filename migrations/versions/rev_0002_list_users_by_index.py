"""Index last logins so that the index alone answers which users a page shows."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLE = "xgen_user_logins"
_INDEX = "ix_xgen_user_logins_newest"


def upgrade() -> None:
    op.drop_index(_INDEX, _TABLE)
    op.create_index(_INDEX, _TABLE, ["last_login_us", "user_id", "active_until_us"])


def downgrade() -> None:
    op.drop_index(_INDEX, _TABLE)
    op.create_index(_INDEX, _TABLE, ["last_login_us"])
