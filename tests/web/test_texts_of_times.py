"""Times in words: how long ago, the zone's name, the time of day; in English and Korean."""

from __future__ import annotations

import pytest
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET
from tests.support.screen import with_screen
from xgen_flask_sessions import clock
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.settings import Settings
from xgen_flask_sessions.web import i18n

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600

AGO = [
    (0, "just now", "방금 전"),
    (MINUTE - 1, "just now", "방금 전"),
    (MINUTE, "1 minute ago", "1분 전"),
    (2 * MINUTE - 1, "1 minute ago", "1분 전"),
    (HOUR - 1, "59 minutes ago", "59분 전"),
    (HOUR, "1 hour ago", "1시간 전"),
    (DAY - 1, "23 hours ago", "23시간 전"),
    (DAY, "1 day ago", "1일 전"),
    (7 * DAY - 1, "6 days ago", "6일 전"),
    (7 * DAY, "1 week ago", "1주 전"),
    (30 * DAY - 1, "4 weeks ago", "4주 전"),
    (30 * DAY, "1 month ago", "1개월 전"),
    (365 * DAY - 1, "12 months ago", "12개월 전"),
    (800 * DAY, "2 years ago", "2년 전"),
    (-2, "just now", "방금 전"),  # by a clock that is ahead
    (1 - MINUTE, "in less than a minute", "1분 이내"),
    (-MINUTE, "in 1 minute", "1분 후"),
    (-13 * HOUR - 1, "in 13 hours", "13시간 후"),
]

ZONES = [
    ("Asia/Seoul", "Korean Standard Time (UTC+09:00)", "한국 표준시 (UTC+09:00)"),
    ("UTC", "UTC", "UTC"),
    ("Etc/GMT+3", "Etc/GMT+3 (UTC-03:00)", "Etc/GMT+3 (UTC-03:00)"),
]


def settings_of(zone: str) -> Settings:
    return Settings.from_config({"SECRET_KEY": SECRET, "XGEN_SESSIONS_TIMEZONE": zone})


@pytest.mark.parametrize(("seconds", "english", "korean"), AGO)
def test_how_long_ago(
    make_host: MakeHost, sqlite_url: str, seconds: int, english: str, korean: str
) -> None:
    app = make_host(sqlite_url, extras=with_screen, create_all=False).app

    with freeze_time("2026-05-25 04:36:49"):
        at_us = clock.now_us() - seconds * SECOND_US
        told = {}
        for language in ("en", "ko"):
            with app.test_request_context(headers={"X-Language": language}):
                told[language] = i18n.format_ago(at_us)

    assert told == {"en": english, "ko": korean}


@pytest.mark.parametrize(("zone", "english", "korean"), ZONES)
def test_the_zone_in_words(
    make_host: MakeHost, sqlite_url: str, zone: str, english: str, korean: str
) -> None:
    app = make_host(sqlite_url, extras=with_screen, create_all=False).app
    told = {}

    for language in ("en", "ko"):
        with app.test_request_context(headers={"X-Language": language}):
            told[language] = i18n.format_zone_name(settings_of(zone))

    assert told == {"en": english, "ko": korean}


def test_the_zone_has_the_name_of_the_season() -> None:
    settings = settings_of("Europe/Berlin")

    with freeze_time("2026-01-25 12:00:00"):
        winter = i18n.format_zone_name(settings)
    with freeze_time("2026-07-25 12:00:00"):
        summer = i18n.format_zone_name(settings)

    assert winter == "Central European Standard Time (UTC+01:00)"
    assert summer == "Central European Summer Time (UTC+02:00)"


def test_the_time_of_day(make_host: MakeHost, sqlite_url: str) -> None:
    app = make_host(sqlite_url, extras=with_screen, create_all=False).app
    settings = settings_of("Asia/Seoul")
    told = {}

    with freeze_time("2026-05-25 04:06:09"):
        for language in ("en", "ko"):
            with app.test_request_context(headers={"X-Language": language}):
                told[language] = i18n.format_clock(clock.now_us(), settings)

    assert told == {"en": "13:06:09", "ko": "13시 06분 09초"}
