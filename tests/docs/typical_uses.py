"""Typical uses of the public interface, for type checkers; nothing runs this module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_type

from flask import Blueprint, Flask, Response, jsonify, make_response, redirect
from werkzeug.wrappers import Response as BaseResponse

from xgen_flask_sessions import (
    IssuedToken,
    VerifiedToken,
    XgenSessions,
    current_token,
    open_to_all,
    token_required,
)

app = Flask("host")
blueprint = Blueprint("inner", __name__)
sessions = XgenSessions()


@app.get("/items/<int:number>")
@token_required
def item(number: int) -> Response:
    response = jsonify(number=number)
    assert_type(sessions.with_security_headers(response), Response)
    return response


@app.get("/slow")
@token_required
async def slow(name: str) -> dict[str, str]:
    return {"name": name}


@blueprint.before_request
@token_required
def check() -> None:
    """Guard a blueprint."""


@app.post("/webhook")
@open_to_all
def webhook() -> str:
    return "in"


assert_type(item(1), Response)
assert_type(slow("a"), dict[str, str])  # run as Flask runs it: nothing to await
assert_type(check(), None)
by_position: Callable[[int], Response] = item


@app.get("/events")
@token_required
def events() -> Response:
    stream = sessions.while_valid(lines(), heartbeat=": still here\n\n")
    assert_type(stream, Iterator[str])
    assert_type(sessions.while_valid([b"a"]), Iterator[bytes])
    return Response(stream)


def lines() -> Iterator[str]:
    yield "data: hello\n\n"


@app.post("/sign-in")
def sign_in() -> BaseResponse:
    issued = sessions.issue("1", claims={"tenant": 7}, lifetime=60, commit=False)
    assert_type(issued, IssuedToken)
    response = redirect(sessions.next_path())
    sessions.set_cookie(response, issued)
    sessions.unset_cookie(response)
    sessions.set_cookie(make_response("in"), issued)
    return sessions.with_security_headers(response)


def user_id() -> str | None:
    if not current_token:
        return None
    assert_type(current_token.user_id, str)
    renewed = sessions.renew(current_token)
    assert_type(sessions.verify(renewed.token), VerifiedToken)
    return current_token.user_id
