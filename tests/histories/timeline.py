"""Operations in real time: which of them may, and which must, have taken effect by a given time.

An operation takes effect at one instant between its invocation and its completion. An operation
whose commit was uncertain may take effect at any time after its invocation, or never.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from tests.histories.record import Operation

NEVER = 1 << 63
"""A time in nanoseconds, later than any in a history."""


def latest_effect_ns(operation: Operation) -> int:
    """Return the latest time at which an operation may take effect."""
    return operation.end_ns if operation.outcome == "done" else NEVER


class Timeline:
    """Operations of one sort that took effect, or may have.

    :param operations: In any order; operations without an effect are ignored.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        taken = [each for each in operations if each.outcome in ("done", "uncertain")]
        taken.sort(key=lambda each: each.begin_ns)
        self._begins = [each.begin_ns for each in taken]
        self._last_until: list[Operation] = []
        for each in taken:
            last = self._last_until[-1] if self._last_until else each
            self._last_until.append(max(last, each, key=latest_effect_ns))
        certain = [each for each in taken if each.outcome == "done"]
        self._certain_begins = [each.begin_ns for each in certain]
        self._first_from: list[Operation] = certain.copy()
        for at in range(len(certain) - 2, -1, -1):
            self._first_from[at] = min(
                certain[at], self._first_from[at + 1], key=lambda each: each.end_ns
            )

    def last_begun_by(self, moment_ns: int) -> Operation | None:
        """Of the operations invoked by a given time, return the one that may take effect last."""
        count = bisect_right(self._begins, moment_ns)
        return self._last_until[count - 1] if count else None

    def first_begun_after(self, moment_ns: int) -> Operation | None:
        """Of the operations invoked after a given time and done, return the first to complete."""
        at = bisect_right(self._certain_begins, moment_ns)
        return self._first_from[at] if at < len(self._first_from) else None


class Moments:
    """Operations in the order of their completion."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        ended = sorted(operations, key=lambda each: each.end_ns)
        self._ends = [each.end_ns for each in ended]
        self._last_begun: list[int] = []
        for each in ended:
            last = self._last_begun[-1] if self._last_begun else each.begin_ns
            self._last_begun.append(max(last, each.begin_ns))

    def last_begin_before(self, moment_ns: int) -> int:
        """Return the latest invocation of the operations completed before a given time, or 0."""
        count = bisect_left(self._ends, moment_ns)
        return self._last_begun[count - 1] if count else 0
