"""The denylist of services without a database, in memory."""

from __future__ import annotations

from typing import Literal

from ..changes import Change
from ..clock import MAX_RELEVANCE_US, now_us

_Renewals = tuple[tuple[int, int], ...]


class RevokedTokens:
    """The tokens that changes have ended. Changes can be applied in any order, and repeatedly."""

    def __init__(self) -> None:
        self._everyone_us = 0
        self._users: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._renewals: dict[str, _Renewals] = {}
        """Stamps and ends of a session's renewals; the first stamp above a token's ends it."""

    @property
    def size(self) -> int:
        """The number of users, sessions and renewed sessions in memory."""
        return len(self._users) + len(self._ended) + len(self._renewals)

    def apply(self, change: Change) -> None:
        """Apply a change."""
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
        # Past on every machine, whatever its clock: the last such end implies all before it.
        past_us = now_us() - MAX_RELEVANCE_US
        over = max((stamp for stamp, until in entries if until <= past_us), default=0)
        kept = sorted(entry for entry in entries if entry[0] > over)
        self._renewals[session_id] = (*([(over, 0)] if over else []), *kept)

    def revoked_by(
        self, user_id: str, session_id: str, issued_us: int, now_us: int
    ) -> Literal["forced", "ended"] | None:
        """Return the kind of revocation for which a token is refused.

        :param issued_us: The token's stamp.
        :param now_us: This machine's time in microseconds.
        :returns: ``None`` if it is valid, ``"forced"`` after a force logout, otherwise ``"ended"``.
        """
        cut_us = max(self._users.get(user_id, 0), self._everyone_us)
        ended_us = self._ended.get(session_id)
        if issued_us <= cut_us:
            return "forced" if ended_us is None or ended_us > cut_us else "ended"
        if ended_us is not None:
            return "ended"
        for stamp, until_us in self._renewals.get(session_id, ()):
            if issued_us < stamp:
                # An end far ahead is that of a machine whose clock was.
                return None if 0 < until_us - now_us <= MAX_RELEVANCE_US else "ended"
        return None
