"""Keys: loading them, naming them, and binding each to one algorithm."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt.algorithms import Algorithm
from jwt.utils import base64url_encode

from ..errors import ConfigurationError

MIN_SECRET_BYTES = 32
"""RFC 7518, section 3.2: an HS256 key is at least as long as the hash's output."""

_THUMBPRINT_MEMBERS = {
    "oct": ("k", "kty"),
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key and its single algorithm (RFC 8725, section 3.1)."""

    kid: str
    """Its JWK thumbprint (RFC 7638), the same on every machine."""
    algorithm: str
    verifying: Any = field(repr=False)
    signing: Any = field(repr=False, default=None)


def load_key(material: bytes, algorithm: str | None = None) -> Key:
    """Make a :class:`Key`.

    :param material: A secret, or a PEM private or public key.
    :param algorithm: Its algorithm; derived from the kind of key if left out.
    :raises ConfigurationError: The key cannot be read, or does not fit *algorithm*.
    """
    algorithm = algorithm or _algorithm_of(material)
    handler = _handler(algorithm)
    try:
        prepared = handler.prepare_key(material)
        problem = handler.check_key_length(prepared)
        private = hasattr(prepared, "public_key")
        verifying = prepared.public_key() if private else prepared
        kid = _thumbprint(handler.to_jwk(verifying, as_dict=True))
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise ConfigurationError(f"A key for {algorithm} cannot be used: {error}") from None
    if problem:
        raise ConfigurationError(f"A key for {algorithm} is too short: {problem}")
    can_sign = private or algorithm == "HS256"
    return Key(kid, algorithm, verifying, prepared if can_sign else None)


def derive_key(key: Key, purpose: str) -> Key:
    """Return the key for another purpose than tokens.

    From a secret, it is derived (HKDF, RFC 5869). A pair of keys stays the same: only the explicit
    type of each JWS tells the purposes apart.

    :param purpose: A constant that names the purpose.
    """
    if key.algorithm != "HS256":
        return key
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), key.signing, "sha256")
    return load_key(hmac.digest(extracted, purpose.encode() + b"\x01", "sha256"), "HS256")


_JWK_ALGORITHMS = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}


def to_jwks(keys: Sequence[Key]) -> dict[str, Any]:
    """Return the public keys as a JWK Set (RFC 7517, section 5), without secrets."""
    return {
        "keys": [
            {
                **_handler(key.algorithm).to_jwk(key.verifying, as_dict=True),
                "kid": key.kid,
                "alg": key.algorithm,
                "use": "sig",
            }
            for key in keys
            if key.algorithm != "HS256"
        ]
    }


def load_jwks(document: str | bytes) -> list[Key]:
    """Return the keys of a JWK Set for verifying tokens.

    Keys for other uses or algorithms are skipped.

    :param document: A JWK Set (RFC 7517, section 5).
    :raises ConfigurationError: It is malformed, holds a secret, or mislabels a key.
    """
    try:
        found = json.loads(document)["keys"]
        jwks = [dict(jwk) for jwk in found]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ConfigurationError("It is not a JWK Set (RFC 7517, section 5).") from None
    keys = [_load_jwk(jwk) for jwk in jwks if jwk.get("use", "sig") == "sig"]
    return [key for key in keys if key is not None]


def _load_jwk(jwk: Mapping[str, Any]) -> Key | None:
    if jwk.get("kty") == "oct" or "d" in jwk:
        raise ConfigurationError("It holds a secret; a JWK Set for verifying has only public keys.")
    algorithm = _JWK_ALGORITHMS.get((str(jwk.get("kty")), jwk.get("crv")))
    if algorithm is None or jwk.get("alg", algorithm) != algorithm:
        return None
    handler = _handler(algorithm)
    try:
        verifying = handler.from_jwk(json.dumps(jwk))
        problem = handler.check_key_length(verifying)
        kid = _thumbprint(handler.to_jwk(verifying, as_dict=True))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"A key for {algorithm} cannot be used: {error}") from None
    if problem:
        raise ConfigurationError(f"A key for {algorithm} is too short: {problem}")
    if jwk.get("kid", kid) != kid:
        raise ConfigurationError(f"A key's kid is not its thumbprint (RFC 7638), {kid}.")
    return Key(kid, algorithm, verifying)


def _handler(algorithm: str) -> Algorithm:
    try:
        return jwt.get_algorithm_by_name(algorithm)
    except NotImplementedError:
        raise ConfigurationError(
            f"{algorithm} needs the cryptography package: pip install 'xgen-flask-sessions[crypto]'"
        ) from None


def is_pem(material: bytes) -> bool:
    """Return whether key material is in PEM (RFC 7468), and not a secret."""
    return material.lstrip().startswith(b"-----BEGIN")


def _algorithm_of(material: bytes) -> str:
    if not is_pem(material):
        return "HS256"
    for algorithm in ("RS256", "ES256", "EdDSA"):
        try:
            _handler(algorithm).prepare_key(material)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        return algorithm
    raise ConfigurationError("A previous key is not an RSA, P-256 or Ed25519 key in PEM.")


def _thumbprint(jwk: Mapping[str, Any]) -> str:
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS[jwk["kty"]]}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64url_encode(hashlib.sha256(canonical.encode()).digest()).decode()
