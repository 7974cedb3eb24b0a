"""Tokens from people who wish us ill: all refused, in the same plain way, and nothing happens.

Written along RFC 8725 and the attacks it names. Each goes through the header and the cookie.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time

from tests.conftest import MakeHost
from tests.hosts import SECRET, Host, bearer
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.keys import load_key

NOW = "2026-05-25 08:00:00"
NOW_S = 1_779_696_000
KID = load_key(SECRET.encode()).kid

HEADER: dict[str, Any] = {"alg": "HS256", "kid": KID, "typ": "xgen-session+jwt"}
PAYLOAD: dict[str, Any] = {
    "iss": "xgen",
    "sub": "1",
    "jti": "0" * 32,
    "sid": "0" * 32,
    "iat": NOW_S,
    "exp": NOW_S + 3600,
    "iat_us": NOW_S * 1_000_000,
}


WRONG_TYPES: list[Any] = [..., None, "", [], {}, True, False]

PAYLOAD_TEXT = json.dumps(PAYLOAD)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: bytes, payload: bytes, key: bytes = SECRET.encode(), hash_: Any = "sha256") -> str:
    """Sign two segments whatever they are: most of what follows has the right signature."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(hmac.new(key, signed.encode(), hash_).digest())}"


def forged(
    header: dict[str, Any] | None = None, payload: dict[str, Any] | None = None, **options: Any
) -> str:
    """Return a well-signed token with other members; ``...`` takes one out."""
    parts = []
    for members, changes in ((HEADER, header), (PAYLOAD, payload)):
        merged = {**members, **(changes or {})}
        parts.append({name: value for name, value in merged.items() if value is not ...})
    return raw(json.dumps(parts[0]).encode(), json.dumps(parts[1]).encode(), **options)


def literal(name: str, text: str) -> str:
    """Return a well-signed token whose payload has *text* as a member's value, JSON or not."""
    payload = {key: value for key, value in PAYLOAD.items() if key != name}
    body = json.dumps(payload)[:-1] + f', "{name}": {text}}}'
    return raw(json.dumps(HEADER).encode(), body.encode("utf-8", "surrogatepass"))


def unsigned(alg: Any) -> str:
    header = b64(json.dumps({**HEADER, "alg": alg}).encode())
    return f"{header}.{b64(json.dumps(PAYLOAD).encode())}."


def wrongly_signed() -> dict[str, str]:
    """Return tokens whose signature is none, or another one."""
    cases = {}
    nothings: list[Any] = ["none", "None", "NONE", "nOnE", "", None, 0, False, [], {}, ["HS256"]]
    for alg in nothings:
        cases[f"unsigned, alg {alg!r}"] = unsigned(alg)
        cases[f"signed, alg {alg!r}"] = forged({"alg": alg})
    for alg, hash_ in (("HS384", "sha384"), ("HS512", "sha512")):
        cases[f"{alg} with an HS256 key"] = forged({"alg": alg}, hash_=hash_)
    for alg in ("RS256", "ES256", "EdDSA", "PS256", "hs256", "HS256 ", "HS257", "dir", "A128KW"):
        cases[f"signed with HS256, alg {alg}"] = forged({"alg": alg})
    cases["an all-zero ECDSA signature"] = forged({"alg": "ES256"}).rpartition(".")[0] + (
        "." + b64(b"\0" * 64)
    )
    for name, key in {"blank": b"", "null": b"\0", "null string": b"null", "kid": KID.encode(),
                      "other": b"x" * 32, "upper": SECRET.upper().encode()}.items():  # fmt: skip
        cases[f"signed with the {name} key"] = forged(key=key)
    return cases


def with_another_header() -> dict[str, str]:
    """Return well-signed tokens whose header is not the one of a session token."""
    cases = {}
    faults: dict[str, list[Any]] = {
        "kid": ["", "x", KID[:-1], KID + "=", KID.lower(), "../../../dev/null", "/dev/null",
                "' OR 1=1 --", 0, 1, None, True, [KID], {"kid": KID}, KID + "\0", ...],
        "typ": ["JWT", "jwt", "at+jwt", "xgen-session+JWT", "application/xgen-session+jwt", "",
                None, 1, ["xgen-session+jwt"], ...],
        "alg": [...],
        "jku": ["http://127.0.0.1:9/keys"], "x5u": ["http://127.0.0.1:9/cert"],
        "jwk": [{"kty": "oct", "k": b64(b"x" * 32)}], "x5c": [["MIIB"]],
        "crit": [["exp"], [], "b64"],
        "b64": [False, True], "zip": ["DEF"], "cty": ["JWT"], "enc": ["A128GCM"], "nonce": ["x"],
    }  # fmt: skip
    for member, values in faults.items():
        for value in values:
            cases[f"header {member} {value!r}"] = forged({member: value})
    return cases


def with_another_payload() -> dict[str, str]:
    """Return well-signed tokens that lack a claim, or have it of another type or out of bounds."""
    cases = {}
    for member in PAYLOAD:
        for value in WRONG_TYPES:
            cases[f"payload {member} {value!r}"] = forged(payload={member: value})
    for member in ("exp", "iat", "iat_us"):
        for text in ('"1779699600"', "-1", "1779699600.5", "1e3", "NaN", "Infinity", "-Infinity",
                     "1e400", "1" + "0" * 400, "99999999999999999", "0"):  # fmt: skip
            cases[f"{member} is {text[:20]}"] = literal(member, text)
    for text in (r'"1\u0000"', r'"\ud800"', '"1 "', '" 1"', '"\N{FULLWIDTH DIGIT ONE}"',
                 '"01"', '"+1"', "1", '"*"',
                 '"' + "1" * 256 + '"', '"1\u200b"', '"2"', "[1]", '{"a": 1}'):  # fmt: skip
        cases[f"sub is {text[:24]}"] = literal("sub", text)
    for member in ("jti", "sid"):
        for text in ('"%00"', r'"\u0000"', '"' + "a" * 300 + '"', '"../x"', '"a b"', "1",
                     '"\' OR 1=1 --"', r'"\ud83d\ude00"'):  # fmt: skip
            cases[f"{member} is {text[:24]}"] = literal(member, text)
    return cases


def out_of_shape() -> dict[str, str]:
    """Return texts that are no token, or hold no JSON objects."""
    header, payload = json.dumps(HEADER).encode(), json.dumps(PAYLOAD).encode()
    cases = {"well signed, not on record": forged()}
    for name, body in {
        "an array": b"[]", "a string": b'"x"', "a number": b"1", "null": b"null", "empty": b"",
        "no JSON": b"{", "UTF-16": PAYLOAD_TEXT.encode("utf-16"),
        "a BOM": b"\xef\xbb\xbf" + payload,
        "bad UTF-8": payload[:-1] + b', "x": "\xff\xfe"}', "a comment": payload + b" // x",
        "duplicate sub": payload[:-1] + b', "sub": "2"}', "two documents": payload + payload,
        "nesting": payload[:-1] + b', "x": ' + b"[" * 2900 + b"]" * 2900 + b"}",
        "single quotes": payload.replace(b'"', b"'"), "a trailing comma": payload[:-1] + b",}",
    }.items():  # fmt: skip
        cases[f"payload is {name}"] = raw(header, body)
        cases[f"header is {name}"] = raw(body, payload)
    cases["header with a duplicate alg"] = raw(header[:-1] + b', "alg": "none"}', payload)
    cases["another issuer"] = forged(payload={"iss": "evil"})
    cases["an audience"] = forged(payload={"aud": "xgen"})
    cases["not before"] = forged(payload={"nbf": NOW_S + 60})
    cases["expired"] = forged(payload={"exp": NOW_S - 1})
    cases["iat other than iat_us"] = forged(payload={"iat": NOW_S - 5})
    cases["a megabyte"] = forged(payload={"x": "x" * 1_000_000})
    for text in ("x", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e", "null", "undefined",
                 "Bearer", "{}", "e30.e30.e30", "'; DROP TABLE xgen_sessions; --", "%00",
                 '{"protected":"e30","payload":"e30","signature":"e30"}'):  # fmt: skip
        cases[f"text {text!r}"] = text
    return cases


def bent(token: str) -> dict[str, str]:
    """Return what becomes of a genuine token when it is tampered with."""
    head, body, signature = token.split(".")
    other = "A" if signature[0] != "A" else "B"
    cases = {
        "signature flipped": f"{head}.{body}.{other}{signature[1:]}",
        "signature cut": f"{head}.{body}.{signature[:-4]}",
        "signature missing": f"{head}.{body}.",
        "signature left out": f"{head}.{body}",
        "signature twice": f"{token}.{signature}",
        "header and payload swapped": f"{body}.{head}.{signature}",
        "payload left out": f"{head}..{signature}",
        "header left out": f".{body}.{signature}",
        "payload flipped": f"{head}.{body[:-1]}{'A' if body[-1] != 'A' else 'B'}.{signature}",
        "padded": token + "=",
        "padded twice": token + "==",
        "padded within": f"{head}=.{body}.{signature}",
        "with a space within": f"{head}. {body}.{signature}",
        "with a tab within": f"{head}.\t{body}.{signature}",
        "fullwidth dots": token.replace(".", "\N{FULLWIDTH FULL STOP}"),
        "commas": token.replace(".", ","),
        "a fifth segment": f"{head}.{body}.{signature}.x.y",
        "twice": f"{token}{token}",
        "upper case": token.upper(),
        "with a percent escape": token.replace(".", "%2E"),
    }
    if "-" in token or "_" in token:
        cases["the other alphabet"] = token.replace("-", "+").replace("_", "/")
    return cases


CRAFTED = {
    **wrongly_signed(),
    **with_another_header(),
    **with_another_payload(),
    **out_of_shape(),
}
"""Tokens that need no genuine one, by what is wrong with them."""


@pytest.fixture(scope="module")
def frozen() -> Iterator[None]:
    with freeze_time(NOW):
        yield


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str, frozen: None) -> Host:
    host = make_host(sqlite_url)
    host.add_user("alice")
    host.add_user("bora")
    return host


@pytest.fixture
def genuine(host: Host) -> IssuedToken:
    return host.issue("1")


def refusals(host: Host, token: str) -> Iterator[Any]:
    """Yield the answers to *token* in the header and in the cookie, where it can be in there."""
    for path in ("/api/token", "/api/user", "/sessions/", "/sessions/users"):
        value = token.encode("utf-8", "surrogatepass").decode("latin-1")
        yield host.client().get(path, headers={"Authorization": f"Bearer {value}"})
        yield host.client().get(path, headers={"Cookie": f"xgen_token={value}"})


def test_there_are_enough_of_them() -> None:
    assert len(CRAFTED) >= 150
    assert len(set(CRAFTED.values())) >= 150


def test_the_pattern_they_are_cut_by_is_right(host: Host, genuine: IssuedToken) -> None:
    """The same forgery with a recorded jti passes: what is refused is refused for its fault."""
    known = {"jti": genuine.jti, "sid": genuine.session_id, "iat_us": genuine.issued_us}

    assert host.status(forged(payload=known)) == 200


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_tokens_are_refused(host: Host, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = CRAFTED[name]
    before = host.rows("xgen_sessions"), host.rows("xgen_revocations")
    monkeypatch.setattr(socket.socket, "connect", _no_network)

    for answer in refusals(host, token):
        _assert_refused(answer, token)
    assert (host.rows("xgen_sessions"), host.rows("xgen_revocations")) == before


def test_bent_tokens_are_refused(host: Host, genuine: IssuedToken) -> None:
    for name, token in bent(genuine.token).items():
        assert token != genuine.token, name
        for answer in refusals(host, token):
            _assert_refused(answer, token)
    assert host.status(genuine) == 200


def test_two_tokens_are_one_too_many(host: Host, genuine: IssuedToken) -> None:
    for token in (genuine.token, "x.y.z"):
        answer = host.cookie_client(genuine).get("/api/token", headers=bearer(token))

        assert answer.status_code == 400
        assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]


def test_an_asymmetric_key_is_no_secret(make_host: MakeHost, sqlite_url: str) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    host = make_host(sqlite_url, XGEN_SESSIONS_ALGORITHM="RS256", XGEN_SESSIONS_PRIVATE_KEY=private)
    issued = host.issue(host.add_user("alice"))
    known = {"jti": issued.jti, "sid": issued.session_id, "iat_us": issued.issued_us,
             "iat": issued.issued_us // 10**6, "exp": issued.expires_us // 10**6}  # fmt: skip
    kid = load_key(public).kid

    assert host.status(issued) == 200
    for alg in ("HS256", "RS256"):
        for secret in (public, public.strip(), hashlib.sha256(public).digest()):
            assert host.status(forged({"alg": alg, "kid": kid}, known, key=secret)) == 401


def _no_network(*_: object) -> None:
    raise AssertionError("a token caused a network call")


def _assert_refused(answer: Any, token: str) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="xgen"')
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["code"] in ("token_invalid", "token_expired", "token_missing")
    if len(token) > 12:
        assert token not in answer.text
        assert token not in str(answer.headers)
