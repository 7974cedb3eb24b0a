"""Finds faults in a history, from the records alone.

A call that was invoked after the completion of another one takes effect after it. Two overlapping
calls may take effect in either order. A fault is a result that no possible order explains.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.histories.findings import Finding, Report, Rule, describe
from tests.histories.record import Kind, Operation
from tests.histories.timeline import Moments, Timeline

SECOND_NS = 1_000_000_000
GRACE_NS = 60 * SECOND_NS
"""How long a renewed token is still accepted, by the clock of the verifying process."""
CLOCK_ERROR_NS = 5 * SECOND_NS
"""The largest difference between two processes' clocks: twice two seconds, and a margin."""

VERIFICATIONS: tuple[Kind, ...] = ("verify", "GET /api/token", "GET /api/user", "Verifier.verify")
"""Calls that verify a token."""
_NEEDS_ACTIVE: tuple[Kind, ...] = ("sign in", "renew", "GET /api/user")
_ENDS_A_USER: tuple[Kind, ...] = ("force out", "force out several", "deactivate")


class IncompleteHistory(ValueError):
    """A token is in the history, but the call that issued it is not."""


@dataclass(slots=True)
class _Session:
    """One session, and the operations on it."""

    sign_in: Operation
    renewals: list[Operation] = field(default_factory=list)
    ends: list[Operation] = field(default_factory=list)
    accepted: list[Operation] = field(default_factory=list)
    refused: list[Operation] = field(default_factory=list)


@dataclass(slots=True)
class _User:
    """The operations on one user."""

    revocations: Timeline
    deactivations: Timeline
    activations: Timeline


class _Checker:
    def __init__(
        self, history: Iterable[Operation], staleness_ns: int, grace_ns: int, clock_error_ns: int
    ) -> None:
        self._history = sorted(history, key=lambda each: each.begin_ns)
        self._start_ns = self._history[0].begin_ns if self._history else 0
        self._staleness_ns = staleness_ns
        self._grace_ns = grace_ns
        self._clock_error_ns = clock_error_ns
        self.longest_staleness_ns = 0
        self.late_acceptances = 0
        self._sessions: dict[str, _Session] = {}
        self._made: dict[str, Operation] = {}
        for each in self._history:
            if each.new_jti is not None:
                self._made[each.new_jti] = each
            if each.kind == "sign in" and each.session_id is not None:
                self._sessions[each.session_id] = _Session(each)
        for each in self._history:
            if each.session_id is not None:
                self._put(each, self._session(each))
        names = {each.user for each in self._history if each.user is not None}
        self._users = {name: self._user(name) for name in names}

    def _put(self, operation: Operation, session: _Session) -> None:
        if operation.kind == "renew" and operation.outcome in ("done", "uncertain"):
            session.renewals.append(operation)
        if operation.kind == "end session":
            session.ends.append(operation)
        if operation.jti is not None and operation.outcome == "done":
            session.accepted.append(operation)
        if operation.outcome == "nothing to do" or operation.code == "session_revoked":
            session.refused.append(operation)

    def _session(self, operation: Operation) -> _Session:
        session = self._sessions.get(operation.session_id or "")
        if session is None or (operation.jti is not None and operation.jti not in self._made):
            raise IncompleteHistory(f"No sign-in or renewal precedes this: {operation}.")
        return session

    def _user(self, name: str) -> _User:
        own = [each for each in self._history if each.user == name]
        everyone = [each for each in self._history if each.kind == "force out everyone"]
        return _User(
            Timeline([*everyone, *(each for each in own if each.kind in _ENDS_A_USER)]),
            Timeline(each for each in own if each.kind == "deactivate"),
            Timeline(each for each in own if each.kind == "activate"),
        )

    def findings(self) -> Iterator[Finding]:
        for session in self._sessions.values():
            yield from self._accepted_after_revocation(session)
            yield from self._accepted_after_refusal(session)
            yield from self._accepted_after_grace(session)
            yield from self._refused_without_cause(session)
        for operation in self._history:
            yield from self._contradicts_account(operation)
        for name in self._users:
            yield from self._stamps_out_of_order(name)

    def _accepted_after_revocation(self, session: _Session) -> Iterator[Finding]:
        signed_in = session.sign_in
        revocations = self._users[signed_in.user or ""].revocations
        after = [
            revocations.first_begun_after(signed_in.end_ns),
            Timeline(session.ends).first_begun_after(signed_in.end_ns),
        ]
        revoked = min(filter(None, after), key=lambda each: each.end_ns, default=None)
        if revoked is None:
            return
        for accepted in session.accepted:
            stale_ns = accepted.begin_ns - revoked.end_ns
            if stale_ns <= 0:
                continue
            self.late_acceptances += 1
            self.longest_staleness_ns = max(self.longest_staleness_ns, stale_ns)
            if stale_ns > self._allowed_ns(accepted):
                yield self._finding("accepted after its revocation", signed_in, revoked, accepted)

    def _accepted_after_refusal(self, session: _Session) -> Iterator[Finding]:
        refusals = (each for each in session.refused if self._grace_may_end(session, each) is None)
        refused = min(refusals, key=lambda each: each.end_ns, default=None)
        if refused is None:
            return
        for accepted in session.accepted:
            if accepted.begin_ns - refused.end_ns > self._allowed_ns(accepted):
                yield self._finding("accepted after it was refused", refused, accepted)

    def _accepted_after_grace(self, session: _Session) -> Iterator[Finding]:
        renewals = Timeline(session.renewals)
        for accepted in session.accepted:
            made = self._made[accepted.jti or ""]
            renewed = renewals.first_begun_after(made.end_ns)
            if renewed is None:
                continue
            late_ns = accepted.begin_ns - renewed.end_ns - self._grace_ns - self._clock_error_ns
            if late_ns > self._allowed_ns(accepted):
                yield self._finding("accepted after its grace period", made, renewed, accepted)

    def _refused_without_cause(self, session: _Session) -> Iterator[Finding]:
        if not session.refused:
            return
        ends = Timeline(session.ends)
        revocations = self._users[session.sign_in.user or ""].revocations
        accepted = Moments(session.accepted)
        for refused in session.refused:
            # A revocation that had completed before the sign-in was invoked, or before an
            # accepting call was invoked, did not end this session.
            until_ns = accepted.last_begin_before(refused.begin_ns) - self._staleness_ns
            since_ns = max(session.sign_in.begin_ns, until_ns)
            causes = (ends, revocations)
            if any(_may_lie_between(cause, since_ns, refused.end_ns) for cause in causes):
                continue
            if self._grace_may_end(session, refused) is None:
                yield self._finding("refused without cause", session.sign_in, refused)

    def _grace_may_end(self, session: _Session, refused: Operation) -> Operation | None:
        """Return a renewal after which the refused token's grace period may have ended."""
        if refused.jti is None:
            return None
        made = self._made[refused.jti]
        by_ns = refused.end_ns - self._grace_ns + self._clock_error_ns
        for renewed in session.renewals:
            since = renewed.outcome == "uncertain" or renewed.end_ns >= made.begin_ns
            if renewed.new_jti != refused.jti and since and renewed.begin_ns <= by_ns:
                return renewed
        return None

    def _contradicts_account(self, operation: Operation) -> Iterator[Finding]:
        """Find results that contradict the account: active or inactive.

        A refusal with another code than ``session_revoked`` has one cause only, an inactive
        account.
        """
        if operation.user is None or operation.code == "session_revoked":
            return
        user = self._users[operation.user]
        begin_ns = operation.begin_ns - self._allowed_ns(operation)
        if operation.outcome == "refused":
            off = _last_before(user.deactivations, user.activations, begin_ns, operation.end_ns)
            if operation.code != "user_inactive" or off is None:
                yield self._finding("refused without cause", operation)
        elif operation.outcome == "done" and operation.kind in _NEEDS_ACTIVE:
            if _last_before(user.activations, user.deactivations, begin_ns, operation.end_ns):
                return
            off = user.deactivations.first_begun_after(-1)
            if off is not None and off.end_ns < begin_ns:
                yield self._finding("accepted although inactive", off, operation)

    def _stamps_out_of_order(self, name: str) -> Iterator[Finding]:
        """Find stamps that do not rise from one sign-in or renewal to the next, and equal ones."""
        highest: Operation | None = None
        under_way: list[tuple[int, int, Operation]] = []
        stamps: dict[int, Operation] = {}
        for at, later in enumerate(self._history):
            if later.user != name or later.new_jti is None or later.stamp is None:
                continue
            while under_way and under_way[0][0] < later.begin_ns:
                earlier = heapq.heappop(under_way)[2]
                if highest is None or (earlier.stamp or 0) > (highest.stamp or 0):
                    highest = earlier
            rival = stamps.setdefault(later.stamp, later)
            if highest is not None and (highest.stamp or 0) >= later.stamp:
                yield self._finding("stamps out of order", highest, later)
            elif rival is not later:
                yield self._finding("stamps out of order", rival, later)
            heapq.heappush(under_way, (later.end_ns, at, later))

    def _allowed_ns(self, operation: Operation) -> int:
        return self._staleness_ns if operation.kind in VERIFICATIONS else 0

    def _finding(self, rule: Rule, *operations: Operation) -> Finding:
        described = "; then ".join(describe(each, self._start_ns) for each in operations)
        return Finding(rule, described + ".")


def _may_lie_between(timeline: Timeline, since_ns: int, until_ns: int) -> bool:
    """Return whether an operation may have taken effect between two times."""
    last = timeline.last_begun_by(until_ns)
    return last is not None and (last.outcome == "uncertain" or last.end_ns >= since_ns)


def _last_before(
    wanted: Timeline, others: Timeline, begin_ns: int, end_ns: int
) -> Operation | None:
    """Return one of *wanted* that may have been in force during a call.

    None of *others* must have taken effect between the two.

    :param begin_ns: The invocation of the call.
    :param end_ns: The completion of the call.
    """
    last = wanted.last_begun_by(end_ns)
    if last is None or last.outcome == "uncertain":
        return last
    other = others.first_begun_after(last.end_ns)
    return last if other is None or other.end_ns >= begin_ns else None


def check(
    history: Iterable[Operation],
    *,
    staleness_ns: int = 0,
    grace_ns: int = GRACE_NS,
    clock_error_ns: int = CLOCK_ERROR_NS,
) -> Report:
    """Check a history.

    :param history: Every operation of every process, in any order.
    :param staleness_ns: The staleness bound, in nanoseconds.
    :param grace_ns: The grace period of a renewed token, in nanoseconds.
    :param clock_error_ns: The largest difference between two clocks, in nanoseconds.
    :raises IncompleteHistory: A token is in the history, but the call that issued it is not.
    """
    operations = list(history)
    checker = _Checker(operations, staleness_ns, grace_ns, clock_error_ns)
    findings = list(checker.findings())
    counts = Counter((each.kind, each.outcome) for each in operations)
    return Report(findings, counts, checker.longest_staleness_ns, checker.late_acceptances)
