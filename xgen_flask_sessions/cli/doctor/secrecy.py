"""Whether a secret can be guessed, by rules that random secrets pass."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from xgen_flask_sessions.tokens.keys import MIN_SECRET_BYTES

_MIN_DIFFERENT_BYTES: Final = 8
_MIN_DIFFERENT_STEPS: Final = 5

_KNOWN: Final = frozenset({"admin", "app", "dev", "flask", "key", "prod", "test", "xgen"})
"""Whole secrets, apart from digits and signs."""
_WORDS: Final = (
    "changeme", "changethis", "company", "default", "develop", "example", "insecure", "keepitsafe",
    "letmein", "passphrase", "password", "placeholder", "private", "production", "qwerty",
    "replaceme", "secret", "session", "testing", "thekey", "thisis", "yourkey",
)  # fmt: skip
"""Parts of secrets; fewer than six letters would occur in random ones."""


def weakness(secret: bytes) -> str | None:
    """Return the reason why *secret* can be guessed, or ``None``."""
    if len(secret) < MIN_SECRET_BYTES:
        return f"has fewer than {MIN_SECRET_BYTES} bytes"
    if len(set(secret)) < _MIN_DIFFERENT_BYTES:
        return "has few different characters"
    if secret in (secret * 2)[1:-1]:
        return "repeats itself"
    if len({after - before for before, after in pairwise(secret)}) < _MIN_DIFFERENT_STEPS:
        return "counts up or down"
    try:
        text = secret.decode().lower()
    except UnicodeDecodeError:  # random bytes
        return None
    letters = re.sub(r"[^a-z]", "", text)
    if letters in _KNOWN or any(word in letters for word in _WORDS):
        return "contains a word that attackers try first"
    if " " in text or not text.isascii():
        return "reads like a sentence"
    return None
