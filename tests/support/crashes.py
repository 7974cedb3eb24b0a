"""Kills a server at random moments during force logouts, and checks the state after the restart.

A force logout that was answered with 200 holds after the restart: every route that takes a token
refuses the user's tokens. A force logout without an answer happened completely or not at all: the
invalidation timestamp is raised, the session rows are ended and there is one audit row, or none of
the three. Sign-in works at once.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import sqlalchemy as sa

from tests.support.crash_server import WAIT_S, CrashServer
from tests.support.hosts import Host, bearer

CLIENTS, USERS_EACH, SESSIONS_EACH = 4, 5, 2
LONGEST_S = 0.06
"""The kill comes at a random time of at most so many seconds after the force logouts began.

This is the value for the first kill. It then falls when every force logout had been answered, and
rises when none had, because a busy machine is slower.
"""


@dataclass
class Tally:
    """The counts of all observations."""

    kills: int = 0
    interrupting: int = field(default=0, metadata={"says": "kills that cut a request off"})
    answered: int = field(default=0, metadata={"says": "answers 200"})
    unanswered_revoked: int = field(default=0, metadata={"says": "no answer, and revoked"})
    unanswered_kept: int = field(default=0, metadata={"says": "no answer, and not revoked"})
    half: int = field(default=0, metadata={"says": "half states"})
    lost: int = field(default=0, metadata={"says": "answered 200 and lost"})
    wrong: list[str] = field(default_factory=list, metadata={"says": "anything else wrong"})

    def lines(self) -> Iterator[tuple[str, int]]:
        """Yield the rows of a table: a description and a number."""
        for each in fields(self):
            value = getattr(self, each.name)
            yield (
                each.metadata.get("says", each.name),
                value if each.name != "wrong" else len(value),
            )


@dataclass(frozen=True)
class TokenStatus:
    """The state of one user in the database."""

    invalid_before_us: int
    active_until_us: int
    open_sessions: int
    force_logouts: int


@dataclass(frozen=True)
class Attempt:
    """One request for a force logout."""

    user_id: str
    begun: float
    status: int | None
    """The status of the answer; ``None`` if there was no answer."""


class Trial:
    """Kills the server repeatedly, and tallies the observations.

    :param host: An application outside the server, on the same database.
    :param server: The server.
    :param seed: The seed of the random moments of the kills.
    """

    def __init__(self, host: Host, server: CrashServer, seed: int) -> None:
        self.tally = Tally()
        self._host = host
        self._server = server
        self._random = random.Random(seed)
        self._longest_s = LONGEST_S
        self._admin = bearer(host.issue(host.add_user("admin", is_superuser=True)))
        users = [host.add_user(f"user{n}") for n in range(CLIENTS * USERS_EACH)]
        self._tokens: dict[str, list[str]] = {user: [] for user in users}
        self._revoked: list[str] = []

    def run(self, kills: int) -> Tally:
        """Kill the server *kills* times and return the tally."""
        foreign = self._clients()
        self._server.start()
        self._sign_in(list(self._tokens))
        for _ in range(kills):
            before = self._look()
            attempts, killed = self._force_out_and_kill()
            self._await(lambda: not self._clients() - foreign)
            self._server.start()
            self._judge(before, attempts, killed)
            self._sign_in([each.user_id for each in attempts])
        self._judge_old_tokens()
        self._server.kill()
        return self.tally

    def _force_out_and_kill(self) -> tuple[list[Attempt], float]:
        """Send force logouts from several clients at once, and kill the server meanwhile."""
        users = list(self._tokens)
        self._random.shuffle(users)
        start = threading.Barrier(CLIENTS + 1, timeout=WAIT_S)
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [
                pool.submit(self._force_out, users[n::CLIENTS], start) for n in range(CLIENTS)
            ]
            start.wait()
            time.sleep(
                self._random.uniform(0, self._longest_s)
            )  # real time: another process is at work
            killed = self._server.kill()
            self.tally.kills += 1
            return list(itertools.chain(*(each.result(WAIT_S) for each in running))), killed

    def _force_out(self, users: list[str], start: threading.Barrier) -> list[Attempt]:
        """Force out one user after the other over one connection, until the server is gone."""
        attempts = []
        connection = self._server.connect()
        # After this request, the connection is accepted and the server is warm.
        assert ask(connection, "GET", "/sessions/users", self._admin) == 200
        start.wait()
        for user in users:
            begun = time.monotonic()
            status = None
            try:
                connection.request(
                    "POST", f"/sessions/users/{user}/force-logout", headers=self._admin
                )
                answer = connection.getresponse()
                status = answer.status
                answer.read()
            except (OSError, http.client.HTTPException):
                break
            finally:
                attempts.append(Attempt(user, begun, status))
        connection.close()
        return attempts

    def _judge(
        self, before: Mapping[str, TokenStatus], attempts: list[Attempt], killed: float
    ) -> None:
        """Compare the answers with the state of the database after the restart."""
        after = self._look()
        by_user = {each.user_id: each for each in attempts}
        interrupted = any(e.status is None and e.begun < killed for e in attempts)
        self.tally.interrupting += interrupted
        if not interrupted:
            self._longest_s *= 0.8
        elif not any(each.status for each in attempts):
            self._longest_s *= 1.5
        for user in self._tokens:
            self._judge_user(user, by_user.get(user), before[user], after[user])

    def _judge_user(
        self, user: str, attempt: Attempt | None, before: TokenStatus, after: TokenStatus
    ) -> None:
        revoked = _is_revoked(before, after)
        if not revoked and before != after:
            self.tally.half += 1
            self.tally.wrong.append(f"half: {before} {after}")
        if attempt is None:
            if revoked:
                self.tally.wrong.append("revoked without a request")
        elif attempt.status is None:
            self.tally.unanswered_revoked += revoked
            self.tally.unanswered_kept += not revoked
        elif attempt.status == 200:
            self.tally.answered += 1
            self.tally.lost += not revoked
        else:
            self.tally.wrong.append(f"answered {attempt.status}")
        self._try_doors(user, revoked=revoked)

    def _try_doors(self, user: str, *, revoked: bool) -> None:
        """Send a user's tokens: to each route if they are revoked, else to one route."""
        connection = self._server.connect()
        for number, token in enumerate(self._tokens[user]):
            doors = _doors(token, by_cookie=number % 2 == 1)
            for path, headers in doors if revoked else doors[:1]:
                status = ask(connection, "GET", path, headers)
                if revoked and status == 200:
                    self.tally.lost += 1
                if status != (401 if revoked else 200):
                    self.tally.wrong.append(f"{path} answered {status}, revoked: {revoked}")
        connection.close()
        if revoked:
            self._revoked += self._tokens[user]
            self._tokens[user] = []

    def _judge_old_tokens(self) -> None:
        """Send every revoked token once more; each must still be refused."""
        connection = self._server.connect()
        for token in self._revoked:
            self.tally.lost += ask(connection, "GET", "/api/token", bearer(token)) != 401
        connection.close()

    def _sign_in(self, users: list[str]) -> None:
        """Sign users in until each has ``SESSIONS_EACH`` tokens; each must work at once."""
        connection = self._server.connect()
        for user in users:
            while len(self._tokens[user]) < SESSIONS_EACH:
                connection.request(
                    "POST", "/sign-in", f"user_id={user}",
                    {"Content-Type": "application/x-www-form-urlencoded"},
                )  # fmt: skip
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, body
                self._tokens[user].append(json.loads(body)["token"])
                if ask(connection, "GET", "/api/token", bearer(self._tokens[user][-1])) != 200:
                    self.tally.wrong.append("a fresh sign-in is refused")
        connection.close()

    def _look(self) -> dict[str, TokenStatus]:
        """Read the state of every user from the database."""
        tables = self._host.db.metadata.tables
        logins, sessions = tables["xgen_user_logins"].c, tables["xgen_sessions"].c
        audits = tables["xgen_revocations"].c
        with self._reading() as connection:
            opened = Counter(
                connection.scalars(sa.select(sessions.user_id).where(sessions.ended_us.is_(None)))
            )
            audited = Counter(connection.scalars(sa.select(audits.user_id)))
            rows = connection.execute(
                sa.select(logins.user_id, logins.invalid_before_us, logins.active_until_us)
            ).all()
        return {
            user: TokenStatus(invalid_us, until_us, opened[user], audited[user])
            for user, invalid_us, until_us in rows
        }

    def _clients(self) -> set[int]:
        """Return the ids of the other connections to the database; none on SQLite."""
        queries = {
            "postgresql": "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "mysql": "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        }
        with self._reading() as connection:
            query = queries.get(connection.dialect.name)
            return set(connection.scalars(sa.text(query))) if query else set()

    def _await(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds: the database server has ended the dead connections."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)  # real time: another process is ending

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._host.app.app_context(), self._host.db.engine.connect() as connection:
            yield connection


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str]
) -> int:
    """Send a request and return the status of its answer."""
    connection.request(method, path, headers=dict(headers))
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _doors(token: str, *, by_cookie: bool) -> list[tuple[str, dict[str, str]]]:
    headers = {"Cookie": f"xgen_token={token}"} if by_cookie else bearer(token)
    return [
        (path, headers) for path in ("/api/token", "/api/user", "/sessions/", "/sessions/users")
    ]


def _is_revoked(before: TokenStatus, after: TokenStatus) -> bool:
    """Return whether exactly one complete force logout lies between the two states."""
    return (
        after.invalid_before_us > before.invalid_before_us
        and after.active_until_us == after.open_sessions == 0
        and after.force_logouts == before.force_logouts + 1
    )


def run(host: Host, database_url: str, kills: int, seed: int) -> Tally:
    """Kill a server on *database_url* *kills* times, and return the tally.

    :param host: An application on the same database; it has created the tables.
    """
    with CrashServer(database_url) as server:
        return Trial(host, server, seed).run(kills)
