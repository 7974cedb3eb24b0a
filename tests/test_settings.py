"""Settings: their defaults and values, and the error messages for wrong ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET
from tests.support.tokens import private_pem, public_pem
from xgen_flask_sessions import ConfigurationError
from xgen_flask_sessions.settings import Settings

PREFIX = "XGEN_SESSIONS_"


def read(**settings: Any) -> Settings:
    """Read settings whose names are given without their prefix."""
    config = {PREFIX + name: value for name, value in settings.items()}
    return Settings.from_config({"SECRET_KEY": SECRET} | config)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("secret_key", SECRET.encode()),
        ("algorithm", "HS256"),
        ("private_key", None),
        ("public_key", None),
        ("previous_keys", ()),
        ("issuer", "xgen"),
        ("audience", None),
        ("lifetime", timedelta(hours=24)),
        ("leeway", timedelta(0)),
        ("token_locations", ("headers", "cookies")),
        ("cookie_name", "xgen_token"),
        ("cookie_secure", True),
        ("cookie_samesite", "Lax"),
        ("url_prefix", "/sessions"),
        ("timezone", ZoneInfo("UTC")),
        ("confirm_force_logout", False),
        ("retention", timedelta(days=30)),
        ("trusted_origins", frozenset()),
    ],
)
def test_a_setting_left_out_has_a_default(name: str, default: object) -> None:
    left_out, empty = read(), read(**{name.upper(): None})

    assert getattr(left_out, name) == getattr(empty, name) == default


@pytest.mark.parametrize(
    ("name", "value", "read_as"),
    [
        ("SECRET_KEY", "x" * 32, b"x" * 32),
        ("SECRET_KEY", b"\x00" * 32, b"\x00" * 32),
        ("SECRET_KEY", "비밀" * 6, ("비밀" * 6).encode()),
        ("PREVIOUS_KEYS", ["y" * 32, b"z" * 40], (b"y" * 32, b"z" * 40)),
        ("ISSUER", "https://id.example.com", "https://id.example.com"),
        ("AUDIENCE", "apis", "apis"),
        ("LIFETIME", 3600, timedelta(hours=1)),
        ("LIFETIME", 1, timedelta(seconds=1)),
        ("LIFETIME", timedelta(days=3650), timedelta(days=3650)),
        ("LEEWAY", 0, timedelta(0)),
        ("LEEWAY", timedelta(minutes=5), timedelta(minutes=5)),
        ("TOKEN_LOCATIONS", ["headers"], ("headers",)),
        ("TOKEN_LOCATIONS", ("cookies",), ("cookies",)),
        ("COOKIE_NAME", "__Host-xgen", "__Host-xgen"),
        ("COOKIE_SECURE", False, False),
        ("COOKIE_SAMESITE", "Strict", "Strict"),
        ("COOKIE_SAMESITE", "None", "None"),
        ("URL_PREFIX", "/api/v1/sessions", "/api/v1/sessions"),
        ("TIMEZONE", "Asia/Seoul", ZoneInfo("Asia/Seoul")),
        ("CONFIRM_FORCE_LOGOUT", True, True),
        ("RETENTION", 0, timedelta(0)),
        ("RETENTION", timedelta(days=1), timedelta(days=1)),
        (
            "TRUSTED_ORIGINS",
            ["https://app.example.com", "http://localhost:8080"],
            frozenset({"https://app.example.com", "http://localhost:8080"}),
        ),
    ],
)
def test_a_valid_value_is_accepted(name: str, value: object, read_as: object) -> None:
    assert getattr(read(**{name: value}), name.lower()) == read_as


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "x" * 31),
        ("SECRET_KEY", ""),
        ("SECRET_KEY", 17),
        ("ALGORITHM", "HS512"),
        ("ALGORITHM", "none"),
        ("ALGORITHM", ["HS256"]),
        ("PRIVATE_KEY", "a key that HS256 has no use for"),
        ("PUBLIC_KEY", "a key that HS256 has no use for"),
        ("PREVIOUS_KEYS", "not a list"),
        ("PREVIOUS_KEYS", ["x" * 31]),
        ("PREVIOUS_KEYS", [None]),
        ("PREVIOUS_KEYS", [""]),
        ("ISSUER", ""),
        ("ISSUER", 1),
        ("AUDIENCE", ""),
        ("AUDIENCE", ["apis"]),
        ("LIFETIME", 0),
        ("LIFETIME", -1),
        ("LIFETIME", 1.5),
        ("LIFETIME", True),
        ("LIFETIME", "1h"),
        ("LIFETIME", 10**30),
        ("LIFETIME", timedelta(days=3651)),
        ("LEEWAY", -1),
        ("LEEWAY", 301),
        ("TOKEN_LOCATIONS", []),
        ("TOKEN_LOCATIONS", "headers"),
        ("TOKEN_LOCATIONS", ["query_string"]),
        ("TOKEN_LOCATIONS", [["headers"]]),
        ("COOKIE_NAME", ""),
        ("COOKIE_NAME", "two words"),
        ("COOKIE_NAME", "a;b"),
        ("COOKIE_NAME", "session"),
        ("COOKIE_SECURE", "yes"),
        ("COOKIE_SECURE", 1),
        ("COOKIE_SAMESITE", "lax"),
        ("COOKIE_SAMESITE", False),
        ("URL_PREFIX", ""),
        ("URL_PREFIX", "/"),
        ("URL_PREFIX", "sessions"),
        ("URL_PREFIX", "/sessions/"),
        ("URL_PREFIX", "/<path:everything>"),
        ("TIMEZONE", "Mars/Olympus"),
        ("TIMEZONE", "../etc/passwd"),
        ("TIMEZONE", "Asia"),
        ("TIMEZONE", 9),
        ("CONFIRM_FORCE_LOGOUT", "off"),
        ("RETENTION", -1),
        ("RETENTION", "30d"),
        ("TRUSTED_ORIGINS", "https://app.example.com"),
        ("TRUSTED_ORIGINS", ["https://app.example.com/"]),
        ("TRUSTED_ORIGINS", ["app.example.com"]),
        ("TRUSTED_ORIGINS", ["*"]),
        ("TRUSTED_ORIGINS", ["null"]),
        ("TRUSTED_ORIGINS", ["https://["]),
        ("TRUSTED_ORIGINS", [None]),
    ],
)
def test_the_error_for_a_wrong_value_names_the_setting_and_the_remedy(
    name: str, value: object
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{PREFIX}{name} .+\.") as caught:
        read(**{name: value})

    if name in ("SECRET_KEY", "PRIVATE_KEY", "PREVIOUS_KEYS"):
        assert "xxx" not in str(caught.value)


def test_samesite_none_needs_a_secure_cookie() -> None:
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_COOKIE_SAMESITE"):
        read(COOKIE_SAMESITE="None", COOKIE_SECURE=False)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("session", {}),
        ("mine", {"SESSION_COOKIE_NAME": "mine"}),
        ("remember_token", {}),
        ("mine", {"REMEMBER_COOKIE_NAME": "mine"}),
        ("mine_session", {"REMEMBER_COOKIE_NAME": "mine"}),
    ],
)
def test_the_cookie_name_must_differ_from_those_of_flask_and_flask_login(
    name: str, host: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_COOKIE_NAME"):
        Settings.from_config({"SECRET_KEY": SECRET, PREFIX + "COOKIE_NAME": name} | host)


def test_the_error_for_an_unknown_setting_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_LIFETIM ") as caught:
        read(LIFETIM=3600)

    assert "XGEN_SESSIONS_LIFETIME" in str(caught.value)


def test_other_extensions_settings_are_left_alone() -> None:
    assert Settings.from_config({"SECRET_KEY": SECRET, "XGEN_OTHER": 1, "SESSIONS": 2})


def test_a_missing_or_short_application_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_SECRET_KEY"):
        Settings.from_config({})
    with pytest.raises(ConfigurationError, match=r"XGEN_SESSIONS_SECRET_KEY .*token_hex") as caught:
        Settings.from_config({"SECRET_KEY": "hunter2"})

    assert "hunter2" not in str(caught.value)


def test_the_plugin_s_secret_takes_precedence_over_the_application_s() -> None:
    assert read(SECRET_KEY="y" * 32).secret_key == b"y" * 32


def test_secrets_do_not_show_in_the_settings() -> None:
    private = private_pem("EdDSA")
    settings = read(
        SECRET_KEY="s3cret" * 6,
        ALGORITHM="EdDSA",
        PRIVATE_KEY=private,
        PREVIOUS_KEYS=["pr3vious" * 6],
    )

    shown = repr(settings)

    assert "s3cret" not in shown
    assert "pr3vious" not in shown
    assert "PRIVATE KEY" not in shown


# --- Keys: they are checked by loading them --------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_tokens_can_be_signed_with_a_key_pair(
    make_host: MakeHost, sqlite_url: str, algorithm: str
) -> None:
    private = private_pem(algorithm)

    host = make_host(
        sqlite_url,
        XGEN_SESSIONS_ALGORITHM=algorithm,
        XGEN_SESSIONS_PRIVATE_KEY=private.decode(),
        XGEN_SESSIONS_PUBLIC_KEY=public_pem(private),
    )

    token = host.issue(host.add_user())
    assert host.status(token) == 200


def test_an_application_with_the_public_key_alone_verifies_and_does_not_issue(
    make_host: MakeHost, sqlite_url: str
) -> None:
    private = private_pem("EdDSA")
    issuing = make_host(
        sqlite_url, XGEN_SESSIONS_ALGORITHM="EdDSA", XGEN_SESSIONS_PRIVATE_KEY=private
    )
    verifying = make_host(
        sqlite_url, XGEN_SESSIONS_ALGORITHM="EdDSA", XGEN_SESSIONS_PUBLIC_KEY=public_pem(private)
    )
    user = issuing.add_user()

    token = issuing.issue(user)

    assert verifying.status(token) == 200
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_PRIVATE_KEY"):
        verifying.issue(user)


@pytest.mark.parametrize(
    ("named", "config"),
    [
        ("PRIVATE_KEY", {"ALGORITHM": "RS256"}),
        ("PRIVATE_KEY", {"ALGORITHM": "RS256", "PRIVATE_KEY": "no PEM"}),
        ("PRIVATE_KEY", {"ALGORITHM": "RS256", "PRIVATE_KEY": private_pem("EdDSA")}),
        ("PRIVATE_KEY", {"ALGORITHM": "RS256", "PRIVATE_KEY": public_pem(private_pem("RS256"))}),
        ("PUBLIC_KEY", {"ALGORITHM": "ES256", "PUBLIC_KEY": "no PEM"}),
        (
            "PUBLIC_KEY",
            {
                "ALGORITHM": "EdDSA",
                "PRIVATE_KEY": private_pem("EdDSA", 1),
                "PUBLIC_KEY": public_pem(private_pem("EdDSA", 2)),
            },
        ),
        ("PREVIOUS_KEYS", {"PREVIOUS_KEYS": ["-----BEGIN PUBLIC KEY-----\nbm8=\n-----END"]}),
        ("SECRET_KEY", {"SECRET_KEY": public_pem(private_pem("EdDSA"))}),
    ],
    ids=[
        "no key",
        "no PEM",
        "another algorithm's",
        "public instead of private",
        "public is no PEM",
        "keys of two pairs",
        "previous is no key",
        "a public key as the secret",
    ],
)
def test_the_error_for_a_wrong_key_names_the_setting(
    make_host: MakeHost, sqlite_url: str, named: str, config: dict[str, Any]
) -> None:
    prefixed = {PREFIX + name: value for name, value in config.items()}

    with pytest.raises(ConfigurationError, match=f"^{PREFIX}{named} ") as caught:
        make_host(sqlite_url, **prefixed)

    assert "BEGIN" not in str(caught.value)
