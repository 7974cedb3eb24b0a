"""Web origins are compared in one spelling."""

from __future__ import annotations

import pytest

from xgen_flask_sessions.origins import canonical_origin


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("https://app.example.com:", "https://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("https://app.example.com:08443", "https://app.example.com:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://한국.example", "https://xn--3e0b707e.example"),
        ("http://my_host:5000", "http://my_host:5000"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("https://*.example.com", "https://*.example.com"),
    ],
)
def test_an_origin_has_one_spelling(written: str, canonical: str) -> None:
    assert canonical_origin(written) == canonical


@pytest.mark.parametrize(
    "value",
    [
        None, b"https://a", 7, "", "null", "https://", "//a", "a.example", "https:/a", "https:a",
        "https://a/", "https://a/x", "https://a?x", "https://a#x", "https://u@a", "https://u:p@a",
        "https://[", "https://[::1", "https://[::g]", "https://a:b", "https://a:65536",
        "https://a:100000", "https://a b", "https://a\n", "https://a\\b", "https://a..é",
        "https://a, https://b", "https://a;x", "https://%61",
    ],
)  # fmt: skip
def test_any_other_text_is_no_origin(value: object) -> None:
    assert canonical_origin(value) is None
