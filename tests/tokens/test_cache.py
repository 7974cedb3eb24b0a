"""The cache of decoded tokens: as strict as without it."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from xgen_flask_sessions import SessionRevoked, TokenExpired, TokenInvalid
from xgen_flask_sessions.tokens.cache import TokenCache
from xgen_flask_sessions.tokens.codec import TokenCodec
from xgen_flask_sessions.tokens.keys import load_key

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)


def test_expiry_is_checked_at_every_call(host: Host) -> None:
    with freeze_time(NOON) as clock:
        token = host.issue(host.add_user(), lifetime=60)
        host.verify(token)
        host.verify(token)
        clock.tick(timedelta(seconds=60))
        with pytest.raises(TokenExpired):
            host.verify(token)


def test_the_denylist_is_asked_at_every_call(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)
    host.verify(token)
    host.verify(token)

    host.force_logout(user)

    with pytest.raises(SessionRevoked):
        host.verify(token)


def test_a_token_that_differs_by_one_character_is_refused(host: Host) -> None:
    token = host.issue(host.add_user()).token
    host.verify(token)

    for position in (5, len(token) // 2, -2):
        other = "A" if token[position] != "A" else "B"
        bent = f"{token[:position]}{other}{token[position:][1:]}"
        with pytest.raises(TokenInvalid):
            host.verify(bent)


def test_changed_claims_do_not_affect_later_calls(host: Host) -> None:
    token = host.issue(host.add_user(), claims={"scopes": ["read"]})
    first: Any = host.verify(token).claims

    first["scopes"].append("write")
    first["more"] = True

    assert host.verify(token).claims == {"scopes": ["read"]}
    plain = host.issue(host.add_user("bob"))
    host.verify(plain).claims["admin"] = True  # type: ignore[index]
    assert host.verify(plain).claims == {}


def test_a_token_in_the_cache_is_refused_with_another_key(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url)
    token = host.issue(host.add_user())
    host.verify(token)
    key = "another key that is long enough, really"
    other = make_host(sqlite_url, XGEN_SESSIONS_SECRET_KEY=key)

    with pytest.raises(TokenInvalid):
        other.verify(token)


def test_forged_tokens_are_not_cached() -> None:
    codec = TokenCodec([load_key(b"a key of thirty-two bytes, or so")], issuer="xgen")

    for number in range(10):
        with pytest.raises(TokenInvalid):
            codec.decode(f"a.{number}.c", now_us=0)

    assert codec.cache.size == 0


def test_memory_is_bounded() -> None:
    kept: TokenCache[int] = TokenCache()
    for number in range(10_000):
        kept.put(f"token {number}", number)
    kept.put("x" * 5000, 1)

    assert kept.size == 4096
    assert kept.get("token 9999") == 9999
    assert kept.get("token 0") is None
    assert kept.get("x" * 5000) is None


def test_a_lock_held_at_a_fork_does_not_block_the_child() -> None:
    kept: TokenCache[int] = TokenCache()
    with kept._lock:  # as another thread may hold it at the time of the fork
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a deadlock would last for ever
            kept.put("token", 1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_the_reset_after_a_fork_replaces_the_lock() -> None:
    """Reset without a fork, so that coverage sees it."""
    kept: TokenCache[int] = TokenCache()
    with kept._lock:
        kept._reset_after_fork()
        kept.put("token", 1)

    assert kept.get("token") == 1
