"""An attacker who can write to Redis: no revoked token passes, and the application repairs it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from tests.support.databases import REDIS, lay_out
from tests.support.hosts import SECRET, Host, User, make_app
from tests.support.patience import until
from tests.support.redis_place import redis_place
from xgen_flask_sessions import DenylistUnavailable, SessionRevoked
from xgen_flask_sessions.feed.redis_stream import Keys
from xgen_flask_sessions.feed.signed_state import StateSigner
from xgen_flask_sessions.tokens.keys import load_key
from xgen_flask_sessions.verifier import Verifier

pytestmark = pytest.mark.slow

BOUND_S = 1.0
REPAIR_S = 60.0
"""Seconds for a repair, which takes less than one; a busy machine may take longer."""

SETTLED_S = 0.2
"""Seconds after which a running service has noticed an attack."""

FEED = ("meta", "stream", "snapshot")

Attack = Callable[["Attacker"], object]


class Attacker:
    """A client of Redis that can write, and knows the keys and the format."""

    def __init__(self, issuer: str) -> None:
        self.redis: Any = redis.Redis.from_url(REDIS)
        self.issuer = issuer
        self.keys = Keys.of(issuer)
        self.dumps: dict[str, bytes] = {}

    def dump(self) -> dict[str, bytes]:
        """Return copies of all keys of the feed."""
        found = {key: self.redis.dump(key) for key in self.keys}
        return {key: dump for key, dump in found.items() if dump}

    def restore(self, *names: str) -> None:
        """Put back the copies from before the revocation."""
        for name in names:
            key = getattr(self.keys, name)
            self.redis.restore(key, 0, self.dumps[key], replace=True)

    def rebuild(self, change: Callable[[list[Any]], Sequence[Any]]) -> None:
        """Make the stream anew, with other entries."""
        entries = change(self.redis.xrange(self.keys.stream))
        self.redis.delete(self.keys.stream)
        for entry_id, fields in entries:
            self.redis.xadd(self.keys.stream, fields, id=entry_id)

    def append(self, **fields: Any) -> Any:
        """Add a forged entry after the last one, and return its id."""
        ((last, found),) = self.redis.xrevrange(self.keys.stream, count=1)
        position = int(last.partition(b"-")[0]) + 1
        return self.redis.xadd(self.keys.stream, {**found, **fields}, id=f"{position}-1")

    def forge(self, **changes: Any) -> None:
        """Sign the state with a key of the attacker's."""
        text = self.redis.get(self.keys.meta)
        state = StateSigner([load_key(SECRET.encode())], self.issuer).open(text)
        forger = StateSigner([load_key(b"a secret of the attacker, long enough")], self.issuer)
        self.redis.set(self.keys.meta, forger.sign(state._replace(**changes)))

    def rewrite(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Replace the value of a string."""
        key = getattr(self.keys, name)
        self.redis.set(key, change(self.redis.get(key)))

    def retype(self, name: str, kind: str) -> Any:
        """Replace a key by one of another type."""
        key = getattr(self.keys, name)
        self.redis.delete(key)
        if kind == "string":
            return self.redis.set(key, "5")
        if kind == "hash":  # as release 0.3 wrote it
            fields = {"history": "x", "position": "9", "heartbeat": "x", "epoch": "x"}
            return self.redis.hset(key, mapping=fields)
        if kind == "list":
            return self.redis.rpush(key, "[]", "no json")
        if kind == "stream":
            return self.redis.xadd(key, {"a": "b"})
        return self.redis.zadd(key, {"a": 1})


def _without_events(entries: list[Any]) -> list[Any]:
    """Drop the revocations, and close the gap."""
    return entries[:1]


def _of_another_user(entries: list[Any]) -> list[Any]:
    return [(entry, {**fields, b"user": b"nobody"}) for entry, fields in entries]


def _swapped(entries: list[Any]) -> list[Any]:
    ids = [entry for entry, _ in entries]
    return list(zip(ids, [fields for _, fields in reversed(entries)], strict=True))


def _edited(field: str, value: bytes) -> Callable[[list[Any]], list[Any]]:
    def edit(entries: list[Any]) -> list[Any]:
        return [*entries[:-1], (entries[-1][0], {**entries[-1][1], field.encode(): value})]

    return edit


def _state(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Edit the claims of a signed state and keep its signature."""

    def edit(text: bytes) -> bytes:
        header, payload, signature = text.split(b".")
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        change(claims)
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
        return b".".join((header, payload, signature))

    return edit


def _last_entry(attacker: Attacker) -> bytes:
    ((last, _),) = attacker.redis.xrevrange(attacker.keys.stream, count=1)
    return bytes(last)


def _deleted(name: str) -> Attack:
    return lambda at: at.redis.delete(getattr(at.keys, name))


def _renamed(name: str) -> Attack:
    return lambda at: at.redis.rename(getattr(at.keys, name), f"{at.keys.meta}:elsewhere")


def _retyped(name: str, kind: str) -> Attack:
    return lambda at: at.retype(name, kind)


def _locked(kind: str) -> Attack:
    """Keep every process from repairing, for good."""
    return lambda at: (at.retype("lock", kind), at.redis.delete(*at.keys[:3]))


def _expiring(name: str) -> Attack:
    return lambda at: at.redis.pexpire(getattr(at.keys, name), 1)


def _replayed(name: str) -> Attack:
    return lambda at: at.restore(name)


ATTACKS: dict[str, Attack] = {
    **{f"{name} deleted": _deleted(name) for name in FEED},
    "all deleted": lambda at: at.redis.delete(*at.keys),
    **{f"{name} renamed": _renamed(name) for name in FEED},
    "meta and snapshot swapped": lambda at: (
        at.redis.rename(at.keys.meta, at.keys.meta + ":t"),
        at.redis.rename(at.keys.snapshot, at.keys.meta),
        at.redis.rename(at.keys.meta + ":t", at.keys.snapshot),
    ),
    **{f"{name} as a {kind}": _retyped(name, kind)
       for name in FEED for kind in ("string", "hash", "list", "stream", "zset")},
    **{f"all deleted, and the lock a {kind}": _locked(kind) for kind in ("string", "hash")},
    **{f"{name} expires": _expiring(name) for name in FEED},
    **{f"{name} of before the revocation": _replayed(name) for name in FEED},
    "meta and stream of before the revocation": lambda at: at.restore("meta", "stream"),
    "all of before the revocation": lambda at: at.restore("meta", "stream", "snapshot"),
    "snapshot emptied": lambda at: at.rewrite("snapshot", lambda _: b""),
    "snapshot truncated": lambda at: at.rewrite("snapshot", lambda old: old[:-5]),
    "snapshot of another user": lambda at: at.rewrite(
        "snapshot", lambda old: old.replace(b'"user"', b'"resu"')),
    "snapshot without text": lambda at: at.rewrite("snapshot", lambda old: b"\xff" * len(old)),
    "snapshot of deep nesting": lambda at: at.rewrite("snapshot", lambda old: b"[" * len(old)),
    "snapshot oversized": lambda at: at.rewrite("snapshot", lambda old: old + b"x" * 5_000_000),
    "meta emptied": lambda at: at.rewrite("meta", lambda _: b""),
    "meta truncated": lambda at: at.rewrite("meta", lambda old: old[:-3]),
    "meta oversized": lambda at: at.rewrite("meta", lambda old: old + b"x" * 5_000_000),
    "meta without text": lambda at: at.rewrite("meta", lambda _: b"\xff\x00"),
    "meta without signature": lambda at: at.rewrite(
        "meta", lambda old: old.rpartition(b".")[0] + b"."),
    "meta with another heartbeat": lambda at: at.rewrite(
        "meta", _state(lambda claims: claims.update(heartbeat_us=claims["heartbeat_us"] + 10**9))),
    "meta with text for a number": lambda at: at.rewrite(
        "meta", _state(lambda claims: claims.update(position="x", heartbeat_us="9" * 5000))),
    "meta of another deployment": lambda at: at.rewrite(
        "meta", _state(lambda claims: claims.update(deployment="x" * 32))),
    "meta signed by another key": lambda at: at.forge(),
    "meta of another deployment, signed by another key": lambda at: at.forge(deployment="x" * 32),
    "stream trimmed": lambda at: at.redis.xtrim(at.keys.stream, maxlen=1, approximate=False),
    "stream emptied": lambda at: at.redis.xtrim(at.keys.stream, maxlen=0, approximate=False),
    "first entry deleted": lambda at: at.redis.xdel(
        at.keys.stream, at.redis.xrange(at.keys.stream, count=1)[0][0]),
    "last entry deleted": lambda at: at.redis.xdel(at.keys.stream, _last_entry(at)),
    "forged entry": lambda at: at.append(user="nobody"),
    "forged entry far ahead": lambda at: at.redis.xadd(
        at.keys.stream, {"a": "b"}, id="9" * 18 + "-1"),
    "forged entry, deleted again": lambda at: at.redis.xdel(at.keys.stream, at.append(user="x")),
    "forged entry by the clock": lambda at: at.redis.xadd(at.keys.stream, {"a": "b"}),
    "stream without the revocation": lambda at: at.rebuild(_without_events),
    "stream of another user": lambda at: at.rebuild(_of_another_user),
    "stream in another order": lambda at: at.rebuild(_swapped),
    "entry with text for a number": lambda at: at.rebuild(_edited("cut", b"x")),
    "entry with a huge number": lambda at: at.rebuild(_edited("cut", b"9" * 6000)),
    "entry of another kind": lambda at: at.rebuild(_edited("kind", b"begin")),
    "entry with another cut": lambda at: at.rebuild(_edited("cut", b"1")),
    "entry without text": lambda at: at.rebuild(_edited("user", b"\xff\xfe")),
    "entry with one more field": lambda at: at.rebuild(_edited("more", b"x")),
    "entry oversized": lambda at: at.rebuild(_edited("user", b"x" * 5_000_000)),
}  # fmt: skip


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Host, Attacker, Verifier]]:
    """Yield an application that relays, an attacker, and a service."""
    url = f"sqlite:///{tmp_path_factory.mktemp('attacked')}/test.db"
    lay_out(url, User)
    with redis_place(REDIS) as place:
        host = make_app(url, **place.settings())
        attacker = Attacker(place.issuer)
        with Verifier(
            redis_url=REDIS, secret_key=SECRET, issuer=place.issuer, max_staleness=BOUND_S
        ) as service:
            yield host, attacker, service
        attacker.redis.close()
        host.dispose()


def answer(verifier: Verifier, token: str) -> str:
    try:
        verifier.verify(token)
    except SessionRevoked:
        return "revoked"
    except DenylistUnavailable:
        return "unavailable"
    return "good"


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_revives_a_revoked_token_and_each_is_repaired(
    attacked: tuple[Host, Attacker, Verifier], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, attacker, service = attacked
    user, other = host.add_user(name), host.add_user(f"other {name}")
    revoked, good = host.issue(user).token, host.issue(other)
    with host.app.app_context():
        host.sessions.start_relay()
    until(lambda: answer(service, revoked) == "good")
    attacker.dumps = attacker.dump()
    host.force_logout(user)
    until(lambda: answer(service, revoked) == "revoked")

    ATTACKS[name](attacker)

    fresh = Verifier(
        redis_url=REDIS, secret_key=SECRET, issuer=service._issuer, max_staleness=BOUND_S
    )
    with fresh:
        attacked_s = time.monotonic()
        repaired = False
        while not repaired:
            began_s = time.monotonic() - attacked_s
            found = [answer(each, revoked) for each in (service, fresh)]
            # The bound holds for a state from before the revocation, too.
            assert began_s < BOUND_S or "good" not in found
            assert began_s < REPAIR_S, (found, answer(fresh, good.token))
            whole = found == ["revoked"] * 2 and answer(fresh, good.token) == "good"
            repaired = whole and answer(service, good.token) == "good" and began_s > SETTLED_S
            time.sleep(0.005)  # real time: other threads are at work
    assert "Traceback" not in caplog.text
