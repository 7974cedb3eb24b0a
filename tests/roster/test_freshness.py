"""The tag of the list changes with the list, and costs the same however many sessions there are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.benchmarks.filling import add_logins, add_sessions, analyze, kind_of, text
from tests.support.hosts import Host
from xgen_flask_sessions import clock
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.roster import freshness
from xgen_flask_sessions.store.sign_ins import PastSignIn, record_past

MOST_ROWS = freshness.NEWEST + 20
"""Rows and index entries that a tag may read."""


def tag(host: Host, *context: str) -> str:
    with host.app.app_context():
        return freshness.look(host.db.session(), *context).tag


def test_the_tag_stays_while_the_list_does(host: Host) -> None:
    host.issue(host.add_user())

    first = tag(host)

    assert tag(host) == first
    assert len(first) == 32


def test_an_empty_database_has_a_tag(host: Host) -> None:
    assert tag(host) == tag(host)


Change = Callable[[Host, str], object]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda host, bora: host.issue(host.add_user("new")), id="a first sign-in"),
        pytest.param(lambda host, bora: host.issue(bora), id="one more session"),
        pytest.param(lambda host, bora: host.force_logout(bora), id="a force logout"),
        pytest.param(
            lambda host, bora: host.end_session(host.rows("xgen_sessions")[0]["session_id"]),
            id="the end of a session",
        ),
    ],
)
def test_a_change_of_the_list_changes_the_tag(host: Host, change: Change) -> None:
    bora = host.add_user("bora")
    host.issue(bora)
    host.issue(bora)
    before = tag(host)

    change(host, bora)

    assert tag(host) != before


def test_a_force_logout_of_everyone_changes_the_tag(host: Host) -> None:
    host.issue(host.add_user())
    before = tag(host)

    with host.app.app_context():
        host.sessions.force_logout_everyone()

    assert tag(host) != before


def test_a_second_sign_in_within_the_same_second_changes_the_tag(host: Host) -> None:
    bora = host.add_user("bora")
    with freeze_time("2026-05-25 04:00:00"):
        host.issue(bora)
        host.issue(bora)
        before = tag(host)
    with freeze_time("2026-05-25 04:00:00.000001"):
        host.issue(bora)

        assert tag(host) != before


def test_a_session_that_expires_changes_the_tag(host: Host) -> None:
    bora = host.add_user("bora")
    with freeze_time("2026-05-25 04:00:00"):
        host.issue(bora, lifetime=60)
        host.issue(bora, lifetime=3600)
    with freeze_time("2026-05-25 04:00:59"):
        before = tag(host)
    with freeze_time("2026-05-25 04:01:00"):
        after = tag(host)
    with freeze_time("2026-05-25 04:59:59"):
        later = tag(host)

    assert before != after == later


def test_the_context_belongs_to_the_tag(host: Host) -> None:
    tags = {tag(host), tag(host, "ko"), tag(host, "k", "o"), tag(host, "ko", ""), tag(host, "en")}

    assert len(tags) == 5


def test_users_without_a_recorded_login_do_not_hide_a_sign_in(host: Host) -> None:
    """NULL comes first in PostgreSQL's falling order."""
    now = clock.now_us()
    unrecorded = [
        PastSignIn(user_id=f"past {n}", signed_in_us=now, expires_us=now + 10**10, login=False)
        for n in range(freshness.NEWEST + 1)
    ]
    with host.app.app_context():
        record_past(host.db.session(), unrecorded)
        host.db.session.commit()
    bora = host.add_user("bora")
    host.issue(host.add_user("earlier"), lifetime=60)  # makes the deployment's id
    before = tag(host)

    host.issue(bora)

    assert tag(host) != before


def fill(host: Host, users: int, sessions_each: int) -> None:
    """Add active sessions that expire one after the other, and as many that have ended."""
    now = clock.now_us()
    with host.app.app_context(), host.db.engine.begin() as connection:
        kind = kind_of(connection)
        user = text(kind, f"1000 + n % {users}")
        add_logins(connection, users, user=user, expires_us=now + 3600 * SECOND_US)
        connection.execute(
            sa.text("UPDATE xgen_user_logins SET last_login_us = :now WHERE user_id <> '*'"),
            {"now": now},
        )
        for first, ended in ((now, "NULL"), (now + SECOND_US, f"{now}")):
            add_sessions(
                connection,
                users * sessions_each,
                user=user,
                first_issued_us=first,
                expires_us=now + 3600 * SECOND_US,
                ended=ended,
            )
        shift = "UPDATE xgen_sessions SET expires_us = expires_us + issued_us % 1000 * 1000000"
        connection.execute(sa.text(shift))
    with (
        host.app.app_context(),
        host.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        if kind == "postgresql":
            connection.exec_driver_sql("VACUUM")  # or an index-only scan still visits the rows
        analyze(connection)


def statements_of_a_tag(host: Host) -> list[tuple[str, Any]]:
    made: list[tuple[str, Any]] = []

    def keep(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        made.append((statement, parameters))

    with host.calling_before_statements(keep):
        tag(host)
    return made


def rows_read(connection: sa.Connection, statement: str, parameters: Any) -> int:
    """Return the rows and index entries that a statement reads, as the database counts them.

    SQLite counts the steps of its virtual machine: about ten for each row.
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        driver.set_progress_handler(count, 10)
        try:
            connection.exec_driver_sql(statement, parameters).all()
        finally:
            driver.set_progress_handler(None, 0)
        return steps
    if connection.dialect.name == "postgresql":
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
        (found,) = connection.exec_driver_sql(explain, parameters).one()
        plans = json.loads(found) if isinstance(found, str) else found
        return _rows_of(plans[0]["Plan"])
    connection.exec_driver_sql("FLUSH STATUS")
    connection.exec_driver_sql(statement, parameters).all()
    counts = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
    return sum(int(row[1]) for row in counts)


def _rows_of(plan: dict[str, Any]) -> int:
    """Return the rows that the scans of a plan of PostgreSQL read, filtered ones included."""
    read = 0
    if "Scan" in plan["Node Type"]:
        removed = sum(value for name, value in plan.items() if name.startswith("Rows Removed"))
        read = round((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return read + sum(_rows_of(each) for each in plan.get("Plans", ()))


def test_a_tag_takes_two_statements_that_read_few_rows(host: Host) -> None:
    fill(host, 2000, 5)

    made = statements_of_a_tag(host)

    assert len(made) == 2
    with host.app.app_context(), host.db.engine.connect() as connection:
        read = [rows_read(connection, *each) for each in made]
    assert 0 < sum(read) <= MOST_ROWS, read
