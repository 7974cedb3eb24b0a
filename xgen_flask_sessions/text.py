"""Foreign text, made safe to store, to print, to log and to show."""

from __future__ import annotations

import re
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_ACTING: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST_NAME: Final = 600
"""Characters of the longest name that is normalized: 150 of them may decompose to four each."""

_HIDDEN: Final = "…"
_SHORTEST_HIDDEN: Final = 4
"""Shorter parameters are not searched for in a message: a "1" is everywhere."""
_LONGEST_CAUSE: Final = 500
_QUOTES_STATEMENT: Final = re.compile(r"Original exception was:|\[SQL: |\[parameters: ")
"""The beginning of SQLAlchemy's message within that of another error."""
_QUOTED: Final = re.compile(
    r"(?P<noun>\b(?:key|constraint|index|relation|table|column|function|parameter|type) )?"
    r"(?P<quote>['\"])(?P<value>.*?)(?P=quote)(?!\w)",
    re.IGNORECASE,
)
_IN_HOST: Final = re.compile(
    r"""(?P<before>(?P<quote>['"])|\bhost )[^'"\s]+@(?=[^'"@\s]*(?(quote)(?P=quote)|(?:\s|$)))"""
)
"""The end of a password with an ``@``, which a URL takes for the beginning of the host."""
_UNCLOSED: Final = re.compile(r"(?<!\w)(['\"])(?!.*['\"]).*$")
"""A quotation that goes on in the next line."""


def gettext_noop(message: str) -> str:
    """Return *message* unchanged; marks a text for translation later, by ``web.i18n.gettext``."""
    return message


def clean_text(value: str | None, length: int) -> str | None:
    """Return printable text of at most *length* characters, or ``None`` if none remains."""
    cut = (value or "")[:length]
    printable = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
    return "".join(printable).strip() or None


def spellings(name: str) -> list[str]:
    """Return a name as it is, composed (NFC) and decomposed (NFD), each once.

    Directories such as LDAP and the file system of macOS decompose names: a name may be stored in
    one form and typed in another. A long text is returned as it is: to normalize takes the square
    of its length.
    """
    if len(name) > _LONGEST_NAME:
        return [name]
    forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return list(dict.fromkeys(forms))


def visible(value: str | None) -> str:
    """Return a name as a page shows it, without characters that act on the page.

    Control characters, and those that turn the direction of writing (Unicode Standard Annex 9,
    section 2), are replaced: with them ``\u202enimda`` would read as "admin".
    """
    return _ACTING.sub("\N{REPLACEMENT CHARACTER}", value or "")


def cause_of(error: BaseException) -> str:
    """Return the innermost cause of an error in one line, for a log, a terminal or an answer.

    SQLAlchemy's message holds the parameters of the statement, password hashes included, and a
    driver's may repeat one of them. Both are left out.
    """
    while error.__cause__ is not None and not _is_of_statement(error):
        error = error.__cause__
    return _describe(error)


def innermost(error: BaseException) -> BaseException:
    """Return the error whose message :func:`cause_of` returns; of SQLAlchemy's, the driver's."""
    while error.__cause__ is not None and not _is_of_statement(error):
        error = error.__cause__
    return getattr(error, "orig", None) or error


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error and of its causes, with the messages of :func:`cause_of`."""
    parts = []
    for each in _chain(error):
        frames = "".join(traceback.format_tb(each.__traceback__))
        kind = type(each)
        parts.append(f"{frames}{kind.__module__}.{kind.__qualname__}: {_describe(each)}")
    return "\n\nIt led to another exception:\n\n".join(reversed(parts))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes; a driver's error is part of SQLAlchemy's."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        if _is_of_statement(each):
            return
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _describe(error: BaseException) -> str:
    if not _is_of_statement(error) and not _is_of_driver(error):
        message = _QUOTES_STATEMENT.split(str(error), maxsplit=1)[0]
    else:
        original = getattr(error, "orig", None) or error
        message = _without_values(
            _driver_message(original),
            getattr(error, "statement", None),
            getattr(error, "params", None),
        )
    message = _IN_HOST.sub(rf"\g<before>{_HIDDEN}@", message)
    return clean_text(message, _LONGEST_CAUSE) or type(error).__name__


def _is_of_statement(error: BaseException) -> bool:
    """Return whether it is SQLAlchemy's ``StatementError``, which this module does not import."""
    return hasattr(error, "hide_parameters") and hasattr(error, "params")


def _is_of_driver(error: BaseException) -> bool:
    """Return whether it is a database driver's own error (PEP 249)."""
    return any(each.__name__ == "DatabaseError" for each in type(error).__mro__)


def _driver_message(error: BaseException) -> str:
    if error.args and isinstance(error.args[0], dict):  # pg8000's hold the fields of the answer
        return str(error.args[0].get("M", ""))
    # PyMySQL's errors hold the number and the message.
    return " ".join(map(str, error.args)) if len(error.args) == 2 else str(error)


def _without_values(message: str, statement: str | None, parameters: Any) -> str:
    """Return a driver's message without the values that it repeats; names remain.

    Only its first line is returned: the next ones repeat rows and statements.
    """
    values = {text for text in _texts(parameters) if len(text) >= _SHORTEST_HIDDEN}
    for text in sorted(values, key=len, reverse=True):
        message = message.replace(text, _HIDDEN)
    message = message.strip().partition("\n")[0]
    if statement is None:
        return message
    known = set(re.findall(r"\w+", statement))

    def hide(match: re.Match[str]) -> str:
        name = match["value"].rpartition(".")[2]
        if match["noun"] or name in known:
            return match[0]
        return f"{match['quote']}{_HIDDEN}{match['quote']}"

    return _UNCLOSED.sub(rf"\1{_HIDDEN}", _QUOTED.sub(hide, message))


def _texts(parameters: Any) -> Iterator[str]:
    if isinstance(parameters, str):
        yield parameters
    elif isinstance(parameters, bytes):
        yield parameters.decode("utf-8", "replace")
    elif isinstance(parameters, Mapping):
        yield from _texts(list(parameters.values()))
    elif isinstance(parameters, Iterable):
        for each in parameters:
            yield from _texts(each)
