"""Counts words that make comments hard to read: ``python -m tests.prose``.

Of 1,000 words of comments and docstrings, it counts "what", "who", "whom" and "whoever", and
"nobody" and "nothing": in plain sentences, a noun stands in their place.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "xgen_flask_sessions"
GROUPS: Final = {
    "what": r"\bwhat\b",
    "who": r"\b(?:who|whom|whoever)\b",
    "nobody, nothing": r"\b(?:nobody|nothing)\b",
}
COMMENTS: Final = {
    ".js": r"/\*.*?\*/|(?<!:)//[^\n]*",
    ".css": r"/\*.*?\*/",
    ".html": r"\{#.*?#\}|<!--.*?-->",
    ".lua": r"--[^\n]*",
}


def python_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and docstrings of a module, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                yield node.lineno, text


def comments(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments of a file, with their lines."""
    source = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix == ".py":
        yield from python_comments(source)
        return
    for match in re.finditer(COMMENTS[file.suffix], source, re.DOTALL):
        yield source.count("\n", 0, match.start()) + 1, match.group()


def files_of(path: Path) -> list[Path]:
    """Return the source files at or below a path."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in found if file.suffix in (".py", *COMMENTS)]


def count(files: list[Path]) -> tuple[int, Counter[str]]:
    """Return the number of words in the comments, and the number of each group's words."""
    words, hits = 0, Counter[str]()
    for file in files:
        for _, text in comments(file):
            words += len(re.findall(r"[A-Za-z][A-Za-z'-]*", text))
            for group, pattern in GROUPS.items():
                hits[group] += len(re.findall(pattern, text, re.IGNORECASE))
    return words, hits


def per_thousand(files: list[Path]) -> dict[str, float]:
    """Return the number of words of each group in 1,000 words of comments."""
    words, hits = count(files)
    return {group: 1000 * hits[group] / max(words, 1) for group in GROUPS}


def rooms(path: Path) -> dict[str, list[Path]]:
    """Return the files of each folder in a package, and of the package itself."""
    found: dict[str, list[Path]] = {}
    for file in files_of(path):
        relative = file.relative_to(path) if path.is_dir() else Path(file.name)
        found.setdefault(relative.parts[0] if len(relative.parts) > 1 else ".", []).append(file)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a table, or each occurrence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", type=Path, default=PACKAGE, metavar="PATH")
    parser.add_argument("--list", action="store_true", help="print each occurrence")
    options = parser.parse_args(arguments)
    if options.list:
        for file in files_of(options.of):
            for line, text in comments(file):
                if any(re.search(each, text, re.IGNORECASE) for each in GROUPS.values()):
                    print(f"{file}:{line}: {' '.join(text.split())}")
        return 0
    print(f"{'':14}{'words':>8}" + "".join(f"{group:>18}" for group in GROUPS))
    for name, files in [*rooms(options.of).items(), ("all", files_of(options.of))]:
        rates = per_thousand(files)
        cells = "".join(f"{rates[group]:>18.1f}" for group in GROUPS)
        print(f"{name:14}{count(files)[0]:>8}{cells}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
