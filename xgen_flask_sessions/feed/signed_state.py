"""The signed state of the feed in Redis: all else there is proven by it.

The state is a JWS by the deployment's key. It holds the position and the chain of the last event:
the hash over the event and over the chain before it. A reader that computes the same chain has read
each event, unaltered and in order. It also holds the length and the hash of the snapshot, and the
heartbeat. So who can only write to Redis can neither alter, forge, drop nor reorder anything; an
older genuine state is refused by its heartbeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ..changes import Change, Event
from ..clock import SECOND_US
from ..errors import TokenInvalid
from ..tokens.claims import MAX_TOKEN_BYTES, is_session_id
from ..tokens.jws import TypedJws
from ..tokens.keys import Key, derive_key

MAX_STATE_BYTES: Final = MAX_TOKEN_BYTES
"""The longest signed state."""

_PURPOSE: Final = "xgen-flask-sessions feed"
_STATE_TYPE: Final = "xgen-feed+jwt"
_TURN_TYPE: Final = "xgen-feed-turn+jwt"
TURN_US: Final = 5 * SECOND_US
"""The longest time for which one process keeps others from making a snapshot."""

ABSENT: Final = "is missing"
NOT_GENUINE: Final = "was altered, or was written by an earlier release"
UNKNOWN_KEY: Final = "is signed by a key that is unknown here"

STREAM_FIELDS: Final = (b"id", b"kind", b"user", b"session", b"cut", b"until")
"""The fields of an entry in the stream."""


class FeedRefused(Exception):
    """Data in Redis cannot be used: it is not, or not completely, proven by the signed state."""


class ForeignFeed(Exception):
    """Redis holds the feed of another deployment, which is never replaced.

    :param deployment: The id of the other deployment.
    """

    def __init__(self, deployment: str) -> None:
        super().__init__(deployment)
        self.deployment = deployment


class SnapshotState(NamedTuple):
    """The part of the state that proves the snapshot."""

    epoch: str
    """Names the snapshot."""
    position: int
    """The position at which it was read."""
    id: str
    chain: str
    """The id and the chain of the event at the position."""
    size: int
    """Its length, in bytes."""
    digest: str
    """Its SHA-256, in hexadecimal."""
    made_us: int
    """The time at which it was installed, by Redis's clock."""


class FeedState(NamedTuple):
    """The state of the feed. Times are Redis's, in microseconds."""

    deployment: str
    """The id of the deployment that publishes it."""
    history: str
    """Names the run of positions; a lost feed or a restored database begins a new one."""
    position: int
    """The position of the last event."""
    id: str
    chain: str
    """The id and the chain of the last event."""
    heartbeat_us: int
    """Every event committed before it is in the stream; 0 if there was none yet."""
    audited_us: int
    """The time at which a process last compared the whole feed with the state."""
    snapshot: SnapshotState

    @property
    def is_disputed(self) -> bool:
        """Whether it has no heartbeat, because two databases may publish under one id."""
        return self.heartbeat_us == 0


class StateSigner:
    """Signs and checks states.

    :param keys: The deployment's keys; the current one first, then those that may still verify.
    :param issuer: The deployment's ``iss``.
    """

    def __init__(self, keys: Sequence[Key], issuer: str) -> None:
        derived = [derive_key(key, _PURPOSE) for key in keys]
        self._states = TypedJws(derived, _STATE_TYPE)
        self._turns = TypedJws(derived, _TURN_TYPE)
        self._issuer = issuer

    @property
    def can_sign(self) -> bool:
        """Whether the current key signs; a public key only verifies."""
        return self._states.can_sign

    def sign(self, state: FeedState) -> bytes:
        """Return the signed state.

        :raises ConfigurationError: The current key can only verify.
        """
        claims = {"iss": self._issuer, **state._asdict(), "snapshot": state.snapshot._asdict()}
        return self._states.encode(claims).encode()

    def open(self, text: bytes) -> FeedState:
        """Return a genuine state.

        :param text: The signed state.
        :raises FeedRefused: It is not by one of the keys, or for another issuer.
        """
        try:
            claims = self._states.decode(text.decode("ascii", "replace"))
        except TokenInvalid:
            if self._claims_of_unknown_key(text) is None:
                raise FeedRefused(NOT_GENUINE) from None
            raise FeedRefused(UNKNOWN_KEY) from None
        try:
            if claims.pop("iss") == self._issuer:
                return FeedState(**{**claims, "snapshot": SnapshotState(**claims["snapshot"])})
        except (KeyError, TypeError):
            raise FeedRefused("was written by another release") from None
        raise FeedRefused("is the feed of another issuer")

    def open_own(self, text: bytes, deployment: str) -> FeedState:
        """Return the state of the deployment's own feed.

        :param text: The signed state.
        :param deployment: The deployment's id.
        :raises FeedRefused: There is none, or it is not genuine.
        :raises ForeignFeed: It is another deployment's.
        """
        if not text:
            raise FeedRefused(ABSENT)
        try:
            state = self.open(text)
        except FeedRefused:
            other = self.deployment_of_unknown_key(text)
            if other is None or other == deployment:
                raise
            raise ForeignFeed(other) from None
        if state.deployment != deployment:
            raise ForeignFeed(state.deployment)
        return state

    def deployment_of_unknown_key(self, text: bytes) -> str | None:
        """Return the deployment that a state names, unverified, if its key is unknown here."""
        claims = self._claims_of_unknown_key(text)
        if claims is None or claims.get("iss") != self._issuer:
            return None
        deployment = claims.get("deployment")
        return deployment if isinstance(deployment, str) and is_session_id(deployment) else None

    def _claims_of_unknown_key(self, text: bytes) -> dict[str, Any] | None:
        return self._states.decode_unknown(text.decode("ascii", "replace"))

    def sign_turn(self, now_us: int) -> bytes:
        """Return the proof that a process of the deployment makes a snapshot now."""
        return self._turns.encode({"iss": self._issuer, "until": now_us + TURN_US}).encode()

    def is_turn(self, text: bytes, now_us: int) -> bool:
        """Return whether *text* is such a proof, and not over.

        :param now_us: Redis's time.
        """
        try:
            claims = self._turns.decode(text.decode("ascii", "replace"))
        except TokenInvalid:
            return False
        until_us = claims.get("until")
        return (
            claims.get("iss") == self._issuer
            and type(until_us) is int
            and 0 < until_us - now_us <= TURN_US
        )


def first_chain(history: str, position: int, event_id: str) -> str:
    """Return the chain at the beginning of a history."""
    return chained("", position, [history.encode(), event_id.encode()])


def chained(chain: str, position: int, values: Sequence[bytes]) -> str:
    """Return the chain of an event, in hexadecimal.

    :param chain: The chain of the event before it.
    :param values: The event's values, in the order of :data:`STREAM_FIELDS`.
    """
    parts = [chain.encode(), b"%d" % position, *values]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


def event_values(event: Event) -> list[bytes]:
    """Return an event's values, in the order of :data:`STREAM_FIELDS`."""
    values = (event.id, *event.change)
    return [b"" if value is None else str(value).encode() for value in values]


def event_of(position: int, values: Sequence[bytes]) -> Event:
    """Return the event with these values; the inverse of :func:`event_values`."""
    event_id, kind, user, session, cut, until = (value.decode() for value in values)
    change: Any = (kind, user or None, session or None, int(cut), int(until) if until else None)
    return Event(position, event_id, Change(*change))
