"""User agents and addresses, as the screen shows them."""

from __future__ import annotations

import pytest

from xgen_flask_sessions.roster.devices import clean_address, clean_user_agent, describe

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
IOS = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15"


WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT}"
ANDROID = "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918N)"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT}"


@pytest.mark.parametrize(
    ("user_agent", "shown"),
    [
        (f"{WINDOWS} Chrome/124.0.0.0 Whale/4.25.232.19 Safari/537.36", "Whale 4 · Windows"),
        (
            f"{ANDROID} {WEBKIT} SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            "Samsung Internet 27 · Android",
        ),
        (f"{IOS} (KHTML, like Gecko) Mobile/15E148 KAKAOTALK 10.4.5", "KakaoTalk 10 · iPhone"),
        (
            f"{ANDROID} {WEBKIT} Version/4.0 Chrome/120.0 Mobile Safari/537.36;KAKAOTALK 2410450",
            "KakaoTalk · Android",
        ),
        (f"{IOS} NAVER(inapp; search; 2000; 12.4.10; 15PRO)", "NAVER 12 · iPhone"),
        (
            f"{IOS} (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1",
            "Safari 19 · iPhone",
        ),
        (f"{MAC} Chrome/148.0.0.0 Safari/537.36", "Chrome 148 · macOS"),
        (f"{ANDROID} {WEBKIT} Chrome/148.0.0.0 Mobile Safari/537.36", "Chrome 148 · Android"),
        (f"{WINDOWS} Chrome/148.0.0.0 Safari/537.36 Edg/148.0.0.0", "Edge 148 · Windows"),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox 140 · Linux",
        ),
        ("curl/8.5.0", "curl 8"),
        ("no such thing", "Unknown browser"),
        ("", "Unknown browser"),
        (None, "Unknown browser"),
    ],
)
def test_browser_and_device(user_agent: str | None, shown: str) -> None:
    assert str(describe(user_agent)) == shown


def test_user_agents_are_kept_to_512_printable_characters() -> None:
    assert clean_user_agent("x" * 9000) == "x" * 512
    assert clean_user_agent("a\x00b\x1b[31m\ud800") == "a\ufffdb\ufffd[31m\ufffd"
    assert clean_user_agent("  ") is None


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:cb00:7109", "203.0.113.9"),
        ("64:ff9b::203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51234", "203.0.113.9"),
        ("203.0.113.9:", "203.0.113.9"),
        ("203.0.113.9:_secret", "203.0.113.9"),
        (" 203.0.113.9 ", "203.0.113.9"),
        ('"203.0.113.9:80"', "203.0.113.9"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[fe80::1%eth0]:443", "fe80::1"),
        ("[::ffff:203.0.113.9]:443", "203.0.113.9"),
        ("[203.0.113.9]:80", "203.0.113.9"),
        ("203.0.113.9:_a.b-c", "203.0.113.9"),
        ("[2001:db8::1]:_a.b-c", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1:4711", "2001:db8::1"),
        ("[2001:db8::1", None),
        ("2001:db8::1]:443", None),
        ("[2001:db8::1]443", None),
        ('"203.0.113.9', None),
        ("203.0.113.9:80:80", None),
        ("203.0.113.256", None),
        ("::1::", None),
        ("_hidden", None),
        ("unix:", None),
        ("/run/app.sock", None),
        ("1" * 100_000, None),
        ("unknown", None),
        ("<script>", None),
        ("203.0.113.9, 10.0.0.1", None),
        ("", None),
        (None, None),
    ],
)
def test_only_valid_addresses_are_kept(address: str | None, kept: str | None) -> None:
    assert clean_address(address) == kept


def test_the_same_browser_is_looked_up_once() -> None:
    describe.cache_clear()

    for _ in range(3):
        describe(f"{MAC} Chrome/148.0.0.0 Safari/537.36")

    assert (describe.cache_info().misses, describe.cache_info().hits) == (1, 2)
