"""The rows that a page shows, packed into its address.

Without JavaScript, an act loads the page again. It shows the same users in the same places, so that
a second click does not meet another user's button. The address has only ids; every result on the
page comes from the audit records.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from typing import Final

from ..tokens.claims import is_user_id

PARAMETER: Final = "kept"
MAX_LENGTH: Final = 4000
"""The longest packed text: addresses over 8,000 characters are refused by many servers."""
MAX_ROWS: Final = 100
_MAX_BYTES: Final = 64 * 1024


def pack(user_ids: Sequence[str], around: str | None = None) -> str:
    """Return ids as a short text for an address.

    :param around: If not all ids fit, those next to this one are kept.
    """
    ids = list(user_ids[:MAX_ROWS])
    middle = ids.index(around) if around in ids else 0
    reach = len(ids)
    while True:
        window = ids[max(0, middle - reach) : middle + reach + 1]
        text = _encode(window)
        if len(text) <= MAX_LENGTH or reach == 0:
            return text
        reach = min(reach - 1, reach * 2 // 3)


def unpack(text: str) -> list[str]:
    """Return the ids of :func:`pack`; none if the text is damaged or made up."""
    if not text or len(text) > MAX_LENGTH:
        return []
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        inflate = zlib.decompressobj()
        plain = inflate.decompress(packed, _MAX_BYTES)
        ids = json.loads(plain) if inflate.eof else None
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        return []
    if not isinstance(ids, list) or len(ids) > MAX_ROWS:
        return []
    if not all(isinstance(each, str) and is_user_id(each) for each in ids):
        return []
    return list(dict.fromkeys(ids))


def _encode(ids: Sequence[str]) -> str:
    plain = json.dumps(ids, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(zlib.compress(plain, 9)).decode().rstrip("=")
