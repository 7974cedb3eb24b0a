"""The screen's look-ups use indexes: none reads the whole table of sessions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from tests.benchmarks.screen import addresses, plans_of, sign_in_admin
from tests.support.databases import Server
from tests.support.standalone import Center, center_maker
from xgen_flask_sessions.roster.listing import COLUMNS
from xgen_flask_sessions.roster.roster import PAGE_SIZE
from xgen_flask_sessions.standalone import seeding
from xgen_flask_sessions.standalone.models import db

pytestmark = pytest.mark.slow

USERS, SESSIONS = 2000, 20_000

ENDED = """
UPDATE xgen_sessions SET ended_us = issued_us, end_reason = 'signed out'
WHERE MOD(expires_us / 1000000, 10) > 0;
UPDATE xgen_user_logins SET active_until_us = (
    SELECT COALESCE(MAX(expires_us), 0) FROM xgen_sessions
    WHERE user_id = xgen_user_logins.user_id AND ended_us IS NULL)
"""
"""Ends most sessions, as in a table that has been in use: an index pays off more then."""

FULL_SCANS = {
    "sqlite": r"SCAN xgen_sessions(?! USING COVERING INDEX)",
    "postgresql": r"Seq Scan on xgen_sessions",
    "mysql": r"SIMPLE xgen_sessions ALL|xgen_sessions ALL",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def seeded(
    request: pytest.FixtureRequest,
    server: Callable[[str], Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Center]:
    """Yield an Admin Center with many sessions, on each kind of database."""
    own = {}
    if request.param != "sqlite":
        own["SQLALCHEMY_DATABASE_URI"] = server(request.param).kept("plans")
    with center_maker(tmp_path_factory.mktemp("plans") / "instance") as make:
        center = make(**own)
        _fill(center)
        yield center


def _fill(center: Center) -> None:
    with center.app.app_context():
        list(seeding.seed(USERS, SESSIONS, randomness=1))
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if db.engine.dialect.name == "postgresql":
                connection.exec_driver_sql(ENDED)
                connection.exec_driver_sql("VACUUM (ANALYZE)")
            elif db.engine.dialect.name != "sqlite":
                connection.exec_driver_sql("ANALYZE TABLE xgen_sessions, xgen_user_logins, users")


def test_no_look_up_reads_every_session(seeded: Center) -> None:
    center = seeded
    token, users = sign_in_admin(center.app)
    with center.app.app_context():
        full_scan = re.compile(FULL_SCANS[db.engine.dialect.name])

    for name, path in addresses(users).items():
        plans = plans_of(center.app, token, path)
        assert plans
        for statement, steps in plans.items():
            assert not full_scan.search("\n".join(steps)), (name, statement, steps)


FILTERS = {
    "filter: a narrow network": "ix_xgen_sessions_address",
    "filter: more than 49 sessions": "ix_xgen_sessions_user",
    "filter: longer than 31 days": "ix_xgen_sessions_user",
}


def is_of_filter(query: str) -> bool:
    """Return whether a query finds users by their sessions."""
    return ("DISTINCT" in query and ".ip " not in query) or "HAVING" in query


def test_filters_read_the_indexes_that_are_for_them(seeded: Center) -> None:
    token, users = sign_in_admin(seeded.app)
    with seeded.app.app_context():
        is_postgresql = db.engine.dialect.name == "postgresql"

    for name, index in FILTERS.items():
        plans = plans_of(seeded.app, token, addresses(users)[name])
        (steps,) = [
            "\n".join(steps) for query, steps in plans.items() if is_of_filter(query)
        ]  # fmt: skip
        if is_postgresql:  # of the indexes that have the columns, its planner takes the smallest
            index = index.replace("user", "(user|address|open)")
        assert re.search(index, steps), (name, steps)


def test_sqlite_reads_the_same_indexes_in_whatever_order_they_were_made(center: Center) -> None:
    with center.app.app_context():
        if db.engine.dialect.name != "sqlite":
            pytest.skip("other databases keep statistics")
        list(seeding.seed(300, 1000, randomness=1))
        indexes = db.metadata.tables["xgen_sessions"].indexes
        for index in sorted(indexes, key=lambda each: str(each.name)):  # it prefers the last one
            index.drop(db.engine)
            index.create(db.engine)
    token, users = sign_in_admin(center.app)

    for name, expected in FILTERS.items():
        plans = plans_of(center.app, token, addresses(users)[name])
        steps = [step for query, found in plans.items() if is_of_filter(query) for step in found]
        assert expected in "\n".join(steps), (name, steps)


def test_the_default_order_reads_only_an_index(seeded: Center) -> None:
    center = seeded
    token, _ = sign_in_admin(center.app)

    plans = plans_of(center.app, token, "/sessions/users?page=3")

    with center.app.app_context():
        dialect = db.engine.dialect.name
    (steps,) = [steps for query, steps in plans.items() if "ORDER BY" in query]
    used = {
        "sqlite": "USING COVERING INDEX ix_xgen_user_logins_newest",
        "postgresql": "Index Only Scan Backward using ix_xgen_user_logins_newest",
        "mysql": "ix_xgen_user_logins_newest",
    }[dialect]
    assert used in "\n".join(steps)
    assert "SORT" not in "\n".join(steps).upper()
    assert "TEMP B-TREE" not in "\n".join(steps)


def test_sessions_are_counted_in_the_user_order_of_their_index(seeded: Center) -> None:
    center = seeded
    token, _ = sign_in_admin(center.app)

    plans = plans_of(center.app, token, "/sessions/users?sort=active_sessions")

    with center.app.app_context():
        dialect = db.engine.dialect.name
    steps = next("\n".join(steps) for query, steps in plans.items() if "ORDER BY" in query)
    used = {
        "sqlite": r"SEARCH xgen_user_logins USING INDEX sqlite_autoindex_xgen_user_logins_1",
        "postgresql": r"Index Only Scan using ix_xgen_sessions_(user|address)",
        "mysql": r"xgen_user_logins range PRIMARY",
    }[dialect]
    assert re.search(used, steps), steps


def test_the_last_page_by_username_counts_deleted_users_if_that_is_faster(
    seeded: Center,
) -> None:
    center = seeded
    token, users = sign_in_admin(center.app)

    plans = plans_of(center.app, token, f"/sessions/users?sort=username&page={users // PAGE_SIZE}")

    counts = [query for query in plans if query.startswith("SELECT count(") and "users" in query]
    (count,) = [query for query in counts if "is_superuser" not in query]
    with center.app.app_context():
        joins = (
            db.engine.dialect.name == "postgresql"
        )  # the search for deleted users takes longer there
    assert ("JOIN" in count, "EXISTS" in count) == (joins, not joins)


def test_the_page_of_a_user_reads_indexes_only_up_to_a_limit(seeded: Center) -> None:
    center = seeded
    token, _ = sign_in_admin(center.app)
    with center.app.app_context():
        dialect = db.engine.dialect.name
        busiest = (
            "SELECT user_id, MAX(issued_us) FROM xgen_sessions "
            "GROUP BY user_id ORDER BY COUNT(*) DESC LIMIT 1"
        )
        user_id, ended_us = db.session.execute(sa.text(busiest)).one()

    used = {
        "sqlite": r"SEARCH xgen_sessions USING (COVERING )?INDEX ix_xgen_sessions_(user|session)"
        r"|SEARCH xgen_sessions USING INDEX sqlite_autoindex",
        # There, few sessions have expired: it reads them all.
        "postgresql": r"ix_xgen_sessions_(user|session|open)|xgen_sessions_pkey",
        "mysql": r"ix_xgen_sessions_(user|session)|xgen_sessions \S+ PRIMARY",
    }[dialect]
    page = f"/admin/admin-active-sessions/user?user_id={user_id}"
    for path in (page, f"{page}&ended={ended_us}-{ended_us + 1}-x&records={ended_us}"):
        plans = plans_of(center.app, token, path)
        of_sessions = {query: steps for query, steps in plans.items() if "xgen_sessions" in query}
        assert len(of_sessions) >= 5
        for query, steps in of_sessions.items():
            assert not re.search(FULL_SCANS[dialect], "\n".join(steps)), (query, steps)
            assert re.search(used, "\n".join(steps)), (query, steps)
            if "jti = " not in query and "session_id = " not in query:
                assert "LIMIT" in query, query


def test_superusers_are_counted_by_an_index(seeded: Center) -> None:
    center = seeded
    token, _ = sign_in_admin(center.app)

    plans = plans_of(center.app, token, "/sessions/users")

    (steps,) = ["\n".join(steps) for query, steps in plans.items() if "is_superuser" in query]
    assert "ix_users_superuser" in steps, steps


def test_every_page_of_every_order_has_its_users(center: Center) -> None:
    with center.app.app_context():
        list(seeding.seed(300, 1000, randomness=1))
    token, users = sign_in_admin(center.app)
    client = center.browser()
    client.set_cookie("xgen_token", token)

    last = -(-users // PAGE_SIZE)
    for column in COLUMNS:
        url = f"/sessions/users?sort={column}"
        pages = [client.get(f"{url}&page={n}").get_json()["users"] for n in range(1, last + 1)]
        ids = [user["user_id"] for page in pages for user in page]
        assert (len(ids), len(set(ids))) == (users, users), column
