"""Compact JWS of one explicit type (RFC 7515, section 7.1; RFC 8725)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import jwt
from jwt.utils import base64url_decode

from ..errors import ConfigurationError, TokenInvalid
from .claims import MAX_TOKEN_BYTES, is_nested_too_deeply
from .keys import Key

_COMPACT_JWS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_HEADER_MEMBERS: Final = {"alg", "typ", "kid"}


class TypedJws:
    """Signs and checks JSON objects of one type.

    :param keys: The current key first, then those that may still verify.
    :param kind: The explicit ``typ``, which excludes other JWS of the deployment (RFC 8725,
        section 3.11).
    """

    def __init__(self, keys: Sequence[Key], kind: str) -> None:
        self._current = keys[0]
        self._keys = {key.kid: key for key in keys}
        self._kind = kind
        self._jws = jwt.PyJWS(options={"enforce_minimum_key_length": True})

    @property
    def can_sign(self) -> bool:
        """Whether the current key signs; a public key only verifies."""
        return self._current.signing is not None

    def encode(self, payload: Mapping[str, Any]) -> str:
        """Sign a JSON object.

        :raises ConfigurationError: The current key can only verify.
        """
        if self._current.signing is None:
            raise ConfigurationError(
                "XGEN_SESSIONS_PRIVATE_KEY must be set to issue tokens; the public key only "
                "verifies them."
            )
        return self._jws.encode(
            json.dumps(payload, separators=(",", ":"), allow_nan=False).encode(),
            self._current.signing,
            algorithm=self._current.algorithm,
            headers={"typ": self._kind, "kid": self._current.kid},
        )

    def decode(self, token: object) -> dict[str, Any]:
        """Return the object of a genuine JWS.

        :raises TokenInvalid: It differs from those that :meth:`encode` makes.
        """
        text, header, _ = self._split(token)
        key = self._keys.get(header["kid"]) if isinstance(header["kid"], str) else None
        if key is None or header["alg"] != key.algorithm:
            refuse("The token names an unknown key or algorithm.")
        try:
            payload = self._jws.decode(text, key.verifying, algorithms=[key.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            refuse("The token's signature is invalid.")
        return parse_object(payload)

    def decode_unknown(self, token: object) -> dict[str, Any] | None:
        """Return the unverified object of a JWS whose key is unknown here; ``None`` otherwise."""
        try:
            _, header, payload = self._split(token)
            if not isinstance(header["kid"], str) or header["kid"] in self._keys:
                return None
            return parse_object(_decode_segment(payload))
        except TokenInvalid:
            return None

    def _split(self, token: object) -> tuple[str, dict[str, Any], str]:
        """Return the token, its header and its payload's segment."""
        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES:
            refuse("The token is too long or not a string.")
        match = _COMPACT_JWS.fullmatch(token)
        if match is None:
            refuse("The token is not a compact JWS (RFC 7515, section 7.1).")
        header = parse_object(_decode_segment(match[1]))
        # Only the members that encode() writes: no jku, x5u, jwk, crit, b64 or zip is evaluated.
        if set(header) != _HEADER_MEMBERS or header["typ"] != self._kind:
            refuse("The token's header is not that of a session token.")
        return token, header, match[2]


def refuse(reason: str) -> NoReturn:
    """Raise :class:`TokenInvalid`."""
    raise TokenInvalid(reason)


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse strict JSON: UTF-8, an object, no duplicate members, no NaN (RFC 8725, section 3.7).

    :raises TokenInvalid: It is something else.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_members, parse_constant=refuse
        )
    except (ValueError, RecursionError):
        refuse("The token is not JSON.")
    if not isinstance(value, dict):
        refuse("The token is not a JSON object.")
    if is_nested_too_deeply(value):
        refuse("The token is nested too deeply.")
    return value


def _decode_segment(segment: str) -> bytes:
    try:
        return base64url_decode(segment)
    except ValueError:
        refuse("The token is not base64url.")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        refuse("The token has a duplicate member.")
    return members
