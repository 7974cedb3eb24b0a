"""The Content-Security-Policy of the plugin's answers (Content Security Policy Level 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, cast
from urllib.parse import urlsplit

from flask import current_app, request, url_for
from werkzeug.routing import BuildError

from ..state import find_state
from .host_header import is_host_usable

DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""For all answers but pages: if a browser shows one as a page, it cannot load or run anything."""

_NETLOC = re.compile(r"[\w.:\[\]-]+", re.ASCII)
_NONCE = re.compile(r"[\w+/=-]+", re.ASCII)


def page_policy(nonce: str | None = None) -> str:
    """Return the policy of a page: no inline code, no foreign sources, no frames.

    Sources are the page's own origin, the origins from which the application serves the static
    files of the plugin and of Flask-Admin (another subdomain, a CDN), and
    ``XGEN_SESSIONS_PAGE_ORIGINS``. There is no ``form-action``, which browsers also apply to
    redirects after a form: after a sign-out, the redirect leads to the host's sign-in page, which
    may be on another site.

    :param nonce: Also allows the host's inline scripts and styles that carry this nonce.
    """
    others = "".join(f" {origin}" for origin in sorted(_other_origins()))
    inline = f" 'nonce-{nonce}'" if nonce and _NONCE.fullmatch(nonce) else ""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self'{others}{inline}",
            f"style-src 'self'{others}{inline}",
            f"img-src 'self' data:{others}",
            f"font-src 'self'{others}",
            "connect-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _other_origins() -> set[str]:
    """Return the origins of the page's files that are not its own."""
    state = find_state()
    if state is None or not is_host_usable():
        return set()
    own = (request.scheme, request.host)
    found = {
        f"{parts.scheme or request.scheme}://{parts.netloc}"
        for parts in map(urlsplit, _file_urls())
        if _NETLOC.fullmatch(parts.netloc) and (parts.scheme or request.scheme, parts.netloc) != own
    }
    return found | state.settings.page_origins


def _file_urls() -> Iterator[str]:
    """Yield one URL of each folder of static files, as the code and as the templates make it.

    The files exist: the host's own ``url_for`` may add their time or their hash.
    """
    admins = current_app.extensions.get("admin", ())
    files = {"xgen_sessions.static": "xgen-sessions.css"}
    files |= {f"{admin.endpoint}.static": "vendor/jquery.min.js" for admin in admins}
    by_templates = cast("Callable[..., str]", current_app.jinja_env.globals["url_for"])
    for make in (url_for, by_templates):
        for endpoint, name in files.items():
            try:
                yield make(endpoint, filename=name)
            except BuildError:  # an index view of the host's that serves no files
                continue
