"""Client processes of one database; they work in turns, and begin each turn together."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from tests.benchmarks.filling import AGENT
from tests.support.hosts import Host, make_app
from xgen_flask_sessions import clock
from xgen_flask_sessions.state import State
from xgen_flask_sessions.store import sign_ins
from xgen_flask_sessions.store.tables import SessionRecord, UserLogin

USERS = 1000
ADDRESS = "192.0.2.7"
_DAY_US = 24 * 3600 * clock.SECOND_US
_PATIENCE_S = 60

_logins = cast("sa.Table", UserLogin.__table__)
_sessions = cast("sa.Table", SessionRecord.__table__)


@dataclass(frozen=True)
class Turn:
    """The work of a client, and its duration.

    :param work: A key of :data:`WORKS`.
    :param seconds: The duration; at least one call is made.
    """

    work: str
    seconds: float


def _sign_in(host: Host, choose: random.Random) -> Callable[[], object]:
    """Return a call that signs a user in, as a view of the host does."""
    environ = {"REMOTE_ADDR": ADDRESS, "HTTP_USER_AGENT": AGENT}

    def call() -> None:
        with host.app.test_request_context(environ_base=environ):
            host.sessions.issue(str(choose.randint(1, USERS)))

    return call


def _bare_inserts(host: Host, choose: random.Random) -> Callable[[], object]:
    """Return a call that inserts and commits a sign-in's rows: no lock, no check, no token."""
    with host.app.app_context():
        engine = host.db.engine
    insert_login, insert_session = _login_insert(engine.dialect.name), sa.insert(_sessions)

    def call() -> None:
        login, row = _rows_of_a_sign_in(choose)
        with engine.begin() as connection:
            connection.execute(insert_login, login)
            connection.execute(insert_session, row)

    return call


def _bare_inserts_in_a_request(host: Host, choose: random.Random) -> Callable[[], object]:
    """Return a call that does the same in a request, with the host's session."""
    with host.app.app_context():
        dialect = host.db.engine.dialect.name
    insert_login, insert_session = _login_insert(dialect), sa.insert(_sessions)

    def call() -> None:
        with host.app.test_request_context():
            login, row = _rows_of_a_sign_in(choose)
            host.db.session.execute(insert_login, login)
            host.db.session.execute(insert_session, row)
            host.db.session.commit()

    return call


def _recording(host: Host, choose: random.Random, *, user_row: bool) -> Callable[[], object]:
    """Return a call that records a sign-in with its locks and stamp, and signs no token.

    :param user_row: Whether to lock and read the user's row too, to check that it is active.
    """
    state: State = host.app.extensions["xgen_sessions"]

    def call() -> None:
        with host.app.test_request_context():
            user_id = str(choose.randint(1, USERS))
            require: dict[str, Any] = {}
            if user_row:
                require = {"identify": partial(state.users.identify, user_id)}
            with state.transactions.write(commit=True) as session:
                sign_ins.issue(
                    session,
                    user_id,
                    lifetime_us=_DAY_US,
                    ip=ADDRESS,
                    user_agent=AGENT,
                    **require,
                )

    return call


def _rows_of_a_sign_in(choose: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    now = clock.now_us()
    user_id, jti = str(choose.randint(1, USERS)), uuid.uuid4().hex
    login = {
        "user_id": user_id,
        "last_issued_us": now,
        "invalid_before_us": 0,
        "last_login_us": now,
        "last_ip": ADDRESS,
        "active_until_us": now + _DAY_US,
    }
    row = {
        "jti": jti,
        "session_id": jti,
        "user_id": user_id,
        "issued_us": now,
        "signed_in_us": now,
        "expires_us": now + _DAY_US,
        "ip": ADDRESS,
        "user_agent": AGENT,
    }
    return login, row


def _login_insert(dialect: str) -> Any:
    """Return the statement that inserts a user's row or overwrites the existing one."""
    names = ("last_issued_us", "last_login_us", "last_ip", "active_until_us")
    if dialect == "mysql":
        made = mysql.insert(_logins)
        return made.on_duplicate_key_update({name: made.inserted[name] for name in names})
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(_logins)
    new = {name: statement.excluded[name] for name in names}
    return statement.on_conflict_do_update(index_elements=["user_id"], set_=new)


def _nothing(_: Host, __: random.Random) -> Callable[[], object]:
    return lambda: time.sleep(0.01)


WORKS: Mapping[str, Callable[[Host, random.Random], Callable[[], object]]] = {
    "sign-in": _sign_in,
    "bare inserts": _bare_inserts,
    "bare inserts in a request": _bare_inserts_in_a_request,
    "the same with locks and stamp": partial(_recording, user_row=False),
    "the same with the user's row": partial(_recording, user_row=True),
    "nothing": _nothing,
}
"""The kinds of work, by name; each function returns the call that a client repeats."""


def _work(url: str, seed: int, turns: Sequence[Turn], together: Any, told: Any) -> None:
    """Run one client: make the calls of each turn, and report their durations."""
    try:
        host = make_app(url, create_all=False)
        choose = random.Random(seed)
        calls = {turn.work: WORKS[turn.work](host, choose) for turn in turns}
        for call in calls.values():
            call()  # opens the connection, and compiles the statements
        for number, turn in enumerate(turns):
            together.wait(_PATIENCE_S)
            told.put((number, _repeat(calls[turn.work], turn.seconds)))
        host.dispose()
    except BaseException:
        together.abort()
        told.put((-1, traceback.format_exc()))


def _repeat(call: Callable[[], object], seconds: float) -> list[float]:
    """Repeat a call for some seconds, and return the duration of each call, in seconds."""
    took = []
    due = time.perf_counter() + seconds
    begun = 0.0
    while begun < due:
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return took


class Clients:
    """Clients that are running; see :func:`running_clients`."""

    def __init__(self, together: Any, told: Any, number: int) -> None:
        self._together = together
        self._told = told
        self._number = number

    def begin(self) -> None:
        """Begin the next turn.

        :raises RuntimeError: A client failed; the message is its traceback.
        """
        try:
            self._together.wait(_PATIENCE_S)
        except threading.BrokenBarrierError:
            self.end()
            raise

    def end(self) -> list[float]:
        """Wait for the end of the turn, and return the duration of each call, in seconds.

        :raises RuntimeError: A client failed; the message is its traceback.
        """
        took: list[float] = []
        for _ in range(self._number):
            number, said = self._told.get(timeout=_PATIENCE_S)
            if number < 0:
                raise RuntimeError(said)
            took += said
        return took


@contextmanager
def running_clients(url: str, number: int, turns: Sequence[Turn]) -> Iterator[Clients]:
    """Yield clients of a database that has the tables, and users with the ids 1 to :data:`USERS`.

    The clients are processes. Threads would wait for each other in the Python interpreter, even
    where the database works in parallel. Each has a separate connection, as a host's workers do.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    together, told = context.Barrier(number + 1), context.Queue()
    processes = [
        context.Process(target=_work, args=(url, seed, turns, together, told), daemon=True)
        for seed in range(number)
    ]
    for process in processes:
        process.start()
    try:
        yield Clients(together, told, number)
    finally:
        together.abort()
        for process in processes:
            process.join(_PATIENCE_S)
        told.close()
