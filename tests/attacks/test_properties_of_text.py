"""Properties that hold for any text, claim or setting, tested with Hypothesis."""

from __future__ import annotations

import ipaddress
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.hosts import SECRET
from tests.support.naughty_strings import LONE_SURROGATES, NAUGHTY
from xgen_flask_sessions import ConfigurationError, TokenError
from xgen_flask_sessions.roster.devices import clean_address, clean_user_agent, describe
from xgen_flask_sessions.settings import ALGORITHMS, PREFIX, Settings
from xgen_flask_sessions.text import clean_text, visible
from xgen_flask_sessions.tokens.claims import (
    MAX_TOKEN_BYTES,
    RESERVED_CLAIMS,
    Claims,
    check_user_id,
    is_user_id,
)
from xgen_flask_sessions.tokens.codec import TokenCodec
from xgen_flask_sessions.tokens.keys import load_key
from xgen_flask_sessions.web.same_site import is_local_path

CODEC = TokenCodec([load_key(SECRET.encode())], issuer="xgen")
DETERMINISTIC = settings(derandomize=True, database=None, deadline=None, max_examples=200)

anything = st.text(st.characters(codec=None), max_size=600) | st.sampled_from(
    [*NAUGHTY, *LONE_SURROGATES]
)
user_ids = anything.filter(is_user_id)
ids = st.text("0123456789abcdefABCDEF_-", min_size=1, max_size=36)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=12,
)  # fmt: skip
claim_names = st.text(st.characters(codec="utf-8"), max_size=20).filter(
    lambda name: name not in RESERVED_CLAIMS
)


@DETERMINISTIC
@given(
    user_id=user_ids,
    jti=ids,
    session_id=ids,
    issued_us=st.integers(0, 10**17),
    life_s=st.integers(1, 3 * 10**8),
    extra=st.dictionaries(claim_names, json_values, max_size=4),
)
def test_a_token_decodes_to_the_encoded_claims(
    user_id: str, jti: str, session_id: str, issued_us: int, life_s: int, extra: dict[str, Any]
) -> None:
    expires_us = (issued_us // 10**6 + life_s) * 10**6
    expires_us = min(expires_us, 10**17)
    claims = Claims(user_id, jti, session_id, issued_us, expires_us, extra)
    try:
        token = CODEC.encode(claims)
    except ValueError:
        # Only the size can be invalid: the user id and the claims are valid.
        size = len(json.dumps(user_id)) + len(json.dumps(extra))
        assert size > MAX_TOKEN_BYTES // 2
        return

    assert len(token) <= MAX_TOKEN_BYTES
    if issued_us < expires_us:
        assert CODEC.decode(token, now_us=issued_us) == claims
    with pytest.raises(TokenError):
        CODEC.decode(token, now_us=expires_us)


@DETERMINISTIC
@given(
    token=anything | st.builds(".".join, st.lists(st.text("eyJ0AbZ-_9"), min_size=3, max_size=3))
)
def test_text_that_is_no_token_raises_a_token_error(token: str) -> None:
    with pytest.raises(TokenError):
        CODEC.decode(token, now_us=0)


@DETERMINISTIC
@given(text=anything)
def test_a_user_id_fits_its_column_and_any_encoding(text: str) -> None:
    if is_user_id(text):
        assert check_user_id(text) == text
        assert 0 < len(text) <= 255
        assert text.encode().decode() == text
        assert not any(ord(char) < 32 for char in text)


SETTINGS = sorted(
    name for name in Settings.__dataclass_fields__ if name not in ("secret_key", "algorithm")
)
values = (
    anything | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=80)
    | st.timedeltas() | st.lists(anything | st.integers() | st.binary(), max_size=3)
    | st.tuples(anything) | st.sets(anything, max_size=2)
    | st.dictionaries(anything, anything, max_size=2) | st.builds(object)
    | st.complex_numbers() | st.sampled_from([timedelta.max, timedelta.min, 10**400])
)  # fmt: skip


@DETERMINISTIC
@given(config=st.dictionaries(st.sampled_from(SETTINGS), values, min_size=1, max_size=2))
def test_wrong_settings_raise_a_configuration_error_only(config: dict[str, Any]) -> None:
    read_or_refuse({"SECRET_KEY": SECRET} | {PREFIX + k.upper(): v for k, v in config.items()})


@DETERMINISTIC
@given(algorithm=st.sampled_from(ALGORITHMS) | values, secret=values, key=values)
@example("HS256", "\ud800" * 40, None)
@example("ES256", None, "\ud800")
def test_wrong_keys_raise_a_configuration_error_only(algorithm: Any, secret: Any, key: Any) -> None:
    read_or_refuse({"SECRET_KEY": secret, f"{PREFIX}ALGORITHM": algorithm})
    read_or_refuse({f"{PREFIX}PRIVATE_KEY": key, f"{PREFIX}ALGORITHM": algorithm})
    read_or_refuse({"SECRET_KEY": SECRET, f"{PREFIX}PREVIOUS_KEYS": [key]})


def read_or_refuse(config: dict[str, Any]) -> None:
    try:
        read = Settings.from_config(config)
    except ConfigurationError as error:
        assert "XGEN_SESSIONS_" in str(error)  # noqa: PT017
    else:
        assert timedelta(seconds=1) <= read.lifetime <= timedelta(days=3650)
        assert read.url_prefix.startswith("/")
        assert set(read.token_locations) <= {"headers", "cookies"}


@DETERMINISTIC
@given(text=st.none() | anything, length=st.integers(0, 600))
def test_cleaned_text_is_short_enough_and_printable(text: str | None, length: int) -> None:
    cleaned = clean_text(text, length)

    assert cleaned is None or (0 < len(cleaned) <= length and cleaned.isprintable())
    assert cleaned is None or cleaned == cleaned.strip()
    assert clean_text(cleaned, length) == cleaned


@DETERMINISTIC
@given(text=st.none() | anything)
def test_any_user_agent_can_be_described(text: str | None) -> None:
    agent = clean_user_agent(text)

    assert agent is None or (len(agent) <= 512 and agent.isprintable())
    device = describe(agent)
    assert all(part is None or part.isprintable() for part in (device.browser, device.device))


@DETERMINISTIC
@given(text=anything)
def test_visible_text_keeps_its_length_and_has_no_control_characters(text: str) -> None:
    shown = visible(text)

    assert len(shown) == len(text)
    assert visible(shown) == shown
    shown.encode()
    assert not any(char < " " or "\u202a" <= char <= "\u202e" for char in shown)


@DETERMINISTIC
@given(text=st.none() | anything | st.ip_addresses().map(str))
@example("fe80::1%eth0")
@example("::ffff:198.51.100.7")
def test_a_cleaned_address_is_valid_or_none(text: str | None) -> None:
    address = clean_address(text)

    if address is not None:
        assert str(ipaddress.ip_address(address)) == address
        assert len(address) <= 45
        assert clean_address(address) == address


@DETERMINISTIC
@given(
    text=st.none()
    | anything
    | st.text(r"/\.:@?#%a ", max_size=12)
    | anything.map("/{}".format)
    | st.sampled_from(["//evil", "/\\evil", "/\t/evil", "https:evil", "/..//evil", "/%2f/evil"])
)
@example("/[")
@example("//[")
@example("/a//[")
def test_a_local_path_leads_to_no_other_host(text: str | None) -> None:
    if is_local_path(text):
        assert text is not None
        target = urlsplit(urljoin("https://here.example/sign-in", text))
        assert (target.scheme, target.netloc) == ("https", "here.example")
        assert text.isprintable()
