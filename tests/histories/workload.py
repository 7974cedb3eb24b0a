"""A worker process: a host application with a wrong clock, and what it does all the time."""

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
from typing import Any, Literal, Protocol

from freezegun import freeze_time

from tests.histories.disturbances import cuttable
from tests.histories.exchange import KEPT, Exchange, Shared
from tests.histories.observer import Observer, ServiceObserver
from tests.histories.record import Kind, Recorder, monotonic_ns
from tests.histories.wrong_systems import applied
from tests.support.hosts import SECRET, Host, make_app
from tests.support.redis_place import RedisPlace
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.feed.follower import FeedReader
from xgen_flask_sessions.verifier import Verifier

CLOCK_OFF_S = 2.0
"""By how much a process's clock is off at most, in seconds."""
_JUMPS = 0.02
"""How likely the clock jumps before a step."""
_MORE_S = 20.0
"""How much longer than the given time a process may take for its least steps."""
_SHOW_PAUSE_S = 0.002
"""Between two looks of a process that does nothing but show tokens."""
_EVERYONE_AT = 40
"""The step at which the first process forces out everyone; others do it now and then."""
_REMEMBERED = 64
"""Of how many tokens such a process remembers that they passed."""
_MEASURING = [
    "xgen_flask_sessions.feed.follower",
    "xgen_flask_sessions.feed.publisher",
    "xgen_flask_sessions.feed.wakeups",
    "redis",
]
"""Where seconds are measured: on no machine does the wall clock change how fast they pass."""
_TURN_NS = 150_000_000
"""Every two turns, most processes busy themselves with another user; the second begins with a race
of one revocation against everybody's renewals."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the workers of one run are told."""

    database_url: str
    directory: Path
    """Where records and tokens go."""
    processes: int
    users: tuple[str, ...]
    """The ids of the users to work on."""
    seconds: float
    least_steps: int
    """What each worker does even if it takes longer, within bounds."""
    seed: int
    system: str = "right"
    consistency: Literal["strict", "watch"] = "strict"
    max_staleness_s: float = 2.0
    """How long after a revocation those who watch may still accept."""
    showing: int = 0
    """How many of the processes, the last ones, do nothing but show tokens."""
    distant_url: str | None = None
    """Where those find the database, if it is elsewhere."""
    redis: RedisPlace | None = None
    """Where the feed goes; the last process is then a service without the database."""
    distant_redis_url: str | None = None
    """Where that finds Redis, if it is elsewhere."""

    def is_service(self, process: int) -> bool:
        """Say whether a process is a service that has Redis instead of the database."""
        return self.redis is not None and process == self.processes - 1

    def open_service(self) -> Verifier:
        """Build what the service checks tokens with."""
        assert self.redis is not None
        return Verifier(
            redis_url=self.distant_redis_url or self.redis.url,
            secret_key=SECRET,
            issuer=self.redis.issuer,
            max_staleness=self.max_staleness_s,
        )

    def only_shows(self, process: int) -> bool:
        """Say whether a process does nothing but show tokens."""
        return process >= self.processes - self.showing

    def open_host(self, process: int) -> Host:
        """Build a process's host application."""
        distant = self.distant_url if self.only_shows(process) else None
        options: dict[str, Any] = {}
        if self.consistency == "watch":
            options = {
                "XGEN_SESSIONS_CONSISTENCY": "watch",
                "XGEN_SESSIONS_MAX_STALENESS": timedelta(seconds=self.max_staleness_s),
                # What cannot be answered is to cost no time that could be worked in.
                "XGEN_SESSIONS_DEADLINE": timedelta(seconds=1),
                "XGEN_SESSIONS_WRITE_DEADLINE": timedelta(seconds=3),
            }
        if self.redis is not None:
            options |= self.redis.settings()
        return open_host(distant or self.database_url, **options)


class Movable(Protocol):
    """What freezegun lends of a clock that goes on ticking."""

    def move_to(self, target_datetime: datetime) -> None: ...


def open_host(database_url: str, **options: Any) -> Host:
    """Build a host application with few connections, on tables that are there."""
    engine: dict[str, Any] = {}
    if not database_url.startswith("sqlite"):
        engine = {"pool_size": 2, "max_overflow": 2}
    return make_app(database_url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=engine, **options)


def work(plan: Plan, process: int, ready: Barrier) -> None:
    """Be one worker process: do as the plan says until its time is over."""
    for each in (FeedReader, Verifier):
        logging.getLogger(each.__module__).setLevel(logging.ERROR)  # that feeds are cut is known
    chance = random.Random(f"{plan.seed} {process}")
    # At first the clocks are spread evenly, so that no run has them all alike.
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
    """Build what the process has, for as long as the stack is open, and return what it does."""
    if plan.is_service(process):
        verifier = plan.open_service()  # its thread begins with the first token
        stack.callback(verifier.close)
        service = ServiceObserver(process, verifier, recorder)
        return _Watcher(plan, exchange, chance, service.verify).show
    host = plan.open_host(process)
    stack.callback(host.dispose)
    worker = _Worker(plan, process, host, exchange, recorder, chance)
    if plan.only_shows(process):
        return _Watcher(plan, exchange, chance, worker.show_one).show
    return worker.step


def _busy_one(users: Sequence[str], turn: int) -> str:
    return users[turn // 2 % len(users)]


class _Watcher:
    """Does nothing but show tokens.

    :param show_one: How to show one; returns whether it passed.
    """

    def __init__(
        self,
        plan: Plan,
        exchange: Exchange,
        chance: random.Random,
        show_one: Callable[[Shared], bool],
    ) -> None:
        self._users = plan.users
        self._exchange = exchange
        self._chance = chance
        self._show_one = show_one
        self._again_after_ns = int(1.25 * plan.max_staleness_s * 1e9)
        self._passed: dict[Shared, int] = {}
        """When to show again what passed, the soonest first."""

    def show(self) -> None:
        """Show tokens of the user whom the others are busy with most of all, and others."""
        self._exchange.look()
        for shared in self._exchange.newest(_busy_one(self._users, monotonic_ns() // _TURN_NS), 2):
            self._show(shared)
        other = self._exchange.pick(self._chance.choice(self._users), self._chance)
        if other is not None:
            self._show(other)
        self._show_again()
        time.sleep(_SHOW_PAUSE_S)

    def _show_again(self) -> None:
        """Show what passed a bound ago: of what ended it meanwhile, this process has heard now."""
        soonest = next(iter(self._passed), None)
        if soonest is not None and self._passed[soonest] <= monotonic_ns():
            del self._passed[soonest]
            self._show(soonest)

    def _show(self, shared: Shared) -> None:
        if self._show_one(shared) and len(self._passed) < _REMEMBERED:
            self._passed.setdefault(shared, monotonic_ns() + self._again_after_ns)


def _goes_on(plan: Plan, spent_s: float, steps: int) -> bool:
    """Say whether to go on: until the time is over, on a crowded machine somewhat longer."""
    return spent_s < plan.seconds or (steps < plan.least_steps and spent_s < plan.seconds + _MORE_S)


def _time_off_by(off_s: float) -> datetime:
    now_s = time.clock_gettime(time.CLOCK_REALTIME)  # freezegun leaves it alone
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
            self._force_out_everyone: 0.1,
            self._deactivate: 0.7,
            self._activate: 4,
            self._show: 30,
        }

    def step(self) -> None:
        """Do one thing, to a user whom the other processes are likely to be busy with too."""
        self._exchange.look()
        turn = monotonic_ns() // _TURN_NS
        user = _busy_one(self._plan.users, turn)
        self._taken += 1
        if self._process == 0 and self._taken == _EVERYONE_AT:  # however few steps are taken
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
        """Revoke if it is this process's turn, else renew what is being revoked."""
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
            self._show_newest(shared.user)

    def _end_session(self, user: str) -> None:
        for shared in self._exchange.newest(user, 1):
            self._end_one(shared)

    def _end_one(self, shared: Shared) -> None:
        """End a session, and show its tokens: also those that were renewed before."""
        self._observer.end_session(shared)
        kept = self._exchange.newest(shared.user, KEPT)
        for own in [each for each in kept if each.session_id == shared.session_id][:3]:
            self.show_one(own)

    def _force_out(self, user: str) -> None:
        self._observer.force_out(user)
        self._show_newest(user)

    def _force_out_everyone(self, user: str) -> None:
        self._observer.force_out_everyone()
        self._show_newest(user)

    def _deactivate(self, user: str) -> None:
        self._observer.deactivate(user)
        self._sign_in(user)  # which must not work, unless somebody switched the user active
        self._show_newest(user)

    def _activate(self, user: str) -> None:
        self._observer.activate(user)

    def _show_newest(self, user: str) -> None:
        """Show what was issued last, also by others meanwhile."""
        self._exchange.look()
        for shared in self._exchange.newest(user, 2):
            self.show_one(shared)

    def _show(self, user: str) -> None:
        shared = self._exchange.pick(user, self._chance)
        if shared is not None:
            self.show_one(shared)

    def show_one(self, shared: Shared) -> bool:
        """Show a token in one of the ways there are, and return whether it passed."""
        way = self._chance.random()
        if way < 0.5:
            return self._observer.verify(shared) is not None
        kind: Kind = "GET /api/token" if way < 0.75 else "GET /api/user"
        return self._observer.get(self._client, kind, shared)
