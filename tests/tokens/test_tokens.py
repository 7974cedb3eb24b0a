"""Tokens without a database: keys, form, claims and expiry."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.pems import pems
from tests.support.tokens import CLAIMS, NOW_US, SECRET, private_pem, public_pem
from xgen_flask_sessions import ConfigurationError, TokenExpired, TokenInvalid
from xgen_flask_sessions.tokens import codec
from xgen_flask_sessions.tokens.claims import (
    MAX_NESTING,
    MAX_TOKEN_BYTES,
    RESERVED_CLAIMS,
    Claims,
    check_extra_claims,
    check_user_id,
    verified_token,
)
from xgen_flask_sessions.tokens.codec import TOKEN_TYPE, TokenCodec
from xgen_flask_sessions.tokens.jws import TypedJws
from xgen_flask_sessions.tokens.keys import Key, derive_key, load_key

OTHER_SECRET = b"fedcba9876543210fedcba9876543210"
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")


def signing_material(algorithm: str, number: int = 1) -> bytes:
    if algorithm == "HS256":
        return SECRET if number == 1 else OTHER_SECRET
    return private_pem(algorithm, number)


def make_codec(*keys: Key, **options: Any) -> TokenCodec:
    return TokenCodec(keys or (load_key(SECRET),), issuer="xgen", **options)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(segment: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = unb64(token.split(".")[0])
    return header


def payload_of(token: str) -> dict[str, Any]:
    payload: dict[str, Any] = unb64(token.split(".")[1])
    return payload


def forge(
    *,
    header: Mapping[str, Any] | str | None = None,
    payload: Mapping[str, Any] | str | None = None,
    secret: bytes = SECRET,
) -> str:
    """Return a correctly signed token: only a holder of the secret can make it.

    :param header: Changes to a valid header (``None`` removes a member), or its whole text.
    :param payload: The same for the claims.
    """
    token = make_codec().encode(CLAIMS)
    head = _text(header_of(token), header)
    body = _text(payload_of(token), payload)
    signed = f"{b64(head.encode())}.{b64(body.encode())}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _text(proper: dict[str, Any], changes: Mapping[str, Any] | str | None) -> str:
    if isinstance(changes, str):
        return changes
    members = proper | dict(changes or {})
    return json.dumps({name: value for name, value in members.items() if value is not None})


# --- Algorithms and keys ---------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signed_claims_are_read_back(algorithm: str) -> None:
    codec = make_codec(load_key(signing_material(algorithm), algorithm), audience="apis")
    claims = Claims("김 앨리스", "a", "b", NOW_US, CLAIMS.expires_us, {"roles": ["ops", "한국어"]})

    read = codec.decode(codec.encode(claims), now_us=NOW_US)

    assert read == claims


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_a_public_key_verifies_and_does_not_sign(algorithm: str) -> None:
    private = load_key(private_pem(algorithm), algorithm)
    public = load_key(public_pem(private_pem(algorithm)), algorithm)
    token = make_codec(private).encode(CLAIMS)

    read = make_codec(public).decode(token, now_us=NOW_US)

    assert read == CLAIMS
    with pytest.raises(ConfigurationError, match="XGEN_SESSIONS_PRIVATE_KEY"):
        make_codec(public).encode(CLAIMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_key_of_the_same_algorithm_does_not_verify(algorithm: str) -> None:
    token = make_codec(load_key(signing_material(algorithm, 1), algorithm)).encode(CLAIMS)
    other = make_codec(load_key(signing_material(algorithm, 2), algorithm))

    with pytest.raises(TokenInvalid):
        other.decode(token, now_us=NOW_US)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_kid_does_not_replace_the_signature(algorithm: str) -> None:
    mine, theirs = (load_key(signing_material(algorithm, n), algorithm) for n in (1, 2))
    disguised = Key(mine.kid, algorithm, theirs.verifying, theirs.signing)
    token = make_codec(disguised).encode(CLAIMS)

    with pytest.raises(TokenInvalid, match="signature"):
        make_codec(mine).decode(token, now_us=NOW_US)


def test_a_kid_is_the_rfc_7638_thumbprint() -> None:
    # The key and the thumbprint of RFC 7638, section 3.1.
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJEC"
        "PebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Qvz"
        "qY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZ"
        "u0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    number = int.from_bytes(base64.urlsafe_b64decode(n + "=="), "big")
    pem = (
        rsa.RSAPublicNumbers(65537, number)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )

    key = load_key(pem)

    assert key.algorithm == "RS256"
    assert key.kid == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_secret_s_kid_is_its_thumbprint_too() -> None:
    canonical = '{"k":"' + b64(SECRET) + '","kty":"oct"}'

    assert load_key(SECRET).kid == b64(hashlib.sha256(canonical.encode()).digest())


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_a_private_key_and_its_public_key_have_one_kid(algorithm: str) -> None:
    private = private_pem(algorithm)

    assert load_key(private).kid == load_key(public_pem(private)).kid


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_kind_of_a_key_is_found_from_its_text(algorithm: str) -> None:
    assert load_key(signing_material(algorithm)).algorithm == algorithm


def test_the_repr_of_a_key_hides_the_secret() -> None:
    key = load_key(SECRET)

    assert SECRET.decode() not in repr(key)


@pytest.mark.parametrize(
    ("material", "algorithm"),
    [
        (b"no key at all, but long enough to be one", "RS256"),
        (b"-----BEGIN PRIVATE KEY-----\nbm9uZQ==\n-----END PRIVATE KEY-----\n", None),
        (private_pem("ES256"), "RS256"),
        (private_pem("RS256"), "EdDSA"),
        (private_pem("EdDSA"), "ES256"),
        (private_pem("RS256"), "HS256"),
        (public_pem(private_pem("RS256")), "HS256"),
        (b"tiny-7", "HS256"),
    ],
    ids=[
        "no PEM",
        "no key in the PEM",
        "EC for RSA",
        "RSA for Ed25519",
        "Ed25519 for EC",
        "a private key for a secret",
        "a public key for a secret",
        "too short",
    ],
)
def test_a_key_that_does_not_fit_its_algorithm_is_refused(
    material: bytes, algorithm: str | None
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_key(material, algorithm)

    assert material.decode() not in str(caught.value)


def test_a_short_rsa_key_is_refused() -> None:
    pem, _ = pems(rsa.generate_private_key(65537, 1024))

    with pytest.raises(ConfigurationError, match="too short"):
        load_key(pem, "RS256")


def test_another_curve_is_no_key_for_es256() -> None:
    pem, _ = pems(ec.generate_private_key(ec.SECP384R1()))

    with pytest.raises(ConfigurationError):
        load_key(pem, "ES256")


# --- Rotation --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_previous_key_still_verifies_and_a_removed_one_does_not(algorithm: str) -> None:
    old, new = (load_key(signing_material(algorithm, n), algorithm) for n in (1, 2))
    token = make_codec(old).encode(CLAIMS)

    assert make_codec(new, old).decode(token, now_us=NOW_US) == CLAIMS
    with pytest.raises(TokenInvalid):
        make_codec(new).decode(token, now_us=NOW_US)


def test_the_first_key_signs() -> None:
    old, new = load_key(OTHER_SECRET), load_key(SECRET)

    token = make_codec(new, old).encode(CLAIMS)

    assert header_of(token)["kid"] == new.kid


def test_a_deployment_migrates_from_hs256_to_rs256() -> None:
    secret, private = load_key(SECRET), load_key(private_pem("RS256"))
    before = make_codec(secret).encode(CLAIMS)
    codec = make_codec(private, secret)

    after = codec.encode(CLAIMS)

    assert header_of(after)["alg"] == "RS256"
    assert codec.decode(before, now_us=NOW_US) == codec.decode(after, now_us=NOW_US) == CLAIMS


# --- Header ----------------------------------------------------------------------------------


def test_the_header_holds_alg_typ_and_kid_and_nothing_else() -> None:
    header = header_of(make_codec().encode(CLAIMS))

    assert header == {"alg": "HS256", "typ": TOKEN_TYPE, "kid": load_key(SECRET).kid}
    assert TOKEN_TYPE == "xgen-session+jwt"


def test_a_forgery_without_changes_is_accepted() -> None:
    # So the changed forgeries are refused because of their changes.
    assert make_codec().decode(forge(), now_us=NOW_US) == CLAIMS


@pytest.mark.parametrize("member", ["alg", "typ", "kid"])
def test_every_header_member_is_required(member: str) -> None:
    with pytest.raises(TokenInvalid):
        make_codec().decode(forge(header={member: None}), now_us=NOW_US)


@pytest.mark.parametrize(
    "change",
    [
        {"typ": "JWT"},
        {"typ": "XGEN-SESSION+JWT"},
        {"typ": "application/xgen-session+jwt"},
        {"typ": 1},
        {"alg": "none"},
        {"alg": "hs256"},
        {"alg": "HS512"},
        {"alg": ["HS256"]},
        {"kid": "another"},
        {"kid": 1},
        {"kid": ["list"]},
        {"cty": "JWT"},
        {"crit": ["exp"]},
        {"b64": False},
        {"jku": "https://evil.example/keys"},
        {"jwk": {"kty": "oct", "k": b64(OTHER_SECRET)}},
        {"x5u": "https://evil.example/x5u"},
        {"zip": "DEF"},
    ],
)
def test_any_other_header_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        make_codec().decode(forge(header=change), now_us=NOW_US)


def test_a_token_without_signature_is_refused() -> None:
    head, body, _ = forge(header={"alg": "none"}).split(".")

    for token in (f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.AA"):
        with pytest.raises(TokenInvalid):
            make_codec().decode(token, now_us=NOW_US)


def test_a_public_key_cannot_be_used_as_a_secret() -> None:
    private = load_key(private_pem("RS256"))
    public = public_pem(private_pem("RS256"))
    token = forge(header={"kid": private.kid}, secret=public)

    with pytest.raises(TokenInvalid):
        make_codec(private).decode(token, now_us=NOW_US)


def test_a_secrets_kid_is_refused_with_another_algorithm() -> None:
    secret, private = load_key(SECRET), load_key(private_pem("RS256"))
    token = make_codec(Key(secret.kid, "RS256", private.verifying, private.signing)).encode(CLAIMS)

    with pytest.raises(TokenInvalid, match="unknown key or algorithm"):
        make_codec(secret, private).decode(token, now_us=NOW_US)


# --- Form ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a.b.c",
        "!.b.c",
        " ",
        "é.b.c",
        forge() + " ",
        forge() + "\n",
        forge() + "=",
        forge().replace(".", ".."),
        "A" * MAX_TOKEN_BYTES,
    ],
)
def test_a_malformed_jws_is_refused(token: str) -> None:
    with pytest.raises(TokenInvalid):
        make_codec().decode(token, now_us=NOW_US)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_character_anywhere_is_refused(part: int) -> None:
    segments = forge().split(".")
    middle = len(segments[part]) // 2
    old = segments[part][middle]
    segments[part] = (
        segments[part][:middle] + ("A" if old != "A" else "B") + segments[part][middle + 1 :]
    )

    with pytest.raises(TokenInvalid):
        make_codec().decode(".".join(segments), now_us=NOW_US)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"text"',
        "17",
        "null",
        "{",
        '{"iss": NaN}',
        '{"iss": Infinity}',
        '{"n": ' + "9" * 5000 + "}",
        "[" * 3000,
    ],
)
def test_a_part_that_is_no_json_object_is_refused(text: str) -> None:
    for token in (forge(payload=text), forge(header=text)):
        with pytest.raises(TokenInvalid):
            make_codec().decode(token, now_us=NOW_US)


def test_a_duplicate_header_member_is_refused() -> None:
    header = json.dumps(header_of(forge()))
    twice = header[:-1] + ', "alg": "HS256"}'

    with pytest.raises(TokenInvalid, match="duplicate"):
        make_codec().decode(forge(header=twice), now_us=NOW_US)


@pytest.mark.parametrize("name", ["sub", "exp", "roles"])
def test_a_duplicate_claim_is_refused_at_any_depth(name: str) -> None:
    payload = json.dumps(payload_of(forge()) | {"roles": []})
    twice = payload[:-1] + f', "{name}": {json.dumps(json.loads(payload)[name])}}}'
    inside = payload[:-1] + f', "more": {{"{name}": 1, "{name}": 1}}}}'

    for text in (twice, inside):
        with pytest.raises(TokenInvalid, match="duplicate"):
            make_codec().decode(forge(payload=text), now_us=NOW_US)


def test_a_token_of_8_kib_is_read_and_a_longer_one_is_not() -> None:
    def padded(length: int) -> str:
        return forge(payload={"padding": "x" * length})

    fits = next(n for n in range(6000, 0, -1) if len(padded(n)) <= MAX_TOKEN_BYTES)

    assert make_codec().decode(padded(fits), now_us=NOW_US).extra == {"padding": "x" * fits}
    with pytest.raises(TokenInvalid, match="too long"):
        make_codec().decode(padded(fits + 4), now_us=NOW_US)


# --- Claims ----------------------------------------------------------------------------------


def test_a_token_has_exactly_these_claims() -> None:
    codec = make_codec(audience="apis")

    payload = payload_of(codec.encode(CLAIMS))

    assert payload == {
        "iss": "xgen",
        "aud": "apis",
        "sub": "17",
        "jti": "a" * 32,
        "sid": "b" * 32,
        "iat": 1_800_000_000,
        "exp": 1_800_000_060,
        "iat_us": NOW_US,
    }


def test_a_deployment_is_a_claim_that_tokens_of_earlier_releases_lack() -> None:
    codec = make_codec()
    claims = replace(CLAIMS, deployment="d" * 32)

    token = codec.encode(claims)

    assert payload_of(token)["dpl"] == "d" * 32
    assert codec.decode(token, now_us=NOW_US) == claims
    assert codec.decode(codec.encode(CLAIMS), now_us=NOW_US).deployment is None


@pytest.mark.parametrize("value", ["", 5, "d" * 37, "not an id", ["d"]])
def test_a_malformed_deployment_is_refused(value: object) -> None:
    with pytest.raises(TokenInvalid):
        make_codec().decode(forge(payload={"dpl": value}), now_us=NOW_US)


@pytest.mark.parametrize("name", ["iss", "sub", "jti", "sid", "iat", "exp", "iat_us"])
def test_every_claim_is_required(name: str) -> None:
    with pytest.raises(TokenInvalid):
        make_codec().decode(forge(payload={name: None}), now_us=NOW_US)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", "somebody else"),
        ("iss", ["xgen"]),
        ("iss", 1),
        ("sub", 17),
        ("sub", ""),
        ("sub", "*"),
        ("sub", "x" * 256),
        ("sub", "a\nb"),
        ("sub", ["17"]),
        ("jti", 1),
        ("jti", ""),
        ("jti", "x" * 37),
        ("jti", "a b"),
        ("sid", 1),
        ("sid", "a'b"),
        ("sid", {}),
        ("iat", "1800000000"),
        ("iat", 1_800_000_000.0),
        ("iat", 1_800_000_001),
        ("iat", 0),
        ("iat", True),
        ("exp", "1800000060"),
        ("exp", 1_800_000_060.5),
        ("exp", -1),
        ("exp", 10**11 + 1),
        ("exp", True),
        ("exp", [1_800_000_060]),
        ("iat_us", str(NOW_US)),
        ("iat_us", float(NOW_US)),
        ("iat_us", -1),
        ("iat_us", 10**17 + 1),
        ("iat_us", NOW_US - 1_000_000),
        ("lid", 17),
        ("lid", ""),
        ("nbf", 1),
        ("aud", "apis"),
    ],
)
def test_every_claim_is_checked(name: str, value: object) -> None:
    with pytest.raises(TokenInvalid):
        make_codec().decode(forge(payload={name: value}), now_us=NOW_US)


@pytest.mark.parametrize("audience", [None, "others", ["apis"], ["apis", "others"], 1])
def test_the_audience_is_exactly_the_configured_one(audience: object) -> None:
    codec = make_codec(audience="apis")

    assert codec.decode(forge(payload={"aud": "apis"}), now_us=NOW_US) == CLAIMS
    with pytest.raises(TokenInvalid, match="audience"):
        codec.decode(forge(payload={"aud": audience}), now_us=NOW_US)


def test_a_stamp_that_is_ahead_of_this_clock_is_accepted() -> None:
    token = make_codec().encode(CLAIMS)

    assert make_codec().decode(token, now_us=NOW_US - 3600 * 1_000_000) == CLAIMS


# --- Expiry ----------------------------------------------------------------------------------


def test_a_token_lives_until_its_exp_and_not_a_microsecond_longer() -> None:
    codec = make_codec()
    token = codec.encode(CLAIMS)

    assert codec.decode(token, now_us=CLAIMS.expires_us - 1) == CLAIMS
    with pytest.raises(TokenExpired):
        codec.decode(token, now_us=CLAIMS.expires_us)


def test_the_leeway_is_added_to_the_expiry() -> None:
    codec = make_codec(leeway_us=2_500_000)
    token = codec.encode(CLAIMS)

    assert codec.decode(token, now_us=CLAIMS.expires_us + 2_499_999) == CLAIMS
    with pytest.raises(TokenExpired):
        codec.decode(token, now_us=CLAIMS.expires_us + 2_500_000)


def test_a_forged_and_expired_token_is_refused_as_invalid() -> None:
    token = forge(secret=OTHER_SECRET)

    with pytest.raises(TokenInvalid):
        make_codec().decode(token, now_us=CLAIMS.expires_us + 1)


# --- Extra claims ----------------------------------------------------------------------------


def test_extra_claims_are_read_back() -> None:
    extra = {"roles": ["ops"], "tenant": {"id": 7, "name": "서울"}, "none": None, "rate": 0.5}
    codec = make_codec()
    claims = Claims("17", "a", "b", NOW_US, CLAIMS.expires_us, extra)

    read = codec.decode(codec.encode(claims), now_us=NOW_US)

    assert read.extra == extra


@pytest.mark.parametrize("name", sorted(RESERVED_CLAIMS))
def test_a_reserved_claim_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=repr(name)):
        check_extra_claims({name: 1})


@pytest.mark.parametrize(
    "claims",
    [
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": {"y": [float("-inf")]}},
        {"x": object()},
        {"x": b"bytes"},
        {"x": "y" * 4096},
        {1: "a number for a name"},
    ],
)
def test_invalid_extra_claims_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"claim|Claim"):
        check_extra_claims(claims)


def nested(levels: int) -> Any:
    """Return a value with that many lists and objects, one within the other."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"y": value, "z": 0}
    return value


@pytest.mark.parametrize("levels", [MAX_NESTING, 300])
def test_claims_that_are_nested_too_deeply_are_refused(levels: int) -> None:
    claims = {"x": nested(levels)}  # in an object itself

    with pytest.raises(ValueError, match="levels deep"):
        check_extra_claims(claims)


@pytest.mark.parametrize("levels", [MAX_NESTING, 300])
def test_a_genuine_token_that_is_nested_too_deeply_is_refused(
    levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = make_codec()
    monkeypatch.setattr(codec, "check_extra_claims", lambda _: None)
    token = maker.encode(replace(CLAIMS, extra={"x": nested(levels)}))

    with pytest.raises(TokenInvalid, match="nested"):
        make_codec().decode(token, now_us=NOW_US)


def test_the_deepest_claims_reach_the_caller() -> None:
    claims = {"x": nested(MAX_NESTING - 1)}

    check_extra_claims(claims)
    read = make_codec().decode(make_codec().encode(replace(CLAIMS, extra=claims)), now_us=NOW_US)

    assert verified_token(read).claims == claims


def test_circular_claims_are_refused() -> None:
    claims: dict[str, Any] = {}
    claims["self"] = claims

    with pytest.raises(ValueError, match="JSON"):
        check_extra_claims(claims)


def test_a_token_that_would_be_too_long_is_not_signed() -> None:
    claims = Claims("\U0001f600" * 255, "a", "b", NOW_US, CLAIMS.expires_us, {"x": "y" * 4000})

    with pytest.raises(ValueError, match="8192"):
        make_codec().encode(claims)


# --- User ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("user_id", ["1", "alice", "Alice Kim", "김", "a" * 255, " ", "**"])
def test_valid_user_ids_are_accepted(user_id: str) -> None:
    assert check_user_id(user_id) == user_id


@pytest.mark.parametrize("user_id", ["", "*", "a" * 256, "a\x00", "a\n", "\ud800", 17, None, b"a"])
def test_invalid_user_ids_are_refused(user_id: object) -> None:
    with pytest.raises(ValueError, match=r"user id|user's id"):
        check_user_id(user_id)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_jws_of_another_type_or_purpose_is_refused(algorithm: str) -> None:
    key = load_key(signing_material(algorithm), algorithm)
    derived = derive_key(key, "another purpose")
    signed = TypedJws([derived], "another+jwt").encode({"iss": "xgen"})

    assert TypedJws([derived], "another+jwt").decode(signed) == {"iss": "xgen"}
    for keys, kind in (([derived], TOKEN_TYPE), ([key], TOKEN_TYPE)):
        with pytest.raises(TokenInvalid):
            TypedJws(keys, kind).decode(signed)
    if algorithm == "HS256":
        assert derived.kid not in (key.kid, derive_key(key, "a third").kid)
        with pytest.raises(TokenInvalid):
            TypedJws([key], "another+jwt").decode(signed)


def test_hkdf_is_that_of_rfc_5869() -> None:
    secret, purpose = b"\x0b" * 32, "a purpose"
    expected = HKDF(hashes.SHA256(), 32, None, purpose.encode()).derive(secret)

    assert derive_key(load_key(secret), purpose) == load_key(expected)


def test_the_object_of_a_jws_with_an_unknown_key_can_be_read() -> None:
    ours, theirs = (TypedJws([load_key(each)], "any") for each in (SECRET, OTHER_SECRET))
    signed = theirs.encode({"a": 1})

    assert ours.decode_unknown(signed) == {"a": 1}
    assert theirs.decode_unknown(signed) is None
    for broken in (None, "", "a.b.c", signed.replace(".", "..", 1)):
        assert ours.decode_unknown(broken) is None
