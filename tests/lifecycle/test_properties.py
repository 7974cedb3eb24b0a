"""Random sequences of sign-ins, renewals, revocations and waits, compared with a simple model.

The model is a list of tokens with their states; it has no stamps, rows or indexes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.databases import MakeHost
from tests.support.hosts import Host, NamedUser, bearer
from xgen_flask_sessions import IssuedToken, TokenError, UserInactive
from xgen_flask_sessions.clock import now_us
from xgen_flask_sessions.state import get_state

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

USERS = ["alice", "ALICE", "alicé"]
GRACE_US = 60_000_000
RETENTION_S = 100


@dataclass
class Held:
    """A token of the model."""

    user: str
    issued: IssuedToken
    ended: bool = False
    replaced_us: int | None = None
    """The end of the grace period, if the token was renewed."""

    @property
    def is_open(self) -> bool:
        """Whether the token is its active session's newest one: the screen counts these."""
        return not self.ended and self.replaced_us is None and now_us() < self.issued.expires_us

    @property
    def is_good(self) -> bool:
        """Whether the verifier must accept the token."""
        waiting = self.replaced_us is None or now_us() < self.replaced_us
        return not self.ended and waiting and now_us() < self.issued.expires_us


class Sessions(RuleBasedStateMachine):
    """A state machine that applies each step to a host and to the model, and compares the two."""

    users = st.sampled_from(USERS)
    picks = st.integers(0, 999)

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.held: list[Held] = []
        self.active = dict.fromkeys(USERS, True)
        empty(host)
        self.freezer = freeze_time("2026-05-25 08:00:00.5")
        self.clock: Any = self.freezer.start()

    def teardown(self) -> None:
        """Check every path with every token once more."""
        try:
            for held in self.held:
                self.check_paths(held)
        finally:
            self.freezer.stop()

    @initialize()
    def begin(self) -> None:
        """Sign every user in, so that the first rules have tokens."""
        for user in USERS:
            self._signed_in(user, 3600)

    @rule(user=users, lifetime=st.sampled_from([1, 30, 90, 3600]))
    def sign_in(self, user: str, lifetime: int) -> None:
        """Sign in; an inactive user cannot."""
        if self.active[user]:
            self._signed_in(user, lifetime)
            return
        with pytest.raises(UserInactive):
            self.host.issue(user, lifetime=lifetime)

    def _signed_in(self, user: str, lifetime: int) -> None:
        self.held.append(Held(user, self.host.issue(user, lifetime=lifetime)))

    def _picked(self, pick: int) -> Held:
        """Return a token: mostly a good one, because few rules have an effect on the others."""
        good = [held for held in self.held if held.is_good]
        among = good if good and pick % 5 else self.held
        return among[pick // 5 % len(among)]

    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        """Renew a token, good or not; the session's other tokens get a grace period of a minute."""
        held = self._picked(pick)
        if not held.is_good:
            with pytest.raises(TokenError):
                self.host.renew(held.issued)
            return
        if not self.active[held.user]:
            with pytest.raises(UserInactive):
                self.host.renew(held.issued)
            return
        issued = self.host.renew(held.issued)
        assert issued.session_id == held.issued.session_id
        assert issued.issued_us > held.issued.issued_us
        for other in self._of_session(issued.session_id):
            if other.replaced_us is None:
                other.replaced_us = now_us() + GRACE_US
        self.held.append(Held(held.user, issued))

    @rule(pick=picks)
    def end_session(self, pick: int) -> None:
        """End the session of a token, current or not."""
        held = self._picked(pick)
        session_id = held.issued.session_id
        self.host.end_session(session_id)
        for each in self._of_session(session_id):
            each.ended = True

    @rule(pick=picks)
    def sign_out(self, pick: int) -> None:
        """Sign out over HTTP; only a good token can."""
        held = self._picked(pick)
        answer = self.host.client().post("/sessions/sign-out", headers=bearer(held.issued))
        assert answer.status_code == (204 if held.is_good else 401)
        if held.is_good:
            for each in self._of_session(held.issued.session_id):
                each.ended = True

    @rule(pick=picks)
    def renew_and_end(self, pick: int) -> None:
        """Renew, then end or force out at once: the old token must not keep its grace period."""
        self.renew(pick)
        (self.end_session if pick % 2 else self.force_logout)(pick)

    @rule(pick=picks)
    def force_logout(self, pick: int) -> None:
        """Force one user out, mostly a signed-in one."""
        user = self._picked(pick).user
        open_ones = self._open_sessions(user)
        assert self.host.force_logout(user).sessions_ended == len(open_ones)
        for held in self.held:
            held.ended |= held.user == user

    @rule(pick=picks)
    def force_logout_everyone(self, pick: int) -> None:
        """Force everyone out; seldom, because few good tokens remain."""
        if pick % 4:
            return
        with self.host.app.app_context():
            self.host.sessions.force_logout_everyone()
        for held in self.held:
            held.ended = True

    @rule(user=users)
    def take_back(self, user: str) -> None:
        """Force a user out and sign in, then roll both back: the model does not change."""
        with self.host.app.app_context():
            self.host.sessions.force_logout(user, commit=False)
            if self.active[user]:
                self.host.sessions.issue(user, commit=False)
            self.host.db.session.rollback()

    @rule(user=users, active=st.booleans())
    def set_active(self, user: str, active: bool) -> None:
        """Make a user active or inactive: this alone ends no session."""
        self.host.change_user(user, is_active=active)
        self.active[user] = active

    @rule(seconds=st.sampled_from([0.000001, 0.5, 1, 5, 20, 59.999999, 60, 101, 3600]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.tick(seconds)

    @rule()
    def prune(self) -> None:
        """Delete old rows: every token is accepted or refused as before."""
        with self.host.app.app_context():
            self.host.sessions.prune()

    @rule(pick=picks)
    def try_paths(self, pick: int) -> None:
        """Check every path with a token."""
        self.check_paths(self._picked(pick))

    def check_paths(self, held: Held) -> None:
        """Assert that every path accepts a good token only."""
        host, token = self.host, held.issued
        with_user = held.is_good and self.active[held.user]
        for path, allowed in (
            ("/api/token", held.is_good),
            ("/api/user", with_user),
            ("/sessions/", held.is_good),
        ):
            expected = 200 if allowed else 401
            assert host.status(token, path) == expected, path
            assert host.cookie_client(token).get(path).status_code == expected, path
        admin = 403 if with_user else 401  # none of the users is an administrator
        assert host.status(token, "/sessions/users") == admin

    @invariant()
    def tokens_are_as_the_model_says(self) -> None:
        """Assert that the verifier accepts good tokens and refuses the others."""
        for held in self.held:
            try:
                verified = self.host.verify(held.issued)
            except TokenError:
                assert not held.is_good
            else:
                assert held.is_good
                assert verified.user_id == held.user

    @invariant()
    def counts_are_as_the_model_says(self) -> None:
        """Assert that the cards, the table, the rows and ``active_until_us`` agree."""
        open_ones = {user: self._open_sessions(user) for user in USERS}
        with self.host.app.app_context():
            roster, session = get_state().roster, self.host.db.session()
            summary = roster.summary(session)
            table = {each.profile.user_id: each for each in roster.page(session, 1).users}
            listed = {
                user: {each.session_id for each in roster.sessions_of(session, user)}
                for user in USERS
            }
        assert listed == open_ones
        assert summary.active_sessions == sum(map(len, open_ones.values()))
        assert summary.active_users == sum(map(bool, open_ones.values()))
        assert {user: each.active_sessions for user, each in table.items()} == {
            user: len(sessions) for user, sessions in open_ones.items() if sessions
        }
        for row in self.host.rows("xgen_user_logins"):
            expiries = [
                held.issued.expires_us
                for held in self.held
                if held.is_open and held.user == row["user_id"]
            ]
            if expiries:
                assert row["active_until_us"] == max(expiries)
            else:
                assert row["active_until_us"] <= now_us()

    def _of_session(self, session_id: str) -> Iterator[Held]:
        return (held for held in self.held if held.issued.session_id == session_id)

    def _open_sessions(self, user: str) -> set[str]:
        return {held.issued.session_id for held in self.held if held.is_open and held.user == user}


def empty(host: Host) -> None:
    """Delete every row but the users, and make these active."""
    tables = host.db.metadata.tables
    with host.app.app_context(), host.db.engine.begin() as connection:
        for name in ("xgen_sessions", "xgen_revocations", "xgen_user_logins"):
            connection.execute(sa.delete(tables[name]))
        connection.execute(sa.update(tables["users"]).values(is_active=True))


RUNS = {"sqlite": (20, 40), "postgresql": (4, 25), "mysql": (4, 25)}
"""The number of runs on each kind of database, and of the steps of each run."""


def test_any_sequence_of_steps_agrees_with_the_model(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, model=NamedUser, XGEN_SESSIONS_RETENTION=RETENTION_S)
    for user in USERS:
        host.add_user(user, id=user)
    with host.app.app_context():
        kind = host.db.engine.dialect.name
        if kind == "sqlite":  # the data need not survive a crash

            @sa.event.listens_for(host.db.engine, "connect")
            def skip_syncs(connection: Any, _: object) -> None:
                connection.execute("PRAGMA synchronous = OFF")

            host.db.engine.dispose()
    runs, steps = RUNS[kind]

    class OfThisHost(Sessions):
        def __init__(self) -> None:
            super().__init__(host)

    run_state_machine_as_test(
        OfThisHost,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
