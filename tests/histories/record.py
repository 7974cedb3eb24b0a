"""What is written down of every operation: JSON lines, one file per process.

Times are nanoseconds of the machine's monotonic clock, which all processes share and no wrong wall
clock touches.
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
    "force out everyone",
    "deactivate",
    "activate",
    "verify",
    "GET /api/token",
    "GET /api/user",
    "Verifier.verify",
]
"""What was asked for. A deactivation forces the user out in the same transaction; the last four
are a token shown to ``sessions.verify``, ``token_required``, ``login_required``, and to a service
without the database."""

Outcome = Literal["done", "refused", "nothing to do", "not done", "uncertain"]
"""How it ended: done (a token shown: accepted); refused with a code; a session to end that had
ended; the answer that nothing was done, or that nothing can be said just now; a commit that may or
may not have happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call, as its caller saw it."""

    kind: Kind
    process: int
    begin_ns: int
    end_ns: int
    outcome: Outcome
    code: str | None = None
    """The error's code."""
    user: str | None = None
    session_id: str | None = None
    jti: str | None = None
    """The token that was shown."""
    new_jti: str | None = None
    """The token that was handed out."""
    stamp: int | None = None
    """The new token's stamp, or the invalidation timestamp that was set, in microseconds."""


def monotonic_ns() -> int:
    """Return the time that operations are recorded with; freezegun leaves it alone."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Recorder:
    """Writes one process's operations as they end; what was written survives the process."""

    def __init__(self, directory: Path, process: int) -> None:
        self._file = (directory / f"history-{process}.jsonl").open("a", buffering=1)

    def write(self, operation: Operation) -> None:
        """Append one operation."""
        self._file.write(json.dumps(asdict(operation)) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(directory: Path) -> Iterator[Operation]:
    """Yield every process's operations, file by file."""
    for path in sorted(directory.glob("history-*.jsonl")):
        with path.open() as lines:
            for line in lines:
                yield Operation(**json.loads(line))
