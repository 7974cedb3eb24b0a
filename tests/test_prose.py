"""The comments of the package stay easy to read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.prose import GROUPS, PACKAGE, files_of, per_thousand

OTHERS = ("docs", "examples", "migrations", "tests")

MOST = 1.0
"""The limit for each group, in 1,000 words of comments; well-kept projects have 0 to 1."""


@cache
def score_of(path: Path) -> dict[str, float]:
    return per_thousand(files_of(path))


@pytest.mark.parametrize(
    "path", [PACKAGE, *(PACKAGE.parent / each for each in OTHERS)], ids=lambda path: path.name
)
@pytest.mark.parametrize("group", GROUPS)
def test_words_that_make_sentences_hard_to_read_are_rare(path: Path, group: str) -> None:
    assert score_of(path)[group] <= MOST, f"python -m tests.prose --list --of {path}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "x = 1  # what was revoked, by whom; nobody knows\n"),
        ("b.py", '"""What was revoked, by whom; nobody knows."""\n'),
        ("c.lua", "-- what was revoked, by whom; nobody knows\n"),
        ("d.css", "/* what was revoked, by whom; nobody knows */\n"),
        ("e.html", "{# what was revoked, by whom; nobody knows #}\n"),
    ],
)
def test_each_kind_of_file_is_counted(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    assert list(per_thousand(files_of(tmp_path)).values()) == pytest.approx([1000 / 7] * 3)
