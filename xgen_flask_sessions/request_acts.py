"""The current request's own sign-ins and revocations, for the order between them.

A sign-in page may change the user in the request that signs the user in, for example to upgrade the
password hash. With ``revoke_on=``, that change ends the user's older sessions, not the new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from flask import has_request_context
from flask.globals import request_ctx
from sqlalchemy.orm import Session

from .store import commit_hooks
from .store.revocations import Revocation

_ATTRIBUTE: Final = "_xgen_sessions_acts"


@dataclass(slots=True, eq=False)
class _OwnRevocation:
    """A force logout that a sign-in of the same request survives."""

    user_id: str
    invalid_before_us: int
    previous_us: int | None
    """The user's invalidation timestamp before it; ``None`` if the sign-in came after it."""
    committed: bool = False

    def note_commit(self) -> None:
        self.committed = True

    def awaits(self, session: Session) -> bool:
        """Return whether it is a part of the session's current transaction."""
        return commit_hooks.awaits_commit(session, self.note_commit)


@dataclass(slots=True)
class RequestActs:
    """The acts of one request context."""

    issued: dict[str, dict[str, int]] = field(default_factory=dict)
    """The stamps of the sessions that were issued, by session id, by user id."""
    signed_in: set[str] = field(default_factory=set)
    """The users that signed in by ``login_user()``."""
    _survived: list[_OwnRevocation] = field(default_factory=list)

    def note_revocation(
        self, session: Session, revocation: Revocation, *, previous_us: int | None = None
    ) -> None:
        """Remember a force logout of a user; call it in its transaction.

        It ends an earlier ``login_user()`` of the user unless *previous_us* is given.

        :param previous_us: The user's invalidation timestamp before a change of the account.
        """
        user_id = str(revocation.user_id)
        if user_id in self.signed_in and previous_us is None:
            return
        own = _OwnRevocation(user_id, revocation.invalid_before_us or 0, previous_us)
        self._survived.append(own)
        commit_hooks.on_commit(session, own.note_commit)

    def awaits_commit(self, session: Session, user_id: str) -> bool:
        """Return whether a force logout that the user's sign-in survives is still uncommitted."""
        return session.is_active and any(
            own.user_id == user_id and own.awaits(session) for own in self._survived
        )

    def since(self, session: Session, user_id: str, invalid_before_us: int) -> int:
        """Return the invalidation timestamp that a ``login_user()`` of this request may have met.

        It passes over the request's own force logouts; those of others count.

        :param session: The session that records the sign-in.
        :param invalid_before_us: The user's invalidation timestamp at ``login_user()``.
        """
        for own in self._survived:
            if own.user_id != user_id or not (own.committed or own.awaits(session)):
                continue
            if own.previous_us is None or own.previous_us <= invalid_before_us:
                invalid_before_us = max(invalid_before_us, own.invalid_before_us)
        return invalid_before_us


def find_acts() -> RequestActs | None:
    """Return the acts of the current request, or ``None`` outside of one.

    They belong to the request context: neither ``g`` nor the environ ends with the request.
    """
    return get_acts() if has_request_context() else None


def get_acts() -> RequestActs:
    """Return the acts of the current request."""
    context: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]
    acts: RequestActs | None = getattr(context, _ATTRIBUTE, None)
    if acts is None:
        acts = RequestActs()
        setattr(context, _ATTRIBUTE, acts)
    return acts
