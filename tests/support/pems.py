"""Keys in PEM, the format of a host's settings."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import serialization


def pems(key: Any) -> tuple[bytes, bytes]:
    """Return a private key, and its public key, in PEM."""
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public
