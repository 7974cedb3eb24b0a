"""Texts in English and Korean: by the locale of the host's Flask-Babel, otherwise English."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from babel import Locale
from babel.dates import format_timedelta, get_timezone_name
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import LazyProxy, NullTranslations, Translations
from flask import current_app, has_request_context

from .. import clock
from ..settings import Settings
from ..text import gettext_noop as gettext_noop

_CATALOGUES = Path(__file__).parent / "translations"
_DOMAIN = "xgen_sessions"
_MINUTE_S = 60
_DAY_S = 24 * 60 * _MINUTE_S
_AGO_UNITS_S = (365 * _DAY_S, 30 * _DAY_S, 7 * _DAY_S, _DAY_S, 60 * _MINUTE_S, _MINUTE_S)
"""Year, month, week, day, hour, minute, as Babel has them."""
_SKEW_S = 5


_forced: ContextVar[str | None] = ContextVar("xgen_sessions_language", default=None)


@contextmanager
def forced(code: str | None) -> Iterator[None]:
    """Speak a language for the length of a ``with`` block, without asking the host.

    :param code: Such as ``en``; ``None`` means the current request's language.
    """
    token = _forced.set(code)
    try:
        yield
    finally:
        _forced.reset(token)


def language() -> str:
    """Return the language of the current request, ``en`` or ``ko``; English outside one."""
    code = _forced.get()
    if code is not None:
        return code
    if has_request_context() and "babel" in current_app.extensions:
        locale = _locale_of(current_app.extensions["babel"])
        if locale is not None and _is_translated(locale.language):
            return str(locale.language)
    return "en"


def _locale_of(extension: object) -> Locale | None:
    """Return the locale of Flask-Babel, or of one of its forks, such as Flask-BabelPlus."""
    package = sys.modules.get(type(extension).__module__.partition(".")[0])
    get_locale = getattr(package, "get_locale", None)
    return get_locale() if get_locale is not None else None


def gettext(message: str, **variables: object) -> str:
    """Return *message* in the current language, with ``%(name)s`` filled in."""
    translated = _translations(language()).gettext(message)
    return translated % variables if variables else translated


def ngettext(singular: str, plural: str, number: int, **variables: object) -> str:
    """Return the form for *number*, which is also ``%(num)d``, in the current language."""
    translated = _translations(language()).ngettext(singular, plural, number)
    return translated % {"num": number, **variables}


def is_known(message: str) -> bool:
    """Return whether *message* is a text of the package, which has its translations."""
    return message in _messages()


@lru_cache(maxsize=1)
def _messages() -> frozenset[str]:
    with _catalogue("ko").open("rb") as source:
        ids = (message.id for message in read_po(source))
        return frozenset(each if isinstance(each, str) else each[0] for each in ids)


def lazy_gettext(message: str) -> LazyProxy:
    """Return a string that is translated each time it is rendered."""
    return LazyProxy(gettext, message, enable_cache=False)


def format_time(at_us: int, settings: Settings) -> str:
    """Return a time in the configured zone, to the second, in the current language's format.

    A time with another offset than now's, before a change to or from daylight-saving time, comes
    with its own: the heading of :func:`format_zone` does not hold for it.

    :param at_us: Microseconds since the epoch.
    """
    at = clock.to_datetime(at_us, settings.timezone)
    day = f"{at.year}. {at.month}. {at.day}."
    offset = clock.unusual_offset_of(at_us, settings.timezone)
    return f"{day} {format_clock(at_us, settings)}{offset}"


def clock_pattern() -> str:
    """Return the current language's format of a time of day, as for ``strftime``."""
    return "%H시 %M분 %S초" if language() == "ko" else "%H:%M:%S"


def format_clock(at_us: int, settings: Settings) -> str:
    """Return the time of day in the configured zone, to the second.

    :param at_us: Microseconds since the epoch.
    """
    at = clock.to_datetime(at_us, settings.timezone)
    time = clock_pattern()
    for code in ("%H", "%M", "%S"):  # strftime() of some C libraries loses the Korean letters
        time = time.replace(code, f"{at:{code}}")
    return time


def format_ago(at_us: int) -> str:
    """Return the distance of a time from now, such as "3 minutes ago".

    Below a minute it is "just now", or "in less than a minute" if the time is still to come. A time
    that is a few seconds ahead is one that the clock of another machine has told.

    It is cut to the largest whole unit, not rounded: 119 seconds are a minute.

    :param at_us: Microseconds since the epoch.
    """
    seconds = (at_us - clock.now_us()) / clock.SECOND_US
    if abs(seconds) < _AGO_UNITS_S[-1]:
        return gettext("in less than a minute") if seconds > _SKEW_S else gettext("just now")
    unit = next(each for each in _AGO_UNITS_S if abs(seconds) >= each)
    whole = timedelta(seconds=int(seconds / unit) * unit)
    return format_timedelta(whole, threshold=1, add_direction=True, locale=language())


def format_number(number: int) -> str:
    """Return a whole number with thousands separators, as the current language writes it."""
    return format_decimal(number, locale=language())


def format_zone(settings: Settings) -> str:
    """Return the configured zone with its offset now, such as "Asia/Seoul (UTC+09:00)"."""
    zone = settings.timezone
    return "UTC" if zone.key == "UTC" else f"{zone.key} ({clock.offset_of(clock.now_us(), zone)})"


def format_zone_name(settings: Settings) -> str:
    """Return the configured zone in words, such as "Korean Standard Time (UTC+09:00)"."""
    zone = settings.timezone
    now = clock.now_us()
    name = get_timezone_name(clock.to_datetime(now, zone), locale=language())
    if zone.key == "UTC" or name.startswith("GMT"):  # without words
        return format_zone(settings)
    return f"{name} ({clock.offset_of(now, zone)})"


def _catalogue(code: str) -> Path:
    return _CATALOGUES / code / "LC_MESSAGES" / f"{_DOMAIN}.po"


@lru_cache(maxsize=64)
def _is_translated(code: str) -> bool:
    return _catalogue(code).is_file()


@lru_cache(maxsize=8)
def _translations(code: str) -> NullTranslations:
    path = _catalogue(code)
    if not path.is_file():
        return NullTranslations()
    compiled = io.BytesIO()
    with path.open("rb") as source:
        write_mo(compiled, read_po(source))
    compiled.seek(0)
    return Translations(compiled, domain=_DOMAIN)
