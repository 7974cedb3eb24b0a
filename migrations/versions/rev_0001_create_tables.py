"""Create the tables, with the row that force logouts of everyone change."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BYTEWISE: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    _create_sessions()
    _create_user_logins()
    _create_revocations()


def downgrade() -> None:
    op.drop_table("xgen_revocations")
    op.drop_table("xgen_user_logins")
    op.drop_table("xgen_sessions")


def _create_sessions() -> None:
    op.create_table(
        "xgen_sessions",
        sa.Column("jti", sa.String(36), primary_key=True),
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("issued_us", sa.BigInteger, nullable=False),
        sa.Column("signed_in_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("end_reason", sa.String(32)),
        sa.Column("ip", sa.String(45)),
        sa.Column("user_agent", sa.String(512)),
        **_BYTEWISE,
    )
    op.create_index("ix_xgen_sessions_user", "xgen_sessions", ["user_id", "ended_us", "expires_us"])
    op.create_index("ix_xgen_sessions_open", "xgen_sessions", ["ended_us", "expires_us"])
    op.create_index("ix_xgen_sessions_session", "xgen_sessions", ["session_id"])


def _create_user_logins() -> None:
    table = op.create_table(
        "xgen_user_logins",
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("last_issued_us", sa.BigInteger, nullable=False),
        sa.Column("invalid_before_us", sa.BigInteger, nullable=False),
        sa.Column("last_login_us", sa.BigInteger),
        sa.Column("last_ip", sa.String(45)),
        sa.Column("active_until_us", sa.BigInteger, nullable=False),
        **_BYTEWISE,
    )
    op.create_index("ix_xgen_user_logins_active", "xgen_user_logins", ["active_until_us"])
    op.create_index("ix_xgen_user_logins_newest", "xgen_user_logins", ["last_login_us"])
    everyone = {
        "user_id": "*",
        "last_issued_us": 0,
        "invalid_before_us": 0,
        "active_until_us": 0,
    }
    op.bulk_insert(table, [everyone])


def _create_revocations() -> None:
    op.create_table(
        "xgen_revocations",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("session_id", sa.String(36)),
        sa.Column("invalid_before_us", sa.BigInteger),
        sa.Column("revoked_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(255)),
        sa.Column("actor_ip", sa.String(45)),
        sa.Column("reason", sa.String(500)),
        sa.Column("sessions_ended", sa.Integer, nullable=False),
        **_BYTEWISE,
    )
    op.create_index("ix_xgen_revocations_user", "xgen_revocations", ["user_id", "revoked_us"])
    op.create_index("ix_xgen_revocations_kind", "xgen_revocations", ["kind", "revoked_us"])
