"""From a recorded sign-in to its token; and where a request comes from, for the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flask import has_request_context, request

from .devices import clean_address, clean_text, clean_user_agent
from .ledger import Cause, Issue
from .models import MAX_REASON
from .state import State
from .tokens import Claims

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just issued. Times are microseconds since the epoch."""

    token: str = field(repr=False)
    jti: str
    session_id: str
    issued_us: int
    expires_us: int


def sign(state: State, recorded: Issue, extra: Mapping[str, Any]) -> IssuedToken:
    """Return the token of what the ledger recorded.

    :param extra: The host's own claims.
    :raises ValueError: They make the token too long.
    """
    token = state.codec.encode(
        Claims(
            user_id=recorded.user_id,
            jti=recorded.jti,
            session_id=recorded.session_id,
            issued_us=recorded.issued_us,
            expires_us=recorded.expires_us,
            extra=extra,
        )
    )
    return IssuedToken(
        token, recorded.jti, recorded.session_id, recorded.issued_us, recorded.expires_us
    )


def lifetime_us(value: timedelta | int) -> int:
    """Return a lifetime in microseconds.

    :param value: A timedelta, or whole seconds.
    :raises ValueError: It is shorter than a second or longer than ten years.
    """
    if type(value) is int:
        value = timedelta(seconds=max(0, min(value, 10**11)))
    if not isinstance(value, timedelta) or not _SHORTEST <= value <= _LONGEST:
        raise ValueError("A lifetime is a timedelta or whole seconds: one second to ten years.")
    return value // timedelta(microseconds=1)


def origin() -> tuple[str | None, str | None]:
    """Return the current request's address and ``User-Agent``, fit for the tables."""
    if not has_request_context():
        return None, None
    return (
        clean_address(request.remote_addr),
        clean_user_agent(request.headers.get("User-Agent")),
    )


def cause(state: State, actor: Any, reason: str | None) -> Cause:
    """Return who asks for a revocation, from where, and why.

    :param actor: A user object, or the name of what else acts.
    :raises ValueError: The reason is over 500 characters.
    """
    name = None if actor is None else state.users.id_of(actor)
    if reason is not None and len(reason) > MAX_REASON:
        raise ValueError(f"A reason has at most {MAX_REASON} characters.")
    return Cause(actor=name, ip=origin()[0], reason=clean_text(reason, MAX_REASON))
