"""Common faulty implementations of revocation, each of which the checker must detect.

Each replaces parts of the package inside the worker processes.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from sqlalchemy.orm import Session

from xgen_flask_sessions import SessionRevoked, clock
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.denylist import strict
from xgen_flask_sessions.denylist.strict import StrictDenylist, TokenStatus
from xgen_flask_sessions.denylist.watch import Watch
from xgen_flask_sessions.feed.follower import Batch, FeedReader
from xgen_flask_sessions.feed.redis_denylist import Reading, RedisDenylist, View
from xgen_flask_sessions.feed.redis_stream import Read
from xgen_flask_sessions.state import get_state
from xgen_flask_sessions.store import sign_ins, stamps
from xgen_flask_sessions.store.dialects import Dialect
from xgen_flask_sessions.store.dialects.sqlite import SQLite
from xgen_flask_sessions.store.sign_ins import Issue
from xgen_flask_sessions.store.tables import FORCE_LOGOUT, RENEWED, SessionRecord


def _ended_by_row(status: TokenStatus, now_us: int) -> bool:
    """Return whether the session was ended, apart from force logouts.

    For those, the invalidation timestamp alone counts.
    """
    if status.ended_us is None or status.end_reason == FORCE_LOGOUT:
        return False
    return status.end_reason != RENEWED or status.ended_us <= now_us


def _revoked_by_whole_seconds(status: TokenStatus, now_us: int) -> bool:
    if status.issued_us // SECOND_US < status.invalid_before_us // SECOND_US:
        return True
    return _ended_by_row(status, now_us)


def _revoked_by_microseconds(status: TokenStatus, now_us: int) -> bool:
    return status.issued_us <= status.invalid_before_us or _ended_by_row(status, now_us)


def _newest_value(dialect: Dialect, *values: Any) -> Any:
    """Return this node's time, and ignore the row's value."""
    return values[-1]


def _check_then_renew(
    session: Session, jti: str, *, lifetime_us: int, identify: Callable[[str], object]
) -> Issue:
    """Renew as the package does, but check the denylist only before the locks are held."""
    status = get_state().denylist.status(jti)
    if status is None or status.is_revoked(clock.now_us()):
        raise SessionRevoked
    everyone_us = stamps.lock_everyone(session)
    identify(status.user_id)
    now = clock.now_us()
    expires_us = (now + lifetime_us) // SECOND_US * SECOND_US
    stamp, *_ = stamps.next_stamp(
        session, status.user_id, now, everyone_us=everyone_us, expires_us=expires_us
    )
    row: dict[str, Any] = {
        "user_id": status.user_id,
        "jti": uuid.uuid4().hex,
        "session_id": status.session_id,
        "issued_us": stamp,
        "expires_us": expires_us,
    }
    issued = Issue(**row, made_us=now)
    session.execute(sa.insert(SessionRecord).values(**row, signed_in_us=stamp))
    session.execute(
        sa.update(SessionRecord)
        .where(
            SessionRecord.session_id == issued.session_id,
            SessionRecord.jti != issued.jti,
            SessionRecord.ended_us.is_(None),
        )
        .values(ended_us=now + sign_ins.RENEWAL_GRACE_US, end_reason=RENEWED)
    )
    return issued


def _poll_without_bound(self: Watch, reader: FeedReader) -> None:
    """Keep the memory valid forever once the feed was read."""
    self._take(reader.read())
    self._fresh_until_s = math.inf


def _take_every_second(self: Watch, batch: Batch) -> None:
    """Lose every second event."""
    _take(self, Batch(batch.resync, [each for each in batch.events if each.position % 2]))


def _keep_as_of_now(self: Watch, jti: str, kept: Any) -> None:
    """Store an answer with the current generation, instead of the generation of its query."""
    _keep(self, jti, kept._replace(generation=self._generation))


def _show_without_bound(self: RedisDenylist, reading: Reading, asked_s: float, read: Read) -> None:
    """Keep the view valid forever once the feed was read."""
    self.view = View(reading.revoked, math.inf, read.state.deployment)


def _answer_slowly(self: StrictDenylist, jti: str) -> TokenStatus | None:
    """Return the database's answer after a delay."""
    status = _status(self, jti)
    time.sleep(_SLOW_S)
    return status


_take, _keep, _status = Watch._take, Watch._keep, StrictDenylist.status
_SLOW_S = 0.04
_SLOWLY = (StrictDenylist, "status", _answer_slowly)

_PATCHES: Mapping[str, tuple[tuple[object, str, object], ...]] = {
    "right": (),
    "whole-second": ((strict.TokenStatus, "is_revoked", _revoked_by_whole_seconds),),
    "node-clock": (
        (Dialect, "_greatest", _newest_value),
        (SQLite, "_greatest", _newest_value),
        (strict.TokenStatus, "is_revoked", _revoked_by_microseconds),
    ),
    "check-then-renew": ((sign_ins, "renew", _check_then_renew),),
    "slow": (_SLOWLY,),
    "watch-without-bound": ((Watch, "_poll", _poll_without_bound),),
    "watch-with-losses": ((Watch, "_take", _take_every_second),),
    "service-without-bound": (
        (RedisDenylist, "_show", _show_without_bound),
        (RedisDenylist, "_lose", lambda _: None),
    ),
    "watch-keeping-late": (_SLOWLY, (Watch, "_keep", _keep_as_of_now)),
}

SYSTEMS = tuple(_PATCHES)
"""The systems: ``right`` is the package unchanged, and ``slow`` is the package on a database that
answers slowly."""

WRONG_WATCHES = tuple(name for name in SYSTEMS if name.startswith("watch-"))
"""The systems with a faulty watch."""

WRONG_SERVICES = tuple(name for name in SYSTEMS if name.startswith("service-"))
"""The systems with a fault in a service, which has Redis instead of the database."""

WRONG_SYSTEMS = tuple(
    name for name in SYSTEMS if name not in ("right", "slow", *WRONG_WATCHES, *WRONG_SERVICES)
)


@contextmanager
def applied(system: str) -> Iterator[None]:
    """Apply one of :data:`SYSTEMS` in this process."""
    with ExitStack() as stack:
        for target, name, wrong in _PATCHES[system]:
            stack.enter_context(patch.object(target, name, wrong))
        yield
