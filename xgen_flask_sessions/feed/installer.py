"""Installs snapshots in Redis: with a new stream, or for compaction."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Final

from .redis_stream import pack
from .redis_writer import Look, RedisWriter
from .signed_state import FeedRefused, FeedState, SnapshotState, StateSigner, first_chain
from .snapshot import Snapshot

ATTEMPTS: Final = 20
"""Attempts to replace a state that other processes replace at the same time."""


class Installer:
    """Replaces snapshots, one process at a time.

    :param writer: Changes the feed.
    :param signer: Signs its state.
    """

    def __init__(self, writer: RedisWriter, signer: StateSigner) -> None:
        self._writer = writer
        self._signer = signer

    def replace(
        self,
        seen: Look,
        deployment: str,
        snapshot: Callable[[], Snapshot],
        *,
        is_disputed: bool = False,
    ) -> FeedState | None:
        """Install a new snapshot and begin a new stream.

        :param seen: What there was when the fault was seen.
        :param deployment: The deployment's id.
        :param snapshot: Reads a snapshot.
        :param is_disputed: Whether to leave out the heartbeat.
        :returns: The new state; ``None`` if another process was faster.
        :raises RedisUnavailable: Redis does not answer.
        """
        look = self._writer.look()
        version = self._version_of(seen.text)
        if self._version_of(look.text) != version or not self._take_turn(look.now_us):
            return None
        try:
            beat_us = 0 if is_disputed else look.now_us
            return self._replace(look, version, deployment, snapshot(), beat_us)
        finally:
            self._writer.end_turn()

    def _replace(
        self, look: Look, version: object, deployment: str, found: Snapshot, beat_us: int
    ) -> FeedState | None:
        history = uuid.uuid4().hex
        chain = first_chain(history, found.position, found.id)
        content = pack(found.changes)
        state = FeedState(
            deployment=deployment,
            history=history,
            position=found.position,
            id=found.id,
            chain=chain,
            heartbeat_us=beat_us,
            audited_us=0,
            snapshot=_snapshot_state(content, found.position, found.id, chain, look.now_us),
        )
        signed = self._signer.sign(state)
        draft, text = self._writer.put_draft(content), look.text
        for _ in range(ATTEMPTS):
            answer = self._writer.install(draft, text, signed, look.now_us, state, begins=True)
            text = answer.text
            # A process that does not see the fault goes on writing heartbeats.
            if answer.status != "changed" or self._version_of(text) != version:
                break
        if answer.status == "ok":
            return state
        self._writer.delete_draft(draft)
        return None

    def compact(self, state: FeedState, snapshot: Callable[[], Snapshot]) -> None:
        """Install a new snapshot of the events up to *state*, and keep the stream.

        :param state: The present state, or an earlier one.
        :param snapshot: Reads a snapshot.
        :raises RedisUnavailable: Redis does not answer.
        """
        if not self._take_turn(self._writer.look().now_us):
            return
        found = snapshot()
        # The database has the events up to the state, unless it was restored just now. A snapshot
        # may hold later events: a reader may apply them again.
        if found.position >= state.position and self._compact(state, pack(found.changes)):
            self._writer.end_turn()
        # Otherwise the turn delays the next attempt.

    def _compact(self, state: FeedState, content: bytes) -> bool:
        draft = self._writer.put_draft(content)
        for _ in range(ATTEMPTS):
            look = self._writer.look()
            made = _snapshot_state(content, state.position, state.id, state.chain, look.now_us)
            changed = self._signer.open_own(look.text, state.deployment)._replace(snapshot=made)
            if changed.history != state.history:
                break
            signed = self._signer.sign(changed)
            answer = self._writer.install(draft, look.text, signed, 0, changed, begins=False)
            if answer.status == "ok":
                return True
            if answer.status != "changed":
                break
        self._writer.delete_draft(draft)
        return False

    def _version_of(self, text: bytes) -> object:
        """Return the history and the snapshot of a state, or its text if it is not genuine."""
        try:
            state = self._signer.open(text)
        except FeedRefused:
            return text
        return state.deployment, state.history, state.snapshot.epoch

    def _take_turn(self, now_us: int) -> bool:
        """Return whether to make a snapshot now; otherwise another process does.

        It only prevents many processes from reading a snapshot at the same time; correctness does
        not depend on it.
        """
        proof = self._signer.sign_turn(now_us)
        held = self._writer.take_turn(proof)
        if held and not self._signer.is_turn(held, now_us):
            held = self._writer.take_turn(proof, overridden=held)
        return not held


def _snapshot_state(
    content: bytes, position: int, event_id: str, chain: str, now_us: int
) -> SnapshotState:
    return SnapshotState(
        epoch=uuid.uuid4().hex,
        position=position,
        id=event_id,
        chain=chain,
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
        made_us=now_us,
    )
