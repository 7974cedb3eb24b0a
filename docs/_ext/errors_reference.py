"""The directive ``errors-reference``: every error code, read off the error classes."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import groupby

from generated import MarkdownDirective, code, table
from sphinx.application import Sphinx

from xgen_flask_sessions import XgenSessionsError


def error_classes(
    parent: type[XgenSessionsError] = XgenSessionsError,
) -> Iterator[type[XgenSessionsError]]:
    """Yield every error class that has a code of its own."""
    if "code" in vars(parent) and parent is not XgenSessionsError:
        yield parent
    for child in parent.__subclasses__():
        if child.__module__ == parent.__module__:  # not those of the Admin Center
            yield from error_classes(child)


class ErrorsReference(MarkdownDirective):
    """A section for each code, by status."""

    def markdown(self) -> str:
        """Return the sections."""
        lines: list[str] = []
        found = sorted(error_classes(), key=lambda each: (each.status, each.code))
        for status, errors in groupby(found, key=lambda each: each.status):
            lines.append(f"## {status} {HTTPStatus(status).phrase}\n")
            lines += map(_section, errors)
        return "\n".join(lines)


def _section(error: type[XgenSessionsError]) -> str:
    meaning = (error.__doc__ or "").partition("\n")[0]
    rows = [["Exception", code(error.__name__)], ["`detail`", error.default_detail]]
    if error.status == HTTPStatus.UNAUTHORIZED or error.oauth_error:
        rows.append(["`WWW-Authenticate`", code(_challenge(error))])
    if error.retry_after_s is not None:
        rows.append(["`Retry-After`", str(error.retry_after_s)])
    return f"### {code(error.code)}\n\n{meaning}\n\n{table(['', ''], rows)}"


def _challenge(error: type[XgenSessionsError]) -> str:
    reason = f', error="{error.oauth_error}", error_description="…"' if error.oauth_error else ""
    return f'Bearer realm="xgen"{reason}'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("errors-reference", ErrorsReference)
    return {"parallel_read_safe": True}
