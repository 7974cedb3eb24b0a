"""Support for the directives of the reference: an application to read from, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from docutils import nodes
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sphinx.util.docutils import SphinxDirective

from xgen_flask_sessions import XgenSessions


class MarkdownDirective(SphinxDirective):
    """A directive whose content is Markdown that a subclass writes."""

    def markdown(self) -> str:
        """Return the text that takes the directive's place."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the text as part of the page."""
        return self.parse_text_to_nodes(self.markdown(), allow_section_headings=True)


@cache
def application() -> Flask:
    """Return a host application with the plugin; no database is opened."""
    app = Flask("documentation")
    app.config.update(SECRET_KEY="documentation " * 3, SQLALCHEMY_DATABASE_URI="sqlite://")
    db = SQLAlchemy(app)

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)
        username = db.Column(db.String(80))

    XgenSessions().init_app(app, db=db, user_model=User, login_manager=LoginManager(app))
    return app


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Return *text* on one line, fit for a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return *text* as code."""
    return f"`{text}`"
