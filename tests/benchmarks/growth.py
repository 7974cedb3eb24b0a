"""The cost of many rows: python -m tests.benchmarks.growth [--rows 10000000] [--database-url URL].

- The times of a verification, and of the denylist's look-up alone, with a thousand sessions and
  with many: two databases of one kind, measured alternately. Look-ups are also measured with a
  commit by another connection before each, so that none is answered from a cache.
- The memory that 100,000 different tokens add to a process that verifies them: to one that asks
  the database each time, and to one that watches. Each is a separate process.
- The times of verifications and sign-ins before and while another process prunes a million rows.

Without --database-url, the command measures SQLite in a temporary directory, and PostgreSQL on the
server of the tests. The URL names a server, or is sqlite://. The databases are created for the run
and dropped afterwards. The command prints a table; with --json FILE, it also writes the figures to
a file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from tests.benchmarks.filling import add_logins, add_sessions, analyze, kind_of, make_room, text
from tests.benchmarks.writes import Figures, host_on, percentile, print_table
from tests.support.databases import SERVERS, Server
from tests.support.hosts import Host, make_app
from xgen_flask_sessions import clock
from xgen_flask_sessions.state import State
from xgen_flask_sessions.tokens.claims import Claims

FEW, ROWS, PRUNED, VERIFIED = 1000, 10_000_000, 1_000_000, 100_000
TOKENS, LOOK_UPS, ROUNDS = 200, 1000, 40
_USERS, _CHUNK, _PATIENCE_S = 100_000, 500_000, 60
_DAY_US = 24 * 3600 * clock.SECOND_US
MODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "strict": {},
    "watching": {"XGEN_SESSIONS_CONSISTENCY": "watch"},
}
"""The modes whose memory is measured, with their settings."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The numbers of rows, tokens and rounds, and the duration of pruning.

    :param seconds: Seconds to measure while rows are pruned; before, half as long.
    :param rounds: Rounds of the comparison; each measures both databases.
    """

    rows: int = ROWS
    pruned: int = PRUNED
    verified: int = VERIFIED
    seconds: float = 20.0
    rounds: int = ROUNDS


def fill(host: Host, rows: int, *, past: bool = False) -> None:
    """Add sessions of many users, and update the database's statistics.

    :param past: Whether the sessions ended 60 days ago, so that they may be pruned.
    """
    now = clock.now_us() - (60 * _DAY_US if past else 0)
    users = min(_USERS, rows)
    prefix = "past" if past else "user"
    with host.app.app_context():
        engine = host.db.engine
    with engine.begin() as connection:
        kind = kind_of(connection)
        make_room(connection)
        named = _joined(kind, f"'{prefix} '", text(kind, f"n % {users}"))
        # A token expires at a whole second.
        expires_us = (now + _DAY_US) // clock.SECOND_US * clock.SECOND_US
        add_logins(connection, users, user=named, expires_us=expires_us)
    for first in range(0, rows, _CHUNK):
        with engine.begin() as connection:
            make_room(connection)
            add_sessions(
                connection,
                min(_CHUNK, rows - first),
                user=named,
                first_issued_us=now + first,
                expires_us=expires_us,
                ended=f"{now} + n" if past else "NULL",
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        analyze(connection)
    engine.dispose()  # frees the cache that filling needed


def _joined(kind: str, left: str, right: str) -> str:
    return f"CONCAT({left}, {right})" if kind == "mariadb" else f"{left} || {right}"


def _state(host: Host) -> State:
    state: State = host.app.extensions["xgen_sessions"]
    return state


def _some_jtis(host: Host, number: int) -> list[str]:
    """Return token ids from random places in the table."""
    sessions = host.db.metadata.tables["xgen_sessions"]
    key = sessions.c.jti
    choose = random.Random(1)
    with host.app.app_context(), host.db.engine.connect() as connection:
        query = sa.select(key).where(key >= sa.bindparam("from")).order_by(key).limit(1)
        found = (
            connection.scalar(query, {"from": f"{choose.getrandbits(120):030x}"})
            for _ in range(number)
        )
        return [jti for jti in found if jti is not None]


def _microseconds(
    calls: Sequence[Callable[[], object]], before: Callable[[], object] = lambda: None
) -> list[float]:
    took = []
    for call in calls:
        before()
        begun = time.perf_counter()
        call()
        took.append((time.perf_counter() - begun) * 1e6)
    return took


def _verifications(host: Host) -> list[Callable[[], object]]:
    tokens = [host.issue("1").token for _ in range(TOKENS)]
    return [lambda token=token: host.sessions.verify(token) for token in tokens]  # type: ignore[misc]


def _look_ups(host: Host) -> list[Callable[[], object]]:
    status = _state(host).denylist.status
    return [lambda jti=jti: status(jti) for jti in _some_jtis(host, LOOK_UPS)]  # type: ignore[misc]


@contextmanager
def _writer(host: Host) -> Iterator[Callable[[], object]]:
    """Yield a call that commits a small change, as another process would."""
    engine = sa.create_engine(host.db.engine.url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield lambda: connection.exec_driver_sql(
                "UPDATE xgen_user_logins SET last_issued_us = last_issued_us WHERE user_id = '1'"
            )
    finally:
        engine.dispose()


def compare(few: Host, many: Host, rounds: int) -> Figures:
    """Return the times of a verification on two databases, in microseconds, and the ratios."""
    figures: Figures = {}
    for name, make, writes in (
        ("verification", _verifications, False),
        ("look-up", _look_ups, False),
        ("look-up after a commit", _look_ups, True),
    ):
        calls = {host: make(host) for host in (few, many)}
        took: dict[Host, list[float]] = {few: [], many: []}
        for _ in range(rounds):
            for host, own in calls.items():
                with host.app.app_context(), _writer(host) as write:
                    asked = own[: len(own) // (10 if writes else 2)]
                    took[host] += _microseconds(asked, write if writes else lambda: None)
                random.shuffle(own)
        medians = {host: statistics.median(took[host]) for host in took}
        figures[f"{name} with few rows (µs)"] = medians[few]
        figures[f"{name} with many rows (µs)"] = medians[many]
        figures[f"{name}, many : few"] = medians[many] / medians[few]
    return figures


def memory(url: str, verified: int) -> Figures:
    """Return the resident memory of processes after one token and after many, in MB."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    figures: Figures = {}
    for mode in MODES:
        told = context.SimpleQueue()
        process = context.Process(
            target=_report_memory, args=(url, mode, verified, told), daemon=True
        )
        process.start()
        found = told.get()
        process.join()
        if isinstance(found, str):
            raise RuntimeError(found)
        figures |= found
    return figures


def _report_memory(url: str, mode: str, verified: int, told: Any) -> None:
    """Verify tokens in this process, and send its memory, or a traceback, to the parent."""
    host = make_app(url, create_all=False, **MODES[mode])
    try:
        told.put(_memory_figures(host, mode, verified))
    except BaseException:
        told.put(traceback.format_exc())
    finally:
        host.dispose()


def _memory_figures(host: Host, mode: str, verified: int) -> Figures:
    figures: Figures = {}
    sessions = host.db.metadata.tables["xgen_sessions"]
    query = sa.select(sessions).where(sessions.c.ended_us.is_(None)).limit(verified)
    watch = _state(host).watch
    with host.app.app_context(), host.db.engine.connect() as connection:
        rows = connection.execution_options(yield_per=1000).execute(query)
        for number, row in enumerate(rows, 1):
            host.sessions.verify(_token(host, row))
            if number == 1:  # the memory that any token needs is allocated
                _wait_until_fresh(host)
                begin = figures[f"memory after one token, {mode} (MB)"] = _resident_mb()
            elif number == verified // 10:
                figures[f"memory after {number:,} different tokens, {mode} (MB)"] = _resident_mb()
    end = figures[f"memory after {number:,} different tokens, {mode} (MB)"] = _resident_mb()
    figures[f"memory that they add, {mode} (MB)"] = end - begin
    if watch is not None:
        figures["tokens in memory then"] = float(watch.size)
    return figures


def _wait_until_fresh(host: Host) -> None:
    """If the process watches, wait until it follows the feed: then it drops earlier answers."""
    watch = _state(host).watch
    give_up = time.monotonic() + _PATIENCE_S
    while watch is not None and not watch.is_fresh():
        if time.monotonic() > give_up:
            raise RuntimeError("The feed is not followed.")
        time.sleep(0.01)


def _token(host: Host, row: Any) -> str:
    return _state(host).codec.encode(
        Claims(
            user_id=row.user_id,
            jti=row.jti,
            session_id=row.session_id,
            issued_us=row.issued_us,
            expires_us=row.expires_us,
            extra={},
        )
    )


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _prune(url: str, begun: Event, deleted: Any) -> None:
    """Prune in this process, as the command does."""
    host = make_app(url, create_all=False)
    start = time.perf_counter()

    def note(rows: int) -> None:
        deleted[:] = deleted[0] + rows, time.perf_counter() - start
        begun.set()

    with host.app.app_context():
        host.sessions.prune(progress=note)
    host.dispose()


def pruning(host: Host, url: str, sizes: Sizes) -> Figures:
    """Return the milliseconds of verifications and sign-ins before and while rows are pruned."""
    verifications = _verifications(host)
    figures = _latencies("before", host, verifications, lambda: False, sizes.seconds / 2)
    fill(host, sizes.pruned, past=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    begun, deleted = context.Event(), context.Array("d", 2)
    process = context.Process(target=_prune, args=(url, begun, deleted), daemon=True)
    process.start()
    if not begun.wait(_PATIENCE_S):
        raise RuntimeError("No row was pruned in time.")
    figures |= _latencies(
        "meanwhile", host, verifications, lambda: not process.is_alive(), sizes.seconds
    )
    process.terminate()  # the remaining rows would not change the figures
    process.join()
    rows, seconds = float(deleted[0]), float(deleted[1])
    assert 0 < rows <= sizes.pruned  # the sign-ins delete old rows too
    figures["rows pruned per second"] = rows / seconds
    return figures


def _latencies(
    when: str,
    host: Host,
    verifications: Sequence[Callable[[], object]],
    done: Callable[[], bool],
    seconds: float,
) -> Figures:
    sign_ins: list[float] = []
    checks: list[float] = []
    due = time.perf_counter() + seconds
    while time.perf_counter() < due and not (done() and checks):
        with host.app.app_context():
            checks += _microseconds(verifications)
        sign_ins += _microseconds([lambda: host.issue("2")])
    figures = {}
    for name, took in {"verification": checks, "sign-in": sign_ins}.items():
        figures[f"{name} {when} pruning, median (ms)"] = statistics.median(took) / 1e3
        figures[f"{name} {when} pruning, 99th percentile (ms)"] = percentile(took, 0.99) / 1e3
    return figures


@contextmanager
def two_databases(kind: str, home: Path) -> Iterator[tuple[str, str]]:
    """Yield the URLs of two empty databases of a kind, and drop them afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{home / 'few.db'}", f"sqlite:///{home / 'many.db'}"
        return
    server = Server(kind)
    try:
        yield server.kept("few"), server.kept("many")
    finally:
        server.drop()


def measure(urls: tuple[str, str], sizes: Sizes) -> Figures:
    """Measure everything on two empty databases of one kind."""
    with ExitStack() as hosts:
        few, many = (hosts.enter_context(host_on(url, make_tables=True)) for url in urls)
        fill(few, FEW)
        begun = time.perf_counter()
        fill(many, sizes.rows)
        figures = {"rows": float(sizes.rows), "seconds to fill them in": 0.0}
        figures["seconds to fill them in"] = time.perf_counter() - begun
        figures |= compare(few, many, sizes.rounds)
        figures |= memory(urls[1], sizes.verified)
        return figures | pruning(many, urls[1], sizes)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--database-url")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    kinds = ["sqlite", "postgresql"]
    if options.database_url:
        kinds = [sa.make_url(options.database_url).get_backend_name().replace("mysql", "mariadb")]
        SERVERS[kinds[0]] = options.database_url
    columns: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as home:
        for kind in kinds:
            with two_databases(kind, Path(home)) as urls:
                columns[kind] = measure(urls, Sizes(rows=options.rows))
    print_table(columns)
    print(f"\nLoad of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    if options.json:
        options.json.write_text(json.dumps(columns, indent=2) + "\n")


if __name__ == "__main__":
    main()
