"""Whether a secret can be guessed, by rules that random secrets pass."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

_FEWEST_BYTES: Final = 8
"""Different ones; one of some thousand secrets of 32 random digits has fewer."""

_KNOWN: Final = (
    "changeme", "changethis", "default", "development", "example", "insecure", "keepitsafe",
    "letmein", "password", "placeholder", "qwerty", "replaceme", "secret", "testing", "yourkey",
)  # fmt: skip
_KNOWN_WHOLE: Final = frozenset({"admin", "app", "dev", "flask", "key", "prod", "test", "xgen"})


def weakness(secret: bytes) -> str | None:
    """Return the reason why *secret* can be guessed, or ``None``."""
    if len(set(secret)) < _FEWEST_BYTES:
        return "has few different characters"
    if secret in (secret * 2)[1:-1]:
        return "repeats itself"
    if len({after - before for before, after in pairwise(secret)}) < 5:
        return "counts up or down"
    try:
        text = secret.decode().lower()
    except UnicodeDecodeError:  # random bytes
        return None
    letters = re.sub(r"[^a-z]", "", text)
    if letters in _KNOWN_WHOLE or any(word in letters for word in _KNOWN):
        return "contains a word that attackers try first"
    if not text.isascii() or " " in text or _is_wordy(text, letters):
        return "reads like words"
    return None


def _is_wordy(text: str, letters: str) -> bool:
    """Return whether *text* has hardly a digit and as many vowels as words have.

    Random Base64 has a digit in six characters, and a vowel in five letters; English has two
    vowels in five.
    """
    digits = sum(map(str.isdigit, text))
    return digits <= 1 and sum(map(letters.count, "aeiou")) >= 0.3 * len(letters)
