"""Token in, :class:`VerifiedToken` out: signature, claims, expiry and denylist. No Flask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import clock
from .denylist import Denylist
from .errors import SessionRevoked, TokenInvalid
from .tokens import TokenCodec


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that was genuine, unexpired and not revoked when it was checked."""

    user_id: str
    jti: str
    session_id: str
    issued_us: int
    """Its stamp, in microseconds since the epoch."""
    expires_us: int
    """When it expires, in microseconds since the epoch."""
    claims: Mapping[str, Any]
    """Claims that the host added at sign-in."""


class Verifier:
    """Checks tokens against keys and denylist.

    :param codec: Checks what the token itself tells.
    :param denylist: Knows what was revoked.
    """

    def __init__(self, codec: TokenCodec, denylist: Denylist) -> None:
        self._codec = codec
        self._denylist = denylist

    def verify(self, token: str) -> VerifiedToken:
        """Check one token, with one look into the database.

        :param token: The compact JWS, as sent.
        :raises TokenInvalid: It is no token of this deployment, or not one on record.
        :raises TokenExpired: Its ``exp`` has passed.
        :raises SessionRevoked: Its session, its user or everyone was signed out after its issue.
        :raises DenylistUnavailable: The database cannot be asked; the token must not pass.
        """
        claims = self._codec.decode(token, now_us=clock.now_us())
        standing = self._denylist.standing(claims.jti)
        if standing is None:
            raise TokenInvalid("The token is not on record.")
        recorded = (standing.user_id, standing.session_id, standing.issued_us)
        if recorded != (claims.user_id, claims.session_id, claims.issued_us):
            raise TokenInvalid("The token differs from its record.")
        if standing.is_revoked(clock.now_us()):
            raise SessionRevoked(forced=standing.forced, user_id=claims.user_id)
        return VerifiedToken(
            user_id=claims.user_id,
            jti=claims.jti,
            session_id=claims.session_id,
            issued_us=claims.issued_us,
            expires_us=claims.expires_us,
            claims=claims.extra,
        )
