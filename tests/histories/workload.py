"""A worker process: a host application with a wrong clock, and the calls that it makes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal

from freezegun import freeze_time

from tests.histories.disturbances import cuttable
from tests.histories.exchange import KEPT, Exchange, Shared
from tests.histories.observer import Observer, ServiceObserver
from tests.histories.record import Kind, Recorder, monotonic_ns
from tests.histories.wrong_systems import applied
from tests.support.hosts import SECRET, Host, make_app
from tests.support.redis_place import RedisPlace
from xgen_flask_sessions import IssuedToken, bulk
from xgen_flask_sessions.feed.follower import FeedReader
from xgen_flask_sessions.verifier import Verifier

CLOCK_OFF_S = 2.0
"""The largest error of a process's clock, in seconds."""
_JUMPS = 0.02
"""The probability of a clock jump before a step."""
_MORE_S = 20.0
"""Seconds that a process may take for its least steps beyond the given time."""
_VERIFY_PAUSE_S = 0.002
"""Seconds between two steps of a process that only verifies tokens."""
_EVERYONE_AT = 40
"""The step at which the first process forces everyone out. Further times are random."""
_SEVERAL = 3
"""Users that one act forces out."""
_CHUNK = 2
"""Users in one transaction of such an act, so that it takes two."""
_REMEMBERED = 64
"""The number of accepted tokens that a process remembers, to verify them again."""
_MEASURING = [
    "xgen_flask_sessions.feed.follower",
    "xgen_flask_sessions.feed.publisher",
    "xgen_flask_sessions.feed.wakeups",
    "redis",
]
"""Modules that measure durations. A wrong wall clock does not change a duration."""
_TURN_NS = 150_000_000
"""The length of a turn. Most processes work on the same user for two turns; the second turn begins
with a race of one process's revocation against the renewals of all others."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parameters of the workers of one run."""

    database_url: str
    directory: Path
    """The directory of the records and the tokens."""
    processes: int
    users: tuple[str, ...]
    """The ids of the users to work on."""
    seconds: float
    least_steps: int
    """Steps that each worker takes even after that time, for up to ``_MORE_S`` seconds."""
    seed: int
    system: str = "right"
    consistency: Literal["strict", "watch"] = "strict"
    max_staleness_s: float = 2.0
    """The staleness bound for ``"watch"``."""
    showing: int = 0
    """The number of processes, the last ones, that only verify tokens."""
    distant_url: str | None = None
    """The URL of the database for those processes, if it is another one."""
    redis: RedisPlace | None = None
    """The destination of the feed; the last process is then a service without the database."""
    distant_redis_url: str | None = None
    """The URL of Redis for that service, if it is another one."""

    def is_service(self, process: int) -> bool:
        """Return whether a process is a service that has Redis instead of the database."""
        return self.redis is not None and process == self.processes - 1

    def open_service(self) -> Verifier:
        """Build the service's verifier."""
        assert self.redis is not None
        return Verifier(
            redis_url=self.distant_redis_url or self.redis.url,
            secret_key=SECRET,
            issuer=self.redis.issuer,
            max_staleness=self.max_staleness_s,
        )

    def only_verifies(self, process: int) -> bool:
        """Return whether a process only verifies tokens."""
        return process >= self.processes - self.showing

    def open_host(self, process: int) -> Host:
        """Build a process's host application."""
        distant = self.distant_url if self.only_verifies(process) else None
        options: dict[str, Any] = {}
        if self.consistency == "watch":
            options = {
                "XGEN_SESSIONS_CONSISTENCY": "watch",
                "XGEN_SESSIONS_MAX_STALENESS": timedelta(seconds=self.max_staleness_s),
                # Short deadlines: calls without an answer take little of the run's time.
                "XGEN_SESSIONS_DEADLINE": timedelta(seconds=1),
                "XGEN_SESSIONS_WRITE_DEADLINE": timedelta(seconds=3),
            }
        if self.redis is not None:
            options |= self.redis.settings()
        return open_host(distant or self.database_url, **options)


def open_host(database_url: str, **options: Any) -> Host:
    """Build a host application with few connections, on existing tables."""
    engine: dict[str, Any] = {}
    if not database_url.startswith("sqlite"):
        engine = {"pool_size": 2, "max_overflow": 2}
    return make_app(database_url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=engine, **options)


def work(plan: Plan, process: int, ready: Barrier) -> None:
    """Run one worker process until the plan's time is over."""
    for each in (FeedReader, Verifier):
        logging.getLogger(each.__module__).setLevel(logging.ERROR)  # a cut feed is expected
    chance = random.Random(f"{plan.seed} {process}")
    # The first clock errors are spread evenly, so that the clocks differ in every run.
    first_off_s = CLOCK_OFF_S * (2 * process / max(1, plan.processes - 1) - 1)
    with (
        ExitStack() as stack,
        closing(Recorder(plan.directory, process)) as recorder,
        closing(Exchange(plan.directory)) as exchange,
        applied(plan.system),
    ):
        if process % 2:
            stack.enter_context(cuttable(plan.directory))
        step = _steps_of(plan, process, stack, exchange, recorder, chance)
        frozen = freeze_time(_time_off_by(first_off_s), tick=True, ignore=_MEASURING)
        clock = stack.enter_context(frozen)
        ready.wait()
        begin_ns = monotonic_ns()
        steps = 0
        while _goes_on(plan, (monotonic_ns() - begin_ns) / 1e9, steps):
            steps += 1
            if chance.random() < _JUMPS:
                clock.move_to(_time_off_by(chance.uniform(-CLOCK_OFF_S, CLOCK_OFF_S)))
            step()


def _steps_of(
    plan: Plan,
    process: int,
    stack: ExitStack,
    exchange: Exchange,
    recorder: Recorder,
    chance: random.Random,
) -> Callable[[], None]:
    """Build the parts of a process, which the stack closes, and return the function of a step."""
    if plan.is_service(process):
        verifier = plan.open_service()  # its thread starts at the first token
        stack.callback(verifier.close)
        service = ServiceObserver(process, verifier, recorder)
        return _Reverifier(plan, exchange, chance, service.verify).step
    host = plan.open_host(process)
    stack.callback(host.dispose)
    bulk.CHUNK = _CHUNK  # type: ignore[misc]  # this process's own
    worker = _Worker(plan, process, host, exchange, recorder, chance)
    if plan.only_verifies(process):
        return _Reverifier(plan, exchange, chance, worker.verify_one).step
    return worker.step


def _user_of_turn(users: Sequence[str], turn: int) -> str:
    return users[turn // 2 % len(users)]


class _Reverifier:
    """Only verifies tokens, and verifies accepted ones again later.

    :param verify_one: Verifies a token; returns whether it was accepted.
    """

    def __init__(
        self,
        plan: Plan,
        exchange: Exchange,
        chance: random.Random,
        verify_one: Callable[[Shared], bool],
    ) -> None:
        self._users = plan.users
        self._exchange = exchange
        self._chance = chance
        self._verify_one = verify_one
        self._again_after_ns = int(1.25 * plan.max_staleness_s * 1e9)
        self._accepted: dict[Shared, int] = {}
        """When to verify each accepted token again, in nanoseconds; the soonest first."""

    def step(self) -> None:
        """Verify the newest tokens of the turn's user, a random token, and an accepted one."""
        self._exchange.read_new()
        turn = monotonic_ns() // _TURN_NS
        for shared in self._exchange.newest(_user_of_turn(self._users, turn), 2):
            self._verify(shared)
        other = self._exchange.pick(self._chance.choice(self._users), self._chance)
        if other is not None:
            self._verify(other)
        self._verify_again()
        time.sleep(_VERIFY_PAUSE_S)

    def _verify_again(self) -> None:
        """Verify a token that was accepted more than a staleness bound ago.

        If it was revoked right after that, this process must know the revocation now.
        """
        soonest = next(iter(self._accepted), None)
        if soonest is not None and self._accepted[soonest] <= monotonic_ns():
            del self._accepted[soonest]
            self._verify(soonest)

    def _verify(self, shared: Shared) -> None:
        if self._verify_one(shared) and len(self._accepted) < _REMEMBERED:
            self._accepted.setdefault(shared, monotonic_ns() + self._again_after_ns)


def _goes_on(plan: Plan, spent_s: float, steps: int) -> bool:
    """Return whether to continue: until the time is over, and for the least steps a while more."""
    return spent_s < plan.seconds or (steps < plan.least_steps and spent_s < plan.seconds + _MORE_S)


def _time_off_by(off_s: float) -> datetime:
    now_s = time.clock_gettime(time.CLOCK_REALTIME)  # freezegun does not change it
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now_s + off_s)


class _Worker:
    def __init__(
        self,
        plan: Plan,
        process: int,
        host: Host,
        exchange: Exchange,
        recorder: Recorder,
        chance: random.Random,
    ) -> None:
        self._plan = plan
        self._observer = Observer(process, host, recorder)
        self._host = host
        self._exchange = exchange
        self._chance = chance
        self._client = host.client()
        self._process = process
        self._turn = 0
        self._taken = 0
        self._steps: dict[Callable[[str], None], float] = {
            self._sign_in: 16,
            self._renew: 18,
            self._end_session: 4,
            self._force_out: 3,
            self._force_out_several: 0.7,
            self._force_out_everyone: 0.1,
            self._deactivate: 0.7,
            self._activate: 4,
            self._verify: 30,
        }

    def step(self) -> None:
        """Make one call, likely for a user that other processes work on at the same time."""
        self._exchange.read_new()
        turn = monotonic_ns() // _TURN_NS
        user = _user_of_turn(self._plan.users, turn)
        self._taken += 1
        if self._process == 0 and self._taken == _EVERYONE_AT:  # also in a run of few steps
            self._force_out_everyone(user)
            return
        if turn != self._turn and turn % 2:
            self._turn = turn
            self._race(turn // 2, user)
            return
        if self._chance.random() < 0.25:
            user = self._chance.choice(self._plan.users)
        (act,) = self._chance.choices(list(self._steps), list(self._steps.values()))
        act(user)

    def _race(self, number: int, user: str) -> None:
        """Revoke if it is this process's turn; otherwise renew the tokens to be revoked."""
        newest = self._exchange.newest(user, 2)
        if number % self._plan.processes != self._process:
            for shared in newest:
                self._renew_one(shared)
        elif number % 5 == 0:
            self._force_out_everyone(user)
        elif number % 5 == 1:
            self._deactivate(user)
            self._activate(user)
        elif number % 5 == 2 and newest:
            self._end_one(newest[0])
        elif number % 5 == 3:
            self._force_out_several(user)
        else:
            self._force_out(user)

    def _sign_in(self, user: str) -> None:
        issued = self._observer.sign_in(user)
        if issued is not None:
            self._share(user, issued)

    def _share(self, user: str, issued: IssuedToken) -> None:
        self._exchange.put(Shared(user, issued.session_id, issued.jti, issued.token))

    def _renew(self, user: str) -> None:
        shared = self._exchange.pick(user, self._chance)
        if shared is not None:
            self._renew_one(shared)

    def _renew_one(self, shared: Shared) -> None:
        verified = self._observer.verify(shared)
        if verified is None:
            return
        issued = self._observer.renew(shared, verified)
        if issued is not None:
            self._share(shared.user, issued)
            self._verify_newest(shared.user)

    def _end_session(self, user: str) -> None:
        for shared in self._exchange.newest(user, 1):
            self._end_one(shared)

    def _end_one(self, shared: Shared) -> None:
        """End a session, and verify its tokens, including renewed ones."""
        self._observer.end_session(shared)
        kept = self._exchange.newest(shared.user, KEPT)
        for own in [each for each in kept if each.session_id == shared.session_id][:3]:
            self.verify_one(own)

    def _force_out(self, user: str) -> None:
        self._observer.force_out(user)
        self._verify_newest(user)

    def _force_out_several(self, user: str) -> None:
        others = [each for each in self._plan.users if each != user]
        several = [user, *self._chance.sample(others, min(_SEVERAL - 1, len(others)))]
        self._chance.shuffle(several)
        self._observer.force_out_several(several)
        for each in several:
            self._verify_newest(each)

    def _force_out_everyone(self, user: str) -> None:
        self._observer.force_out_everyone()
        self._verify_newest(user)

    def _deactivate(self, user: str) -> None:
        self._observer.deactivate(user)
        self._sign_in(user)  # must be refused, unless another process has activated the user
        self._verify_newest(user)

    def _activate(self, user: str) -> None:
        self._observer.activate(user)

    def _verify_newest(self, user: str) -> None:
        """Verify the tokens issued last, by any process."""
        self._exchange.read_new()
        for shared in self._exchange.newest(user, 2):
            self.verify_one(shared)

    def _verify(self, user: str) -> None:
        shared = self._exchange.pick(user, self._chance)
        if shared is not None:
            self.verify_one(shared)

    def verify_one(self, shared: Shared) -> bool:
        """Verify a token by a random call, and return whether it was accepted."""
        way = self._chance.random()
        if way < 0.5:
            return self._observer.verify(shared) is not None
        kind: Kind = "GET /api/token" if way < 0.75 else "GET /api/user"
        return self._observer.get(self._client, kind, shared)
