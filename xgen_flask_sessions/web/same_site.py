"""Is a request from this site? The guards against cross-site request forgery.

Two independent ones: where the browser says the request comes from, and a token in each form.
The token needs no server-side state and lives as long as the session does, so that a page left
open for hours still works.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from typing import TypeGuard

from flask import Request

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, section 9.2.1."""

FORM_FIELD = "csrf_token"

MAX_PATH = 2000
"""Bytes of a path to come back to: it has to fit into a header, percent-encoded."""

_DOT_SEGMENT = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)
"""RFC 3986, section 3.3."""


def is_same_site(request: Request, trusted_origins: Collection[str] = ()) -> bool:
    """Say whether *request* is safe to act on although a browser adds its cookies by itself.

    A request that changes nothing is. Others are if the browser says that they come from this
    origin (Fetch Metadata, else ``Origin``), or if they bear neither header: then no browser
    sent them.

    :param trusted_origins: Further origins that may call, such as ``https://app.example.com``.
    """
    if request.method in SAFE_METHODS:
        return True
    origin = request.headers.get("Origin")
    if origin is not None and origin in trusted_origins:
        return True
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin.partition("://")[2] == request.host


def form_token(secret: bytes, binding: str) -> str:
    """Return the token for forms of one session.

    :param secret: The deployment's secret.
    :param binding: What names the session.
    """
    key = hashlib.sha256(b"xgen-sessions form token\0" + secret).digest()
    return hmac.new(key, binding.encode(), hashlib.sha256).hexdigest()


def is_form_token(candidate: str | None, secret: bytes, binding: str) -> bool:
    """Say whether *candidate* is the :func:`form_token`, in constant time."""
    expected = form_token(secret, binding)
    return hmac.compare_digest((candidate or "").encode("utf-8", "replace"), expected.encode())


def is_local_path(target: str | None) -> TypeGuard[str]:
    r"""Say whether *target* is a path on this site, fit to be redirected to after signing in.

    A browser takes ``//host``, ``/\host`` and ``/<tab>/host`` for another site. Dot segments are
    refused because ``/.//host`` becomes ``//host`` where somebody resolves them.
    """
    return (
        target is not None
        and target.startswith("/")
        and not target.startswith("//")
        and "\\" not in target
        and target.isprintable()
        and len(target.encode()) <= MAX_PATH
        and _DOT_SEGMENT.search(target.partition("?")[0].partition("#")[0]) is None
    )
