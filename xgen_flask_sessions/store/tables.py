"""The plugin's tables, on a declarative base of their own.

All times are integer microseconds since the epoch, UTC. There is no foreign key into the host's
user table: ``user_id`` is the text of the user's primary key. Identifiers compare byte by byte on
every database; MariaDB needs a binary collation without padding for that.
"""

from __future__ import annotations

import uuid
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

EVERYONE: Final = "*"
"""The ``user_id`` of the row that holds everyone's invalidation timestamp."""

RENEWED: Final = "renewed"
FORCE_LOGOUT: Final = "force logout"
ACCOUNT_CHANGED: Final = "account changed"
SIGNED_OUT: Final = "signed out"
ENDED: Final = "ended"

MAX_USER_AGENT: Final = 512
MAX_REASON: Final = 500
MAX_DETAILS: Final = 2000

_ID = sa.String(36)
_USER_ID = sa.String(255)
_IP = sa.String(45)
_IP_KEY = sa.String(33)
_MARK = sa.String(32)
BYTEWISE = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_nopad_bin"))
}
"""Table options that make text compare byte by byte on MariaDB."""


def new_id() -> str:
    """Return a new random identifier."""
    return uuid.uuid4().hex


class Base(DeclarativeBase):
    """Base of the plugin's tables; ``init_app`` copies them into the host's metadata."""


class SessionRecord(Base):
    """One row for each JWT issued."""

    __tablename__ = "xgen_sessions"

    jti: Mapped[str] = mapped_column(_ID, primary_key=True)
    """The token's id, its claim ``jti``."""
    session_id: Mapped[str] = mapped_column(_ID)
    """The session that the token belongs to: the ``jti`` of its first token, the claim ``sid``."""
    user_id: Mapped[str] = mapped_column(_USER_ID)
    """The user's account: the primary key as text."""
    issued_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The stamp: strictly rising per user, the token's ``iat_us``."""
    signed_in_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The time of the sign-in, by the clock of its machine. A renewed token keeps it."""
    expires_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The time at which the token expires, its ``exp``."""
    ended_us: Mapped[int | None] = mapped_column(sa.BigInteger)
    """Empty while the token is open. It lies in the future only with the reason "renewed"."""
    end_reason: Mapped[str | None] = mapped_column(sa.String(32))
    """"force logout", "account changed", "signed out", "renewed" or "ended"."""
    ip: Mapped[str | None] = mapped_column(_IP)
    """The address of the sign-in."""
    user_agent: Mapped[str | None] = mapped_column(sa.String(MAX_USER_AGENT))
    """The ``User-Agent`` of the sign-in."""
    login_id: Mapped[str | None] = mapped_column(_USER_ID)
    """The result of Flask-Login's ``get_id()`` at the sign-in; empty if it equals ``user_id``."""
    ip_key: Mapped[str | None] = mapped_column(_IP_KEY)
    """The address as "4" or "6" and hexadecimal digits, which order as the addresses do; blank
    without an address, empty if an earlier release wrote the row."""

    __table_args__ = (
        # The last two columns let the index alone answer the filters of lists.
        sa.Index(
            "ix_xgen_sessions_user", "user_id", "ended_us", "expires_us", "signed_in_us", "ip_key"
        ),
        # Addresses by network. The address comes first: PostgreSQL does not search by a column
        # whose condition the index implies.
        sa.Index(
            "ix_xgen_sessions_address",
            "ip_key",
            "ended_us",
            "user_id",
            "expires_us",
            postgresql_where=sa.text("ended_us IS NULL"),
        ),
        sa.Index("ix_xgen_sessions_open", "ended_us", "expires_us"),
        # PostgreSQL rewrites each index entry when a row ends; the primary key finds first rows.
        sa.Index(
            "ix_xgen_sessions_session", "session_id", postgresql_where=sa.text("session_id <> jti")
        ),
        BYTEWISE,
    )


class UserLogin(Base):
    """One row for each user that ever signed in, and one row ``*`` for everyone."""

    __tablename__ = "xgen_user_logins"

    user_id: Mapped[str] = mapped_column(_USER_ID, primary_key=True)
    """The user's account: the primary key as text; ``*`` for everyone."""
    last_issued_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The newest stamp of the user."""
    invalid_before_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The invalidation timestamp: a token with a stamp at or before it is refused. Never falls."""
    last_login_us: Mapped[int | None] = mapped_column(sa.BigInteger)
    """The time of the newest sign-in, by the clock of its machine."""
    last_ip: Mapped[str | None] = mapped_column(_IP)
    """The address of the newest sign-in."""
    active_until_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The latest expiry of the sessions that have not ended; 0 without any."""
    account_mark: Mapped[str | None] = mapped_column(_MARK)
    """A hash that distinguishes the account from a later one with the same id; empty if unknown."""
    last_ip_key: Mapped[str | None] = mapped_column(_IP_KEY)
    """``last_ip`` as ``ip_key`` has it; empty without an address."""

    __table_args__ = (
        sa.Index("ix_xgen_user_logins_active", "active_until_us"),
        # The screen's order, answered without the rows themselves.
        sa.Index("ix_xgen_user_logins_newest", "last_login_us", "user_id", "active_until_us"),
        BYTEWISE,
    )


class RevocationRecord(Base):
    """One row for each revocation: the audit record, written in the transaction that revokes."""

    __tablename__ = "xgen_revocations"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    """The revocation's id."""
    kind: Mapped[str] = mapped_column(sa.String(16))
    """``user``, ``session`` or ``everyone``."""
    user_id: Mapped[str | None] = mapped_column(_USER_ID)
    """The user whose sessions ended."""
    session_id: Mapped[str | None] = mapped_column(_ID)
    """The session that ended, for the kind ``session``."""
    invalid_before_us: Mapped[int | None] = mapped_column(sa.BigInteger)
    """The invalidation timestamp that was written; empty for the kind ``session``."""
    revoked_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The time of the revocation."""
    actor: Mapped[str | None] = mapped_column(_USER_ID)
    """The user id of the administrator, or the name of the command that acted."""
    actor_ip: Mapped[str | None] = mapped_column(_IP)
    """The address that the revocation was requested from."""
    reason: Mapped[str | None] = mapped_column(sa.String(MAX_REASON))
    """The reason that was given."""
    sessions_ended: Mapped[int] = mapped_column(sa.Integer)
    """The number of sessions that the revocation ended."""
    # Deferred: a record is read without it, also where the column is missing still.
    details: Mapped[str | None] = mapped_column(sa.String(MAX_DETAILS), deferred=True)
    """For a leaver, the changes of the account as JSON: ``deactivated``, and names of ``roles``."""

    __table_args__ = (
        sa.Index("ix_xgen_revocations_user", "user_id", "revoked_us"),
        sa.Index("ix_xgen_revocations_kind", "kind", "revoked_us"),
        BYTEWISE,
    )


class FeedEvent(Base):
    """One row for each event of the feed, in the order of the commits."""

    __tablename__ = "xgen_feed"

    position: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    """1, 2, 3 and so on, without a gap: a reader of one event has read all events before it."""
    id: Mapped[str] = mapped_column(_ID)
    """Distinguishes the event from another at the same position, as after a restored backup."""
    kind: Mapped[str] = mapped_column(sa.String(16))
    """``user``, ``session``, ``everyone`` or ``renewed``."""
    user_id: Mapped[str | None] = mapped_column(_USER_ID)
    """The user whose tokens are refused."""
    session_id: Mapped[str | None] = mapped_column(_ID)
    """The session that ended or was renewed."""
    cut_us: Mapped[int] = mapped_column(sa.BigInteger)
    """The invalidation timestamp; for a renewal, the new token's stamp."""
    until_us: Mapped[int | None] = mapped_column(sa.BigInteger)
    """For a renewal, the end of the old token."""

    __table_args__ = (BYTEWISE,)


class FeedHead(Base):
    """One row: the end of the feed. A transaction that adds events locks it until the commit."""

    __tablename__ = "xgen_feed_head"

    name: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    """Always ``head``."""
    position: Mapped[int] = mapped_column(sa.BigInteger)
    """The position of the last event."""
    deployment_id: Mapped[str | None] = mapped_column(_ID)
    """The deployment's id, made at the first use. Tokens and the feed in Redis carry it."""

    __table_args__ = (BYTEWISE,)


VERSION_TABLE: Final = "xgen_sessions_version"
"""Alembic's version table of ``migrations/``."""

TABLES: Final = tuple(Base.metadata.tables)


def copy_tables(target: sa.MetaData) -> None:
    """Copy the tables, and the migrations' version table, into a host's metadata.

    ``create_all()`` then creates them, and autogenerated migrations do not drop them.

    :param target: The host's metadata.
    """
    # The host's default schema is for its own tables; the plugin's statements name none.
    host_schema, target.schema = target.schema, None
    try:
        for table in Base.metadata.tables.values():
            if table.name not in target.tables:
                table.to_metadata(target)
        if VERSION_TABLE not in target.tables:
            version = sa.Column("version_num", sa.String(32), primary_key=True)
            sa.Table(VERSION_TABLE, target, version)
    finally:
        target.schema = host_schema
