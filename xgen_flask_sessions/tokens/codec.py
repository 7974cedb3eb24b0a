"""Signing JWTs, and checking everything that needs no database.

Follows RFC 7519 (JWT), RFC 7515 (JWS) and the best current practices of RFC 8725.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jwt
from jwt.utils import base64url_decode

from ..clock import SECOND_US
from ..errors import ConfigurationError, TokenExpired, TokenInvalid
from .cache import TokenCache
from .claims import (
    MAX_TOKEN_BYTES,
    RESERVED_CLAIMS,
    Claims,
    check_extra_claims,
    check_user_id,
    is_nested_too_deeply,
    is_session_id,
)
from .keys import Key

TOKEN_TYPE = "xgen-session+jwt"  # noqa: S105
"""The explicit ``typ``, which excludes other JWTs of the deployment (RFC 8725, section 3.11)."""

_COMPACT_JWS = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HEADER_MEMBERS = {"alg", "typ", "kid"}
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
        self._current = keys[0]
        self._keys = {key.kid: key for key in keys}
        self._issuer = issuer
        self._audience = audience
        self._leeway_us = leeway_us
        self._jws = jwt.PyJWS(options={"enforce_minimum_key_length": True})
        self.cache: TokenCache[Claims] = TokenCache()
        """The claims of genuine tokens, by these keys."""

    def encode(self, claims: Claims) -> str:
        """Sign *claims*.

        :raises ValueError: The host's claims hold a reserved name, are not JSON, or make the token
            longer than 8 KiB.
        :raises ConfigurationError: The current key can only verify.
        """
        if self._current.signing is None:
            raise ConfigurationError(
                "XGEN_SESSIONS_PRIVATE_KEY must be set to issue tokens; the public key only "
                "verifies them."
            )
        check_extra_claims(claims.extra)
        payload: dict[str, Any] = {
            **claims.extra,
            "iss": self._issuer,
            "sub": claims.user_id,
            "jti": claims.jti,
            "sid": claims.session_id,
            "iat": claims.issued_us // SECOND_US,
            "exp": claims.expires_us // SECOND_US,
            "iat_us": claims.issued_us,
        }
        if claims.deployment is not None:
            payload["dpl"] = claims.deployment
        if self._audience is not None:
            payload["aud"] = self._audience
        token = self._jws.encode(
            json.dumps(payload, separators=(",", ":"), allow_nan=False).encode(),
            self._current.signing,
            algorithm=self._current.algorithm,
            headers={"typ": TOKEN_TYPE, "kid": self._current.kid},
        )
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
            claims = self._check(token)
            self.cache.put(token, claims)
        self.require_unexpired(claims.expires_us, now_us=now_us)
        return claims

    def _check(self, token: object) -> Claims:
        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES:
            _refuse("The token is too long or not a string.")
        match = _COMPACT_JWS.fullmatch(token)
        if match is None:
            _refuse("The token is not a compact JWS (RFC 7515, section 7.1).")
        key = self._key_for(_parse_object(_decode_segment(match[1])))
        try:
            payload = self._jws.decode(token, key.verifying, algorithms=[key.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            _refuse("The token's signature is invalid.")
        return self._read(_parse_object(payload))

    def require_unexpired(self, expires_us: int, *, now_us: int) -> None:
        """Compare an expiry with the time, with the leeway.

        :raises TokenExpired: It has passed.
        """
        if expires_us + self._leeway_us <= now_us:
            raise TokenExpired

    def _key_for(self, header: Mapping[str, Any]) -> Key:
        # Only the members that encode() writes: no jku, x5u, jwk, crit, b64 or zip is evaluated.
        if set(header) != _HEADER_MEMBERS or header["typ"] != TOKEN_TYPE:
            _refuse("The token's header is not that of a session token.")
        kid = header["kid"]
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None or header["alg"] != key.algorithm:
            _refuse("The token names an unknown key or algorithm.")
        return key

    def _read(self, payload: dict[str, Any]) -> Claims:
        if payload.pop("iss", None) != self._issuer:
            _refuse("The token has another issuer.")
        if payload.pop("aud", None) != self._audience:
            _refuse("The token is for another audience.")
        claims = Claims(
            user_id=_user_id(payload.pop("sub", None)),
            jti=_identifier(payload.pop("jti", None)),
            session_id=_identifier(payload.pop("sid", None)),
            issued_us=_integer(payload.pop("iat_us", None), _MAX_SECONDS * SECOND_US),
            expires_us=_integer(payload.pop("exp", None), _MAX_SECONDS) * SECOND_US,
            extra=payload,
            deployment=_identifier(payload.pop("dpl")) if "dpl" in payload else None,
        )
        if _integer(payload.pop("iat", None), _MAX_SECONDS) != claims.issued_us // SECOND_US:
            _refuse("The token's times contradict each other.")
        if not RESERVED_CLAIMS.isdisjoint(payload):
            _refuse("The token has a claim that session tokens do not have.")
        return claims


def _refuse(reason: str) -> NoReturn:
    raise TokenInvalid(reason)


def _decode_segment(segment: str) -> bytes:
    try:
        return base64url_decode(segment)
    except ValueError:
        _refuse("The token is not base64url.")


def _parse_object(data: bytes) -> dict[str, Any]:
    """Parse strict JSON: UTF-8, an object, no duplicate members, no NaN (RFC 8725, section 3.7)."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_members, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        _refuse("The token is not JSON.")
    if not isinstance(value, dict):
        _refuse("The token is not a JSON object.")
    if is_nested_too_deeply(value):
        _refuse("The token is nested too deeply.")
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("The token has a duplicate member.")
    return members


def _user_id(value: object) -> str:
    try:
        return check_user_id(value)
    except ValueError:
        _refuse("The token's subject is not a user id.")


def _identifier(value: object) -> str:
    if not isinstance(value, str) or not is_session_id(value):
        _refuse("The token has an invalid jti, sid or dpl.")
    return value


def _integer(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:  # bool is a subclass of int
        _refuse("The token has an invalid timestamp.")
    return value
