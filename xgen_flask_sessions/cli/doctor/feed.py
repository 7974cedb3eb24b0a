"""The feed in Redis: whether it is this deployment's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.errors import ConfigurationError
from xgen_flask_sessions.feed.publisher import DISPUTED, DISPUTED_MEND
from xgen_flask_sessions.feed.redis_stream import RedisUnavailable
from xgen_flask_sessions.feed.relay import FeedStatus, FeedTaken, Relay
from xgen_flask_sessions.feed.signed_state import ABSENT

_STALLED_S: Final = 10.0
"""Age of the last heartbeat, in seconds, at which no process is taken to publish."""


def examine_feed(relay: Relay | None) -> Iterator[Finding]:
    """Examine the feed for services without the database.

    :param relay: Publishes it; ``None`` without ``XGEN_SESSIONS_REDIS_URL``.
    """
    if relay is None:
        return
    try:
        status = relay.inspect()
    except FeedTaken as taken:
        yield Finding(
            level="problem", code="feed-of-another", meaning=taken.meaning, mend=taken.mend
        )
    except ConfigurationError as error:
        yield Finding(
            level="warning",
            code="feed-unpublished",
            meaning=str(error),
            mend="Leave XGEN_SESSIONS_REDIS_URL out, or use another database.",
        )
    except RedisUnavailable as error:
        yield Finding(
            level="warning",
            code="feed-unknown",
            meaning=f"The feed was not examined. {error}",
            mend="Start Redis, and check XGEN_SESSIONS_REDIS_URL; services let no token pass.",
        )
    else:
        yield _finding(status)


def _finding(status: FeedStatus) -> Finding:
    if status.fault == ABSENT:
        meaning = "Redis has no feed yet: a process publishes it from its first request on."
        return Finding(level="ok", code="feed", meaning=meaning)
    if status.fault is not None:
        return Finding(
            level="warning",
            code="feed-unusable",
            meaning=f"The feed in Redis {status.fault}. Services accept no token from it.",
            mend="A running application replaces it. If it comes back, a process with other keys, "
            "or a copy of the database, publishes to this Redis, too: give that one another "
            "XGEN_SESSIONS_ISSUER or another XGEN_SESSIONS_REDIS_URL.",
        )
    if status.is_disputed:
        return Finding(level="problem", code="feed-disputed", meaning=DISPUTED, mend=DISPUTED_MEND)
    if status.age_s >= _STALLED_S:
        return Finding(
            level="warning",
            code="feed-stalled",
            meaning="No process publishes the feed: its last heartbeat is "
            f"{status.age_s:.0f} seconds old. Services accept no token.",
            mend="Start the application and send it a request, or run: flask xgen-sessions relay",
        )
    meaning = f"The feed in Redis is that of this deployment, {status.deployment}."
    return Finding(level="ok", code="feed", meaning=meaning)
