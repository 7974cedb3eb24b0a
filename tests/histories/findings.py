"""The findings of the checker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from tests.histories.record import Kind, Operation, Outcome

Rule = Literal[
    "accepted after its revocation",
    "refused without cause",
    "accepted after it was refused",
    "accepted after its grace period",
    "accepted although inactive",
    "stamps out of order",
    "wrong session count",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault in a history."""

    rule: Rule
    text: str
    """A description of the operations that prove it."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check."""

    findings: list[Finding]
    counts: Counter[tuple[Kind, Outcome]]
    longest_staleness_ns: int
    """The longest time from a revocation's completion to the invocation of an accepting call."""
    late_acceptances: int = 0
    """The number of calls that were invoked after a revocation had completed, and accepted."""


def describe(operation: Operation, start_ns: int) -> str:
    """Describe an operation in one line.

    :param start_ns: The time that counts as 0 ms.
    """
    begin, end = ((at - start_ns) / 1e6 for at in (operation.begin_ns, operation.end_ns))
    subjects = [
        f"{name} {value}"
        for name, value in (
            ("user", operation.user),
            ("session", operation.session_id),
            ("token", operation.jti),
            ("new token", operation.new_jti),
            ("stamp", operation.stamp),
        )
        if value is not None
    ]
    about = f" ({', '.join(subjects)})" if subjects else ""
    answer = operation.outcome + (f" as {operation.code}" if operation.code else "")
    return (
        f"{operation.kind}{about} by process {operation.process}, "
        f"from {begin:.3f} to {end:.3f} ms: {answer}"
    )
