"""The code blocks of the README and the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"(?:^<!-- (?P<key>[a-z]+): (?P<value>\S+) -->\n)?"
    r"^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block, with the key and value of the comment before it, which set its test."""

    page: Path
    line: int
    language: str
    code: str
    key: str | None
    value: str | None

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    """Yield every fenced block of every page: code and directives."""
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("fence")) + 1
            yield Block(
                page, line, found["language"].strip(), found["code"], found["key"], found["value"]
            )


PYTHON = [block for block in blocks() if block.language == "python"]
