"""Inserts thousands or millions of rows into the plugin's tables, with SQL alone."""

from __future__ import annotations

import sqlalchemy as sa

_NUMBERS = {
    "sqlite": "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) "
    "SELECT n FROM s) AS numbers",
    "postgresql": "generate_series(1, {rows}) AS numbers(n)",
    "mariadb": "(SELECT seq AS n FROM seq_1_to_{rows}) AS numbers",
}
_RANDOM_ID = {
    "sqlite": "lower(hex(randomblob(16)))",
    "postgresql": "replace(gen_random_uuid()::text, '-', '')",
    "mariadb": "md5(concat('{salt}', n))",
}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0"


def kind_of(connection: sa.Connection) -> str:
    """Return the kind of database: sqlite, postgresql or mariadb."""
    name = connection.dialect.name
    return "mariadb" if name == "mysql" else name


def numbers(kind: str, rows: int) -> str:
    """Return the SQL of a table whose column ``n`` has the numbers 1 to *rows*."""
    return _NUMBERS[kind].format(rows=rows)


def add_sessions(
    connection: sa.Connection,
    rows: int,
    *,
    user: str,
    first_issued_us: int,
    expires_us: int,
    ended: str = "NULL",
) -> None:
    """Insert rows of ``xgen_sessions`` with random ids, issued one microsecond apart.

    :param user: The user's id, as SQL that may use ``n``.
    :param ended: The time of the end, as SQL for ``ended_us``.
    """
    kind = kind_of(connection)
    jti = _RANDOM_ID[kind].format(salt=f"{first_issued_us}-")
    reason = "NULL" if ended == "NULL" else "'signed out'"
    statement = (
        "INSERT INTO xgen_sessions (jti, session_id, user_id, issued_us, signed_in_us, expires_us,"
        " ended_us, end_reason, ip, user_agent) "
        f"SELECT jti, jti, user_id, issued_us, issued_us, {expires_us}, {ended}, {reason},"
        f" '192.0.2.7', '{AGENT}' "
        f"FROM (SELECT n, {jti} AS jti, {user} AS user_id, {first_issued_us} + n AS issued_us "
        f"FROM {numbers(kind, rows)}) AS made"
    )
    connection.execute(sa.text(statement))


def add_logins(connection: sa.Connection, users: int, *, user: str, expires_us: int) -> None:
    """Insert rows of ``xgen_user_logins``.

    :param user: The user's id, as SQL that may use ``n``.
    """
    statement = (
        "INSERT INTO xgen_user_logins (user_id, last_issued_us, invalid_before_us, active_until_us)"
        f" SELECT {user}, 1, 0, {expires_us} FROM {numbers(kind_of(connection), users)}"
    )
    connection.execute(sa.text(statement))


def make_room(connection: sa.Connection) -> None:
    """Give SQLite a large cache: random ids change pages all over the indexes.

    A database server has a cache of sufficient size.
    """
    if kind_of(connection) == "sqlite":
        connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KB}")


_CACHE_KB = 4_000_000


def text(kind: str, number: str) -> str:
    """Return SQL that converts *number*, itself SQL, to text."""
    return f"CAST({number} AS {'CHAR' if kind == 'mariadb' else 'TEXT'})"


def analyze(connection: sa.Connection) -> None:
    """Update the database's statistics of the tables."""
    if kind_of(connection) == "mariadb":
        connection.exec_driver_sql("ANALYZE TABLE xgen_sessions, xgen_user_logins")
    else:
        connection.exec_driver_sql("ANALYZE")
