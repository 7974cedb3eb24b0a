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
SCREEN = {
    "Admin Center": "관리 설정",
    "Users / Access Control": "사용자 / 접근제어",
    "User Management": "사용자 관리",
    "Login Management": "로그인 관리",
    "List of users currently signed in. You can revoke all sessions of a user immediately when "
    "needed.": (
        "현재 시스템에 로그인되어 있는 사용자 목록입니다. 필요 시 사용자별로 모든 세션을 즉시 "
        "회수할 수 있습니다."
    ),
    "Refresh": "새로고침",
    "Active Users": "활성 사용자",
    "Active Sessions": "활성 세션",
    "SuperUsers": "슈퍼관리자",
    "User": "사용자",
    "Name": "이름",
    "Department": "부서",
    "Last Login": "최근 로그인",
    "Last IP": "마지막 IP",
    "Action": "동작",
    "Force Logout": "강제 로그아웃",
    'No signed-in user matches "%(text)s".': '"%(text)s"에 해당하는 로그인 중인 사용자가 없습니다.',
    "Too many requests": "요청이 너무 많습니다",
    "Page not found": "페이지를 찾을 수 없습니다",
    "The request is not valid": "요청이 올바르지 않습니다",
    "Reload the page and try again.": "새로고침한 후 다시 시도하세요.",
    "Where you are signed in": "로그인 중인 기기",
    "Save access": "접근 권한 저장",
    "New user": "사용자 추가",
    "Active": "사용 중",
    "Inactive": "사용 중지",
}
"""The words that are fixed, in both languages."""
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


def test_the_fixed_words_stand() -> None:
    found = dict(translations())

    assert {source: found.get(source) for source in SCREEN} == SCREEN


def test_no_message_is_translated_twice() -> None:
    """Two translations of one message, as a merge may leave them, would hide each other."""
    source = (PACKAGE / "web/translations/ko/LC_MESSAGES/xgen_sessions.po").read_text("utf-8")
    ids = re.findall(r"^msgid (\".*\")$", source, re.MULTILINE)

    assert sorted(ids) == sorted(set(ids))


def test_no_particle_follows_a_variable() -> None:
    """Its form would depend on the last sound of a name: 을 or 를."""
    particle = re.compile(r"(%\(\w+\)[sd]|\{\w+\})\(?(을|를|이|가|은|는|과|와|으로|로)(?![가-힣])")

    assert [text for _, text in translations() if particle.search(text)] == []


def test_sentences_have_one_style() -> None:
    """합니다체, with 하세요 for requests."""
    sentence = re.compile(r"(?<=[가-힣])[.?!](?= |$)")
    endings = ("다", "세요", "까요")
    wrong = [
        text
        for _, text in translations()
        for match in sentence.finditer(text)
        if not text[: match.start()].endswith(endings)
    ]

    assert wrong == []


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
