"""Forgeries with other keys, with user ids that look alike, and against a running server."""

from __future__ import annotations

import hashlib
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.admin_center import AdminCenter
from tests.support.databases import MakeHost
from tests.support.hostile_tokens import CRAFTED, b64, forged
from tests.support.hosts import NamedUser
from tests.support.pems import pems
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.tokens.keys import load_key


def as_recorded(issued: IssuedToken) -> dict[str, Any]:
    """Return the claims of *issued*, for use in another token."""
    return {
        "jti": issued.jti,
        "sid": issued.session_id,
        "iat_us": issued.issued_us,
        "iat": issued.issued_us // 10**6,
        "exp": issued.expires_us // 10**6,
    }


LOOK_ALIKES = ["alice", "ALICE", "alicé", "alice\u0301", "\u0430lice", "alice\u200b", "alice ",
               " alice", "\uff41lice", "al\u0131ce", "al\u0131ce\u0307"]  # fmt: skip


def test_a_user_id_that_looks_alike_is_another_user(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, model=NamedUser)
    issued = {}
    for user in LOOK_ALIKES:
        host.add_user(user, id=user)
        issued[user] = host.issue(user)

    for user, own in issued.items():
        for other in LOOK_ALIKES:
            claims = as_recorded(own) | {"sub": other}
            assert host.status(forged(payload=claims)) == (200 if user == other else 401)
            for member in ("jti", "sid"):
                upper = claims | {"sub": user, member: claims[member].upper()}
                if upper[member] != claims[member]:
                    assert host.status(forged(payload=upper)) == 401


def test_a_public_key_is_not_accepted_as_an_hmac_secret(
    make_host: MakeHost, sqlite_url: str
) -> None:
    private, public = pems(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    host = make_host(sqlite_url, XGEN_SESSIONS_ALGORITHM="RS256", XGEN_SESSIONS_PRIVATE_KEY=private)
    issued = host.issue(host.add_user("alice"))
    kid = load_key(public).kid

    assert host.status(issued) == 200
    for alg in ("HS256", "RS256", "none"):
        for secret in (public, public.strip(), hashlib.sha256(public).digest(), kid.encode()):
            token = forged({"alg": alg, "kid": kid}, as_recorded(issued), key=secret)
            assert host.status(token) == 401


def test_ecdsa_signatures_of_edge_values_are_refused(make_host: MakeHost, sqlite_url: str) -> None:
    private, public = pems(ec.generate_private_key(ec.SECP256R1()))
    host = make_host(sqlite_url, XGEN_SESSIONS_ALGORITHM="ES256", XGEN_SESSIONS_PRIVATE_KEY=private)
    issued = host.issue(host.add_user("alice"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    edges = [number.to_bytes(32, "big") for number in (0, 1, order - 1, order, 2**256 - 1)]
    header = {"alg": "ES256", "kid": load_key(public).kid}
    signed = forged(header, as_recorded(issued)).rpartition(".")[0]

    assert host.status(issued) == 200
    for signature in [*(r + s for r in edges for s in edges), b"", b"\0", b"\0" * 63, b"\0" * 65]:
        assert host.status(f"{signed}.{b64(signature)}") == 401


def test_a_running_server_survives_forgeries(tmp_path: Path) -> None:
    with AdminCenter(tmp_path / "instance") as center:

        def status(value: str, name: str = "Authorization") -> int:
            connection = HTTPConnection("127.0.0.1", center.port, timeout=30)
            try:
                connection.request("GET", "/api/me", headers={name: value})
                return connection.getresponse().status
            except (BrokenPipeError, ConnectionResetError):
                return 431  # it has closed the connection already
            finally:
                connection.close()

        for token in ("x.y.z", forged(), CRAFTED["payload is nesting"], "x" * 20_000):
            assert status(f"Bearer {token}") == 401
            assert status(f"xgen_token={token}", "Cookie") == 401
        for name in ("a megabyte", "payload nested 100,000 deep"):  # the server's limit
            assert status(f"Bearer {CRAFTED[name]}") == 431
            assert status(f"xgen_token={CRAFTED[name]}", "Cookie") == 431
        for line in (
            b"Bearer a.b\n.c",
            b"Bearer a\r\n .b.c",
            b"Bearer a.\0b.c",
            b"Bearer \xff\xfe",
        ):
            with socket.create_connection(("127.0.0.1", center.port), 30) as raw:
                raw.sendall(b"GET /api/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                            b"Authorization: " + line + b"\r\n\r\n")  # fmt: skip
                assert raw.makefile("rb").readline().split()[1] in (b"400", b"401")
        assert status("Bearer x.y.z") == 401
