"""Claims and keys for tests of tokens."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.pems import pems
from xgen_flask_sessions.tokens.claims import (
    Claims,
)

SECRET = b"0123456789abcdef0123456789abcdef"


NOW_US = 1_800_000_000_123_456


CLAIMS = Claims(
    user_id="17",
    jti="a" * 32,
    session_id="b" * 32,
    issued_us=NOW_US,
    expires_us=1_800_000_060_000_000,
    extra={},
)


@cache
def private_pem(algorithm: str, number: int = 1) -> bytes:
    """Return a private key in PEM; it differs for each *number*."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if algorithm == "RS256":
        key = rsa.generate_private_key(65537, 2048)
    elif algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    return pems(key)[0]


def public_pem(private: bytes) -> bytes:
    key = serialization.load_pem_private_key(private, None).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
