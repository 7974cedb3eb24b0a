"""A deployment's database and its feed in Redis, driven step by step, without Flask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tests.support.databases import REDIS
from xgen_flask_sessions import clock
from xgen_flask_sessions.changes import Event
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.denylist.checker import TokenChecker
from xgen_flask_sessions.denylist.strict import StrictDenylist
from xgen_flask_sessions.errors import (
    DenylistUnavailable,
    SessionRevoked,
    TokenExpired,
    TokenInvalid,
)
from xgen_flask_sessions.feed.publisher import Publisher
from xgen_flask_sessions.feed.redis_stream import Keys
from xgen_flask_sessions.feed.redis_writer import Look
from xgen_flask_sessions.feed.signed_state import FeedState, StateSigner
from xgen_flask_sessions.feed.snapshot import Snapshot, read_snapshot
from xgen_flask_sessions.store import feed_table, revocations, sign_ins
from xgen_flask_sessions.store.deployments import make_deployment
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.store.sign_ins import Issue
from xgen_flask_sessions.store.tables import Base
from xgen_flask_sessions.tokens.claims import Claims
from xgen_flask_sessions.tokens.codec import TokenCodec
from xgen_flask_sessions.tokens.keys import Key, load_key
from xgen_flask_sessions.verifier import Verifier

SECRET = b"a secret of the deployment, of enough bytes"
NOBODY = Cause()
DAY_US = 86_400 * SECOND_US
LONG_S = 60
"""A staleness bound, in seconds, that no test reaches by accident: even on a busy machine, less
time passes between a relayer's heartbeat and the check of a token."""


class Deployment:
    """A database, the signing key of its tokens, and its feed in Redis.

    :param url: An empty database.
    :param issuer: The issuer in the tokens and in the names of the Redis keys.
    :param keys: The keys of its tokens and its feed: the current one, and previous ones.
    """

    def __init__(self, url: str, issuer: str, keys: Sequence[Key] = ()) -> None:
        self.issuer = issuer
        self.signing_keys = keys or [load_key(SECRET, "HS256")]
        self.signer = StateSigner(self.signing_keys, issuer)
        self.keys = Keys.of(issuer)
        self.engine = sa.create_engine(url, isolation_level="READ COMMITTED") if (
            not url.startswith("sqlite")
        ) else sa.create_engine(url)  # fmt: skip
        Base.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            self.id = make_deployment(connection)
        self.codec = TokenCodec(self.signing_keys, issuer=issuer)
        denylist = StrictDenylist(lambda: self.engine, self.engine.connect, 10)
        self.strict = TokenChecker(self.codec, denylist)
        self.redis: Any = redis.Redis.from_url(REDIS, decode_responses=True)
        self._open: list[Any] = [self.redis]

    def close(self) -> None:
        for each in self._open:
            each.close()
        self.engine.dispose()

    def change(self, write: Callable[[Session], Any]) -> Any:
        """Call *write* in a transaction, commit it, and return the result."""
        with Session(self.engine) as session, session.begin():
            return write(session)

    def sign(self, issue: Issue) -> str:
        return self.codec.encode(
            Claims(
                issue.user_id,
                issue.jti,
                issue.session_id,
                issue.issued_us,
                issue.expires_us,
                {},
                deployment=self.id,
            )
        )

    def sign_in(self, user_id: str, lifetime_s: int = 86_400) -> str:
        us = lifetime_s * SECOND_US
        return self.sign(self.change(lambda s: sign_ins.issue(s, user_id, lifetime_us=us)))

    def renew(self, token: str) -> str:
        jti = self.claims(token).jti
        return self.sign(self.change(lambda s: sign_ins.renew(s, jti, lifetime_us=DAY_US)))

    def end(self, token: str) -> None:
        session_id = self.claims(token).session_id
        self.change(lambda s: revocations.end_session(s, session_id, NOBODY))

    def force_out(self, user_id: str) -> None:
        self.change(lambda s: revocations.force_logout(s, user_id, NOBODY))

    def force_out_everyone(self) -> None:
        self.change(lambda s: revocations.force_logout_everyone(s, NOBODY))

    def claims(self, token: str) -> Claims:
        return self.codec.decode(token, now_us=0)

    def snapshot(self) -> Snapshot:
        with self.engine.connect() as connection:
            return read_snapshot(connection, clock.now_us())

    def relayer(self) -> Relayer:
        """Return a new relayer; each stands for one process of the deployment."""
        relayer = Relayer(self)
        self._open.append(relayer.relay)
        return relayer

    def verifier(self, **options: Any) -> Stepped:
        """Return a verifier that reads Redis only at a call of ``step``."""
        options = {
            "secret_key": SECRET,
            "issuer": self.issuer,
            "redis_url": REDIS,
            "max_staleness": LONG_S,
            **options,
        }
        verifier = Stepped(**options)
        self._open.append(verifier)
        return verifier

    def lose_feed(self) -> None:
        """Delete this feed's keys, as FLUSHALL would."""
        self.redis.delete(*self.keys)

    @property
    def state(self) -> FeedState:
        """The signed state in Redis."""
        return self.signer.open(self.redis.get(self.keys.meta).encode())

    def change_state(self, **changes: Any) -> None:
        """Replace values of the signed state, and sign it again."""
        self.redis.set(self.keys.meta, self.signer.sign(self.state._replace(**changes)))

    def age_state(self, seconds: int) -> None:
        """Let the signed state have been written earlier, as after a pause of all relayers."""
        state, us = self.state, seconds * SECOND_US
        snapshot = state.snapshot._replace(made_us=state.snapshot.made_us - us)
        self.change_state(heartbeat_us=max(state.heartbeat_us - us, 0), snapshot=snapshot)

    def redis_time_us(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * SECOND_US + int(micros)

    def positions(self) -> list[int]:
        """Return the positions in the stream; the first is the one before its first event."""
        entries = self.redis.xrange(self.keys.stream)
        return [int(entry_id.partition("-")[0]) for entry_id, _ in entries]


class Relayer:
    """Reads the feed and publishes it to Redis, as a process of the deployment does."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.relay = Publisher(REDIS, deployment.issuer, deployment.signer)
        self.newest: Event | None = None
        self._begun = False
        self.snapshots = 0

    def read(self) -> Sequence[Event]:
        """Return the events since the last call; none if they do not continue the known feed."""
        with self._deployment.engine.connect() as connection:
            about = 0 if self.newest is None else self.newest.position
            rows = connection.execute(feed_table.SINCE, {"about": about})
            events = [feed_table.event_of(row) for row in rows]
            known = self.newest is None or (bool(events) and events.pop(0) == self.newest)
            if self._begun and known:
                self.newest = events[-1] if events else self.newest
                return events
            row = connection.execute(feed_table.NEWEST).one_or_none()
            self.newest = None if row is None else feed_table.event_of(row)
            self._begun = True
            return []

    def publish(self, look: Look, events: Sequence[Event]) -> None:
        self.relay.publish(look, self._deployment.id, events, self.newest, self._snapshot)

    def _snapshot(self) -> Snapshot:
        self.snapshots += 1
        return self._deployment.snapshot()

    def beat(self) -> None:
        look = self.relay.look()
        self.publish(look, self.read())


class Stepped(Verifier):
    """A verifier without a background thread."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.source = self._denylist._connect()

        self._denylist.start = lambda: None  # type: ignore[method-assign]

    def close(self) -> None:
        super().close()
        self.source.close()

    def step(self) -> bool:
        """Read the verification keys and the feed; return whether Redis had the whole feed."""
        self._reread_keys()
        return self._denylist._follow(self.source) or self._denylist._load(self.source)


def answer(checker: Verifier | TokenChecker, token: str) -> str:
    """Return a token's status as a word."""
    try:
        checker.verify(token)
    except SessionRevoked as error:
        return "forced out" if error.forced else "signed out"
    except TokenExpired:
        return "expired"
    except TokenInvalid:
        return "invalid"
    except DenylistUnavailable:
        return "unavailable"
    return "good"


@contextmanager
def deployed(url: str, issuer: str, keys: Sequence[Key] = ()) -> Iterator[Deployment]:
    deployment = Deployment(url, issuer, keys)
    try:
        yield deployment
    finally:
        deployment.close()
