"""Can a secret be guessed? Rules of thumb that a random one passes."""

from __future__ import annotations

import re
from itertools import pairwise
from math import log
from typing import Final

_FEWEST_BYTES = 8
"""Different ones; 32 random digits have fewer once in some thousand times."""

_KNOWN: Final = (
    "changeme", "changethis", "default", "development", "example", "insecure", "keepitsafe",
    "letmein", "password", "placeholder", "qwerty", "replaceme", "secret", "testing", "yourkey",
)  # fmt: skip
_KNOWN_WHOLE: Final = frozenset({"admin", "app", "dev", "flask", "key", "prod", "test", "xgen"})

_COMMONEST: Final = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve "
    "co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no "
    "ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts "
    "mo ow pa im mi ai sh"
)
_PAIRS: Final = frozenset(_COMMONEST.split())
"""The hundred commonest pairs of letters in English."""
_IF_WORDS, _IF_CHANCE = 0.77, 0.15
"""How much of a text they make up, and of letters drawn by chance."""
_SURE: Final = log(1000)
"""One random secret in some ten thousand is taken for words at these odds."""


def weakness(secret: bytes) -> str | None:
    """Return in words why *secret* can be guessed; ``None`` if nothing speaks against it."""
    if len(set(secret)) < _FEWEST_BYTES:
        return "has few different characters"
    if secret in (secret * 2)[1:-1]:
        return "repeats itself"
    if len({after - before for before, after in pairwise(secret)}) < 5:
        return "counts up or down"
    try:
        text = secret.decode().lower()
    except UnicodeDecodeError:  # nobody typed it
        return None
    letters = re.sub(r"[^a-z]", "", text)
    if letters in _KNOWN_WHOLE or any(word in letters for word in _KNOWN):
        return "has a word in it that is tried first"
    if not text.isascii() or _is_wordy(text):
        return "reads like words"
    return None


def _is_wordy(text: str) -> bool:
    """Say whether words make the pairs of letters in *text* far likelier than chance does."""
    if re.fullmatch(r"[0-9a-f-]+", text):
        return False
    evidence = 0.0
    for first, second in pairwise(text):
        if first.isalpha() and second.isalpha():
            common = first + second in _PAIRS
            evidence += log(
                _IF_WORDS / _IF_CHANCE if common else (1 - _IF_WORDS) / (1 - _IF_CHANCE)
            )
    return evidence > _SURE
