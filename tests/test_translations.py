"""The Korean translation is complete, has no obsolete entries, and keeps all placeholders."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from flask import Flask

import xgen_flask_sessions
from xgen_flask_sessions.web import i18n

PACKAGE = Path(xgen_flask_sessions.__file__).parent
KEYWORDS = {
    "gettext": None,
    "gettext_noop": None,
    "lazy_gettext": None,
    "ngettext": (1, 2),
    "xgen_gettext": None,
    "xgen_ngettext": (1, 2),
}
METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")]


def messages_in_use() -> set[str]:
    """Return every message in the code and the templates."""
    found = extract_from_dir(PACKAGE, METHODS, keywords=KEYWORDS)
    messages = (message for _, _, message, _, _ in found)
    return {message if isinstance(message, str) else message[0] for message in messages}


def korean() -> Catalog:
    with (PACKAGE / "web/translations/ko/LC_MESSAGES/xgen_sessions.po").open("rb") as source:
        return read_po(source)


def translations() -> Iterator[tuple[str, str]]:
    for message in korean():
        if message.id:
            source = message.id if isinstance(message.id, str) else message.id[0]
            text = message.string or ""
            yield source, text if isinstance(text, str) else text[0]


def test_every_message_is_translated() -> None:
    translated = {source for source, text in translations() if text}

    assert messages_in_use() - translated == set()


def test_every_translation_belongs_to_a_message() -> None:
    assert {source for source, _ in translations()} - messages_in_use() == set()


def test_translations_have_the_placeholders_of_their_source() -> None:
    placeholders = re.compile(r"%\(\w+\)[sd]")

    for source, text in translations():
        assert sorted(placeholders.findall(text)) == sorted(placeholders.findall(source)), source


@pytest.mark.parametrize(("has_locale", "expected"), [(True, "ko"), (False, "en")])
def test_a_fork_of_flask_babel_gives_the_language(
    monkeypatch: pytest.MonkeyPatch, has_locale: bool, expected: str
) -> None:
    fork = ModuleType("flask_babelplus")
    if has_locale:
        fork.__dict__["get_locale"] = lambda: Locale("ko", "KR")
    monkeypatch.setitem(sys.modules, fork.__name__, fork)
    app = Flask(__name__)
    state = type("State", (), {"__module__": f"{fork.__name__}.core"})
    app.extensions["babel"] = state()

    with app.test_request_context():
        assert i18n.language() == expected
