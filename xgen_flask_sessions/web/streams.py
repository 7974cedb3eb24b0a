"""Long answers, such as server-sent events, that end with their session."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from flask import Flask

from ..errors import TokenMissing, XgenSessionsError
from ..state import get_app, get_state
from ..tokens.claims import VerifiedToken
from .failures import note_failure
from .request_token import outcome

_Item = TypeVar("_Item")

_NO_ITEM: Final = object()
_EXHAUSTED: Final = object()
_READ_AHEAD: Final = 16
"""Items of the source that are read ahead."""
_CLOSE_CHECK_S: Final = 0.5
"""Seconds between two checks whether the stream is still read."""


def while_valid(
    source: Iterable[_Item],
    *,
    every: float = 1.0,
    heartbeat: _Item | None = None,
) -> Iterator[_Item]:
    """Return a stream that ends once the current request's token is no longer valid.

    For long answers, such as server-sent events::

        return Response(sessions.while_valid(events()), mimetype="text/event-stream")

    The token is checked again every second (or *every* seconds), also while *source* is silent; if
    it cannot be checked, the stream ends, too. *source* runs in a thread of its own, with an
    application context and without a request context. It is closed with the stream; a source that
    is blocked then is closed after its next item.

    :param source: The items of the stream.
    :param every: Seconds between two checks.
    :param heartbeat: Sent after a check if no item was, such as a comment of an event stream: a
        server notices only by sending that a client has gone.
    :raises TokenError: The request has no valid token.
    :raises DenylistUnavailable: The database cannot be asked.
    """
    result = outcome()
    if result.token is None:
        raise result.error or TokenMissing()
    if every <= 0:
        raise ValueError("every is a number of seconds over 0.")
    return _Stream(get_app(), source, result.token, every, heartbeat)


class _Stream(Iterator[Any]):
    """The iterator that the server reads, and closes at the end or before the first item."""

    def __init__(
        self,
        app: Flask,
        source: Iterable[Any],
        token: VerifiedToken,
        every: float,
        heartbeat: Any,
    ) -> None:
        self._app, self._source, self._token = app, source, token
        self._every, self._heartbeat = every, heartbeat
        self._reader: _SourceReader | None = None
        self._sent_since_check, self._next_check = False, 0.0

    def __next__(self) -> Any:
        if self._reader is None:
            self._reader = _SourceReader(self._app, self._source)
            self._next_check = time.monotonic() + self._every
        while True:
            item = self._reader.take(self._next_check - time.monotonic())
            if time.monotonic() >= self._next_check:
                if not _is_valid(self._app, self._token):
                    self.close()
                    raise StopIteration
                silent = item is _NO_ITEM and not self._sent_since_check
                self._sent_since_check = False
                self._next_check = time.monotonic() + self._every
                if silent and self._heartbeat is not None:
                    return self._heartbeat
            if item is _EXHAUSTED:
                raise StopIteration
            if item is not _NO_ITEM:
                self._sent_since_check = True
                return item

    def close(self) -> None:
        """Stop reading the source, and close it."""
        if self._reader is not None:
            self._reader.close()
        elif hasattr(self._source, "close"):
            self._source.close()


def _is_valid(app: Flask, token: VerifiedToken) -> bool:
    with app.app_context():
        try:
            get_state().checker.recheck(token)
        except XgenSessionsError as error:  # also if the token cannot be checked
            note_failure(error)
            return False
    return True


class _SourceReader:
    """Reads a source in a thread, so that the stream can stop waiting for it."""

    def __init__(self, app: Flask, source: Iterable[Any]) -> None:
        self._app, self._source = app, source
        self._items: queue.Queue[Any] = queue.Queue(_READ_AHEAD)
        self._closed = threading.Event()
        self._error: BaseException | None = None
        threading.Thread(target=self._read, name="xgen-sessions-stream", daemon=True).start()

    def take(self, seconds: float) -> Any:
        """Return the next item, ``_NO_ITEM`` or ``_EXHAUSTED``; raise the source's error."""
        try:
            item = self._items.get(timeout=max(0.001, seconds))
        except queue.Empty:
            return _NO_ITEM
        if item is _EXHAUSTED and self._error is not None:
            raise self._error
        return item

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()

    def _read(self) -> None:
        try:
            with self._app.app_context(), contextlib.ExitStack() as stack:
                if hasattr(self._source, "close"):
                    stack.callback(self._source.close)
                for item in self._source:
                    if not self._put(item):
                        return
        except BaseException as error:
            self._error = error
        self._put(_EXHAUSTED)

    def _put(self, item: Any) -> bool:
        """Queue an item as soon as there is room; return whether the stream is still read."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=_CLOSE_CHECK_S)
                return not self._closed.is_set()
        return False
