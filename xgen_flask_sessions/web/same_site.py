"""Guards against cross-site request forgery.

There are two independent ones: the headers by which browsers say where a request comes from, and a
token in each form. The token needs no server-side state and is valid as long as the session, so
that a page left open for hours still works.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from typing import TypeGuard

from flask import Request

from ..origins import canonical_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""The methods that change nothing (RFC 9110, section 9.2.1)."""

FORM_FIELD = "csrf_token"

MAX_PATH = 2000
"""The longest path to return to, in bytes: percent-encoded, it must fit into a header."""

_DOT_SEGMENT = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)
"""RFC 3986, section 3.3."""


def is_same_site(request: Request, trusted_origins: Collection[str] = ()) -> bool:
    """Return whether *request* may use the cookies that the browser attached.

    Requests with a safe method may, except for the handshake of a web socket. Others may if the
    browser says that they come from this origin (Fetch Metadata, otherwise ``Origin``), or without
    either header: no browser sent them.

    :param trusted_origins: Further origins that may call, in canonical form.
    """
    environ = request.environ
    is_web_socket = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    if request.method in SAFE_METHODS and not is_web_socket:
        return True
    sent = environ.get("HTTP_ORIGIN")
    origin = canonical_origin(sent)
    if origin is not None and origin in trusted_origins:
        return True
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site in ("same-origin", "none")
    return sent is None or (origin is not None and _is_own(request, origin))


def _is_own(request: Request, origin: str) -> bool:
    """Return whether *origin* has the request's own host.

    A proxy may end TLS without a word, so that an HTTPS page's request arrives as HTTP, but not the
    other way round. The header is read itself: Werkzeug has no host for a name with ``_``.
    """
    scheme = origin.partition("://")[0]
    if request.is_secure and scheme != "https":
        return False
    host = request.environ.get("HTTP_HOST") or request.host
    return canonical_origin(f"{scheme}://{host}") == origin


def form_token(secret: bytes, binding: str) -> str:
    """Return the token for forms of one session.

    :param secret: The deployment's secret.
    :param binding: Identifies the session.
    """
    key = hashlib.sha256(b"xgen-sessions form token\0" + secret).digest()
    return hmac.new(key, binding.encode(), hashlib.sha256).hexdigest()


def is_form_token(candidate: str | None, secret: bytes, binding: str) -> bool:
    """Return whether *candidate* is the :func:`form_token`, in constant time."""
    expected = form_token(secret, binding)
    return hmac.compare_digest((candidate or "").encode("utf-8", "replace"), expected.encode())


def is_local_path(target: str | None) -> TypeGuard[str]:
    r"""Return whether *target* is a path on this site, safe for a redirect after signing in.

    Browsers treat ``//host``, ``/\host`` and ``/<tab>/host`` as another site. Dot segments are
    refused because ``/.//host`` becomes ``//host`` once they are resolved.
    """
    return (
        target is not None
        and target.startswith("/")
        and not target.startswith("//")
        and "\\" not in target
        and len(target) <= MAX_PATH
        and target.isprintable()
        and len(target.encode()) <= MAX_PATH
        and _DOT_SEGMENT.search(target.partition("?")[0].partition("#")[0]) is None
    )
