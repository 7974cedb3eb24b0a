"""The cost of an open list that polls: python -m tests.benchmarks.polling [--sessions N] […].

Fills a database with active sessions, and measures within the WSGI application: a poll that is
answered 304, one that is answered 200, the request for 50 shown rows that follows it, and the page
for comparison. Prints a table of medians and worst cases in milliseconds, with the number of
statements, those that check the caller's session included; then each statement of the tag with its
plan.

Without --database-url, the command measures SQLite in a temporary directory, and PostgreSQL on the
server of the tests. The databases are created for the run and dropped afterwards.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask.testing import FlaskClient

from tests.benchmarks.filling import add_logins, add_sessions, analyze, kind_of, make_room, text
from tests.benchmarks.screen import plan
from tests.support.databases import Server
from tests.support.hosts import Host, make_app
from tests.support.screen import SCREEN, with_screen
from xgen_flask_sessions import clock

USERS, SESSIONS, ROUNDS = 100_000, 1_000_000, 9
_CHUNK = 250_000
_DAY_US = 24 * 3600 * clock.SECOND_US
_BY_SCRIPT = {"X-Requested-With": "XMLHttpRequest"}
_TAG_TABLES = ("xgen_feed_head", "last_login_us DESC")
"""Parts of the statements that make the tag."""

Ask = Callable[[], int]


def fill(host: Host, users: int, sessions: int) -> None:
    """Add users of the host, sign-ins at different times, and sessions that expire in an hour."""
    now = clock.now_us()
    with host.app.app_context():
        engine = host.db.engine
    with engine.begin() as connection:
        kind = kind_of(connection)
        make_room(connection)
        named = text(kind, f"1000 + n % {users}")
        add_logins(connection, users, user=named, expires_us=now + _DAY_US)
        at = "CAST(user_id AS INTEGER)" if kind != "mariadb" else "CAST(user_id AS SIGNED)"
        connection.exec_driver_sql(
            f"UPDATE xgen_user_logins SET last_login_us = {now} - {at} * 1000,"
            " last_ip = '192.0.2.7' WHERE user_id <> '*'"
        )
    for first in range(0, sessions, _CHUNK):
        with engine.begin() as connection:
            make_room(connection)
            add_sessions(
                connection,
                min(_CHUNK, sessions - first),
                user=named,
                first_issued_us=now - _DAY_US + first,
                expires_us=now + _DAY_US,
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if kind_of(connection) == "postgresql":
            connection.exec_driver_sql("VACUUM")
        analyze(connection)
    engine.dispose()  # frees the cache that filling needed


def requests_of(client: FlaskClient) -> dict[str, tuple[int, Ask]]:
    """Return the measured requests by name, each with its expected status."""
    page = client.get(SCREEN).text
    token = _found(r'name="csrf_token" value="([^"]+)"', page)
    loaded = _found(r'data-xs-loaded="(\d+)"', page)
    shown = re.findall(r'data-xs-user="([^"]+)"', page)
    tag = client.get(f"{SCREEN}poll").headers["ETag"]
    form: dict[str, Any] = {"csrf_token": token, "loaded_us": loaded, "shown": shown}
    conditional = _BY_SCRIPT | {"If-None-Match": tag}
    return {
        "poll, 304": (304, lambda: _get(client, "poll", conditional)),
        "poll, 200": (200, lambda: _get(client, "poll", _BY_SCRIPT)),
        f"{len(shown)} rows": (
            200,
            lambda: client.post(f"{SCREEN}rows", data=form, headers=_BY_SCRIPT).status_code,
        ),
        "session guard": (304, lambda: _get(client, "poll", {"If-None-Match": "*"})),
        "page": (200, lambda: _get(client, "", {})),
    }


def _found(pattern: str, page: str) -> str:
    match = re.search(pattern, page)
    if match is None:
        raise RuntimeError(f"The page has no {pattern}.")
    return match[1]


def _get(client: FlaskClient, path: str, headers: dict[str, str]) -> int:
    return client.get(SCREEN + path, headers=headers).status_code


@contextmanager
def noted(host: Host) -> Iterator[list[tuple[str, Any]]]:
    """Yield a list that gets each statement with its parameters."""
    made: list[tuple[str, Any]] = []

    def keep(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        made.append((statement, parameters))

    with host.calling_before_statements(keep):
        yield made


def measure(ask: Ask, status: int, rounds: int) -> list[float]:
    """Return the milliseconds of requests, after one to warm up."""
    took = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        answered = ask()
        took.append((time.perf_counter() - begun) * 1e3)
        if answered != status:
            raise SystemExit(f"A request was answered with {answered} instead of {status}.")
    return took[1:]


def report(host: Host, kind: str, rounds: int) -> None:
    """Measure, and print a table and the statements of the tag."""
    admin = host.add_user("admin", is_superuser=True)
    client = host.cookie_client(host.issue(admin))
    print(f"\n| {kind}, ms | median | best | worst | statements |\n|---|---:|---:|---:|---:|")
    for name, (status, ask) in requests_of(client).items():
        took = measure(ask, status, rounds)
        with noted(host) as made:
            ask()
        times = (statistics.median(took), min(took), max(took))
        print(f"| {name} |", *(f"{each:.1f} |" for each in times), f"{len(made)} |")
        if name == "poll, 304":
            tag = [each for each in made if any(part in each[0] for part in _TAG_TABLES)]
    print_statements(host, tag)


def print_statements(host: Host, made: Sequence[tuple[str, Any]]) -> None:
    """Print each statement with its plan."""
    with host.app.app_context(), host.db.engine.connect() as connection:
        for statement, parameters in made:
            steps = plan(connection, statement, parameters)
            print(f"\n{' '.join(statement.split())}", *(f"    {step}" for step in steps), sep="\n")


@contextmanager
def database(kind: str, home: Path) -> Iterator[str]:
    """Yield the URL of an empty database of a kind, and drop it afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{home / 'polling.db'}"
        return
    server = Server(kind)
    try:
        yield server.kept("polling")
    finally:
        server.drop()


def measure_database(url: str, kind: str, options: argparse.Namespace) -> None:
    """Fill an empty database and print the figures of its requests."""
    host = make_app(url, extras=with_screen)
    fill(host, options.users, options.sessions)
    report(host, kind, options.rounds)
    host.dispose()


def main(arguments: list[str] | None = None) -> None:
    """Fill, measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--database-url", help="an empty database, which keeps the rows")
    options = parser.parse_args(arguments)
    print(f"{options.users} users, {options.sessions} sessions")
    if options.database_url:
        kind = sa.make_url(options.database_url).get_backend_name().replace("mysql", "mariadb")
        measure_database(options.database_url, kind, options)
    else:
        with tempfile.TemporaryDirectory() as home:
            for kind in ("sqlite", "postgresql"):
                with database(kind, Path(home)) as url:
                    measure_database(url, kind, options)
    print(f"\nLoad of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
