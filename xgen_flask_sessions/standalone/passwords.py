"""Passwords: rules, hashes, and a check whose duration does not reveal whether the user exists."""

from __future__ import annotations

import unicodedata
from typing import Final

from flask import current_app
from werkzeug.security import check_password_hash, generate_password_hash

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 256
UNUSABLE: Final = "!"
"""The value instead of a hash for users that cannot sign in with a password."""


def is_acceptable(password: str) -> bool:
    """Return whether *password* has 8 to 256 encodable characters."""
    return MIN_LENGTH <= len(password) <= MAX_LENGTH and _is_encodable(password)


def hash_password(password: str) -> str:
    """Return the hash of *password* to store."""
    return generate_password_hash(_composed(password), current_app.config["PASSWORD_HASH_METHOD"])


def matches(password_hash: str | None, password: str) -> bool:
    """Return whether *password* matches a hash.

    The duration does not reveal whether the user exists and has a password.

    :param password_hash: The result of :func:`hash_password`, or ``None`` for a user that does not
        exist.
    """
    if len(password) > MAX_LENGTH or not _is_encodable(password):
        return False
    if password_hash is None or password_hash == UNUSABLE:
        # A well-formed hash that belongs to no password.
        password_hash = f"{current_app.config['PASSWORD_HASH_METHOD']}$no-user${'0' * 128}"
    return check_password_hash(password_hash, _composed(password))


def _composed(password: str) -> str:
    # One keyboard sends "é" or "한" as one code point, the next as two or three.
    return unicodedata.normalize("NFC", password)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON may hold a lone surrogate
        return False
    return True
