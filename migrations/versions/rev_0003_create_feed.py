"""Create the feed of revocations, which keeps denylists in memory up to date."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BYTEWISE: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    op.create_table(
        "xgen_feed",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("session_id", sa.String(36)),
        sa.Column("cut_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger),
        **_BYTEWISE,
    )
    head = op.create_table(
        "xgen_feed_head",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        **_BYTEWISE,
    )
    op.bulk_insert(head, [{"name": "head", "position": 0}])


def downgrade() -> None:
    op.drop_table("xgen_feed_head")
    op.drop_table("xgen_feed")
