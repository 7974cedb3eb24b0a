"""Findings, and their output for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import click

from xgen_flask_sessions.cli.terminal import counted, shown

Level = Literal["ok", "warning", "problem"]

_WIDTH = 100
_INDENT = " " * 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route, with the methods that a finding is about."""

    methods: tuple[str, ...]
    path: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one examination."""

    level: Level
    code: str
    """A stable name for programs."""
    meaning: str
    """The meaning, in one sentence."""
    mend: str | None = None
    """The advice, in one sentence."""
    routes: tuple[Route, ...] = ()
    """The routes that it is about."""


def count(findings: Sequence[Finding], level: Level) -> int:
    """Count the findings of a level."""
    return sum(finding.level == level for finding in findings)


def represent(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as the members of a JSON document."""
    return {
        "problems": count(findings, "problem"),
        "warnings": count(findings, "warning"),
        "findings": [asdict(finding) for finding in findings],
    }


def describe(findings: Sequence[Finding]) -> str:
    """Return findings as text for people, with a summary as the last line."""
    problems, warnings = count(findings, "problem"), count(findings, "warning")
    summary = f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}."
    return "\n".join([*map(_paragraph, findings), "", summary])


def _paragraph(finding: Finding) -> str:
    lines = [_wrapped(finding.meaning, f"{finding.level:<9}")]
    if finding.routes:
        rows = [
            (shown(", ".join(route.methods)), shown(route.path), shown(route.endpoint))
            for route in finding.routes
        ]
        methods, paths = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines += [
            f"{_INDENT}  {row[0]:<{methods}}  {row[1]:<{paths}}  {row[2]}".rstrip() for row in rows
        ]
    if finding.mend:
        lines.append(_wrapped(f"-> {finding.mend}", _INDENT))
    return "\n".join(lines)


def _wrapped(text: str, first_indent: str) -> str:
    return click.wrap_text(shown(text), _WIDTH, first_indent, _INDENT)
