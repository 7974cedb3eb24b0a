"""``doctor`` examines the feed in Redis; tests/feed/test_two_deployments.py has another's feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.databases import REDIS, MakeHost
from tests.support.hosts import SECRET, Host
from tests.support.patience import until
from tests.support.relaying import Deployment, deployed
from xgen_flask_sessions.cli.doctor.feed import examine_feed
from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.tokens.keys import load_key


def find(host: Host) -> list[Finding]:
    with host.app.app_context():
        return list(examine_feed(host.app.extensions["xgen_sessions"].relay))


def make(make_host: MakeHost, url: str, issuer: str, redis_url: str = REDIS) -> Host:
    settings: dict[str, Any] = {
        "XGEN_SESSIONS_REDIS_URL": redis_url,
        "XGEN_SESSIONS_ISSUER": issuer,
    }
    return make_host(url, **settings)


def test_without_redis_there_is_no_finding(sqlite_host: Host) -> None:
    assert find(sqlite_host) == []


def test_a_feed_is_this_deployments(
    make_host: MakeHost, sqlite_url: str, redis_issuer: str
) -> None:
    host = make(make_host, sqlite_url, redis_issuer)
    (before,) = find(host)
    with host.app.app_context():
        host.sessions.start_relay()

    until(lambda: "is that of this deployment" in find(host)[0].meaning)
    assert before.code == "feed"
    assert "no feed yet" in before.meaning


@pytest.mark.parametrize(
    ("change", "level", "code"),
    [
        (lambda deployment: deployment.age_state(20), "warning", "feed-stalled"),
        (lambda deployment: deployment.change_state(heartbeat_us=0), "problem", "feed-disputed"),
        (lambda deployment: deployment.redis.set(deployment.keys.meta, "x"),
         "warning", "feed-unusable"),
    ],
)  # fmt: skip
def test_a_feed_that_services_cannot_use_is_reported(
    make_host: MakeHost,
    sqlite_url: str,
    redis_issuer: str,
    change: Callable[[Deployment], object],
    level: str,
    code: str,
) -> None:
    with deployed(sqlite_url, redis_issuer, [load_key(SECRET.encode())]) as deployment:
        deployment.relayer().beat()
        change(deployment)

        (finding,) = find(make(make_host, sqlite_url, redis_issuer))

    assert (finding.level, finding.code) == (level, code)


@pytest.mark.parametrize(
    ("url", "redis_url", "code"),
    [
        ("sqlite://", REDIS, "feed-unpublished"),
        ("", "redis://127.0.0.1:1/0", "feed-unknown"),
    ],
)
def test_a_feed_that_cannot_be_examined_is_a_warning(
    make_host: MakeHost, sqlite_url: str, redis_issuer: str, url: str, redis_url: str, code: str
) -> None:
    (finding,) = find(make(make_host, url or sqlite_url, redis_issuer, redis_url))

    assert (finding.level, finding.code) == ("warning", code)
