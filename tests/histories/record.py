"""The records of operations: JSON lines, one file per process.

Times are nanoseconds of the machine's monotonic clock. All processes share it, and the workers'
wrong wall clocks do not change it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal[
    "sign in",
    "renew",
    "end session",
    "force out",
    "force out several",
    "force out everyone",
    "deactivate",
    "activate",
    "verify",
    "GET /api/token",
    "GET /api/user",
    "Verifier.verify",
]
"""The kind of call. A force logout of several users has a record for each of them. A deactivation
also forces the user out, in the same transaction. The last four verify a token: by
``sessions.verify``, ``token_required``, ``login_required``, and in a service without the
database."""

Outcome = Literal["done", "refused", "nothing to do", "not done", "uncertain"]
"""The result of a call.

- ``done``: the change was made, or the token was accepted.
- ``refused``: with an error code.
- ``nothing to do``: the session to end had already ended.
- ``not done``: the change was not made, or the token could not be checked.
- ``uncertain``: the commit may or may not have happened.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call as its caller saw it: invoked at ``begin_ns``, completed at ``end_ns``."""

    kind: Kind
    process: int
    begin_ns: int
    end_ns: int
    outcome: Outcome
    code: str | None = None
    """The error code."""
    user: str | None = None
    session_id: str | None = None
    jti: str | None = None
    """The token that was verified or renewed."""
    new_jti: str | None = None
    """The token that was issued."""
    stamp: int | None = None
    """The new token's stamp, or the new invalidation timestamp, in microseconds."""


def monotonic_ns() -> int:
    """Return the time of the records' clock, which freezegun does not change."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Recorder:
    """Writes one process's operations at their completion; the records survive a crash."""

    def __init__(self, directory: Path, process: int) -> None:
        self._file = (directory / f"history-{process}.jsonl").open("a", buffering=1)

    def write(self, operation: Operation) -> None:
        """Append one operation."""
        self._file.write(json.dumps(asdict(operation)) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(directory: Path) -> Iterator[Operation]:
    """Yield the operations of every process, file by file."""
    for path in sorted(directory.glob("history-*.jsonl")):
        with path.open() as lines:
            for line in lines:
                yield Operation(**json.loads(line))
