"""Configuration from the environment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from xgen_flask_sessions import ConfigurationError
from xgen_flask_sessions.standalone.instance import DATABASE

PREFIX: Final = "XGEN_SESSIONS_"
"""The prefix of the plugin's settings."""

_DRIVERS: Final = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_PLAIN_TEXT: Final = frozenset(
    PREFIX + name for name in ("SECRET_KEY", "PRIVATE_KEY", "PUBLIC_KEY", "ISSUER", "AUDIENCE")
)
"""Settings that are always text: a secret may be all digits."""


def from_environment(instance: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration from the environment.

    - ``XGEN_DATABASE_URL``: PostgreSQL or MariaDB in place of SQLite in the instance directory
    - ``XGEN_ADMIN_PASSWORD``: the password of the first SuperUser
    - ``XGEN_TRUSTED_PROXIES``: the number of reverse proxies in front of the server
    - ``XGEN_SESSIONS_…``: every setting of the plugin, as JSON or as plain text

    :param instance: The instance directory.
    :param environ: The environment.
    :raises ConfigurationError: A value is wrong; the message names the variable and the correction.
    """
    database = _database(environ.get("XGEN_DATABASE_URL"), instance)
    config: dict[str, Any] = {
        "ADMIN_PASSWORD": environ.get("XGEN_ADMIN_PASSWORD") or None,
        "PASSWORD_HASH_METHOD": "scrypt",
        "SESSION_COOKIE_SAMESITE": "Lax",
        "REMEMBER_COOKIE_SAMESITE": "Lax",
        "MAX_CONTENT_LENGTH": 64 * 1024,
        "SQLALCHEMY_DATABASE_URI": database,
        "TRUSTED_PROXIES": _proxies(environ.get("XGEN_TRUSTED_PROXIES")),
        # Plain HTTP on localhost, unless it is told of HTTPS.
        "XGEN_SESSIONS_COOKIE_SECURE": False,
    }
    for key, text in environ.items():
        if key.startswith(PREFIX):
            config[key] = text if key in _PLAIN_TEXT else _parse(text)
    if config["XGEN_SESSIONS_COOKIE_SECURE"] is True:
        # No other site on the domain can set a cookie of this name (RFC 6265bis, section 4.1.3).
        config.setdefault("XGEN_SESSIONS_COOKIE_NAME", "__Host-xgen_token")
    return config


def engine_options(database: str | sa.URL) -> dict[str, Any]:
    """Return the engine options for a database URL."""
    # Statements hold password hashes.
    hidden = {"hide_parameters": True}
    if sa.make_url(database).get_backend_name() == "sqlite":
        return hidden
    return hidden | {
        "pool_pre_ping": True,
        "pool_timeout": 2,
        "isolation_level": "READ COMMITTED",  # the default of PostgreSQL, not of MariaDB
    }


def _database(text: str | None, instance: Path) -> sa.URL:
    if not text:
        return sa.URL.create("sqlite", database=str(instance / DATABASE))
    try:
        url = sa.make_url(text)
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except ImportError as error:
        raise ConfigurationError(
            f"XGEN_DATABASE_URL needs a driver that cannot be imported ({error}); "
            "install xgen-flask-sessions with the extra 'postgresql' or 'mysql'."
        ) from error
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError):
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            "XGEN_DATABASE_URL must be a database URL such as "
            "'postgresql://user:password@host/name' or 'mariadb://user:password@host/name'."
        ) from None
    try:
        dialect().create_connect_args(url)
    except (TypeError, ValueError):
        raise ConfigurationError(
            "XGEN_DATABASE_URL has an option with a wrong value; see the documentation of the "
            f"driver {dialect.driver}."
        ) from None
    return url


def _proxies(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) == 1):
        raise ConfigurationError("XGEN_TRUSTED_PROXIES must be a number of proxies, 0 to 9.")
    return int(text)


def _parse(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    return text
