"""JWK Sets: public keys printed by the deployment, read by its services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import run
from tests.support.databases import REDIS, MakeHost
from tests.support.tokens import CLAIMS, SECRET, private_pem, public_pem
from xgen_flask_sessions.errors import ConfigurationError, TokenInvalid
from xgen_flask_sessions.tokens.codec import TokenCodec
from xgen_flask_sessions.tokens.keys import load_jwks, load_key, to_jwks
from xgen_flask_sessions.verifier import Verifier

ASYMMETRIC = ("RS256", "ES256", "EdDSA")


def jwk(algorithm: str, **members: Any) -> dict[str, Any]:
    (found,) = to_jwks([load_key(private_pem(algorithm), algorithm)])["keys"]
    return {**found, **members}


def read(*jwks: dict[str, Any]) -> list[str]:
    """Return the algorithms of the keys in a set."""
    return [key.algorithm for key in load_jwks(json.dumps({"keys": jwks}))]


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_printed_key_verifies_and_does_not_sign(algorithm: str) -> None:
    private = load_key(private_pem(algorithm), algorithm)
    token = TokenCodec([private], issuer="xgen").encode(CLAIMS)

    (key,) = load_jwks(json.dumps(to_jwks([private])))

    assert (key.kid, key.algorithm, key.signing) == (private.kid, algorithm, None)
    assert TokenCodec([key], issuer="xgen").decode(token, now_us=0) == CLAIMS


def test_secrets_are_not_printed() -> None:
    assert to_jwks([load_key(SECRET)]) == {"keys": []}
    printed = json.dumps(to_jwks([load_key(private_pem(each), each) for each in ASYMMETRIC]))
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(json.loads(printed)["keys"][0])


def test_keys_for_other_uses_are_ignored() -> None:
    others = [
        jwk("RS256", use="enc"), jwk("RS256", alg="PS256"), jwk("RS256", kty="AKP"),
        {"kty": "EC", "crv": "P-521"}, {},
    ]  # fmt: skip

    assert read(jwk("ES256"), *others) == ["ES256"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (jwk("RS256", kid="main"), "thumbprint"),
        (jwk("RS256", d="AQAB"), "secret"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "secret"),
        (jwk("ES256", y="AQAB"), "cannot be used"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "RS256"),
    ],
)
def test_an_inconsistent_key_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        read(wrong)


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"keys": 1}', '{"keys": [1]}', "[" * 9999])
def test_a_malformed_set_is_refused(document: str) -> None:
    with pytest.raises(ConfigurationError, match="RFC 7517"):
        load_jwks(document)


def test_the_command_prints_the_keys_in_use(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(
        sqlite_url,
        XGEN_SESSIONS_ALGORITHM="ES256",
        XGEN_SESSIONS_PRIVATE_KEY=private_pem("ES256"),
        XGEN_SESSIONS_PREVIOUS_KEYS=[public_pem(private_pem("RS256")), SECRET],
    )

    printed = run(host, "jwks")

    assert printed.exit_code == 0, printed.output
    assert [key.algorithm for key in load_jwks(printed.stdout)] == ["ES256", "RS256"]


def test_a_shared_secret_is_not_published(make_host: MakeHost, sqlite_url: str) -> None:
    printed = run(make_host(sqlite_url), "jwks")

    assert printed.exit_code == 1
    assert "HS256 has no public key" in printed.stderr
    assert printed.stdout == ""


def test_a_changed_file_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "jwks.json"
    keys = [load_key(private_pem("ES256", number), "ES256") for number in (1, 2)]
    tokens = [TokenCodec([key], issuer="xgen").encode(CLAIMS) for key in keys]

    def write(document: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(document)
        draft.replace(file)
        verifier._keys_due_s = 0
        verifier._reread_keys()

    def known() -> list[bool]:
        found = []
        for token in tokens:
            try:
                verifier._codec.decode(token, now_us=0)
            except TokenInvalid:
                found.append(False)
            else:
                found.append(True)
        return found

    file.write_text(json.dumps(to_jwks(keys[:1])))
    verifier = Verifier(redis_url=REDIS, jwks_file=file)
    assert known() == [True, False]
    verifier._reread_keys()  # the file has not changed
    write(json.dumps(to_jwks(keys)))
    assert known() == [True, True]
    write("{")
    assert known() == [True, True]
    assert "jwks.json cannot be used" in caplog.text
    write(json.dumps(to_jwks(keys[1:])))
    assert known() == [False, True]
    file.unlink()
    verifier._keys_due_s = 0
    verifier._reread_keys()
    assert known() == [False, True]


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "jwks.json"
    keys = [load_key(private_pem("ES256", number), "ES256") for number in (1, 2)]
    file.write_text(json.dumps(to_jwks(keys[:1])))
    verifier = Verifier(redis_url=REDIS, jwks_file=file)
    file.write_text(json.dumps(to_jwks(keys)))

    def fail(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        verifier._keys_due_s = 0
        verifier._reread_keys()
    verifier._keys_due_s = 0
    verifier._reread_keys()

    token = TokenCodec(keys[1:], issuer="xgen").encode(CLAIMS)
    assert verifier._codec.decode(token, now_us=0) == CLAIMS


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "There is no key"),
        ({"secret_key": "short"}, "at least 32"),
        ({"public_keys": [private_pem("ES256")]}, "public keys in PEM"),
        ({"public_keys": [SECRET]}, "public keys in PEM"),
        ({"public_keys": SECRET}, "a list"),
        ({"previous_keys": "short"}, "a list"),
        ({"previous_keys": ["short"]}, "at least 32"),
        ({"jwks_file": "/nowhere/jwks.json"}, "cannot be read"),
        ({"secret_key": SECRET, "leeway": 301}, "leeway"),
        ({"secret_key": SECRET, "max_staleness": 0.1}, "max_staleness"),
        ({"secret_key": SECRET, "redis_url": "http://host"}, "redis://"),
    ],
)
def test_invalid_options_are_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Verifier(**{"redis_url": REDIS, **options})


@pytest.mark.parametrize("option", ["public_keys", "previous_keys"])
def test_keys_in_pem_verify(option: str) -> None:
    token = TokenCodec([load_key(private_pem("ES256"), "ES256")], issuer="xgen").encode(CLAIMS)
    keys: dict[str, Any] = {option: [public_pem(private_pem("ES256")).decode()]}

    verifier = Verifier(redis_url=REDIS, **keys)

    assert verifier._codec.decode(token, now_us=0) == CLAIMS


def test_an_unusable_set_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text("{}")

    with pytest.raises(ConfigurationError, match="cannot be used"):
        Verifier(redis_url=REDIS, jwks_file=tmp_path / "jwks.json")
