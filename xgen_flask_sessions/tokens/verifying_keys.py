"""The keys of a service that only verifies tokens: given directly, or in a JWKS file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigurationError
from .keys import MIN_SECRET_BYTES, Key, is_pem, load_jwks, load_key


class VerifyingKeys:
    """Loads the keys, and notices a change of the file.

    :param secret_key: A secret for HS256.
    :param public_keys: Public keys in PEM.
    :param jwks_file: A file with a JWK Set (RFC 7517, section 5).
    :param previous_keys: Secrets or public keys that no longer sign and still verify.
    :raises ConfigurationError: A key cannot be used.
    """

    def __init__(
        self,
        secret_key: str | bytes | None,
        public_keys: Sequence[str | bytes],
        jwks_file: str | os.PathLike[str] | None,
        previous_keys: Sequence[str | bytes],
    ) -> None:
        self._given = _load_given(secret_key, public_keys, previous_keys)
        self._file = None if jwks_file is None else Path(jwks_file)
        self._version: object = None

    def load(self) -> list[Key]:
        """Return the keys.

        :raises ConfigurationError: The file cannot be used, or there is no key.
        """
        keys = list(self._given)
        if self._file is not None:
            try:
                version = _version_of(self._file)  # first: a later change is noticed
                document = self._file.read_bytes()
            except OSError as error:
                raise ConfigurationError(
                    f"{self._file} cannot be read: {error.strerror}."
                ) from error
            self._version = version  # a file that could not be read is tried again
            try:
                keys += load_jwks(document)
            except ConfigurationError as error:
                raise ConfigurationError(f"{self._file} cannot be used: {error}") from None
        if not keys:
            raise ConfigurationError(
                "There is no key: pass secret_key=, public_keys= or a jwks_file= with keys."
            )
        return keys

    def have_changed(self) -> bool:
        """Return whether the file has changed since :meth:`load`.

        :raises OSError: The file cannot be read.
        """
        return self._file is not None and _version_of(self._file) != self._version


def _load_given(
    secret_key: str | bytes | None,
    public_keys: Sequence[str | bytes],
    previous_keys: Sequence[str | bytes],
) -> list[Key]:
    for name, value in (("public_keys", public_keys), ("previous_keys", previous_keys)):
        if isinstance(value, str | bytes):
            raise ConfigurationError(f"{name} must be a list of keys.")
    keys = []
    if secret_key is not None:
        keys.append(load_key(_secret(_bytes(secret_key)), "HS256"))
    for material in map(_bytes, public_keys):
        key = load_key(material)
        if key.signing is not None:
            raise ConfigurationError("public_keys must be public keys in PEM; one is a secret.")
        keys.append(key)
    keys += [
        load_key(material if is_pem(material) else _secret(material))
        for material in map(_bytes, previous_keys)
    ]
    return keys


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _secret(value: bytes) -> bytes:
    if len(value) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"A secret has {len(value)} bytes; HS256 needs at least {MIN_SECRET_BYTES}."
        )
    return value


def _version_of(path: Path) -> object:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
