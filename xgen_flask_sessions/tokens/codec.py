"""Signing JWTs, and checking everything that needs no database.

Follows RFC 7519 (JWT), RFC 7515 (JWS) and the best current practices of RFC 8725.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..clock import SECOND_US
from ..errors import TokenExpired
from .cache import TokenCache
from .claims import (
    MAX_TOKEN_BYTES,
    RESERVED_CLAIMS,
    Claims,
    check_extra_claims,
    check_user_id,
    is_session_id,
)
from .jws import TypedJws, refuse
from .keys import Key

TOKEN_TYPE = "xgen-session+jwt"  # noqa: S105
"""The explicit ``typ``, which excludes other JWTs of the deployment (RFC 8725, section 3.11)."""

_LONGEST_US = 3660 * 86_400 * SECOND_US  # more than the longest lifetime
_MAX_SECONDS = 10**11  # the year 5138: anything later is a mistake or an attack


class TokenCodec:
    """Signs and checks tokens.

    :param keys: The current key first, then those that may still verify.
    :param issuer: The ``iss`` of every token.
    :param audience: The ``aud`` of every token, if the deployment uses one.
    :param leeway_us: Microseconds that a token outlives its ``exp`` by.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        issuer: str,
        audience: str | None = None,
        leeway_us: int = 0,
    ) -> None:
        self._jws = TypedJws(keys, TOKEN_TYPE)
        self._issuer = issuer
        self._audience = audience
        self._leeway_us = leeway_us
        self.cache: TokenCache[Claims] = TokenCache()
        """The claims of genuine tokens, by these keys."""

    def encode(self, claims: Claims) -> str:
        """Sign *claims*.

        :raises ValueError: The host's claims hold a reserved name, are not JSON, or make the token
            longer than 8 KiB.
        :raises ConfigurationError: The current key can only verify.
        """
        check_extra_claims(claims.extra)
        payload: dict[str, Any] = {
            **claims.extra,
            "iss": self._issuer,
            "sub": claims.user_id,
            "jti": claims.jti,
            "sid": claims.session_id,
            "iat": (claims.made_us or claims.issued_us) // SECOND_US,
            "exp": claims.expires_us // SECOND_US,
            "iat_us": claims.issued_us,
        }
        if claims.deployment is not None:
            payload["dpl"] = claims.deployment
        if claims.login_id is not None:
            payload["lid"] = claims.login_id
        if self._audience is not None:
            payload["aud"] = self._audience
        token = self._jws.encode(payload)
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"The claims make a token of over {MAX_TOKEN_BYTES} bytes.")
        return token

    def decode(self, token: str, *, now_us: int) -> Claims:
        """Check a token's form, key, signature, claims and expiry.

        The result is cached: the caller must not change it.

        :param now_us: The time to compare ``exp`` with, in microseconds.
        :raises TokenInvalid: It differs from the tokens that :meth:`encode` makes.
        :raises TokenExpired: It is genuine and its ``exp`` has passed.
        """
        claims = self.cache.get(token) if isinstance(token, str) else None
        if claims is None:
            claims = self._read(self._jws.decode(token))
            self.cache.put(token, claims)
        self.require_unexpired(claims.expires_us, now_us=now_us)
        return claims

    def require_unexpired(self, expires_us: int, *, now_us: int) -> None:
        """Compare an expiry with the time, with the leeway.

        :raises TokenExpired: It has passed.
        """
        if expires_us + self._leeway_us <= now_us:
            raise TokenExpired

    def _read(self, payload: dict[str, Any]) -> Claims:
        if payload.pop("iss", None) != self._issuer:
            refuse("The token has another issuer.")
        if payload.pop("aud", None) != self._audience:
            refuse("The token is for another audience.")
        claims = Claims(
            user_id=_user_id(payload.pop("sub", None)),
            jti=_identifier(payload.pop("jti", None)),
            session_id=_identifier(payload.pop("sid", None)),
            issued_us=_integer(payload.pop("iat_us", None), _MAX_SECONDS * SECOND_US),
            expires_us=_integer(payload.pop("exp", None), _MAX_SECONDS) * SECOND_US,
            extra=payload,
            deployment=_identifier(payload.pop("dpl")) if "dpl" in payload else None,
            login_id=_user_id(payload.pop("lid")) if "lid" in payload else None,
            made_us=_integer(payload.pop("iat", None), _MAX_SECONDS) * SECOND_US,
        )
        # The stamp orders tokens; it is ahead of the time if an earlier one was.
        if not claims.expires_us - _LONGEST_US <= claims.made_us <= claims.issued_us:
            refuse("The token's times contradict each other.")
        if not RESERVED_CLAIMS.isdisjoint(payload):
            refuse("The token has a claim that session tokens do not have.")
        return claims


def _user_id(value: object) -> str:
    try:
        return check_user_id(value)
    except ValueError:
        refuse("The token's subject is not a user id.")


def _identifier(value: object) -> str:
    if not isinstance(value, str) or not is_session_id(value):
        refuse("The token has an invalid jti, sid or dpl.")
    return value


def _integer(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:  # bool is a subclass of int
        refuse("The token has an invalid timestamp.")
    return value
