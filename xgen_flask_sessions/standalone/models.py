"""The users of the standalone Admin Center, and their roles."""

from __future__ import annotations

from typing import Any, Final, cast

import sqlalchemy as sa
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

MAX_USERNAME: Final = 150
MAX_NAME: Final = 150
MAX_ROLE: Final = 50

BYTEWISE: Final = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_nopad_bin"}.items()
}
"""Without it, MariaDB treats "alice", "ALICE" and "alice " as one user."""


class Base(DeclarativeBase):
    """Base of the tables."""


db = SQLAlchemy(metadata=Base.metadata)

user_roles = sa.Table(
    "user_roles",
    Base.metadata,
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("role_id", sa.ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
    **cast("dict[str, Any]", BYTEWISE),
)


class Role(Base):
    """A role of users in Xgen."""

    __tablename__ = "roles"
    __table_args__ = BYTEWISE

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(MAX_ROLE), unique=True)


class User(UserMixin, Base):  # type: ignore[misc]
    """A user that may sign in."""

    __tablename__ = "users"
    # An id is never used again: sessions are recorded under it.
    __table_args__ = (
        # Counting the few SuperUsers must not read all users.
        sa.Index("ix_users_superuser", "is_superuser", "id"),
        {"sqlite_autoincrement": True, **BYTEWISE},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(MAX_USERNAME), unique=True)
    name: Mapped[str | None] = mapped_column(sa.String(MAX_NAME))
    department: Mapped[str | None] = mapped_column(sa.String(MAX_NAME))
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    roles: Mapped[list[Role]] = relationship(secondary=user_roles, order_by=Role.name)
