"""The contents of tokens: claims, the rules for ids, and the values that callers get."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ..clock import seconds_until

MAX_TOKEN_BYTES: Final = 8192
MAX_COOKIE_BYTES: Final = 4096
"""Browsers drop a cookie whose name and value are longer together (RFC 6265bis, section 5.7)."""
MAX_NESTING: Final = 64
"""Levels of lists and objects in a token's payload."""
MAX_USER_ID_LENGTH: Final = 255
_NOT_IN_IDS: Final = re.compile("[\0-\x1f\ud800-\udfff]")

RESERVED_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "jti", "sid", "iat", "exp", "iat_us", "lid", "nbf", "dpl"}
)
"""Claims that a host cannot set."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,36}")


@dataclass(frozen=True, slots=True)
class Claims:
    """The checked claims of one token. Times are microseconds since the epoch."""

    user_id: str
    jti: str
    session_id: str
    issued_us: int
    expires_us: int
    extra: Mapping[str, Any]
    """Claims that the host added."""
    deployment: str | None = None
    """The id of the deployment that issued it; ``None`` if a release before 0.4 did."""
    login_id: str | None = None
    """The result of ``get_id()`` at the sign-in (claim ``lid``); ``None`` if it is the user id."""
    made_us: int = field(default=0, compare=False)
    """When it was made, by the clock of its machine (claim ``iat``); 0 means at its stamp."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just issued. Times are microseconds since the epoch."""

    token: str = field(repr=False)
    jti: str
    session_id: str
    issued_us: int
    expires_us: int

    @property
    def expires_in(self) -> int:
        """The remaining lifetime in whole seconds, as in OAuth answers (RFC 6749, section 5.1)."""
        return seconds_until(self.expires_us)


class VerifiedToken(NamedTuple):
    """A token that was genuine, unexpired and not revoked when it was checked."""

    user_id: str
    jti: str
    session_id: str
    issued_us: int
    """Its stamp, in microseconds since the epoch."""
    expires_us: int
    """When it expires, in microseconds since the epoch."""
    claims: Mapping[str, Any]
    """Claims that the host added at sign-in."""
    login_id: str = ""
    """The result of Flask-Login's ``get_id()`` at sign-in; usually the user id."""
    made_us: int = 0
    """When it was made, by the clock of its machine; to the second."""
    account_mark: str | None = None
    """Distinguishes the account from a later one with the same id; ``None`` if unknown."""


def verified_token(claims: Claims, account_mark: str | None = None) -> VerifiedToken:
    """Return the public value of a token that passed every check."""
    return VerifiedToken(
        claims.user_id,
        claims.jti,
        claims.session_id,
        claims.issued_us,
        claims.expires_us,
        # A copy: callers may change it.
        deepcopy(claims.extra) if claims.extra else {},
        claims.login_id or claims.user_id,
        claims.made_us,
        account_mark,
    )


def check_extra_claims(claims: Mapping[str, Any]) -> None:
    """Check that a host's claims fit into a token.

    :raises ValueError: A name is reserved or not a string, a value is not JSON, or they are too
        long or nested too deeply.
    """
    reserved = sorted(name for name in claims if name in RESERVED_CLAIMS)
    if reserved:
        raise ValueError(f"The claim {reserved[0]!r} is reserved for xgen_flask_sessions.")
    if not all(isinstance(name, str) for name in claims):
        raise ValueError("Claim names must be strings.")
    try:
        size = len(json.dumps(dict(claims), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"The claims cannot be written as JSON: {error}") from None
    if size > MAX_TOKEN_BYTES // 2:
        raise ValueError(f"The claims take {size} bytes; {MAX_TOKEN_BYTES // 2} fit.")
    if is_nested_too_deeply(claims):
        raise ValueError(f"The claims are nested more than {MAX_NESTING} levels deep.")


def is_nested_too_deeply(value: object) -> bool:
    """Return whether lists and objects are nested more than :data:`MAX_NESTING` levels deep.

    Code that copies or compares deeper values fails at Python's recursion limit.
    """
    level: list[object] = [value]
    for _ in range(MAX_NESTING + 1):
        containers = [each for each in level if isinstance(each, Mapping | list | tuple)]
        if not containers:
            return False
        level = []
        for each in containers:
            level += each.values() if isinstance(each, Mapping) else each
    return True


def check_user_id(user_id: object) -> str:
    """Return *user_id* if it is valid in tokens and tables.

    :raises ValueError: It is not a string, empty, over 255 characters, not encodable, holds a
        control character, or is ``*`` (which stands for everyone).
    """
    if not isinstance(user_id, str) or not 0 < len(user_id) <= MAX_USER_ID_LENGTH:
        raise ValueError("A user id is a string of 1 to 255 characters.")
    if user_id == "*":
        raise ValueError("'*' stands for everyone and cannot be a user's id.")
    if _NOT_IN_IDS.search(user_id):
        raise ValueError("A user id has no control characters and no lone surrogates.")
    return user_id


def is_user_id(value: object) -> bool:
    """Return whether :func:`check_user_id` accepts *value*."""
    try:
        check_user_id(value)
    except ValueError:
        return False
    return True


def is_session_id(value: str) -> bool:
    """Return whether *value* is well-formed as a ``jti`` or ``sid``."""
    return _ID.fullmatch(value) is not None
