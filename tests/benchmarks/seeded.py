"""Fills an empty Admin Center with the rows of ``seeding``, in bulk: a million within a minute.

The rows are those that ``seeding.seed`` would record. The driver inserts them before the indexes
are built, on PostgreSQL by COPY.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from tests.benchmarks.filling import analyze, kind_of, make_room
from xgen_flask_sessions.standalone import seeding
from xgen_flask_sessions.standalone.models import User, db
from xgen_flask_sessions.store.address_keys import key_of
from xgen_flask_sessions.store.tables import SessionRecord, UserLogin

_CHUNK: Final = 20_000
_USERS: Final = tuple(seeding._person(random.Random(0), 0, silent=False))
_LOGINS: Final = (
    "user_id", "last_issued_us", "invalid_before_us", "active_until_us", "last_login_us",
    "last_ip", "last_ip_key",
)  # fmt: skip
_SESSIONS: Final = (
    "jti", "session_id", "user_id", "issued_us", "signed_in_us", "expires_us", "ip", "ip_key",
    "user_agent",
)  # fmt: skip

Row = Sequence[Any]


def fill(users: int, sessions: int, *, randomness: int = 1) -> None:
    """Add users with active sessions; the tables have no rows of users with these ids.

    Needs an app context.
    """
    chance = random.Random(randomness)
    tables: list[Any] = [SessionRecord.__table__, UserLogin.__table__]
    indexes = [index for table in tables for index in sorted(table.indexes, key=lambda i: i.name)]
    first = (db.session.scalar(sa.select(sa.func.max(User.id))) or 0) + 1
    db.session.rollback()
    with db.engine.begin() as connection:
        make_room(connection)
        for index in indexes:
            index.drop(connection)
        people = [
            seeding._person(chance, first + number, silent=number == users - 1)
            for number in range(users)
        ]
        numbered = ((first + n, *each.values()) for n, each in enumerate(people))
        _insert(connection, "users", ("id", *_USERS), numbered)
        logins: list[Row] = []
        shares = seeding._shares(chance, users, sessions)
        rows = _rows(chance, first, people, shares, logins)
        _insert(connection, "xgen_sessions", _SESSIONS, rows)
        _insert(connection, "xgen_user_logins", _LOGINS, logins)
        for index in indexes:
            index.create(connection)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if kind_of(connection) == "postgresql":
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('users', 'id'), {first + users})"
            )
            connection.exec_driver_sql("VACUUM")
        if kind_of(connection) != "sqlite":  # deployments on SQLite have no statistics
            analyze(connection)
    db.engine.dispose()  # frees the cache that filling needed


def _rows(
    chance: random.Random,
    first: int,
    people: Sequence[dict[str, Any]],
    shares: Sequence[int],
    logins: list[Row],
) -> Iterator[Row]:
    """Yield the rows of sessions, and append each user's row to *logins*."""
    key = cache(key_of)
    for number, (person, share) in enumerate(zip(people, shares, strict=True)):
        user_id = str(first + number)
        login = not person["username"].startswith(seeding._SILENT)
        past = [seeding._sign_in(chance, user_id, login=login) for _ in range(share)]
        past.sort(key=lambda each: each.signed_in_us)
        for each in past:
            jti = f"{chance.getrandbits(128):032x}"
            yield (
                jti, jti, user_id, each.signed_in_us, each.signed_in_us, each.expires_us, each.ip,
                key(each.ip), each.user_agent,
            )  # fmt: skip
        if past:
            newest = past[-1]
            shown = (newest.signed_in_us, newest.ip, key(newest.ip)) if login else (None,) * 3
            until = max(each.expires_us for each in past)
            logins.append((user_id, newest.signed_in_us, 0, until, *shown))


def _insert(
    connection: sa.Connection, table: str, names: Sequence[str], rows: Iterable[Row]
) -> None:
    driver: Any = connection.connection.dbapi_connection
    cursor = driver.cursor()
    if kind_of(connection) == "postgresql":
        with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    mark = "?" if kind_of(connection) == "sqlite" else "%s"
    statement = (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))})"
    )
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK)):
        cursor.executemany(statement, chunk)
