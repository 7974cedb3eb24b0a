"""The order of sign-ins and force logouts: stamps, and the locks that make them.

One row per user in ``xgen_user_logins`` is locked by every sign-in and every force logout of that
user, and hands out a stamp that only rises; the row ``*`` is locked shared by every sign-in and
exclusively by a force logout of everyone. So each sign-in is before or after each force logout,
whatever the clocks of the machines say.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from .models import EVERYONE, UserLogin

_logins = cast("sa.Table", UserLogin.__table__)

MYSQL = ("mysql", "mariadb")


def dialect_of(session: Session) -> str:
    """Return the name of the database's dialect."""
    return session.get_bind(clause=_logins).dialect.name


def write_first(session: Session) -> None:
    """Take SQLite's write lock before anything is read, so that what is read is the latest.

    The other databases lock the rows that are read.
    """
    if dialect_of(session) == "sqlite":
        session.execute(
            sa.update(_logins)
            .where(UserLogin.user_id == EVERYONE)
            .values(invalid_before_us=UserLogin.invalid_before_us)
        )


def lock_everyone(session: Session, *, exclusively: bool = False) -> int:
    """Lock the row ``*`` and return everyone's invalidation timestamp."""
    write_first(session)
    query = sa.select(UserLogin.invalid_before_us).where(UserLogin.user_id == EVERYONE)
    if session.scalar(query) is None:  # locking a row that is not there locks its neighbours
        _upsert(session, new_login(EVERYONE), [("last_issued_us", UserLogin.last_issued_us)])
    return session.execute(query.with_for_update(read=not exclusively)).scalar_one()


def next_stamp(
    session: Session,
    user_id: str,
    now: int,
    *,
    everyone_us: int,
    expires_us: int,
    login: bool = False,
    ip: str | None = None,
) -> tuple[int, int]:
    """Lock the user's row and take its next stamp; also return the invalidation timestamp."""
    first = max(now, everyone_us + 1)
    stamp = _greatest(session, UserLogin.last_issued_us + 1, UserLogin.invalid_before_us + 1, first)
    new = new_login(user_id, last_issued_us=first, active_until_us=expires_us)
    updates: list[tuple[str, Any]] = [
        ("active_until_us", _greatest(session, UserLogin.active_until_us, expires_us)),
    ]
    if login:
        new |= {"last_login_us": first, "last_ip": ip}
        updates.append(("last_login_us", stamp))
        if ip is not None:
            updates.append(("last_ip", ip))
    # MariaDB assigns from left to right, and reads what it assigned: the stamp comes last.
    updates.append(("last_issued_us", stamp))
    return _upsert(session, new, updates)


def invalidate(session: Session, user_id: str, now: int) -> int:
    """Raise a row's invalidation timestamp over everything issued, and return it."""
    raised = _greatest(session, UserLogin.invalid_before_us, UserLogin.last_issued_us, now)
    _, invalid_before_us = _upsert(
        session,
        new_login(user_id, invalid_before_us=now),
        [("active_until_us", 0), ("invalid_before_us", raised)],
    )
    return invalid_before_us


def invalidate_everyone(session: Session, now: int) -> int:
    """Raise everyone's invalidation timestamp over everything issued, and return it.

    The row ``*`` must be locked exclusively: then nobody is signing in.
    """
    newest = sa.select(sa.func.max(UserLogin.last_issued_us))
    if dialect_of(session) in MYSQL:  # a plain read there may see an older snapshot
        newest = newest.with_for_update()
    return invalidate(session, EVERYONE, max(now, session.scalar(newest) or 0))


def new_login(user_id: str, **values: int) -> dict[str, Any]:
    """Return the values of a user's first row of ``xgen_user_logins``."""
    zeros = {"last_issued_us": 0, "invalid_before_us": 0, "active_until_us": 0}
    return {"user_id": user_id, **zeros, **values}


def _upsert(
    session: Session, new: dict[str, Any], updates: list[tuple[str, Any]]
) -> tuple[int, int]:
    """Insert a row of ``xgen_user_logins`` or update it, in one statement that locks it.

    :returns: Its ``last_issued_us`` and ``invalid_before_us`` afterwards.
    """
    returning = (_logins.c.last_issued_us, _logins.c.invalid_before_us)
    dialect = dialect_of(session)
    if dialect in MYSQL:
        statement: sa.sql.dml.ReturningInsert[int, int] = (
            mysql.insert(_logins).values(new).on_duplicate_key_update(updates).returning(*returning)
        )
    else:
        insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        statement = (
            insert(_logins)
            .values(new)
            .on_conflict_do_update(index_elements=["user_id"], set_=dict(updates))
            .returning(*returning)
        )
    last_issued_us, invalid_before_us = session.execute(statement).one()
    return last_issued_us, invalid_before_us


def _greatest(session: Session, *values: Any) -> sa.ColumnElement[int]:
    greatest = sa.func.max if dialect_of(session) == "sqlite" else sa.func.greatest
    return greatest(*values, type_=sa.BigInteger())


def by_index(statement: Any, table: sa.Table, name: str) -> Any:
    """Keep MariaDB from reading a whole small table, and so from locking other users' rows."""
    for dialect in MYSQL:
        statement = statement.with_hint(
            text=f"FORCE INDEX ({name})", selectable=table, dialect_name=dialect
        )
    return statement
