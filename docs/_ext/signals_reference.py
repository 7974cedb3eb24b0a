"""The directive ``signals-reference``: every signal that the package exports."""

from __future__ import annotations

from blinker import NamedSignal
from generated import MarkdownDirective
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from xgen_flask_sessions import signals


def documented() -> dict[str, str]:
    """Return the signals by name, with the text that documents them."""
    comments = ModuleAnalyzer.for_module(signals.__name__).find_attr_docs()
    return {
        name: "\n".join(comments[("", name)])
        for name, value in vars(signals).items()
        if isinstance(value, NamedSignal)
    }


class SignalsReference(MarkdownDirective):
    """A section for each signal."""

    def markdown(self) -> str:
        """Return a heading and the documentation of each signal."""
        return "\n".join(
            f"## `{name}`\n\n```{{eval-rst}}\n{text}\n```\n" for name, text in documented().items()
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("signals-reference", SignalsReference)
    return {"parallel_read_safe": True}
