"""The checker of histories: for each rule, a history without fault, and one with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from tests.histories.checker import GRACE_NS, IncompleteHistory, check
from tests.histories.record import Kind, Operation, Outcome

pytestmark = pytest.mark.slow

MS = 1_000_000
S = 1000 * MS

_stamps = count(1)


def op(
    kind: Kind, begin: float, end: float, outcome: Outcome = "done", **known: str | int | None
) -> Operation:
    """Return an operation on user u; *begin* and *end* are milliseconds."""
    fields: dict[str, Any] = {"process": 0, "user": "u", **known}
    return Operation(
        kind=kind,
        begin_ns=int(begin * MS),
        end_ns=int(end * MS),
        outcome=outcome,
        **fields,
    )


def sign_in(
    begin: float, end: float, session: str = "s", *, stamp: int | None = None, user: str = "u"
) -> Operation:
    stamp = next(_stamps) if stamp is None else stamp
    return op("sign in", begin, end, user=user, session_id=session, new_jti=session, stamp=stamp)


def renew(
    begin: float, end: float, new: str | None, outcome: Outcome = "done", old: str = "s"
) -> Operation:
    stamp = next(_stamps) if new else None
    return op("renew", begin, end, outcome, session_id="s", jti=old, new_jti=new, stamp=stamp)


def accepted(begin: float, end: float, jti: str = "s", kind: Kind = "verify") -> Operation:
    return op(kind, begin, end, session_id="s", jti=jti)


def refused(
    begin: float, end: float, jti: str = "s", kind: Kind = "verify", code: str = "session_revoked"
) -> Operation:
    return op(kind, begin, end, "refused", session_id="s", jti=jti, code=code)


def end_session(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("end session", begin, end, outcome, session_id="s")


def force_out(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("force out", begin, end, outcome)


def force_out_everyone(begin: float, end: float) -> Operation:
    return op("force out everyone", begin, end, user=None)


def deactivate(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("deactivate", begin, end, outcome)


def activate(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("activate", begin, end, outcome)


def rules(history: Sequence[Operation], **options: int) -> set[str]:
    """Return which rules a history breaks."""
    return {finding.rule for finding in check(history, **options).findings}


AFTER_REVOCATION = "accepted after its revocation"
AFTER_REFUSAL = "accepted after it was refused"
AFTER_GRACE = "accepted after its grace"
NO_CAUSE = "refused without cause"
THOUGH_INACTIVE = "accepted though inactive"
STAMPS = "stamps out of order"

Revoke = Callable[[float, float], Operation]
REVOCATIONS = pytest.mark.parametrize(
    "revoke", [end_session, force_out, force_out_everyone, deactivate]
)


# --- Accepted after its revocation -----------------------------------------------------------


@REVOCATIONS
@pytest.mark.parametrize("kind", ["verify", "GET /api/token", "renew"])
def test_a_call_that_began_after_a_revocation_returned_must_not_accept(
    revoke: Revoke, kind: Kind
) -> None:
    history = [sign_in(0, 1), revoke(2, 3)]

    assert AFTER_REVOCATION not in rules([*history, accepted(2.9, 4, kind=kind)])
    assert AFTER_REVOCATION in rules([*history, accepted(3.1, 4, kind=kind)])


@REVOCATIONS
def test_a_sign_in_that_overlaps_a_revocation_may_come_after_it(revoke: Revoke) -> None:
    history = [revoke(2, 3), accepted(4, 5)]

    assert rules([sign_in(0, 2.1), *history]) == set()
    assert rules([sign_in(0, 1.9), *history]) == {AFTER_REVOCATION}


@REVOCATIONS
def test_a_renewal_that_overlaps_a_revocation_does_not_outlive_it(
    revoke: Revoke,
) -> None:
    history = [sign_in(0, 1), revoke(2, 3), renew(1.5, 2.5, "t")]

    assert rules([*history, refused(4, 5, "t")]) == set()
    assert rules([*history, accepted(4, 5, "t")]) == {AFTER_REVOCATION}


def test_another_user_s_revocation_revokes_nothing() -> None:
    other = op("force out", 2, 3, user="v")

    assert rules([sign_in(0, 1), other, accepted(4, 5)]) == set()
    assert rules([sign_in(0, 1), other, refused(4, 5)]) == {NO_CAUSE}


def test_a_revocation_that_was_not_done_revokes_nothing() -> None:
    history = [sign_in(0, 1), force_out(2, 3, "not done")]

    assert rules([*history, accepted(4, 5)]) == set()
    assert rules([*history, refused(4, 5)]) == {NO_CAUSE}


def test_a_revocation_whose_commit_was_uncertain_may_have_happened_or_not() -> None:
    history = [sign_in(0, 1), force_out(2, 3, "uncertain")]

    assert rules([*history, accepted(4, 5)]) == set()
    assert rules([*history, accepted(4, 5), refused(6, 7)]) == set()
    assert rules([*history, refused(1.2, 1.9)]) == {NO_CAUSE}


def test_an_uncertain_commit_may_happen_at_any_time_later() -> None:
    history = [force_out(2, 3, "uncertain"), force_out(4, 5)]

    assert rules([*history, sign_in(6, 7), refused(8, 9)]) == set()
    assert rules([*history[1:], sign_in(6, 7), refused(8, 9)]) == {NO_CAUSE}


def test_of_overlapping_revocations_each_counts() -> None:
    history = [force_out(2, 9), force_out(3, 4)]

    assert rules([*history, sign_in(0, 1), accepted(5, 6)]) == {AFTER_REVOCATION}
    assert rules([*history, sign_in(5, 6), refused(10, 11)]) == set()


def test_of_many_revocations_the_first_to_return_counts() -> None:
    history = [sign_in(0, 1), force_out(1.5, 9), end_session(2, 3), force_out(4, 5)]

    report = check([*history, accepted(3.5, 4)])

    (finding,) = report.findings
    assert "end session (user u, session s) by process 0, from 2.000 to 3.000 ms: done" in str(
        finding
    )
    assert report.longest_staleness_ns == MS // 2


def test_staleness_may_be_allowed_to_verification_and_is_measured() -> None:
    history = [sign_in(0, 1), force_out(2, 3), accepted(7, 8)]

    assert check(history).longest_staleness_ns == 4 * MS
    assert check(history).late_acceptances == 1
    assert rules(history, staleness_ns=4 * MS) == set()
    assert rules(history, staleness_ns=4 * MS - 1) == {AFTER_REVOCATION}
    assert rules([*history, renew(4, 5, "t")], staleness_ns=4 * MS) == {AFTER_REVOCATION}


# --- Refused without cause -------------------------------------------------------------------


@REVOCATIONS
def test_a_refusal_needs_a_revocation_that_had_begun(revoke: Revoke) -> None:
    history = [sign_in(0, 1), revoke(5, 6)]

    assert rules([*history, refused(4, 5.1)]) == set()
    assert rules([*history, refused(4, 4.9)]) == {NO_CAUSE}


@REVOCATIONS
def test_a_sign_in_that_began_after_a_revocation_returned_is_not_ended_by_it(
    revoke: Revoke,
) -> None:
    history = [revoke(0, 1), activate(1.01, 1.05), refused(3, 4)]

    assert rules([*history, sign_in(0.9, 2)]) == set()
    assert rules([*history, sign_in(1.1, 2)]) == {NO_CAUSE}


def test_a_call_that_accepted_after_a_revocation_shows_that_it_ended_nothing() -> None:
    history = [force_out(0, 2), sign_in(1, 3), refused(7, 8)]

    assert rules([*history, accepted(1.9, 4)]) == set()
    assert rules([*history, accepted(5, 6)]) == {NO_CAUSE}


def test_a_session_that_had_ended_before_needs_a_cause_too() -> None:
    nothing = end_session(4, 5, "nothing to do")

    assert rules([sign_in(0, 1), force_out(2, 3), nothing]) == set()
    assert rules([sign_in(0, 1), nothing]) == {NO_CAUSE}


def test_a_renewal_refused_needs_a_cause_too() -> None:
    refusal = op("renew", 4, 5, "refused", session_id="s", jti="s", code="session_revoked")

    assert rules([sign_in(0, 1), force_out(2, 3), refusal]) == set()
    assert rules([sign_in(0, 1), refusal]) == {NO_CAUSE}


@pytest.mark.parametrize("code", ["token_invalid", "token_expired"])
def test_other_refusals_have_no_cause_at_all(code: str) -> None:
    assert rules([sign_in(0, 1), deactivate(2, 3), refused(4, 5, code=code)]) == {NO_CAUSE}


def test_no_answer_for_want_of_the_database_is_no_refusal() -> None:
    unavailable = op("verify", 4, 5, "not done", session_id="s", jti="s", code="x")

    assert rules([sign_in(0, 1), unavailable]) == set()


# --- A minute of grace -----------------------------------------------------------------------


def test_a_renewed_token_may_be_refused_once_its_grace_may_be_over() -> None:
    history = [sign_in(0, 1), renew(2, 3, "t")]

    assert rules([*history, refused(55_010, 55_020)]) == set()
    assert rules([*history, refused(54_000, 54_100)]) == {NO_CAUSE}
    assert rules([*history, refused(55_010, 55_020, "t")]) == {NO_CAUSE}


def test_a_renewed_token_must_be_refused_once_its_grace_must_be_over() -> None:
    history = [sign_in(0, 1), renew(2, 3, "t"), accepted(90_000, 90_001, "t")]

    assert rules([*history, accepted(65_000, 65_001)]) == set()
    assert rules([*history, accepted(65_010, 65_011)]) == {AFTER_GRACE}


def test_a_token_refused_for_its_grace_may_be_accepted_where_the_clock_is_behind() -> None:
    history = [sign_in(0, 1), renew(2, 3, "t"), refused(58_000, 58_001)]

    assert rules([*history, accepted(59_000, 59_001), accepted(59_000, 59_001, "t")]) == set()


# --- Accepted after it was refused -----------------------------------------------------------


def test_what_was_refused_is_not_accepted_again() -> None:
    history = [sign_in(0, 1), force_out(2, 9), refused(3, 4)]

    assert rules([*history, accepted(3.9, 5)]) == set()
    assert rules([*history, accepted(4.1, 5)]) == {AFTER_REFUSAL}


def test_a_session_that_had_ended_is_not_accepted_again_by_any_of_its_tokens() -> None:
    history = [
        sign_in(0, 1),
        renew(1, 2, "t"),
        force_out(2, 9),
        end_session(3, 4, "nothing to do"),
    ]

    assert rules([*history, accepted(3.9, 5, "t")]) == set()
    assert rules([*history, accepted(4.1, 5, "t")]) == {AFTER_REFUSAL}


# --- Inactive users --------------------------------------------------------------------------


def inactive(begin: float, end: float) -> Operation:
    return op("sign in", begin, end, "refused", code="user_inactive")


def test_nobody_signs_in_between_a_deactivation_and_the_next_activation() -> None:
    history = [deactivate(0, 1), activate(5, 6)]

    assert rules([*history, sign_in(0.9, 2)]) == set()
    assert rules([*history, sign_in(4, 5.1)]) == set()
    assert rules([*history, sign_in(1.1, 4.9)]) == {THOUGH_INACTIVE}


def test_an_activation_that_was_not_done_activates_nobody() -> None:
    history = [deactivate(0, 1), sign_in(5, 6)]

    assert rules([*history, activate(2, 3, "uncertain")]) == set()
    assert rules([*history, activate(2, 3, "not done")]) == {THOUGH_INACTIVE}


def test_an_activation_whose_commit_was_uncertain_may_follow_the_next_deactivation() -> None:
    history = [deactivate(0, 1), deactivate(4, 5), sign_in(6, 7)]

    assert rules([*history, activate(2, 3, "uncertain")]) == set()
    assert rules([*history, activate(2, 3)]) == {THOUGH_INACTIVE}


def test_of_overlapping_switches_either_may_be_the_last() -> None:
    history = [activate(2, 4), deactivate(3, 5)]

    assert rules([*history, sign_in(6, 7)]) == set()
    assert rules([*history, inactive(6, 7)]) == set()
    assert rules([*history, deactivate(8, 9), sign_in(10, 11)]) == {THOUGH_INACTIVE}


@pytest.mark.parametrize("kind", ["renew", "GET /api/user"])
def test_no_call_that_asks_for_the_account_accepts_an_inactive_user(kind: Kind) -> None:
    history = [deactivate(0, 1), sign_in(0.5, 1.5)]

    assert rules([*history, accepted(0.9, 3, kind="verify")]) == set()
    assert rules([*history, accepted(2, 3, kind=kind)]) == {THOUGH_INACTIVE}


def test_who_is_refused_as_inactive_may_have_been_inactive() -> None:
    history = [deactivate(2, 3), activate(5, 6)]

    assert rules([*history, inactive(1, 2.1)]) == set()
    assert rules([*history, inactive(5.9, 7)]) == set()
    assert rules([*history, inactive(1, 1.9)]) == {NO_CAUSE}
    assert rules([*history, inactive(6.1, 7)]) == {NO_CAUSE}


def test_who_was_refused_as_inactive_may_be_accepted_later() -> None:
    history = [deactivate(0, 1), inactive(2, 3), activate(4, 5), sign_in(6, 7)]

    assert rules([*history, accepted(8, 9, kind="GET /api/user")]) == set()


# --- Stamps ----------------------------------------------------------------------------------


def test_stamps_rise_with_time() -> None:
    first, second = sign_in(0, 1, "a", stamp=5), sign_in(2, 3, "b", stamp=6)
    overlapping, earlier = sign_in(0.5, 3, "b", stamp=4), sign_in(2, 3, "b", stamp=4)

    assert rules([first, second]) == set()
    assert rules([first, overlapping]) == set()
    assert rules([first, earlier]) == {STAMPS}


def test_no_two_stamps_of_a_user_are_alike() -> None:
    first = sign_in(0, 2, "a", stamp=5)

    assert rules([first, sign_in(1, 3, "b", stamp=5, user="v")]) == set()
    assert rules([first, sign_in(1, 3, "b", stamp=5)]) == {STAMPS}


# --- The history itself ----------------------------------------------------------------------


def test_a_token_that_nothing_made_makes_the_history_incomplete() -> None:
    with pytest.raises(IncompleteHistory, match="s-lost"):
        check([sign_in(0, 1), accepted(2, 3, "s-lost")])


def test_an_empty_history_has_no_fault_and_counts_nothing() -> None:
    report = check([])

    assert (report.findings, report.counts, report.longest_staleness_ns) == ([], {}, 0)


def test_it_counts_what_was_done() -> None:
    report = check([sign_in(0, 1), accepted(2, 3), accepted(2, 3), force_out(2, 3, "not done")])

    assert report.counts == {
        ("sign in", "done"): 1,
        ("verify", "done"): 2,
        ("force out", "not done"): 1,
    }
    assert GRACE_NS == 60 * S
