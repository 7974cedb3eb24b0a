"""What was revoked, in memory: the denylist of services that have no database to ask."""

from __future__ import annotations

from typing import Final

from ..changes import Change
from ..clock import SECOND_US, now_us

_Renewals = tuple[tuple[int, int], ...]

_LONG_OVER_US: Final = 600 * SECOND_US
"""After which the end of a renewed token counts as past on any machine, whatever its clock."""


class Revocations:
    """Knows what changes have ended.

    To take a change again, or in another order, comes to the same.
    """

    def __init__(self) -> None:
        self._everyone_us = 0
        self._users: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._renewals: dict[str, _Renewals] = {}
        """Of a session, stamps and ends by the stamp: a token ends by the first after its own."""

    @property
    def size(self) -> int:
        """How many users, sessions and renewed sessions are known of."""
        return len(self._users) + len(self._ended) + len(self._renewals)

    def take(self, change: Change) -> None:
        """Let *change* end what it ends."""
        if change.kind == "everyone":
            self._everyone_us = max(self._everyone_us, change.cut_us)
        elif change.kind == "user":
            user = str(change.user_id)
            self._users[user] = max(self._users.get(user, 0), change.cut_us)
        elif change.kind == "session":
            self._ended[str(change.session_id)] = change.cut_us
        else:
            self._renew(str(change.session_id), change.cut_us, change.until_us or 0)

    def _renew(self, session_id: str, stamp: int, until_us: int) -> None:
        entries = {*self._renewals.get(session_id, ()), (stamp, until_us)}
        long_over_us = now_us() - _LONG_OVER_US
        over = max((stamp for stamp, until in entries if until <= long_over_us), default=0)
        kept = sorted(entry for entry in entries if entry[0] > over)
        self._renewals[session_id] = (*([(over, 0)] if over else []), *kept)

    def ends(self, user_id: str, session_id: str, issued_us: int, now_us: int) -> str | None:
        """Say whether a token is to be refused, and by whom it was ended.

        :param issued_us: Its stamp.
        :param now_us: This machine's time in microseconds.
        :returns: ``None`` if it stands, ``"forced"`` after a force logout, else ``"ended"``.
        """
        cut_us = max(self._users.get(user_id, 0), self._everyone_us)
        ended_us = self._ended.get(session_id)
        if issued_us <= cut_us:
            return "forced" if ended_us is None or ended_us > cut_us else "ended"
        if ended_us is not None:
            return "ended"
        for stamp, until_us in self._renewals.get(session_id, ()):
            if issued_us < stamp:
                return "ended" if until_us <= now_us else None
        return None
