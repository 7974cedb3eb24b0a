"""Keys and cookies. A finding never contains a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.cli.doctor.secrecy import weakness
from xgen_flask_sessions.settings import HOW_TO_MAKE_A_KEY, PREFIX, Settings
from xgen_flask_sessions.tokens.keys import is_pem

_GUESSED = "an attacker that guesses it can sign in as any user."


def examine_configuration(app: Flask, settings: Settings) -> Iterator[Finding]:
    """Examine keys and cookies.

    :param app: The application.
    :param settings: The plugin's settings.
    """
    with_flask_login = hasattr(app, "login_manager")
    findings = [*_examine_keys(settings)]
    if with_flask_login:
        findings += _examine_flask_keys(app, settings)
    yield from findings or [
        Finding(level="ok", code="keys", meaning=f"No weak key; tokens use {settings.algorithm}.")
    ]
    findings = [*_examine_token_cookie(settings)]
    if with_flask_login:
        findings += _examine_flask_cookies(app)
    yield from findings or [
        Finding(
            level="ok",
            code="cookies",
            meaning="Cookies are restricted to HTTPS and to requests from this site.",
        )
    ]


def _examine_keys(settings: Settings) -> Iterator[Finding]:
    reason = weakness(settings.secret_key or b"") if settings.algorithm == "HS256" else None
    if reason:
        yield Finding(
            level="warning",
            code="key-weak",
            meaning=f"The secret that signs tokens {reason}: {_GUESSED}",
            mend=f"Set {PREFIX}SECRET_KEY (or the application's SECRET_KEY) to the output of: "
            f"{HOW_TO_MAKE_A_KEY}",
        )
    for key in settings.previous_keys:
        reason = None if is_pem(key) else weakness(key)
        if reason:
            yield Finding(
                level="warning",
                code="previous-key-weak",
                meaning=f"A previous secret that still verifies tokens {reason}: {_GUESSED}",
                mend=f"Remove it from {PREFIX}PREVIOUS_KEYS; its tokens become invalid.",
            )


def _examine_flask_keys(app: Flask, settings: Settings) -> Iterator[Finding]:
    keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    for key in map(_bytes, keys):
        signs_tokens = settings.algorithm == "HS256" and key == settings.secret_key
        reason = None if not key or signs_tokens else weakness(key)
        if reason:
            yield Finding(
                level="warning",
                code="flask-key-weak",
                meaning=f"The secret of Flask's session cookie {reason}: {_GUESSED}",
                mend="Remove weak SECRET_KEY_FALLBACKS, and set SECRET_KEY to the output of: "
                f"{HOW_TO_MAKE_A_KEY}",
            )


def _bytes(key: Any) -> bytes:
    return key.encode() if isinstance(key, str) else key or b""


def _examine_token_cookie(settings: Settings) -> Iterator[Finding]:
    if "cookies" not in settings.token_locations:
        return
    if not settings.cookie_secure:
        yield Finding(
            level="warning",
            code="cookie-insecure",
            meaning="The token's cookie is sent over plain HTTP, where it can be read.",
            mend=f"Use HTTPS, and leave {PREFIX}COOKIE_SECURE on.",
        )
    if settings.cookie_samesite == "None":
        yield Finding(
            level="warning",
            code="cookie-cross-site",
            meaning="Browsers send the token's cookie with requests from other sites.",
            mend=f"Set {PREFIX}COOKIE_SAMESITE to 'Lax', unless other sites embed this one.",
        )


def _examine_flask_cookies(app: Flask) -> Iterator[Finding]:
    """Examine the cookies of Flask-Login."""
    if not app.config["SESSION_COOKIE_SECURE"]:
        yield Finding(
            level="warning",
            code="flask-cookie-insecure",
            meaning="Flask's session cookie is sent over plain HTTP, where it can be read.",
            mend="Use HTTPS, and set SESSION_COOKIE_SECURE to True.",
        )
    if app.config["SESSION_COOKIE_SAMESITE"] not in ("Lax", "Strict"):
        yield Finding(
            level="warning",
            code="flask-cookie-cross-site",
            meaning="Browsers may send Flask's session cookie with requests from other sites.",
            mend="Set SESSION_COOKIE_SAMESITE to 'Lax'.",
        )
    if not app.config.get("REMEMBER_COOKIE_SECURE"):
        yield Finding(
            level="warning",
            code="remember-cookie-insecure",
            meaning="Flask-Login's remember cookie is sent over plain HTTP, where it can be read.",
            mend="Use HTTPS, and set REMEMBER_COOKIE_SECURE to True.",
        )
    if app.config.get("REMEMBER_COOKIE_SAMESITE") not in ("Lax", "Strict"):
        yield Finding(
            level="warning",
            code="remember-cookie-cross-site",
            meaning="Browsers may send Flask-Login's remember cookie with requests from other "
            "sites.",
            mend="Set REMEMBER_COOKIE_SAMESITE to 'Lax'.",
        )
    if not app.config.get("REMEMBER_COOKIE_HTTPONLY", True):
        yield Finding(
            level="warning",
            code="remember-cookie-readable",
            meaning="Scripts can read Flask-Login's remember cookie.",
            mend="Leave REMEMBER_COOKIE_HTTPONLY on.",
        )
