"""The JSON API in OpenAPI 3.1: ``openapi.json``, with the values that depend on the host filled in.

Tests compare the document with the application: routes, error codes, columns, limits, members.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..settings import Settings

_SCHEMES = {"headers": "bearer", "cookies": "cookie"}
"""The security scheme for each of ``settings.token_locations``."""


def document(settings: Settings, *, server: str, version: str) -> dict[str, Any]:
    """Return the OpenAPI document, as a new object at each call.

    :param settings: Where tokens may be sent, and the name of the cookie.
    :param server: The path that the API is mounted at, with the script root.
    :param version: The release of this package.
    """
    api: dict[str, Any] = json.loads(_template())
    schemes = api["components"]["securitySchemes"]
    schemes["cookie"]["name"] = settings.cookie_name
    for location, name in _SCHEMES.items():
        if location not in settings.token_locations:
            del schemes[name]
            api["security"].remove({name: []})
    api["info"]["version"] = version
    api["servers"] = [{"url": server}]
    return api


@lru_cache(maxsize=1)
def _template() -> str:
    return Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
