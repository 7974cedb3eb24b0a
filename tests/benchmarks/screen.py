"""The screen's response times: python -m tests.benchmarks.screen [--users N] [--sessions N] […].

Seeds an Admin Center, then measures the pages and the API of Login Management: within the WSGI
application, and over HTTP from a separate server. Prints a table of medians and worst cases in
milliseconds. For each look-up in this package's tables, it also prints the query plan and the time
by itself: the median of several runs, with all rows fetched.

Without --database-url, the database is SQLite in a temporary directory. A given database must be
empty, or seeded before; it keeps its rows. With --seeded, the existing rows are measured.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from tests.benchmarks import seeded
from tests.support.admin_center import AdminCenter
from xgen_flask_sessions.clock import to_rfc3339
from xgen_flask_sessions.roster.listing import COLUMNS
from xgen_flask_sessions.roster.roster import PAGE_SIZE
from xgen_flask_sessions.standalone import create_app
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import User, db

SCREEN = "/admin/admin-active-sessions/"
API = "/sessions/users"
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one kind of request, in milliseconds."""

    median: float
    worst: float


def addresses(users: int) -> dict[str, str]:
    """Return the requested paths, by their names in the table."""
    last = -(-users // PAGE_SIZE)
    orders = {
        f"by {column}, {place}": f"{API}?sort={column}&page={page}"
        for column in COLUMNS
        for place, page in (
            ("first page", 1),
            ("middle page", (last + 1) // 2),
            ("last page", last),
        )
    }
    return {
        "page": SCREEN,
        "last page": f"{SCREEN}?page={last}",
        "JSON": API,
        "JSON, last page": f"{API}?page={last}",
        "a row expanded": f"{SCREEN}sessions?user_id=77",
        "find bora": f"{API}?q=bora",
        "find bora, page": f"{SCREEN}?q=bora",
        "find no user": f"{API}?q=nobody+at+all",
        **orders,
        **filtered_addresses(),
    }


def filtered_addresses() -> dict[str, str]:
    """Return the paths of filtered lists: each filter, combinations, and orders with a filter.

    A list of many users is not counted to its end; its pages are those that its pager offers.
    """
    filters = {
        "a department": "q=Security",
        "text as a network": "q=203.0.113.0/28",
        "an address": "address=203.0.113.77",
        "a narrow network": "address=10.20.7.0/24",
        "a wide network": "address=10.0.0.0/8",
        "a prefix": "address=203.0.11",
        "an IPv6 network": "address=2001:db8:0:40::/59",
        "all IPv4 addresses": "address=0.0.0.0/0",
        "SuperUsers": "superuser=true",
        "longer than 1 hour": "older_than=1h",
        "longer than 7 days": "older_than=7d",
        "longer than 30 days": "older_than=30d",
        "longer than 31 days": "older_than=31d",
        "more than 5 sessions": "min_sessions=6",
        "more than 49 sessions": "min_sessions=50",
        "more than 199 sessions": "min_sessions=200",
        "since yesterday": f"since={_hours_ago(24)}",
        "since an hour ago": f"since={_hours_ago(1)}",
        "SuperUsers, longer than 7 days": "superuser=true&older_than=7d",
        "a network, more than 5 sessions": "address=10.0.0.0/8&min_sessions=6",
        "all filters": "q=kim&address=203.0.113.&superuser=true&older_than=1d&min_sessions=3"
        f"&since={_hours_ago(24)}",
    }
    dense = "older_than=1d&min_sessions=6"
    return {
        **{f"filter: {name}": f"{API}?{query}" for name, query in filters.items()},
        **{
            f"filter: more than 5 sessions, {place}": f"{API}?min_sessions=6&page={page}"
            for place, page in (("middle page", 10), ("last page", 20))
        },
        **{
            f"filter: two, by {column}": f"{API}?{dense}&sort={column}&page=10"
            for column in COLUMNS
        },
    }


def _hours_ago(hours: int) -> str:
    at_us = time.time_ns() // 1000 - hours * 3600 * 1_000_000
    return to_rfc3339(at_us)


def measure(get: Callable[[str], int], path: str, rounds: int) -> Timing:
    """Return the times of a request, after one request to warm up."""
    took = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        status = get(path)
        took.append((time.perf_counter() - begun) * 1e3)
        if status != 200:
            raise SystemExit(f"{path} was answered with {status}.")
    return Timing(statistics.median(took[1:]), max(took[1:]))


def in_process(app: Flask, token: str) -> Callable[[str], int]:
    """Return a function that requests a path of the application and returns the status."""
    client = app.test_client()
    client.set_cookie("xgen_token", token)
    return lambda path: client.get(path).status_code


@contextmanager
def over_http(port: int, token: str) -> Iterator[Callable[[str], int]]:
    """Yield a function that requests a path of a server over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def get(path: str) -> int:
        connection.request("GET", path, headers={"Cookie": f"xgen_token={token}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    with closing(connection):
        yield get


@contextmanager
def recorded(engine: sa.Engine) -> Iterator[dict[str, Any]]:
    """Yield the look-ups that are made within the block, each with its first parameters."""
    found: dict[str, Any] = {}

    def keep(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            found.setdefault(statement, parameters)

    sa.event.listen(engine, "before_cursor_execute", keep)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", keep)


def plan(connection: sa.Connection, statement: str, parameters: Any) -> list[str]:
    """Return the query plan of a look-up, one line per step."""
    explain = EXPLAIN.get(connection.dialect.name, "EXPLAIN")
    steps = connection.exec_driver_sql(f"{explain} {statement}", parameters)
    if connection.dialect.name == "sqlite":
        return [row[3] for row in steps]
    return [" ".join(str(value) for value in row if value is not None) for row in steps]


@dataclass(frozen=True, slots=True)
class LookUp:
    """A look-up that a request makes.

    :param rows: The number of rows found.
    :param plan: The query plan, one line per step.
    """

    statement: str
    took: Timing
    rows: int
    plan: list[str]


def look_ups_of(app: Flask, token: str, path: str, rounds: int) -> list[LookUp]:
    """Measure, by itself, each look-up in this package's tables that a request makes."""
    with app.app_context():
        engine = db.engine
    get = in_process(app, token)
    with recorded(engine) as found:
        get(path)
    looked = []
    with engine.connect() as connection:
        for statement, parameters in found.items():
            if "xgen_" in statement:
                took, rows = _time_look_up(connection, statement, parameters, rounds)
                steps = plan(connection, statement, parameters)
                looked.append(LookUp(" ".join(statement.split()), took, rows, steps))
    return looked


def _time_look_up(
    connection: sa.Connection, statement: str, parameters: Any, rounds: int
) -> tuple[Timing, int]:
    """Return the times of a look-up, after one run to warm up, and the number of its rows."""
    took = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        rows = len(connection.exec_driver_sql(statement, parameters).all())
        took.append((time.perf_counter() - begun) * 1e3)
    return Timing(statistics.median(took[1:]), max(took[1:])), rows


def plans_of(app: Flask, token: str, path: str) -> dict[str, list[str]]:
    """Return the plans of a request's look-ups in this package's tables, by statement."""
    return {asked.statement: asked.plan for asked in look_ups_of(app, token, path, rounds=1)}


def sign_in_admin(app: Flask) -> tuple[str, int]:
    """Return a token of the SuperUser ``admin``, and the number of signed-in users."""
    with app.app_context():
        admin = db.session.scalars(sa.select(User).where(User.username == "admin")).one()
        token = sessions.issue(admin).token
        roster = app.extensions["xgen_sessions"].roster
        return token, roster.summary(db.session()).active_users


def main() -> None:
    """Seed, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--database-url")
    parser.add_argument("--seeded", action="store_true", help="measure the existing rows")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.database_url:
        os.environ["XGEN_DATABASE_URL"] = arguments.database_url
    with tempfile.TemporaryDirectory() as home:
        app = create_app(Path(home) / "instance", {"ADMIN_PASSWORD": "correct horse battery"})
        if not arguments.seeded:
            begun = time.perf_counter()
            with app.app_context():
                seeded.fill(arguments.users, arguments.sessions)
            print(f"Seeded in {time.perf_counter() - begun:.0f} s.")
        token, users = sign_in_admin(app)
        with AdminCenter(Path(home) / "instance") as center:
            report(app, center, token, users, arguments.rounds)


def indexes_of(look_ups: Sequence[LookUp]) -> list[str]:
    """Return the indexes that the plans of look-ups name, without those of the totals."""
    named = (
        re.findall(r"\b(?:ix_\w+|sqlite_autoindex_\w+|\w+_pkey|PRIMARY)", "\n".join(each.plan))
        for each in look_ups
        if not each.statement.startswith("SELECT count(*) AS count_1 WHERE")
    )
    return sorted({name for names in named for name in names})


def report(app: Flask, center: AdminCenter, token: str, users: int, rounds: int) -> None:
    """Print the table of times, then the index of each filter, and then the look-ups."""
    print(f"{users} active users; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    print("| ms | WSGI, median | worst | HTTP, median | worst |\n|---|---:|---:|---:|---:|")
    asked = addresses(users)
    inside = in_process(app, token)
    with over_http(center.port, token) as outside:
        for name, path in asked.items():
            times = [measure(get, path, rounds) for get in (inside, outside)]
            print(f"| {name} |", *(f"{t.median:.0f} | {t.worst:.0f} |" for t in times), flush=True)
    made = {name: look_ups_of(app, token, path, rounds) for name, path in asked.items()}
    print("\n| Filter | Indexes |\n|---|---|")
    for name, look_ups in made.items():
        if name.startswith("filter"):
            print(f"| {name} | {', '.join(indexes_of(look_ups))} |")
    print_look_ups(made)


def print_look_ups(made: Mapping[str, Sequence[LookUp]]) -> None:
    """Print the time of each look-up of each request, and the plan of each look-up once.

    :param made: The look-ups of each kind of request.
    """
    numbers: dict[str, int] = {}
    plans: list[str] = []
    print("\n| ms of each look-up by itself, median | look-up: ms |\n|---|---|")
    for name, look_ups in made.items():
        cells = []
        for look_up in look_ups:
            if look_up.statement not in numbers:
                numbers[look_up.statement] = len(numbers) + 1
                steps = "".join(f"\n    {step}" for step in look_up.plan)
                plans.append(
                    f"\nLook-up {len(numbers)}, {name}: {look_up.took.median:.1f} ms, at worst "
                    f"{look_up.took.worst:.1f}, rows: {look_up.rows}\n{look_up.statement}{steps}"
                )
            cells.append(f"{numbers[look_up.statement]}: {look_up.took.median:.1f}")
        print(f"| {name} | {', '.join(cells)} |")
    print(*plans, sep="\n")


if __name__ == "__main__":
    main()
