"""A corpus of forged and malformed tokens.

It covers the attacks that RFC 8725 names. Most tokens have a valid signature and exactly one
fault, so that the fault is the only reason to refuse the token. The key of each token describes
the fault.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
from typing import Any

from tests.support.hosts import SECRET
from xgen_flask_sessions.tokens.keys import load_key

NOW = "2026-05-25 08:00:00"
NOW_S = 1_779_696_000
KID = load_key(SECRET.encode()).kid

HEADER: dict[str, Any] = {"alg": "HS256", "kid": KID, "typ": "xgen-session+jwt"}
RECORDED = "0" * 32
"""A jti that the tests record in the database: without its fault, each token would be valid."""
PAYLOAD: dict[str, Any] = {
    "iss": "xgen",
    "sub": "1",
    "jti": RECORDED,
    "sid": RECORDED,
    "iat": NOW_S,
    "exp": NOW_S + 3600,
    "iat_us": NOW_S * 1_000_000,
}


WRONG_TYPES: list[Any] = [..., None, "", [], {}, True, False]

PAYLOAD_TEXT = json.dumps(PAYLOAD)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: bytes, payload: bytes, key: bytes = SECRET.encode(), hash_: Any = "sha256") -> str:
    """Return a signed token of any two segments, valid JSON or not."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(hmac.new(key, signed.encode(), hash_).digest())}"


def forged(
    header: dict[str, Any] | None = None, payload: dict[str, Any] | None = None, **options: Any
) -> str:
    """Return a well-signed token with changed members; the value ``...`` removes a member."""
    parts = []
    for members, changes in ((HEADER, header), (PAYLOAD, payload)):
        merged = {**members, **(changes or {})}
        parts.append({name: value for name, value in merged.items() if value is not ...})
    return raw(json.dumps(parts[0]).encode(), json.dumps(parts[1]).encode(), **options)


def literal(name: str, text: str) -> str:
    """Return a well-signed token whose payload has the raw *text* as a member's value."""
    payload = {key: value for key, value in PAYLOAD.items() if key != name}
    body = json.dumps(payload)[:-1] + f', "{name}": {text}}}'
    return raw(json.dumps(HEADER).encode(), body.encode("utf-8", "surrogatepass"))


def in_the_other_alphabet() -> str:
    """Return a well-signed token in base64 with + and / in place of base64url's - and _."""
    parts = [json.dumps(part).encode() for part in (HEADER, PAYLOAD | {"x": "???>>>~~~"})]
    signed = ".".join(base64.b64encode(part).rstrip(b"=").decode() for part in parts)
    assert {"+", "/"} & set(signed)
    return f"{signed}.{b64(hmac.new(SECRET.encode(), signed.encode(), 'sha256').digest())}"


def unsigned(alg: Any) -> str:
    header = b64(json.dumps({**HEADER, "alg": alg}).encode())
    return f"{header}.{b64(json.dumps(PAYLOAD).encode())}."


def wrongly_signed() -> dict[str, str]:
    """Return tokens without a signature, or with a wrong one."""
    cases = {}
    nones = map("".join, itertools.product("nN", "oO", "nN", "eE"))
    nothings: list[Any] = [*nones, "", None, 0, 1.5, False, [], {}, ["HS256"], {"HS256": 1}]
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
    cases["a null signature"] = unsigned("HS256")
    for length in (1, 31, 33, 64):
        cases[f"{length} bytes of zero for a signature"] = unsigned("HS256") + b64(b"\0" * length)
    for name, key in {"blank": b"", "null": b"\0", "null string": b"null", "kid": KID.encode(),
                      "other": b"x" * 32, "upper": SECRET.upper().encode()}.items():  # fmt: skip
        cases[f"signed with the {name} key"] = forged(key=key)
    return cases


def with_another_header() -> dict[str, str]:
    """Return well-signed tokens whose header is not a session token's header."""
    cases = {}
    faults: dict[str, list[Any]] = {
        "kid": ["", "x", KID[:-1], KID + "=", KID.lower(), "../../../dev/null", "/dev/null",
                "' OR 1=1 --", "C:\\\\nul", "file:///dev/null", "http://127.0.0.1:9/k",
                0, 1, -1, None, True, [KID], {"kid": KID}, KID + "\0", ...],
        "typ": ["JWT", "jwt", "at+jwt", "xgen-session+JWT", "application/xgen-session+jwt", "",
                None, 1, ["xgen-session+jwt"], ...],
        "alg": [...],
        "jku": ["http://127.0.0.1:9/keys"], "x5u": ["http://127.0.0.1:9/cert"],
        "jwk": [{"kty": "oct", "k": b64(b"x" * 32)}, {"kty": "oct", "k": b64(SECRET.encode())}],
        "x5c": [["MIIB"]],
        "crit": [["exp"], ["b64"], ["http://example.org/x"], [], "b64", None],
        "x5t": ["x"], "x5t#S256": ["x"],
        "b64": [False, True], "zip": ["DEF"], "cty": ["JWT"], "enc": ["A128GCM"], "nonce": ["x"],
    }  # fmt: skip
    for member, values in faults.items():
        for value in values:
            cases[f"header {member} {value!r}"] = forged({member: value})
    return cases


def with_another_payload() -> dict[str, str]:
    """Return well-signed tokens with a claim missing, of a wrong type, or out of bounds."""
    cases = {}
    for member in PAYLOAD:
        for value in WRONG_TYPES:
            cases[f"payload {member} {value!r}"] = forged(payload={member: value})
    for member in ("exp", "iat", "iat_us"):
        for text in ('"1779699600"', "-1", "1779699600.5", "1e3", "NaN", "Infinity", "-Infinity",
                     "1e400", "1" + "0" * 400, "99999999999999999", "0", '"NaN"', "1779699600.0",
                     "0x10", "01779699600", "[1779699600]", "--1", "1" + "0" * 4000):  # fmt: skip
            cases[f"{member} is {text[:20]}"] = literal(member, text)
    for exp in (PAYLOAD["exp"] + 1, 10**10, 10**11):
        cases[f"exp is later than recorded: {exp}"] = literal("exp", str(exp))
    for text in (r'"1\u0000"', r'"\ud800"', '"1 "', '" 1"', '"\N{FULLWIDTH DIGIT ONE}"',
                 '"01"', '"+1"', "1", '"*"',
                 '"' + "1" * 256 + '"', '"1\u200b"', '"2"', "[1]", '{"a": 1}'):  # fmt: skip
        cases[f"sub is {text[:24]}"] = literal("sub", text)
    for member in ("jti", "sid"):
        for text in ('"%00"', r'"\u0000"', '"' + "a" * 300 + '"', '"../x"', '"a b"', "1",
                     '"\' OR 1=1 --"', r'"\ud83d\ude00"', r'"\ud800"', '"0\u200b"',
                     '"\N{FULLWIDTH DIGIT ZERO}"', "0", "[0]"):  # fmt: skip
            cases[f"{member} is {text[:24]}"] = literal(member, text)
    return cases


def out_of_shape() -> dict[str, str]:
    """Return texts that are not a token, or whose segments are not valid JSON objects."""
    header, payload = json.dumps(HEADER).encode(), json.dumps(PAYLOAD).encode()
    cases = {"well signed, not on record": forged(payload={"jti": "1" * 32, "sid": "1" * 32})}
    for name, body in {
        "an array": b"[]", "a string": b'"x"', "a number": b"1", "null": b"null", "empty": b"",
        "no JSON": b"{", "UTF-16": PAYLOAD_TEXT.encode("utf-16"),
        "a BOM": b"\xef\xbb\xbf" + payload,
        "bad UTF-8": payload[:-1] + b', "x": "\xff\xfe"}', "a comment": payload + b" // x",
        "UTF-16 without BOM": PAYLOAD_TEXT.encode("utf-16-le"),
        "UTF-32": PAYLOAD_TEXT.encode("utf-32"),
        "overlong UTF-8": payload[:-1] + b', "x": "\xc0\xaf"}',
        "a surrogate in UTF-8": payload[:-1] + b', "x": "\xed\xa0\x80"}', "true": b"true",
        "NUL": payload + b"\0", "two documents": payload + payload,
        "nesting": payload[:-1] + b', "x": ' + b"[" * 2900 + b"]" * 2900 + b"}",
        "single quotes": payload.replace(b'"', b"'"), "a trailing comma": payload[:-1] + b",}",
    }.items():  # fmt: skip
        cases[f"payload is {name}"] = raw(header, body)
        cases[f"header is {name}"] = raw(body, payload)
    for members, at_header in ((HEADER, True), (PAYLOAD, False)):
        for member, value in members.items():
            again = f", {json.dumps(member)}: {json.dumps(value)}}}".encode()
            twice = (header[:-1] + again, payload) if at_header else (header, payload[:-1] + again)
            cases[f"{'header' if at_header else 'payload'} with {member} twice"] = raw(*twice)
    cases["payload with another sub first"] = raw(header, b'{"sub": "2", ' + payload[1:])
    deep = b"[" * 100_000 + b"]" * 100_000
    cases["payload nested 100,000 deep"] = raw(header, payload[:-1] + b', "x": ' + deep + b"}")
    cases["header nested 100,000 deep"] = raw(header[:-1] + b', "x": ' + deep + b"}", payload)
    cases["header with a duplicate alg"] = raw(header[:-1] + b', "alg": "none"}', payload)
    cases["another issuer"] = forged(payload={"iss": "evil"})
    cases["an audience"] = forged(payload={"aud": "xgen"})
    cases["not before"] = forged(payload={"nbf": NOW_S + 60})
    cases["expired"] = forged(payload={"exp": NOW_S - 1})
    cases["iat later than iat_us"] = forged(payload={"iat": NOW_S + 5})
    cases["iat decades before exp"] = forged(payload={"iat": NOW_S - 20 * 365 * 86_400})
    cases["a login id that is no text"] = forged(payload={"lid": 1})
    cases["the other alphabet"] = in_the_other_alphabet()
    cases["a padded payload"] = raw(header, payload).replace(".", "=.", 2).replace("=.", ".", 1)
    cases["a megabyte"] = forged(payload={"x": "x" * 1_000_000})
    for text in ("x", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e", "null", "undefined",
                 "Bearer", "{}", "e30.e30.e30", "'; DROP TABLE xgen_sessions; --", "%00",
                 '{"protected":"e30","payload":"e30","signature":"e30"}'):  # fmt: skip
        cases[f"text {text!r}"] = text
    return cases


def bent(token: str) -> dict[str, str]:
    """Return variants of a genuine token that was tampered with."""
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
    parts = {"payload": body, "protected": head, "signature": signature}
    general = {"payload": body, "signatures": [{"protected": head, "signature": signature}]}
    for name, text in {"flattened": json.dumps(parts), "general": json.dumps(general)}.items():
        cases[f"JSON serialization, {name}"] = text
        cases[f"JSON serialization, {name}, in base64url"] = b64(text.encode())
    for name, blank in {"newline": "\n", "CRLF": "\r\n", "NUL": "\0", "no-break space": "\xa0",
                        "zero width space": "\u200b", "BOM": "\ufeff"}.items():  # fmt: skip
        cases[f"with a {name} within"] = f"{head}.{body}{blank}.{signature}"
        cases[f"with a {name} before"] = blank + token
        cases[f"with a {name} after"] = token + blank
    return cases


CRAFTED = {
    **wrongly_signed(),
    **with_another_header(),
    **with_another_payload(),
    **out_of_shape(),
}
"""Tokens that are built without a genuine one, by their fault."""
