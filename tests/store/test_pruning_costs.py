"""The pruning by a sign-in adds little to its cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.hosts import Host
from xgen_flask_sessions.store import dialects
from xgen_flask_sessions.store.pruning import PIGGYBACK_ROWS, QUIET, due_statement

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
NOON_US = (NOON - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
LONG_AFTER = NOON + timedelta(days=32)


@contextmanager
def statements_after_the_insert(host: Host) -> Iterator[list[str]]:
    """Collect the statements that follow the insertion of a sign-in's row."""
    seen: list[str] = []
    collected: list[str] = []

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if seen and not statement.startswith(("SAVEPOINT", "RELEASE")):
            collected.append(statement.split()[0])
        if "INSERT INTO xgen_sessions" in statement:
            seen.append(statement)

    with host.calling_before_statements(look):
        yield collected


def test_pruning_costs_one_statement_without_due_rows(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        host.issue(user)
        clock.tick(QUIET)

        with statements_after_the_insert(host) as sent:
            host.issue(user)

    assert sent == ["SELECT"]


def test_pruning_costs_no_statement_shortly_after_an_empty_look(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        host.issue(user)
        clock.tick(QUIET - timedelta(milliseconds=1))

        with statements_after_the_insert(host) as sent:
            host.issue(user)

    assert sent == []


def test_a_look_by_a_clock_that_is_ahead_prevents_no_later_look(host: Host) -> None:
    user = host.add_user()
    with freeze_time(LONG_AFTER):
        host.issue(user)

    with freeze_time(NOON), statements_after_the_insert(host) as sent:
        host.issue(user)

    assert sent == ["SELECT"]


def test_pruning_costs_three_statements_with_due_rows(host: Host) -> None:
    with freeze_time(NOON):
        host.issue(host.add_user("old"))
    user = host.add_user("new")

    with freeze_time(LONG_AFTER), statements_after_the_insert(host) as sent:
        host.issue(user)

    locking = [] if host.dialect == "sqlite" else ["SELECT"]
    assert sent == ["SELECT", *locking, "DELETE"]
    assert [row["user_id"] for row in host.rows("xgen_sessions")] == [user]


def fill(host: Host, rows: int, users: int) -> None:
    """Fill the tables, and update the database's statistics."""
    logins = [
        {"user_id": str(n), "last_issued_us": n, "invalid_before_us": 0, "active_until_us": 0}
        for n in range(users)
    ]
    sessions = [
        {
            "jti": f"{n:032}",
            "session_id": f"{n:032}",
            "user_id": str(n % users),
            "issued_us": n,
            "signed_in_us": n,
            "expires_us": NOON_US + n,
            "ended_us": None if n % 3 else NOON_US + n,
        }
        for n in range(rows)
    ]
    revocations = [
        {
            "id": f"{n:032}",
            "kind": "session" if n % 2 else "user",
            "user_id": str(n % users),
            "revoked_us": NOON_US + n,
            "sessions_ended": 1,
        }
        for n in range(rows)
    ]
    tables = host.db.metadata.tables
    with host.app.app_context():
        session = host.db.session
        session.execute(sa.insert(tables["xgen_user_logins"]), logins)
        session.execute(sa.insert(tables["xgen_sessions"]), sessions)
        session.execute(sa.insert(tables["xgen_revocations"]), revocations)
        session.commit()
    analyze = "ANALYZE"
    if host.dialect == "mysql":
        analyze = "ANALYZE TABLE xgen_sessions, xgen_revocations, xgen_user_logins"
    host.execute(analyze)


def explain(host: Host, statement: sa.CompoundSelect[Any]) -> list[list[str]]:
    verb = "EXPLAIN QUERY PLAN" if host.dialect == "sqlite" else "EXPLAIN"
    with host.app.app_context(), host.db.engine.connect() as connection:
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        return [[str(cell) for cell in row] for row in connection.exec_driver_sql(f"{verb} {text}")]


@pytest.mark.parametrize("due", [0, 2000], ids=["nothing due", "much due"])
def test_the_look_up_reads_the_ends_of_indexes(host: Host, due: int) -> None:
    fill(host, rows=4000, users=2000)

    dialect = host.dialect
    with host.app.app_context():
        statement = due_statement(NOON_US + due, PIGGYBACK_ROWS, dialects.of(host.db.session()))
    plan = explain(host, statement)

    text = "\n".join(" ".join(line) for line in plan)
    assert text.count("ix_xgen_sessions_open") >= 2
    assert "ix_xgen_revocations_kind" in text
    for table_scan_or_sort in ("Seq Scan", "Sort", "filesort", "SCAN xgen", "TEMP B-TREE"):
        assert table_scan_or_sort not in text
    if dialect == "mysql":
        kinds = {line[3] for line in plan if line[2].startswith("xgen_")}
        assert kinds <= {"range", "eq_ref"}
