"""The checker of histories: for each rule, a history without a fault and one with a fault."""

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
    """Return an operation on user ``u``; *begin* and *end* are milliseconds."""
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


def force_out_several(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("force out several", begin, end, outcome)


def force_out_everyone(begin: float, end: float) -> Operation:
    return op("force out everyone", begin, end, user=None)


def deactivate(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("deactivate", begin, end, outcome)


def activate(begin: float, end: float, outcome: Outcome = "done") -> Operation:
    return op("activate", begin, end, outcome)


def rules(history: Sequence[Operation], **options: int) -> set[str]:
    """Return the rules that a history breaks."""
    return {finding.rule for finding in check(history, **options).findings}


AFTER_REVOCATION = "accepted after its revocation"
AFTER_REFUSAL = "accepted after it was refused"
AFTER_GRACE = "accepted after its grace period"
NO_CAUSE = "refused without cause"
ALTHOUGH_INACTIVE = "accepted although inactive"
STAMPS = "stamps out of order"

Revoke = Callable[[float, float], Operation]
REVOCATIONS = pytest.mark.parametrize(
    "revoke", [end_session, force_out, force_out_several, force_out_everyone, deactivate]
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


def test_a_revocation_of_another_user_has_no_effect() -> None:
    other = op("force out", 2, 3, user="v")

    assert rules([sign_in(0, 1), other, accepted(4, 5)]) == set()
    assert rules([sign_in(0, 1), other, refused(4, 5)]) == {NO_CAUSE}


def test_a_revocation_that_was_not_done_has_no_effect() -> None:
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


def test_each_of_two_overlapping_revocations_counts() -> None:
    history = [force_out(2, 9), force_out(3, 4)]

    assert rules([*history, sign_in(0, 1), accepted(5, 6)]) == {AFTER_REVOCATION}
    assert rules([*history, sign_in(5, 6), refused(10, 11)]) == set()


def test_the_first_of_many_revocations_to_complete_counts() -> None:
    history = [sign_in(0, 1), force_out(1.5, 9), end_session(2, 3), force_out(4, 5)]

    report = check([*history, accepted(3.5, 4)])

    (finding,) = report.findings
    assert "end session (user u, session s) by process 0, from 2.000 to 3.000 ms: done" in str(
        finding
    )
    assert report.longest_staleness_ns == MS // 2


def test_staleness_is_measured_and_can_be_allowed_for_verifications_only() -> None:
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


def test_a_revocation_before_an_acceptance_is_no_cause_of_a_later_refusal() -> None:
    history = [force_out(0, 2), sign_in(1, 3), refused(7, 8)]

    assert rules([*history, accepted(1.9, 4)]) == set()
    assert rules([*history, accepted(5, 6)]) == {NO_CAUSE}


def test_a_session_found_already_ended_needs_a_cause() -> None:
    nothing = end_session(4, 5, "nothing to do")

    assert rules([sign_in(0, 1), force_out(2, 3), nothing]) == set()
    assert rules([sign_in(0, 1), nothing]) == {NO_CAUSE}


def test_a_refused_renewal_needs_a_cause() -> None:
    refusal = op("renew", 4, 5, "refused", session_id="s", jti="s", code="session_revoked")

    assert rules([sign_in(0, 1), force_out(2, 3), refusal]) == set()
    assert rules([sign_in(0, 1), refusal]) == {NO_CAUSE}


@pytest.mark.parametrize("code", ["token_invalid", "token_expired"])
def test_no_cause_explains_a_refusal_with_another_code(code: str) -> None:
    assert rules([sign_in(0, 1), deactivate(2, 3), refused(4, 5, code=code)]) == {NO_CAUSE}


def test_an_unavailable_database_is_not_a_refusal() -> None:
    unavailable = op("verify", 4, 5, "not done", session_id="s", jti="s", code="x")

    assert rules([sign_in(0, 1), unavailable]) == set()


# --- The grace period ------------------------------------------------------------------------


def test_a_renewed_token_may_be_refused_once_its_grace_period_may_be_over() -> None:
    history = [sign_in(0, 1), renew(2, 3, "t")]

    assert rules([*history, refused(55_010, 55_020)]) == set()
    assert rules([*history, refused(54_000, 54_100)]) == {NO_CAUSE}
    assert rules([*history, refused(55_010, 55_020, "t")]) == {NO_CAUSE}


def test_a_renewed_token_must_be_refused_once_its_grace_period_must_be_over() -> None:
    history = [sign_in(0, 1), renew(2, 3, "t"), accepted(90_000, 90_001, "t")]

    assert rules([*history, accepted(65_000, 65_001)]) == set()
    assert rules([*history, accepted(65_010, 65_011)]) == {AFTER_GRACE}


def test_a_token_refused_after_its_grace_period_may_be_accepted_by_a_slow_clock() -> None:
    history = [sign_in(0, 1), renew(2, 3, "t"), refused(58_000, 58_001)]

    assert rules([*history, accepted(59_000, 59_001), accepted(59_000, 59_001, "t")]) == set()


# --- Accepted after it was refused -----------------------------------------------------------


def test_a_refused_token_is_not_accepted_again() -> None:
    history = [sign_in(0, 1), force_out(2, 9), refused(3, 4)]

    assert rules([*history, accepted(3.9, 5)]) == set()
    assert rules([*history, accepted(4.1, 5)]) == {AFTER_REFUSAL}


def test_no_token_of_an_ended_session_is_accepted_again() -> None:
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


def test_no_sign_in_succeeds_between_a_deactivation_and_the_next_activation() -> None:
    history = [deactivate(0, 1), activate(5, 6)]

    assert rules([*history, sign_in(0.9, 2)]) == set()
    assert rules([*history, sign_in(4, 5.1)]) == set()
    assert rules([*history, sign_in(1.1, 4.9)]) == {ALTHOUGH_INACTIVE}


def test_an_activation_that_was_not_done_has_no_effect() -> None:
    history = [deactivate(0, 1), sign_in(5, 6)]

    assert rules([*history, activate(2, 3, "uncertain")]) == set()
    assert rules([*history, activate(2, 3, "not done")]) == {ALTHOUGH_INACTIVE}


def test_an_activation_whose_commit_was_uncertain_may_follow_the_next_deactivation() -> None:
    history = [deactivate(0, 1), deactivate(4, 5), sign_in(6, 7)]

    assert rules([*history, activate(2, 3, "uncertain")]) == set()
    assert rules([*history, activate(2, 3)]) == {ALTHOUGH_INACTIVE}


def test_an_activation_and_an_overlapping_deactivation_may_happen_in_either_order() -> None:
    history = [activate(2, 4), deactivate(3, 5)]

    assert rules([*history, sign_in(6, 7)]) == set()
    assert rules([*history, inactive(6, 7)]) == set()
    assert rules([*history, deactivate(8, 9), sign_in(10, 11)]) == {ALTHOUGH_INACTIVE}


@pytest.mark.parametrize("kind", ["renew", "GET /api/user"])
def test_no_call_that_reads_the_account_accepts_an_inactive_user(kind: Kind) -> None:
    history = [deactivate(0, 1), sign_in(0.5, 1.5)]

    assert rules([*history, accepted(0.9, 3, kind="verify")]) == set()
    assert rules([*history, accepted(2, 3, kind=kind)]) == {ALTHOUGH_INACTIVE}


def test_a_user_refused_as_inactive_may_have_been_inactive() -> None:
    history = [deactivate(2, 3), activate(5, 6)]

    assert rules([*history, inactive(1, 2.1)]) == set()
    assert rules([*history, inactive(5.9, 7)]) == set()
    assert rules([*history, inactive(1, 1.9)]) == {NO_CAUSE}
    assert rules([*history, inactive(6.1, 7)]) == {NO_CAUSE}


def test_a_user_refused_as_inactive_may_be_accepted_later() -> None:
    history = [deactivate(0, 1), inactive(2, 3), activate(4, 5), sign_in(6, 7)]

    assert rules([*history, accepted(8, 9, kind="GET /api/user")]) == set()


# --- Stamps ----------------------------------------------------------------------------------


def test_stamps_rise_with_time() -> None:
    first, second = sign_in(0, 1, "a", stamp=5), sign_in(2, 3, "b", stamp=6)
    overlapping, earlier = sign_in(0.5, 3, "b", stamp=4), sign_in(2, 3, "b", stamp=4)

    assert rules([first, second]) == set()
    assert rules([first, overlapping]) == set()
    assert rules([first, earlier]) == {STAMPS}


def test_no_two_stamps_of_a_user_are_equal() -> None:
    first = sign_in(0, 2, "a", stamp=5)

    assert rules([first, sign_in(1, 3, "b", stamp=5, user="v")]) == set()
    assert rules([first, sign_in(1, 3, "b", stamp=5)]) == {STAMPS}


# --- The history itself ----------------------------------------------------------------------


def test_a_token_that_no_operation_issued_makes_the_history_incomplete() -> None:
    with pytest.raises(IncompleteHistory, match="s-lost"):
        check([sign_in(0, 1), accepted(2, 3, "s-lost")])


def test_an_empty_history_has_no_fault_and_no_counts() -> None:
    report = check([])

    assert (report.findings, report.counts, report.longest_staleness_ns) == ([], {}, 0)


def test_operations_are_counted_by_kind_and_outcome() -> None:
    report = check([sign_in(0, 1), accepted(2, 3), accepted(2, 3), force_out(2, 3, "not done")])

    assert report.counts == {
        ("sign in", "done"): 1,
        ("verify", "done"): 2,
        ("force out", "not done"): 1,
    }
    assert GRACE_NS == 60 * S
