"""Record the login id of each session, and a mark of each account."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("xgen_sessions", sa.Column("login_id", sa.String(255)))
    op.add_column("xgen_user_logins", sa.Column("account_mark", sa.String(32)))


def downgrade() -> None:
    with op.batch_alter_table("xgen_user_logins") as logins:
        logins.drop_column("account_mark")
    with op.batch_alter_table("xgen_sessions") as sessions:
        sessions.drop_column("login_id")
