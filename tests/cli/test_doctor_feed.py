"""``doctor`` examines the feed in Redis; tests/feed/test_two_deployments.py has another's feed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.databases import REDIS, MakeHost
from tests.support.hosts import Host
from tests.support.patience import until
from xgen_flask_sessions.cli.doctor.feed import examine_feed
from xgen_flask_sessions.cli.doctor.findings import Finding


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
