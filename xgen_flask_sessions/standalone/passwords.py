"""Passwords: the rules, the hashes, and a check that takes as long for nobody as for somebody."""

from __future__ import annotations

import unicodedata
from typing import Final

from flask import current_app
from werkzeug.security import check_password_hash, generate_password_hash

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 256
UNUSABLE: Final = "!"
"""Stands in the place of a hash for users who cannot sign in with a password."""


def is_acceptable(password: str) -> bool:
    """Say whether *password* keeps to the rules: 8 to 256 characters, encodable ones."""
    return MIN_LENGTH <= len(password) <= MAX_LENGTH and _is_encodable(password)


def hash_password(password: str) -> str:
    """Return the hash to keep of *password*."""
    return generate_password_hash(_composed(password), current_app.config["PASSWORD_HASH_METHOD"])


def matches(password_hash: str | None, password: str) -> bool:
    """Say whether *password* is the one that was hashed.

    Whether there is a user, and one with a password, does not show in the time it takes.

    :param password_hash: What :func:`hash_password` returned, or ``None`` for a user that does
        not exist.
    """
    if len(password) > MAX_LENGTH or not _is_encodable(password):
        return False
    if password_hash is None or password_hash == UNUSABLE:
        # A well-formed hash that belongs to no password.
        password_hash = f"{current_app.config['PASSWORD_HASH_METHOD']}$nobody${'0' * 128}"
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
