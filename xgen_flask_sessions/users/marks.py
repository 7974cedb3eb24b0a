"""Marks of accounts: they distinguish a deleted user from a later one with the same id."""

from __future__ import annotations

import datetime
import decimal
import enum
import hashlib
import uuid
from functools import lru_cache
from typing import Any, Final

_LENGTH: Final = 32
"""Hexadecimal digits of a mark: 128 bits."""
_SCALARS: Final = (str, int, float, decimal.Decimal, uuid.UUID, bytes, datetime.date, enum.Enum)


def mark_of(value: Any) -> str | None:
    """Return the mark of an account, a hash of the attribute that distinguishes it.

    :returns: ``None`` if the value has no text that stays the same.
    """
    if type(value) is str:
        return _hash(f"={value.rstrip(' ')}")
    if value is not None and not isinstance(value, _SCALARS):
        return None
    return _hash("" if value is None else f"={_to_text(value)}")


@lru_cache(maxsize=4096)  # each checked request of a user needs it
def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:_LENGTH]


def _to_text(value: Any) -> str:
    """Return a text that is the same before and after a value is stored."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC)  # PostgreSQL converts it to each connection's zone
    return str(value).rstrip(" ")  # CHAR is padded
