"""Whether the list of active users has changed: a tag that costs a hundred index entries.

The tag is a hash of

- the position of the feed's head, which each revocation and renewal advances: one row by its
  primary key;
- the newest sign-ins, the first :data:`NEWEST` entries of ``ix_xgen_user_logins_newest``: a sign-in
  changes its user's entry, and moves it to the top;
- the next expiry of an open session, the first entry of ``ix_xgen_sessions_open`` after now: it
  changes when a session expires.

None of them counts or reads sessions, so the cost does not depend on how many there are. Just after
many sessions have ended, PostgreSQL steps over their dead index entries once, until they are
marked.

The tag does not see everything, so a caller must ignore it from time to time:

- a sign-in on a machine whose clock is so far behind that :data:`NEWEST` users have a later last
  login, and any sign-in once that many clocks were ahead; with sign-ins that were recorded later,
  the same;
- a change of the host's users: a name, a department, a new SuperUser;
- the time itself: a session that becomes older than the limit of a list.

The other way round, a renewal changes the tag, though it changes no row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .. import clock
from ..store import dialects
from ..store.tables import FeedHead, SessionRecord, UserLogin

NEWEST: Final = 100
"""The number of newest sign-ins that a tag covers."""

_NEWEST_SIGN_INS: Final = (
    sa.select(UserLogin.user_id, UserLogin.last_login_us, UserLogin.active_until_us)
    .where(UserLogin.last_login_us.is_not(None))
    .order_by(UserLogin.last_login_us.desc(), UserLogin.user_id.desc())
    .limit(NEWEST)
)
"""The newest sign-ins, answered by the index alone."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The list of active users at one time."""

    tag: str
    """It differs once the list has changed."""
    newest: list[tuple[str, int]]
    """The newest :data:`NEWEST` sign-ins: user ids with their last logins."""


def look(session: Session, *context: str) -> Freshness:
    """Return the freshness of the list.

    Look before reading the list: a change in between then leads to another tag at the next call.

    :param context: The answer's other dependencies, such as the viewer and the language.
    """
    now = clock.now_us()
    told = hashlib.blake2b(digest_size=16)
    newest = session.execute(_NEWEST_SIGN_INS).all()
    for part in (context, session.execute(_head_and_expiry(session, now)).one(), *newest):
        told.update(repr(tuple(part)).encode())
    return Freshness(told.hexdigest(), [(each.user_id, each.last_login_us) for each in newest])


def _head_and_expiry(session: Session, now: int) -> sa.Select[int | None, int | None]:
    """Return the query for the feed's position and the next expiry of an open session."""
    is_open = SessionRecord.ended_us.is_(None)
    columns = SessionRecord.ended_us, SessionRecord.expires_us
    expiry = (
        sa.select(SessionRecord.expires_us)
        .where(is_open, SessionRecord.expires_us > now)
        .order_by(*dialects.of(session).order_of_index(columns))
        .limit(1)
    )
    head = sa.select(FeedHead.position).where(FeedHead.name == "head")
    return sa.select(head.scalar_subquery(), expiry.scalar_subquery())
