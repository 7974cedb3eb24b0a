"""What a checker found, and in which operations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from tests.histories.record import Kind, Operation, Outcome

Rule = Literal[
    "accepted after its revocation",
    "refused without cause",
    "accepted after it was refused",
    "accepted after its grace",
    "accepted though inactive",
    "stamps out of order",
    "counted wrongly",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault."""

    rule: Rule
    text: str
    """The operations that it rests on, in words."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a history shows."""

    findings: list[Finding]
    counts: Counter[tuple[Kind, Outcome]]
    longest_staleness_ns: int
    """How long after a revocation had returned the last call began that still accepted."""
    late_acceptances: int = 0
    """How many calls began after a revocation had returned, and still accepted."""


def describe(operation: Operation, start_ns: int) -> str:
    """Say in words what an operation was.

    :param start_ns: The time to count from.
    """
    begin, end = ((at - start_ns) / 1e6 for at in (operation.begin_ns, operation.end_ns))
    whom = [
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
    about = f" ({', '.join(whom)})" if whom else ""
    answer = operation.outcome + (f" as {operation.code}" if operation.code else "")
    return (
        f"{operation.kind}{about} by process {operation.process}, "
        f"from {begin:.3f} to {end:.3f} ms: {answer}"
    )
