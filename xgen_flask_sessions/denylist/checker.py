"""Token in, :class:`VerifiedToken` out: signature, claims, expiry and denylist."""

from __future__ import annotations

from typing import Protocol

from .. import clock
from ..errors import SessionRevoked, TokenInvalid
from ..tokens.claims import Claims, VerifiedToken, verified_token
from ..tokens.codec import TokenCodec
from .strict import TokenStatus


class Denylist(Protocol):
    """Knows the status of tokens."""

    def status(self, jti: str) -> TokenStatus | None:
        """Return the status of the token *jti*, or ``None`` if it was never recorded.

        :raises DenylistUnavailable: The status is unknown.
        """


class TokenChecker:
    """Checks tokens against keys and denylist.

    :param codec: Checks signatures and claims.
    :param denylist: Knows revocations.
    """

    def __init__(self, codec: TokenCodec, denylist: Denylist) -> None:
        self._codec = codec
        self._denylist = denylist

    def verify(self, token: str) -> VerifiedToken:
        """Check one token, with at most one query.

        :param token: The compact JWS, as sent.
        :raises TokenInvalid: This deployment did not issue it.
        :raises TokenExpired: Its ``exp`` has passed.
        :raises SessionRevoked: Its session, its user or everyone was signed out after its issue.
        :raises DenylistUnavailable: Its status is unknown; the token must not pass.
        """
        now_us = clock.now_us()
        claims = self._codec.decode(token, now_us=now_us)
        status = self._require_valid(claims, now_us)
        return verified_token(claims, status.account_mark)

    def recheck(self, verified: VerifiedToken) -> TokenStatus:
        """Check a token again that :meth:`verify` accepted earlier, and return its status.

        :raises TokenExpired: Its ``exp`` has passed since.
        :raises SessionRevoked: It was signed out since.
        :raises DenylistUnavailable: Its status is unknown; the token must not pass.
        """
        now_us = clock.now_us()
        self._codec.require_unexpired(verified.expires_us, now_us=now_us)
        return self._require_valid(verified, now_us)

    def _require_valid(self, token: Claims | VerifiedToken, now_us: int) -> TokenStatus:
        status = self._denylist.status(token.jti)
        if status is None:
            raise TokenInvalid("The token is not on record.")
        if (
            status.issued_us != token.issued_us
            or status.expires_us != token.expires_us
            or status.user_id != token.user_id
            or status.session_id != token.session_id
        ):
            raise TokenInvalid("The token differs from its record.")
        if status.is_revoked(now_us):
            raise SessionRevoked(
                forced=status.forced,
                account_changed=status.account_changed,
                user_id=token.user_id,
                session_id=token.session_id,
            )
        return status
