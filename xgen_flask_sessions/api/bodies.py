"""The JSON bodies of requests that act."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import BadRequest
from ..roster.spans import parse_span
from ..store.tables import MAX_REASON
from ..web.bulk_acts import MOST_USERS

MAX_BODY_BYTES: Final = 16 * 1024
MAX_LIST_BYTES: Final = 2 * 1024 * 1024
"""A thousand ids of 255 characters, each in JSON's six-letter escapes, fit."""

_REASON: Final = 'The body is an object such as {"reason": "…"}.'
_SEVERAL: Final = (
    'The body is an object such as {"user_ids": ["7", "8"], "reason": "…"} or {"everyone": true}.'
)
_OLD: Final = 'The body is an object such as {"keep_newest": true} or {"older_than": "7d"}.'
_SPAN: Final = "older_than is a whole number of seconds, or of a unit as in 90s, 30m, 12h or 7d."


@dataclass(frozen=True, slots=True)
class Several:
    """A request to force out several users, or everyone."""

    user_ids: list[str] | None
    """``None`` for everyone."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class Old:
    """A request to end a user's old sessions."""

    older_than_us: int | None
    """``None`` to keep the newest session alone."""
    reason: str | None


def read_reason() -> str | None:
    """Return the reason in the body, if there is one.

    :raises BadRequest: The body is something else.
    """
    body = _read(MAX_BODY_BYTES, _REASON)
    return None if body is None else _reason(body)


def read_reason_of_deletion() -> str | None:
    """Return the reason in the body, or in the query: some clients send no body with ``DELETE``."""
    reason = read_reason()
    return _reason({"reason": request.args.get("reason")}) if reason is None else reason


def read_several() -> Several:
    """Return whom to force out.

    :raises BadRequest: The body says neither several users nor everyone, or both.
    """
    body = _read(MAX_LIST_BYTES, _SEVERAL) or {}
    if body.keys() - {"reason"} == {"everyone"} and body["everyone"] is True:
        return Several(None, _reason(body))
    user_ids = body.get("user_ids")
    if body.keys() - {"reason"} != {"user_ids"} or not isinstance(user_ids, list):
        raise BadRequest(_SEVERAL)
    if not user_ids or not all(isinstance(each, str) for each in user_ids):
        raise BadRequest("user_ids is a list of the users' ids, each a string.")
    if len(user_ids) > MOST_USERS:
        raise BadRequest(f"user_ids has at most {MOST_USERS} ids.")
    return Several(user_ids, _reason(body))


def read_old() -> Old:
    """Return which sessions to end.

    :raises BadRequest: The body says neither an age nor to keep the newest, or both.
    """
    body = _read(MAX_BODY_BYTES, _OLD) or {}
    if body.keys() - {"reason"} == {"keep_newest"} and body["keep_newest"] is True:
        return Old(None, _reason(body))
    older_than = body.get("older_than")
    if body.keys() - {"reason"} != {"older_than"} or not isinstance(older_than, str):
        raise BadRequest(_OLD)
    older_than_us = parse_span(older_than)
    if older_than_us is None:
        raise BadRequest(_SPAN)
    return Old(older_than_us, _reason(body))


def _read(most: int, expected: str) -> dict[str, Any] | None:
    """Return the object in the body; ``None`` without a body.

    :param most: The longest body, in bytes.
    :param expected: A sentence about the body.
    """
    if (request.content_length or 0) > most:
        raise RequestEntityTooLarge
    data = request.stream.read(most + 1)
    if len(data) > most:  # without a Content-Length
        raise RequestEntityTooLarge
    if not data:
        return None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest(expected)
    return body


def _reason(body: dict[str, Any]) -> str | None:
    reason = body.get("reason")
    if not isinstance(reason, str | None):
        raise BadRequest(_REASON)
    if reason is not None and len(reason) > MAX_REASON:
        raise BadRequest(f"A reason has at most {MAX_REASON} characters.")
    return reason
