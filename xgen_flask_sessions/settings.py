"""The ``XGEN_SESSIONS_*`` settings: read once, checked once, frozen."""

# ruff: noqa: RUF009 - _setting() is dataclasses.field() with documentation.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Final, Literal, NoReturn, cast
from zoneinfo import ZoneInfo

import limits

from .clock import MAX_LEEWAY
from .errors import ConfigurationError
from .origins import canonical_origin
from .tokens.keys import MIN_SECRET_BYTES, Key, is_pem, load_key

PREFIX = "XGEN_SESSIONS_"

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SECURE_PREFIXES = ("__host-", "__secure-", "__http-")
_URL_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_MAX_TEXT = 255
SHORTEST_LIFETIME: Final = timedelta(seconds=1)
LONGEST_LIFETIME: Final = timedelta(days=3650)
HOW_TO_MAKE_A_KEY: Final = "python -c 'import secrets; print(secrets.token_hex(32))'"
"""The command that prints a new secret."""
_MAX_RATE = 1_000_000
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_RATE_STORAGES = ("memory", "redis", "rediss", "redis+unix")


def _setting(
    doc: str, default: object = None, *, shown: str | None = None, secret: bool = False
) -> Any:
    """Declare one setting together with its documentation.

    :param doc: Plain sentences for the configuration reference.
    :param default: The value if the key is left out; :meth:`Settings.from_config` reads it here.
    :param shown: The text for the default in the reference, where the value does not say it.
    :param secret: Whether to keep the value out of ``repr()``.
    """
    metadata = {"doc": doc, "default": default, "shown": shown}
    return field(repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that ``init_app`` read from ``app.config``; see :meth:`from_config`."""

    secret_key: bytes | None = _setting(
        "Signs tokens with HS256. It needs at least 32 bytes. Every process of the deployment "
        "needs the same one.",
        shown="the application's ``SECRET_KEY``",
        secret=True,
    )
    algorithm: str = _setting(
        "The signature algorithm: ``HS256``, ``RS256``, ``ES256`` or ``EdDSA``. The last three "
        "need the extra ``crypto``.",
        "HS256",
    )
    private_key: bytes | None = _setting(
        "The private key in PEM, for ``RS256``, ``ES256`` and ``EdDSA``.", secret=True
    )
    public_key: bytes | None = _setting(
        "The public key in PEM, for ``RS256``, ``ES256`` and ``EdDSA``. With the public key alone, "
        "the application verifies tokens and cannot issue any.",
        secret=True,
    )
    previous_keys: tuple[bytes, ...] = _setting(
        "Keys that no longer sign and still verify: secrets, or keys in PEM. A token names its key "
        "by ``kid`` (RFC 7638). Where the application's ``SECRET_KEY`` signs tokens, its "
        "``SECRET_KEY_FALLBACKS`` still verify them, too.",
        (),
        secret=True,
    )
    issuer: str = _setting(
        "The claim ``iss``. Every process of the deployment needs the same one.", "xgen"
    )
    audience: str | None = _setting("The claim ``aud``.")
    lifetime: timedelta = _setting(
        "The lifetime of a token: a ``timedelta`` or whole seconds, from one second to ten years.",
        timedelta(hours=24),
    )
    leeway: timedelta = _setting(
        "The time that a token remains valid after its ``exp``: a ``timedelta`` or whole seconds, "
        "up to 5 minutes.",
        timedelta(0),
    )
    token_locations: tuple[Literal["headers", "cookies"], ...] = _setting(
        "The places where a request may carry its token: ``headers``, ``cookies`` or both.",
        ("headers", "cookies"),
    )
    cookie_name: str = _setting(
        "The name of the cookie that holds the token. Its domain and path are those of Flask's "
        "session cookie: ``SESSION_COOKIE_DOMAIN``, and ``SESSION_COOKIE_PATH`` or "
        "``APPLICATION_ROOT``. ``SESSION_COOKIE_PARTITIONED`` holds for it, too. A name such as "
        "``__Host-xgen_token`` keeps other sites on the same domain from setting it; it needs "
        "``XGEN_SESSIONS_COOKIE_SECURE``, the path ``/`` and no domain.",
        "xgen_token",
    )
    cookie_secure: bool = _setting(
        "Send the cookie over HTTPS only. Switch it off only for plain HTTP on your own machine.",
        True,
    )
    cookie_samesite: Literal["Lax", "Strict", "None"] = _setting(
        "The cookie's ``SameSite`` attribute: ``Lax``, ``Strict`` or ``None``. ``None`` needs "
        "``XGEN_SESSIONS_COOKIE_SECURE``.",
        "Lax",
    )
    url_prefix: str = _setting(
        "The path of the JSON API. The application has no pages of its own under it.", "/sessions"
    )
    page_origins: frozenset[str] = _setting(
        "Other origins from which the pages of the screen may load scripts, styles, images and "
        "fonts, such as ``https://cdn.example.com``: for a layout of your own.",
        (),
    )
    timezone: ZoneInfo = _setting(
        "The time zone of the times on the screen and in the terminal, such as ``Asia/Seoul``.",
        "UTC",
    )
    confirm_force_logout: bool = _setting("Ask for confirmation before a force logout.", False)
    retention: timedelta = _setting(
        "The time that ended and expired sessions stay in the table: a ``timedelta`` or whole "
        "seconds. A row stays at least for the leeway and five minutes, because clocks differ.",
        timedelta(days=30),
    )
    deadline: timedelta = _setting(
        "The time that the database has to check a token: a ``timedelta`` or whole seconds, from "
        "0.1 seconds to a minute. After it, the answer is 503.",
        timedelta(seconds=2),
    )
    write_deadline: timedelta = _setting(
        "The time that the database has for a sign-in, a renewal, the end of a session, the "
        "force logout of one user, or the block of ``XgenSessions.transaction()``: a "
        "``timedelta`` or whole seconds, from 0.1 seconds to a minute. After it, the answer is 503 "
        "and the change is not made.",
        timedelta(seconds=10),
    )
    consistency: Literal["strict", "watch"] = _setting(
        "``strict`` reads the database at every check. ``watch`` keeps answers in memory and "
        "follows the feed of revocations.",
        "strict",
    )
    max_staleness: timedelta = _setting(
        "The staleness bound of ``watch``: the greatest age of an answer from memory. A "
        "``timedelta`` or whole seconds, from 0.2 seconds to a minute.",
        timedelta(seconds=2),
    )
    redis_url: str | None = _setting(
        "The Redis that receives the feed for services without the database, such as "
        "``redis://host:6379/0``. It needs the extra ``redis``, and the key that signs tokens. Two "
        "deployments need two issuers or two databases of Redis.",
        secret=True,
    )
    trusted_origins: frozenset[str] = _setting(
        "Other origins that may use the cookie for calls that change something and for web "
        "sockets, such as ``https://app.example.com``. Case and a default port do not matter.",
        (),
    )
    guards: tuple[str, ...] = _setting(
        "Names of the application's own functions that refuse callers without a session, such as "
        "``myapp.auth.require_role``: decorators, ``before_request`` functions, or classes with "
        "an ``is_accessible()``. ``doctor`` then reports no route behind them.",
        (),
    )
    force_logout_limit: limits.RateLimitItem | None = _setting(
        "Force logouts of one administrator, on the screen and by the API together. ``None`` or "
        "an empty string sets no limit.",
        "120/minute",
    )
    sign_in_limit: limits.RateLimitItem | None = _setting(
        "Failed sign-ins for one username from one address. ``None`` or an empty string sets no "
        "limit.",
        "10/minute",
    )
    sign_in_address_limit: limits.RateLimitItem | None = _setting(
        "Failed sign-ins from one address for all usernames together. ``None`` or an empty string "
        "sets no limit.",
        "100/minute",
    )
    rate_limit_storage: str = _setting(
        "The store of the rate limits' counters. ``memory://`` counts in each process by itself; "
        "``redis://host:6379/0`` counts for several processes and needs the extra ``redis``.",
        "memory://",
        secret=True,
    )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read and check the settings.

        :param config: The application's configuration.
        :raises ConfigurationError: A value is wrong or a key is unknown; the message names the
            key and the fix.
        """
        known = [PREFIX + each.name.upper() for each in fields(cls)]
        unknown = sorted(key for key in config if key.startswith(PREFIX) and key not in known)
        if unknown:
            raise ConfigurationError(
                f"{unknown[0]} is not a setting; take it out. Known ones: {', '.join(known)}."
            )
        defaults = {each.name.upper(): each.metadata["default"] for each in fields(cls)}
        reader = _Reader(config, defaults)
        algorithm = reader.choice("ALGORITHM", ALGORITHMS)
        return cls(
            secret_key=reader.secret(required=algorithm == "HS256"),
            algorithm=algorithm,
            private_key=reader.pem("PRIVATE_KEY", algorithm),
            public_key=reader.pem("PUBLIC_KEY", algorithm),
            previous_keys=reader.previous_keys(algorithm),
            issuer=reader.text("ISSUER"),
            audience=reader.optional_text("AUDIENCE"),
            lifetime=reader.duration("LIFETIME", SHORTEST_LIFETIME),
            leeway=reader.duration("LEEWAY", most=MAX_LEEWAY),
            token_locations=reader.locations(),
            cookie_name=reader.cookie_name(),
            cookie_secure=reader.flag("COOKIE_SECURE"),
            cookie_samesite=reader.samesite(),
            url_prefix=reader.url_prefix(),
            page_origins=reader.origins("PAGE_ORIGINS"),
            timezone=reader.timezone(),
            confirm_force_logout=reader.flag("CONFIRM_FORCE_LOGOUT"),
            retention=reader.duration("RETENTION"),
            deadline=reader.deadline("DEADLINE"),
            write_deadline=reader.deadline("WRITE_DEADLINE"),
            consistency=reader.consistency(),
            max_staleness=reader.duration(
                "MAX_STALENESS", timedelta(milliseconds=200), timedelta(minutes=1)
            ),
            redis_url=reader.redis_url(),
            trusted_origins=reader.origins("TRUSTED_ORIGINS"),
            guards=reader.names("GUARDS"),
            force_logout_limit=reader.rate("FORCE_LOGOUT_LIMIT"),
            sign_in_limit=reader.rate("SIGN_IN_LIMIT"),
            sign_in_address_limit=reader.rate("SIGN_IN_ADDRESS_LIMIT"),
            rate_limit_storage=reader.rate_storage(),
        )


class _Reader:
    """Typed look-ups in the configuration with messages that name the key and the fix."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._config = config
        self._defaults = defaults

    def _get(self, name: str) -> Any:
        value = self._config.get(PREFIX + name)
        return self._defaults[name] if value is None else value

    def _fail(self, name: str, fix: str) -> NoReturn:
        # The value is not repeated: it may be a secret.
        raise ConfigurationError(f"{PREFIX}{name} {fix}")

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
            self._fail(name, f"must be a string of 1 to {_MAX_TEXT} characters.")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self._get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            self._fail(name, "must be True or False.")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        value = self._get(name)
        if value not in allowed:
            self._fail(name, f"must be one of {', '.join(allowed)}.")
        return cast("str", value)

    def duration(
        self,
        name: str,
        least: timedelta = timedelta(0),
        most: timedelta = LONGEST_LIFETIME,
    ) -> timedelta:
        value = self._get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = timedelta(seconds=min(value, 10**11)) if value >= 0 else None
        if not isinstance(value, timedelta) or not least <= value <= most:
            self._fail(
                name,
                "must be a timedelta or whole seconds, "
                f"from {least.total_seconds():g} to {most.total_seconds():.0f} s.",
            )
        return value

    def deadline(self, name: str) -> timedelta:
        return self.duration(name, timedelta(milliseconds=100), timedelta(minutes=1))

    def _bytes(self, name: str, value: object) -> bytes:
        if isinstance(value, str):
            try:
                value = value.encode()
            except UnicodeEncodeError:
                self._fail(name, "cannot be encoded as UTF-8; give it as bytes.")
        if not isinstance(value, bytes) or not value:
            self._fail(name, "must be a non-empty string or bytes.")
        return value

    def secret(self, *, required: bool) -> bytes | None:
        value = self._get("SECRET_KEY")
        if value is None:
            value = self._config.get("SECRET_KEY")
        if value is None and not required:
            return None
        if value is None:
            self._fail("SECRET_KEY", "(or the application's SECRET_KEY) must be set.")
        secret = self._bytes("SECRET_KEY", value)
        if required and len(secret) < MIN_SECRET_BYTES:
            self._fail(
                "SECRET_KEY",
                f"(default: the application's SECRET_KEY) has {len(secret)} bytes; HS256 needs at "
                f"least {MIN_SECRET_BYTES}. Make one with: {HOW_TO_MAKE_A_KEY}",
            )
        return secret

    def pem(self, name: str, algorithm: str) -> bytes | None:
        value = self._get(name)
        if algorithm == "HS256":
            if value is not None:
                self._fail(name, f"is only for {', '.join(ALGORITHMS[1:])}; leave it out.")
            return None
        if value is None:
            if name == "PUBLIC_KEY" and self._get("PRIVATE_KEY") is None:
                self._fail("PRIVATE_KEY", f"(or _PUBLIC_KEY, to verify only) must be set for "
                           f"{algorithm}.")  # fmt: skip
            return None
        return self._bytes(name, value)

    def previous_keys(self, algorithm: str) -> tuple[bytes, ...]:
        name = "PREVIOUS_KEYS"
        value = self._get(name)
        if not isinstance(value, list | tuple):
            self._fail(name, "must be a list of keys that may still verify, newest first.")
        keys = [self._bytes(name, key) for key in value]
        for key in keys:
            if not is_pem(key) and len(key) < MIN_SECRET_BYTES:
                self._fail(name, f"has a key of under {MIN_SECRET_BYTES} bytes; remove it.")
        if algorithm == "HS256" and self._get("SECRET_KEY") is None:
            # A shorter secret signs Flask's sessions, and has never signed a token.
            earlier = secret_fallbacks(self._config)
            keys += [key for key in earlier if len(key) >= MIN_SECRET_BYTES]
        return tuple(dict.fromkeys(keys))

    def locations(self) -> tuple[Literal["headers", "cookies"], ...]:
        value = self._get("TOKEN_LOCATIONS")
        if (
            not isinstance(value, list | tuple)
            or not value
            or any(place not in ("headers", "cookies") for place in value)
        ):
            self._fail("TOKEN_LOCATIONS", "must be a list of 'headers', 'cookies' or both.")
        return tuple(value)

    def cookie_name(self) -> str:
        name = self.text("COOKIE_NAME")
        if not _COOKIE_NAME.fullmatch(name):
            self._fail("COOKIE_NAME", "must be a cookie name (RFC 6265, section 4.1.1).")
        if name == self._config.get("SESSION_COOKIE_NAME", "session"):
            self._fail("COOKIE_NAME", "is Flask's own session cookie; choose another name.")
        remember = self._config.get("REMEMBER_COOKIE_NAME", "remember_token")
        if name in (remember, f"{remember}_session"):
            self._fail("COOKIE_NAME", "is a cookie of remembered sign-ins; choose another name.")
        self._check_prefix(name.lower())
        return name

    def _check_prefix(self, name: str) -> None:
        """Check the rules by which browsers keep a cookie with a prefix (RFC 6265bis, 4.1.3)."""
        if name.startswith(_SECURE_PREFIXES) and self._get("COOKIE_SECURE") is False:
            self._fail("COOKIE_NAME", "can begin with such a prefix only with COOKIE_SECURE on.")
        path = self._config.get("SESSION_COOKIE_PATH") or self._config.get("APPLICATION_ROOT", "/")
        domain = self._config.get("SESSION_COOKIE_DOMAIN")
        if name.startswith("__host-") and (domain or path != "/"):
            self._fail(
                "COOKIE_NAME",
                "can begin with '__Host-' only without SESSION_COOKIE_DOMAIN and with the path "
                "'/' (SESSION_COOKIE_PATH, APPLICATION_ROOT).",
            )

    def samesite(self) -> Literal["Lax", "Strict", "None"]:
        value = self.choice("COOKIE_SAMESITE", ("Lax", "Strict", "None"))
        if value == "None" and self._get("COOKIE_SECURE") is False:
            self._fail("COOKIE_SAMESITE", "can be 'None' only with COOKIE_SECURE on.")
        return cast('Literal["Lax", "Strict", "None"]', value)

    def url_prefix(self) -> str:
        value = self.text("URL_PREFIX")
        if not _URL_PREFIX.fullmatch(value):
            self._fail("URL_PREFIX", "must be a path such as '/sessions', without a final slash.")
        return value

    def timezone(self) -> ZoneInfo:
        value = self.text("TIMEZONE")
        try:
            return ZoneInfo(value)
        except (OSError, ValueError, LookupError):
            self._fail("TIMEZONE", "must be an IANA zone such as 'Asia/Seoul'.")

    def origins(self, name: str) -> frozenset[str]:
        value = self._get(name)
        if not isinstance(value, list | tuple | set | frozenset):
            self._fail(name, "must be a list such as ['https://app.example.com'].")
        found = [canonical_origin(origin) for origin in value]
        if None in found:
            self._fail(name, "takes scheme and host, such as 'https://app.example.com'.")
        return frozenset(origin for origin in found if origin is not None)

    def names(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        is_list = isinstance(value, list | tuple)
        if not is_list or not all(isinstance(each, str) and "." in each for each in value):
            self._fail(name, "must be a list of names such as ['myapp.auth.require_role'].")
        return tuple(value)

    def rate(self, name: str) -> limits.RateLimitItem | None:
        default = self._defaults[name]
        value = self._config.get(PREFIX + name, default)
        if value is None or value == "":
            return None
        try:
            (limit,) = limits.parse_many(value)
        except ValueError:  # not a limit, or several
            limit = None
        if (
            limit is None
            or not 1 <= limit.amount <= _MAX_RATE
            or limit.get_expiry() > timedelta(days=1).total_seconds()
        ):
            self._fail(
                name,
                f"must be one limit such as '{default}', of 1 to {_MAX_RATE} in up to a day; "
                "None or '' for none.",
            )
        return limit

    def consistency(self) -> Literal["strict", "watch"]:
        value = self.choice("CONSISTENCY", ("strict", "watch"))
        return cast('Literal["strict", "watch"]', value)

    def redis_url(self) -> str | None:
        value = self.optional_text("REDIS_URL")
        if value is not None and not value.startswith(_REDIS_SCHEMES):
            self._fail("REDIS_URL", "must be a URL such as 'redis://host:6379/0'.")
        return value

    def rate_storage(self) -> str:
        value = self.text("RATE_LIMIT_STORAGE")
        if value.partition("://")[0] not in _RATE_STORAGES or "://" not in value:
            self._fail(
                "RATE_LIMIT_STORAGE",
                "must be 'memory://', or for several processes 'redis://host:6379/0' "
                f"({', '.join(_RATE_STORAGES)}).",
            )
        return value


def secret_fallbacks(config: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return the application's earlier secrets, as Flask reads them.

    :raises ConfigurationError: They are no list of keys.
    """
    value = config.get("SECRET_KEY_FALLBACKS") or ()
    if not isinstance(value, list | tuple) or not all(isinstance(k, str | bytes) for k in value):
        raise ConfigurationError("SECRET_KEY_FALLBACKS must be a list of keys, newest first.")
    return tuple(key.encode() if isinstance(key, str) else key for key in value)


def load_keys(settings: Settings) -> list[Key]:
    """Load the keys of the settings: the current one first, then those that may still verify.

    :raises ConfigurationError: One cannot be used; the message names its setting.
    """
    if settings.algorithm == "HS256":
        current = _load_setting("SECRET_KEY", settings.secret_key or b"", "HS256")
    elif settings.private_key is None:
        current = _load_setting("PUBLIC_KEY", settings.public_key or b"", settings.algorithm)
    else:
        current = _load_setting("PRIVATE_KEY", settings.private_key, settings.algorithm)
        if current.signing is None:
            raise ConfigurationError("XGEN_SESSIONS_PRIVATE_KEY must be a private key in PEM.")
        if settings.public_key is not None:
            public = _load_setting("PUBLIC_KEY", settings.public_key, settings.algorithm)
            if public.kid != current.kid:
                raise ConfigurationError(
                    "XGEN_SESSIONS_PUBLIC_KEY does not belong to XGEN_SESSIONS_PRIVATE_KEY; "
                    "leave it out, or set the one that does."
                )
    previous = [_load_setting("PREVIOUS_KEYS", material) for material in settings.previous_keys]
    return [current, *previous]


def _load_setting(setting: str, material: bytes, algorithm: str | None = None) -> Key:
    try:
        return load_key(material, algorithm)
    except ConfigurationError as error:
        raise ConfigurationError(f"{PREFIX}{setting} cannot be used: {error}") from None
