"""Tokens that the processes share through one append-only file.

A token is added after the call that issued it has completed, so no other call uses it earlier.
"""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = 30
"""Number of each user's newest tokens that a process keeps in memory."""

_NAME = "tokens.jsonl"


@dataclass(frozen=True, slots=True)
class Shared:
    """A token with its user and session."""

    user: str
    session_id: str
    jti: str
    token: str


class Exchange:
    """One process's access to the shared file."""

    def __init__(self, directory: Path) -> None:
        path = directory / _NAME
        self._out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._in = path.open("rb")
        self._rest = b""
        self._tokens: dict[str, deque[Shared]] = defaultdict(lambda: deque(maxlen=KEPT))

    def put(self, shared: Shared) -> None:
        """Share a token with every process, including this one."""
        line = json.dumps([shared.user, shared.session_id, shared.jti, shared.token]) + "\n"
        os.write(self._out, line.encode())  # one write: lines of two processes never mix

    def read_new(self) -> None:
        """Read the tokens that were added since the last call."""
        *lines, self._rest = (self._rest + self._in.read()).split(b"\n")
        for line in lines:
            shared = Shared(*json.loads(line))
            self._tokens[shared.user].append(shared)

    def newest(self, user: str, count: int) -> list[Shared]:
        """Return up to *count* of a user's tokens, the newest first."""
        return list(self._tokens[user])[: -count - 1 : -1]

    def pick(self, user: str, chance: random.Random) -> Shared | None:
        """Return a random token of a user, or ``None``. Newer tokens are more likely."""
        kept = self._tokens[user]
        if not kept:
            return None
        return kept[-1 - min(int(chance.expovariate(1 / 5)), len(kept) - 1)]

    def close(self) -> None:
        """Close the file."""
        os.close(self._out)
        self._in.close()


def read_tokens(directory: Path) -> Iterator[Shared]:
    """Yield every shared token, the oldest first."""
    with (directory / _NAME).open() as lines:
        for line in lines:
            yield Shared(*json.loads(line))
