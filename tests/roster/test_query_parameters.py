"""The query parameters of a list: their values, their faults, and their way back."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.roster import faults
from xgen_flask_sessions.roster.listing import COLUMNS, FILTERS, OWN, Listing, parse_listing
from xgen_flask_sessions.roster.spans import MAX_SPAN_US

SEOUL = ZoneInfo("Asia/Seoul")
DAY_US = 86_400 * SECOND_US
MIDNIGHT_US = int(datetime(2026, 5, 25, tzinfo=SEOUL).timestamp()) * SECOND_US


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {}),
        (dict.fromkeys(FILTERS, ""), {}),
        ({"address": " 203.0.113. "}, {"address": "203.0.113."}),
        ({"superuser": "true"}, {"superuser": True}),
        ({"superuser": "1"}, {"superuser": True}),
        ({"superuser": "false"}, {}),
        ({"older_than": "90"}, {"older_than_us": 90 * SECOND_US}),
        ({"older_than": "90s"}, {"older_than_us": 90 * SECOND_US}),
        ({"older_than": "30m"}, {"older_than_us": 1800 * SECOND_US}),
        ({"older_than": "12h"}, {"older_than_us": DAY_US // 2}),
        ({"older_than": "7d"}, {"older_than_us": 7 * DAY_US}),
        ({"older_than": "0"}, {"older_than_us": 0}),
        ({"older_than": "36500d"}, {"older_than_us": MAX_SPAN_US}),
        ({"min_sessions": "6"}, {"min_sessions": 6}),
        ({"since": "2026-05-25"}, {"since_us": MIDNIGHT_US}),
        ({"since": "2026-05-25T00:00:00+09:00"}, {"since_us": MIDNIGHT_US}),
        ({"since": "2026-05-24t15:00:00.1234567z"}, {"since_us": MIDNIGHT_US + 123456}),
        ({"since": "2026-05-24 15:00:00Z"}, {"since_us": MIDNIGHT_US}),
        ({"since": "2026-05-24T11:00:00-04:00"}, {"since_us": MIDNIGHT_US}),
        ({"since": "0001-01-01"}, {"since_us": 0}),
        ({"since": "0001-01-01T00:00:00+23:59"}, {"since_us": 0}),
    ],
)
def test_values(query: dict[str, str], expected: dict[str, object]) -> None:
    listing, wrong = parse_listing(query, COLUMNS, zone=SEOUL)

    assert (listing, wrong) == (Listing(**expected), [])  # type: ignore[arg-type]
    assert listing.is_filtered == bool(expected)
    assert parse_listing(listing.query(), COLUMNS) == (listing, [])


@pytest.mark.parametrize(
    ("name", "texts", "fault"),
    [
        ("address", ["x", "10.0.0.0/33", "fe80::1%eth0", "\0", "\ud800", "1" * 200],
         faults.ADDRESS),
        ("superuser", ["yes", "2", "TRUE", "\0"], faults.SUPERUSER),
        ("older_than",
         ["-1", "1e9", "1.5h", "7w", "7 d", "d", "36501d", "9" * 12 + "d", "9" * 5000, "٣", "\0"],
         faults.OLDER_THAN),
        ("min_sessions", ["0", "-1", "1e9", "1.0", "1000001", "9" * 5000, "٣", "\0"],
         faults.MIN_SESSIONS),
        ("since",
         ["2026", "2026-13-01", "2026-02-30", "20260525", "2026-W22-1", "2026-05-25T24:00:00Z",
          "2026-05-25T10:00:00", "2026-05-25T10:00Z", "2026-05-25T10:00:00+24:00", "0000-01-01",
          "2026-05-25T10:00:60Z", "99999-01-01", "yesterday", "-1", "\0", "\ud800"],
         faults.SINCE),
    ],
)  # fmt: skip
def test_faults(name: str, texts: list[str], fault: str) -> None:
    for text in texts:
        assert parse_listing({name: text}, COLUMNS) == (Listing(), [fault]), text


def test_a_parameter_that_is_given_twice_is_a_fault() -> None:
    for name in ("sort", "order", *FILTERS):
        _, wrong = parse_listing(MultiDict([(name, ""), (name, "")]), COLUMNS)
        assert faults.TWICE in wrong, name


def test_without_names_only_addresses_are_searched() -> None:
    assert parse_listing({"q": "203.0."}, OWN) == (Listing(text="203.0."), [])
    assert parse_listing({"q": "bora"}, OWN) == (Listing(), [faults.NO_NAMES])


@settings(deadline=None)
@given(
    st.builds(
        Listing,
        sort=st.sampled_from(COLUMNS),
        descending=st.booleans(),
        text=st.text("abcé.: ", max_size=9),
        address=st.sampled_from(["", "10.", "2001:db8::/32"]),
        superuser=st.booleans(),
        older_than_us=st.none() | st.integers(0, 36500 * 86400).map(lambda s: s * SECOND_US),
        min_sessions=st.none() | st.integers(1, 1_000_000),
        since_us=st.none() | st.integers(0, 2**57),
    )
)
def test_every_list_has_an_address_that_leads_back_to_it(listing: Listing) -> None:
    query = listing.query()

    assert parse_listing(query, COLUMNS) == (listing, [])
    assert parse_listing(listing.without_filters().query(), COLUMNS)[0].is_filtered is False


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*FILTERS, "sort", "order"]), st.text(max_size=30)))
def test_no_value_is_an_error(query: dict[str, str]) -> None:
    listing, _ = parse_listing(query, COLUMNS, zone=SEOUL)

    assert parse_listing(listing.query(), COLUMNS)[1] == []
