"""The accounts behind the ids of users: their marks, and the login ids of their sessions."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from .tables import SessionRecord, UserLogin

_logins = cast("sa.Table", UserLogin.__table__)


def known(session: Session, user_ids: Collection[str]) -> list[str]:
    """Return those of the users that have a record."""
    return list(
        session.scalars(sa.select(UserLogin.user_id).where(UserLogin.user_id.in_(user_ids)))
    )


def change_mark(session: Session, user_id: str, *, old: str | None, new: str | None) -> None:
    """Replace the mark of an account, if it is *old*; another mark is that of another account."""
    session.execute(
        sa.update(_logins)
        .where(UserLogin.user_id == user_id, UserLogin.account_mark == old)
        .values(account_mark=new)
    )


def forget_mark(session: Session, user_id: str) -> None:
    """Remove the mark of an account; the next sign-in sets it."""
    session.execute(
        sa.update(_logins).where(UserLogin.user_id == user_id).values(account_mark=None)
    )


def has_other_login_id(session: Session, user_id: str, login_id: str) -> bool:
    """Return whether a token of the user was issued for another login id."""
    other = (
        sa.select(SessionRecord.jti)
        .where(
            SessionRecord.user_id == user_id,
            SessionRecord.expires_us > clock.now_us(),
            sa.func.coalesce(SessionRecord.login_id, SessionRecord.user_id) != login_id,
            sa.or_(SessionRecord.ended_us.is_(None), SessionRecord.ended_us > clock.now_us()),
        )
        .limit(1)
    )
    return session.scalar(other) is not None
