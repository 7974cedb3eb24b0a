"""The directive ``errors-reference``: every error code, read off the error classes."""

from __future__ import annotations

from collections.abc import Iterator

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
        yield from error_classes(child)


class ErrorsReference(MarkdownDirective):
    """A table of the codes, by status."""

    def markdown(self) -> str:
        """Return the table."""
        found = sorted(error_classes(), key=lambda each: (each.status, each.code))
        return table(
            ["Status", "`code`", "Exception", "Meaning", "`detail`", "`WWW-Authenticate`"],
            (
                [
                    str(each.status),
                    code(each.code),
                    code(each.__name__),
                    (each.__doc__ or "").partition("\n")[0],
                    each.default_detail,
                    _challenge(each),
                ]
                for each in found
            ),
        )


def _challenge(error: type[XgenSessionsError]) -> str:
    if error.oauth_error:
        return code(f'error="{error.oauth_error}"')
    return "without an error code" if error.status == 401 else ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("errors-reference", ErrorsReference)
    return {"parallel_read_safe": True}
