"""The cost of sign-ins and force logouts: python -m tests.benchmarks.writes [--seconds 20] […].

- Sign-ins per second with 1, 4 and 16 clients, compared with bare inserts: the same rows inserted
  and committed, both with the driver and pool alone and in a request of the same host through its
  session. The three are measured alternately in one run.
- The time of a sign-in as its steps are added, for one client.
- The time of a force logout of a user with 1, 100 and 10,000 sessions, and the time of sign-ins of
  other users in the meantime.
- The time of a force logout of 1,000 users with 10 sessions each, as an administrator's one act.
- The numbers of statements and of round trips to the server, for a sign-in and a force logout.

Without --database-url, the command measures all three databases in turn, as
``tests.benchmarks.histories`` does. It prints a table; with --json FILE, it also writes the figures
to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from tests.benchmarks.clients import USERS, Turn, running_clients
from tests.benchmarks.filling import add_logins, add_sessions, analyze, kind_of, text
from tests.benchmarks.histories import empty_database, given_database
from tests.support.databases import SERVERS
from tests.support.hosts import Host, bearer, make_app
from tests.support.wire import wire_to
from xgen_flask_sessions import clock
from xgen_flask_sessions.web import acts

CLIENTS = (1, 4, 16)
SESSIONS = (1, 100, 10_000)
SEVERAL, EACH = 1000, 10
ROUNDS, TIMES, SIGNING_IN = 5, 5, 4
STEPS: Final[Mapping[str, str]] = {
    "bare inserts": "its two rows, inserted and committed",
    "bare inserts in a request": "… in a request, through its session",
    "the same with locks and stamp": "… with the locks and the stamp",
    "the same with the user's row": "… with the user's row, locked and read",
    "sign-in": "… with the token: the whole sign-in",
}
"""The kinds of work that add one step of a sign-in each, with their names in the table."""
_HOUR_US = 3600 * clock.SECOND_US

Figures = dict[str, float]
"""The measured values, by name."""


@contextmanager
def host_on(url: str, *, make_tables: bool = False) -> Iterator[Host]:
    """Yield a host; with *make_tables*, create the tables and the users first."""
    host = make_app(url, create_all=make_tables)
    try:
        if make_tables:
            _add_users(host)
        yield host
    finally:
        host.dispose()


def _add_users(host: Host) -> None:
    names = [
        {"username": f"user{number}", "password": "", "is_superuser": False, "is_active": True}
        for number in range(1, USERS + 1)
    ]
    with host.app.app_context():
        host.db.session.execute(sa.insert(host.model), names)
        host.db.session.commit()


def rates(url: str, clients: Sequence[int], seconds: float) -> Figures:
    """Return sign-ins per second, and bare inserts per second, for each number of clients."""
    figures: Figures = {}
    works = ("sign-in", "bare inserts", "bare inserts in a request")
    for number in clients:
        turns = [Turn(work, seconds / ROUNDS / len(works)) for work in works] * ROUNDS
        calls = dict.fromkeys(works, 0)
        took = dict.fromkeys(works, 0.0)
        with running_clients(url, number, turns) as at:
            for turn in turns:
                at.begin()
                begun = time.perf_counter()
                calls[turn.work] += len(at.end())
                took[turn.work] += time.perf_counter() - begun
        per_second = {work: calls[work] / took[work] for work in works}
        for work in works:
            figures[f"{work} per second, clients: {number}"] = per_second[work]
        for bare in works[1:]:
            ratio = per_second[bare] / per_second["sign-in"]
            figures[f"sign-in : {bare}, clients: {number}"] = ratio
    return figures


def steps(url: str, seconds: float) -> Figures:
    """Return the time of a sign-in as its steps are added, in milliseconds."""
    turns = [Turn(work, seconds / ROUNDS / len(STEPS)) for work in STEPS] * ROUNDS
    took: dict[str, list[float]] = {work: [] for work in STEPS}
    with running_clients(url, 1, turns) as at:
        for turn in turns:
            at.begin()
            took[turn.work] += at.end()
    return {f"{step} (ms)": 1e3 * statistics.median(took[work]) for work, step in STEPS.items()}


def force_logouts(url: str, sessions: Sequence[int], seconds: float) -> Figures:
    """Return the times of force logouts, and of sign-ins meanwhile, in milliseconds."""
    figures: Figures = {}
    turns = [Turn("sign-in", seconds), Turn("sign-in", seconds)]
    with host_on(url) as host:
        for number in sessions:
            names = [f"with {number} sessions {time}" for time in range(TIMES)]
            _sign_in_in_bulk(host, names, number)
            took = [_milliseconds(host, name, number) for name in names]
            figures[f"force logout of {number:,} sessions (ms)"] = statistics.median(took)
        largest = max(sessions)
        names = [f"while others sign in {time}" for time in range(TIMES)]
        _sign_in_in_bulk(host, names, largest)
        with running_clients(url, SIGNING_IN, turns) as at:
            at.begin()
            before = at.end()
            at.begin()
            took = []
            for name in names:
                took.append(_milliseconds(host, name, largest))
                time.sleep(seconds / TIMES / 2)
            meanwhile = at.end()
    figures[f"force logout of {largest:,} sessions while others sign in (ms)"] = statistics.median(
        took
    )
    for when, calls in {"before": before, "meanwhile": meanwhile}.items():
        figures[f"sign-in {when}, median (ms)"] = 1e3 * statistics.median(calls)
        figures[f"sign-in {when}, 99th percentile (ms)"] = 1e3 * percentile(calls, 0.99)
    return figures


def several(url: str, users: int) -> Figures:
    """Return the time of one act that forces out several users, and the number of statements.

    :param users: The number of users; each has :data:`EACH` sessions.
    """
    took, statements = list[float](), 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    with host_on(url) as host:
        boss = host.add_user("boss", is_superuser=True)
        token, user_ids = host.issue(boss), _add_several(host, users)
        for turn in range(TIMES):
            _sign_in_several(host, user_ids, first=turn == 0)
            statements = 0
            with host.app.test_request_context(headers=bearer(token)):
                caller = host.find_user(boss)
                with host.calling_before_statements(count):
                    begun = time.perf_counter()
                    result = acts.force_out_several(caller, user_ids)
                    took.append(time.perf_counter() - begun)
            assert (len(result.done), result.sessions_ended) == (users, users * EACH)
    name = f"force logout of {users:,} users with {EACH} sessions each"
    return {f"{name} (ms)": 1e3 * statistics.median(took), f"statements of a {name}": statements}


def _add_several(host: Host, users: int) -> list[str]:
    """Add users with consecutive ids, and return the ids."""
    with host.app.app_context():
        session = host.db.session
        first = session.scalars(sa.select(sa.func.max(host.model.id))).one() + 1
        rows = [
            {"id": first + number, "username": f"one of {number}", "password": ""}
            for number in range(users)
        ]
        session.execute(sa.insert(host.model), rows)
        session.commit()
    return [str(row["id"]) for row in rows]


def _sign_in_several(host: Host, user_ids: Sequence[str], *, first: bool) -> None:
    now = clock.now_us()
    with host.app.app_context():
        engine = host.db.engine
    with engine.begin() as connection:
        user = text(kind_of(connection), f"({int(user_ids[0]) - 1} + n)")
        expires_us = now + _HOUR_US
        if first:
            add_logins(connection, len(user_ids), user=user, expires_us=expires_us)
        for number in range(EACH):
            add_sessions(
                connection,
                len(user_ids),
                user=user,
                first_issued_us=now + number * 2 * len(user_ids),
                expires_us=expires_us,
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        analyze(connection)


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of *values*; a *share* of 0.99 is the 99th."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _sign_in_in_bulk(host: Host, names: Sequence[str], sessions: int) -> None:
    now = clock.now_us()
    with host.app.app_context():
        engine = host.db.engine
    with engine.begin() as connection:
        for name in names:
            user, expires_us = f"'{name}'", now + _HOUR_US
            add_logins(connection, 1, user=user, expires_us=expires_us)
            add_sessions(
                connection,
                sessions,
                user=user,
                first_issued_us=now - 1_000_000,
                expires_us=expires_us,
            )
            now += 1  # a different salt for the ids
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        analyze(connection)


def _milliseconds(host: Host, user: str, sessions: int) -> float:
    begun = time.perf_counter()
    revocation = host.force_logout(user)
    took = time.perf_counter() - begun
    assert revocation.sessions_ended == sessions
    return took * 1e3


def round_trips(url: str) -> Figures:
    """Return the numbers of statements and round trips of one call with open connections."""
    if url.startswith("sqlite"):
        with host_on(url) as host:
            return _count(host, lambda: 0)
    with wire_to(url) as (wire, through), host_on(through) as host:
        return _count(host, lambda: wire.sent)


def _count(host: Host, trips: Callable[[], int]) -> Figures:
    statements: list[str] = []

    def look(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    with host.app.app_context():
        sa.event.listen(host.db.engine, "before_cursor_execute", look)
    calls: Mapping[str, Callable[[str], object]] = {
        "sign-in": host.issue,
        "force logout": host.force_logout,
    }
    figures: Figures = {}
    for name, call in calls.items():
        call("1")
        statements.clear()
        before = trips()
        call("1")
        figures[f"statements of a {name}"] = len(statements)
        if host.dialect != "sqlite":
            figures[f"round trips of a {name}"] = trips() - before
    return figures


def measure(
    url: str,
    *,
    seconds: float,
    clients: Sequence[int] = CLIENTS,
    sessions: Sequence[int] = SESSIONS,
    users: int = SEVERAL,
) -> Figures:
    """Measure everything on one empty database.

    :param seconds: The duration of the sign-ins for each number of clients.
    :param users: The number of users that one act forces out.
    """
    with host_on(url, make_tables=True):
        pass
    figures = round_trips(url)
    figures |= rates(url, clients, seconds)
    figures |= steps(url, seconds)
    figures |= force_logouts(url, sessions, seconds / 4)
    return figures | several(url, users)


def print_table(columns: Mapping[str, Figures]) -> None:
    """Print a row for each figure, and a column for each database."""
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    names = {name: None for figures in columns.values() for name in figures}
    for name in names:
        cells = [f"{fig[name]:,.4g}" if name in fig else "-" for fig in columns.values()]
        print(f"| {name} | {' | '.join(cells)} |")


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--database-url")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    url: str | None = options.database_url
    names = ["sqlite", *SERVERS] if url is None else [sa.make_url(url).get_backend_name()]
    columns: dict[str, Figures] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as home:
            database = empty_database(name, Path(home)) if url is None else given_database(url)
            with database as lent:
                columns[name] = measure(lent, seconds=options.seconds)
    print_table(columns)
    print(f"\nLoad of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    if options.json:
        options.json.write_text(json.dumps(columns, indent=2))


if __name__ == "__main__":
    main()
