"""The ledger's statements that run most often, made once: to make one takes longer than to run it.

Each takes its values as parameters: ``INSERT_SESSION`` and ``INSERT_REVOCATION`` by the names of
the columns, the others by those names with ``new_`` before them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, cast

import sqlalchemy as sa

from .stamps import by_index, upsert
from .tables import FORCE_LOGOUT, RevocationRecord, SessionRecord

_sessions = cast("sa.Table", SessionRecord.__table__)
_revocations = cast("sa.Table", RevocationRecord.__table__)

INSERT_SESSION: Final = sa.insert(_sessions)
INSERT_REVOCATION: Final = sa.insert(_revocations)

# What marks active sessions as ended by force logout. A renewed token's row stays as it is: the
# timestamp ends it, and it counts for nothing.
# Expiry is kept out of the index: MariaDB would lock the row next to the range as well, which may
# be another user's, and two such users would wait for each other.
_now = sa.bindparam("new_revoked_us", type_=sa.BigInteger())
END_ALL: Final = (
    sa.update(_sessions)
    .where(_sessions.c.ended_us.is_(None), _sessions.c.expires_us + 0 > _now)
    .values(ended_us=_now, end_reason=FORCE_LOGOUT)
)
END_ALL_OF_USER: Final = by_index(
    END_ALL.where(_sessions.c.user_id == sa.bindparam("new_user_id")),
    _sessions,
    "ix_xgen_sessions_user",
)


@cache
def end_and_record_at_once() -> Any:
    """Return what ends a user's sessions and records it in ``xgen_revocations``, on PostgreSQL.

    It returns how many there were.
    """
    ended = END_ALL_OF_USER.returning(_sessions.c.jti).cte("ended")
    names = [column.name for column in _revocations.c if column.name != "sessions_ended"]
    values = [sa.bindparam(f"new_{name}", type_=_revocations.c[name].type) for name in names]
    count = sa.select(sa.func.count()).select_from(ended).scalar_subquery()
    return (
        sa.insert(_revocations)
        .from_select([*names, "sessions_ended"], sa.select(*values, count))
        .returning(_revocations.c.sessions_ended)
    )


@cache
def sign_in_at_once() -> Any:
    """Return what takes a user's stamp and inserts the session with it, as PostgreSQL takes it.

    The values of the user's row are given by :func:`~.stamps.bound`.
    """
    login = upsert("postgresql", "sign in").cte("login")
    names = ("jti", "session_id", "user_id", "expires_us", "ip", "user_agent")
    values = [sa.bindparam(f"new_{name}", type_=_sessions.c[name].type) for name in names]
    stamp = login.c.last_issued_us
    return (
        sa.insert(_sessions)
        .from_select([*names, "issued_us", "signed_in_us"], sa.select(*values, stamp, stamp))
        .returning(_sessions.c.issued_us)
    )
