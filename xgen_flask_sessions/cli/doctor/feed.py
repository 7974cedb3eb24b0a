"""The feed in Redis: whether it is this deployment's."""

from __future__ import annotations

from collections.abc import Iterator

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.errors import ConfigurationError
from xgen_flask_sessions.feed.redis_stream import RedisUnavailable
from xgen_flask_sessions.feed.relay import FeedTaken, Relay


def examine_feed(relay: Relay | None) -> Iterator[Finding]:
    """Examine the feed for services without the database.

    :param relay: Publishes it; ``None`` without ``XGEN_SESSIONS_REDIS_URL``.
    """
    if relay is None:
        return
    try:
        state = relay.inspect()
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
        meaning = "Redis has no feed yet: a process publishes it from its first request on."
        if state is not None:
            meaning = f"The feed in Redis is that of this deployment, {state.deployment}."
        yield Finding(level="ok", code="feed", meaning=meaning)
