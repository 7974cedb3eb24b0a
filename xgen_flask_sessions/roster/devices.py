"""The browser, device and address of a sign-in."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..store.tables import MAX_USER_AGENT
from ..text import clean_text

if TYPE_CHECKING:
    import ua_parser
    from ua_parser.core import UserAgent

# Group 1 is the family, group 2 the major version.
_OWN_PATTERNS = (
    (r"\b(KAKAOTALK)(?:[ /](\d{1,3})\b)?", "KakaoTalk"),
    (r"\b(NAVER)\((?:inapp; [^;]*; [^;]*; (\d+))?", "NAVER"),
    (r"\b(Whale)/(\d+)", None),
)

_BROWSER_NAMES = {
    "Chrome Mobile": "Chrome",
    "Chrome Mobile iOS": "Chrome",
    "Chrome Mobile WebView": "Android WebView",
    "Edge Mobile": "Edge",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox",
    "Mobile Safari": "Safari",
    "Mobile Safari UI/WKWebView": "Safari WebView",
    "Opera Mobile": "Opera",
}

_SYSTEM_NAMES = {"Mac OS X": "macOS", "Ubuntu": "Linux", "Fedora": "Linux", "Debian": "Linux"}

_MAX_NODE = 100
"""The longest remote address that is read."""
_NODE = re.compile(
    r"""(?P<quote>"?)
    (?: \[ (?P<bracketed> [0-9a-f:.]+ ) (?: %[^\]"]* )? \] (?: :[\w.-]* )?
      | (?P<address> [0-9.]+ ) (?: :[\w.-]* )?
      | (?P<full> (?: [0-9a-f]{1,4}: ){7} [0-9a-f]{1,4} ) (?: :[0-9]+ )?
      | (?P<six> [0-9a-f:.]+ ) (?: %[^"]* )?
    )(?P=quote)""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_OBFUSCATED = re.compile(r'(?P<quote>"?)(_[A-Za-z0-9._-]+)(?::[\w.-]*)?(?P=quote)', re.ASCII)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Device:
    """A sign-in's browser and device in words; ``None`` if unknown."""

    browser: str | None
    device: str | None

    def __str__(self) -> str:
        """Return both, such as "Whale 4 · Windows"."""
        return " · ".join(part for part in (self.browser or "Unknown browser", self.device) if part)


@lru_cache(maxsize=1)
def _parser() -> ua_parser.Parser:
    # Loaded at the first list of sessions, not at each start of a process.
    import ua_parser
    from ua_parser.loaders import load_lazy_builtins
    from ua_parser.matchers import UserAgentMatcher

    own = [UserAgentMatcher(*pattern) for pattern in _OWN_PATTERNS]
    agents, systems, devices = load_lazy_builtins()
    return ua_parser.Parser.from_matchers(([*own, *agents], systems, devices))


@lru_cache(maxsize=4096)  # a long one takes 10 ms, and many sessions have the same
def describe(user_agent: str | None) -> Device:
    """Return the browser and device that a ``User-Agent`` names.

    :param user_agent: The header's value, if there was one.
    """
    if not user_agent:
        return Device(None, None)
    found = _parser().parse(user_agent)
    return Device(_browser(found.user_agent), _device(found))


def _browser(agent: UserAgent | None) -> str | None:
    if agent is None:
        return None
    family = _BROWSER_NAMES.get(agent.family, agent.family)
    return f"{family} {agent.major}" if agent.major else family


def _device(found: ua_parser.Result) -> str | None:
    family = found.device.family if found.device else ""
    if family in ("iPhone", "iPad", "iPod"):
        return family
    if found.os is None or found.os.family == "Other":
        return None
    return _SYSTEM_NAMES.get(found.os.family, found.os.family)


def clean_user_agent(value: str | None) -> str | None:
    """Return a ``User-Agent`` fit for the table: printable, at most 512 characters, or ``None``."""
    return clean_text(value, MAX_USER_AGENT)


def clean_address(value: str | None) -> str | None:
    """Return *value* as a canonical IP address, or ``None`` if it is not one.

    A proxy may pass any text as the remote address. A port, the brackets and quotation marks of
    RFC 7239 (section 6) and a zone (RFC 4007, section 11) are left out. An IPv4 address within an
    IPv6 one, mapped (RFC 4291, section 2.5.5.2) or translated (RFC 6052), becomes IPv4.
    """
    match = _NODE.fullmatch((value or "")[:_MAX_NODE].strip())
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(next(filter(None, match.groups()[1:])))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address in _TRANSLATED:
        return str(ipaddress.IPv4Address(address.packed[-4:]))
    return str(address.ipv4_mapped or address)


def client_address(value: str | None) -> str | None:
    """Return the client of a rate limit: its IP address, or else the name that a proxy gave it.

    Proxies may hide addresses behind names that stay the same (RFC 7239, section 6.3).

    :param value: The remote address.
    """
    name = (value or "")[:_MAX_NODE].strip()
    hidden = _OBFUSCATED.fullmatch(name)
    return clean_address(value) or (hidden[2] if hidden else None)
