"""Look-ups of single records: the user of a session, a user's sign-in, what ended a session."""

from __future__ import annotations

from dataclasses import dataclass, fields

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..store import dialects
from ..store.revocations import Revocation
from ..store.tables import RevocationRecord, SessionRecord, UserLogin
from ..tokens.claims import is_session_id, is_user_id


@dataclass(frozen=True, slots=True)
class PastRevocation:
    """One audit record."""

    id: str
    kind: str
    user_id: str | None
    actor: str | None
    revoked_us: int
    sessions_ended: int


def owner_of(session: Session, session_id: str) -> str | None:
    """Return the id of a session's user; ``None`` if the session is unknown."""
    if not is_session_id(session_id):
        return None
    return session.scalar(
        sa.select(SessionRecord.user_id).where(dialects.of(session).of_session(session_id)).limit(1)
    )


def ever_signed_in(session: Session, user_id: str) -> bool:
    """Return whether *user_id* has ever signed in."""
    if not is_user_id(user_id):
        return False
    known = sa.select(UserLogin.user_id).where(UserLogin.user_id == user_id)
    return session.scalar(known) is not None


def revocation_that_ended(session: Session, session_id: str) -> Revocation | None:
    """Return the first revocation that covers a session; ``None`` without one, as for a sign-out.

    A sign-out by the user is a revocation, too: one of the kind ``session``.
    """
    if not is_session_id(session_id):
        return None
    newest = sa.select(SessionRecord.user_id, SessionRecord.issued_us)
    found = session.execute(
        newest.where(dialects.of(session).of_session(session_id))
        .order_by(SessionRecord.issued_us.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        return None
    record = RevocationRecord
    of_user = sa.and_(
        record.user_id == found.user_id,
        sa.or_(record.session_id == session_id, record.invalid_before_us >= found.issued_us),
    )
    of_everyone = sa.and_(record.kind == "everyone", record.invalid_before_us >= found.issued_us)
    first = [
        session.scalars(sa.select(record).where(each).order_by(record.revoked_us).limit(1)).first()
        for each in (of_user, of_everyone)  # each by its index
    ]
    covering = sorted(filter(None, first), key=lambda each: each.revoked_us)
    return _as_revocation(covering[0]) if covering else None


def _as_revocation(record: RevocationRecord) -> Revocation:
    return Revocation(**{each.name: getattr(record, each.name) for each in fields(Revocation)})
