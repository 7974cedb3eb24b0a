"""What the audit record of a leaver holds besides the sessions that ended."""

from __future__ import annotations

import pytest

from xgen_flask_sessions.store.leaver_details import LeaverDetails, decode, encode
from xgen_flask_sessions.store.tables import MAX_DETAILS

DEEP = "[" * 100_000


@pytest.mark.parametrize("deactivated", [True, False])
@pytest.mark.parametrize("roles", [[], ["editor", '"관리자"\\\n'], ["r" * 150] * 10])
def test_details_are_read_as_they_were_recorded(deactivated: bool, roles: list[str]) -> None:
    text = encode(deactivated=deactivated, roles=roles)

    assert decode(text) == LeaverDetails(deactivated=deactivated, roles=roles)


@pytest.mark.parametrize("name", ["r" * 150, "\N{HANGUL SYLLABLE HAN}" * 150, '"' * 150, ""])
@pytest.mark.parametrize("number", [600, 100_000])
def test_names_that_do_not_fit_are_counted(name: str, number: int) -> None:
    text = encode(deactivated=True, roles=[name] * number)

    assert MAX_DETAILS - 400 < len(text) <= MAX_DETAILS
    details = decode(text)
    assert details is not None
    assert set(details.roles) == {name}
    assert len(details.roles) + details.more_roles == number


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"roles": []}',
        '{"deactivated": 1, "roles": 7}',
        DEEP,
    ],
)
def test_other_texts_are_none(text: str | None) -> None:
    assert decode(text) is None


def test_values_of_other_types_are_left_out() -> None:
    text = '{"deactivated": "yes", "roles": ["a", 7], "more_roles": "x"}'

    assert decode(text) == LeaverDetails(deactivated=False, roles=["a"])
