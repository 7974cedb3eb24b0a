"""The JSON API: the caller's own sessions and, for administrators, those of all users."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from .. import lifecycle
from ..clock import seconds_until
from ..errors import (
    BadRequest,
    NotFound,
    XgenSessionsError,
)
from ..roster import records
from ..roster.as_json import represent_page, represent_session_page
from ..roster.faults import TWICE
from ..roster.listing import parse_listing, parse_page
from ..roster.roster import SessionPage
from ..state import State, get_state
from ..store.transactions import UNREACHABLE
from ..web import login_browser
from ..web.acts import is_superuser
from ..web.cookie import set_cookie, unset_cookie
from ..web.marks import checks_caller, open_to_all
from ..web.problems import (
    database_problem,
    http_problem,
    refuse,
    with_security_headers,
)
from ..web.request_token import current_token, outcome, token_required
from .acts import add_acts
from .administrators import require_administrator
from .every_host import EveryHostBlueprint
from .openapi import document

DEFAULT_PER_PAGE = 100
MAX_PER_PAGE = 200
"""Sessions on one page: the default, and the most."""
_DOCUMENT_MAX_AGE_S = 3600
_OPEN = ("xgen_sessions.static", "xgen_sessions.openapi_document")
"""Endpoints with the same answer for every caller."""


def create_blueprint(url_prefix: str, assets: Path) -> Blueprint:
    """Return the blueprint ``xgen_sessions``.

    :param url_prefix: Where it is mounted, such as ``/sessions``.
    :param assets: The directory of ``static/`` and ``templates/``.
    """
    blueprint = EveryHostBlueprint(
        "xgen_sessions",
        __name__,
        url_prefix=url_prefix,
        static_folder=assets / "static",
        template_folder=assets / "templates",
    )
    blueprint.add_url_rule("/openapi.json", view_func=openapi_document)
    blueprint.add_url_rule("/", view_func=own_sessions)
    blueprint.add_url_rule("/<session_id>", view_func=end_own_session, methods=["DELETE"])
    blueprint.add_url_rule("/renew", view_func=renew, methods=["POST"])
    blueprint.add_url_rule("/sign-out", view_func=sign_out, methods=["POST"])
    blueprint.record_once(_add_converter)
    blueprint.add_url_rule("/users", view_func=users)
    # A slash is part of an id: with merged slashes, it would be another user's id.
    user = "/users/<xgen_user_id:user_id>"
    blueprint.add_url_rule(user, view_func=user_sessions, merge_slashes=False)
    add_acts(blueprint, user)
    blueprint.register_error_handler(XgenSessionsError, refuse)
    blueprint.register_error_handler(HTTPException, http_problem)
    for unreachable in UNREACHABLE:
        blueprint.register_error_handler(unreachable, database_problem)
    blueprint.after_request(_add_security_headers)
    return blueprint


class _UserIdConverter(BaseConverter):
    """Any text, slashes and line breaks included."""

    regex = r"[\s\S]+?"
    part_isolating = False


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["xgen_user_id"] = _UserIdConverter


@open_to_all
def openapi_document() -> Response:
    """``GET /sessions/openapi.json``: this API in OpenAPI 3.1; no token is needed."""
    server = url_for("xgen_sessions.own_sessions").rstrip("/")
    release = version("xgen-flask-sessions")
    response = jsonify(document(get_state().settings, server=server, version=release))
    response.cache_control.public = True
    response.cache_control.max_age = _DOCUMENT_MAX_AGE_S
    response.add_etag()
    response.make_conditional(request)
    return response


@token_required
def own_sessions() -> Response:
    """``GET /sessions/``: one page of the caller's active sessions."""
    state = get_state()
    page = _session_page(state, current_token.user_id)
    return jsonify(represent_session_page(page, _current_session_id()))


@token_required
def end_own_session(session_id: str) -> Response:
    """``DELETE /sessions/<session_id>``: end one of the caller's own sessions."""
    state = get_state()
    if records.owner_of(state.db.session(), session_id) != current_token.user_id:
        raise NotFound("You have no active session by this id.")
    if lifecycle.end_session(session_id, actor=current_token.user_id) is None:
        raise NotFound("This session has ended already.")
    response = Response(status=204)
    if session_id == current_token.session_id:
        _forget_token(response)
    return response


@token_required
def renew() -> Response:
    """``POST /sessions/renew``: a new token for this session, sent the way the old one came."""
    issued = lifecycle.renew(current_token)
    body: dict[str, Any] = {
        "session_id": issued.session_id,
        "expires_in": seconds_until(issued.expires_us),
    }
    source = outcome().source
    if source == "header":
        return jsonify(body | {"access_token": issued.token, "token_type": "Bearer"})
    response = jsonify(body)  # scripts cannot read the cookie
    if source == "cookie":
        set_cookie(response, issued)
    else:
        login_browser.keep(response, issued)
    return response


@token_required
def sign_out() -> Response:
    """``POST /sessions/sign-out``: end this session."""
    lifecycle.end_session(current_token.session_id, actor=current_token.user_id)
    response = Response(status=204)
    _forget_token(response)
    return response


def _forget_token(response: Response) -> None:
    """Take the current request's token out of the browser."""
    source = outcome().source
    if source == "cookie":
        unset_cookie(response)
    elif source == "login":
        login_browser.drop_token()
        login_browser.forget()  # deletes the cookie at the end of the request


@checks_caller  # as an administrator
def users() -> Response:
    """``GET /sessions/users``: the cards and one page of the table."""
    require_administrator()
    state = get_state()
    session = state.db.session()
    number = _requested_page()
    listing, faults = parse_listing(
        request.args, state.roster.columns(session), zone=state.settings.timezone
    )
    if faults:
        raise BadRequest(faults[0])
    summary = state.roster.summary(session)
    page = state.roster.page(session, number, listing, active_users=summary.active_users)
    return jsonify(represent_page(summary, page))


@checks_caller  # as an administrator
def user_sessions(user_id: str) -> Response:
    """``GET /sessions/users/<user_id>``: one page of a user's active sessions."""
    require_administrator()
    state = get_state()
    is_superuser(state, user_id)  # raises NotFound
    page = _session_page(state, user_id)
    return jsonify(user_id=user_id, **represent_session_page(page, _current_session_id()))


def _session_page(state: State, user_id: str) -> SessionPage:
    """Return the requested page of a user's active sessions.

    :raises BadRequest: A query parameter is invalid.
    """
    number = _requested_page()
    size = parse_page(request.args.get("per_page", str(DEFAULT_PER_PAGE)))
    if size is None or size > MAX_PER_PAGE:
        raise BadRequest(f"per_page is a number from 1 to {MAX_PER_PAGE}.")
    return state.roster.session_page(state.db.session(), user_id, number, size=size)


def _requested_page() -> int:
    if len(request.args.getlist("page")) > 1:
        raise BadRequest(TWICE)
    number = parse_page(request.args.get("page", "1"))
    if number is None:
        raise BadRequest("page is a number from 1.")
    return number


def _current_session_id() -> str | None:
    """Return the id of the session that the request's token belongs to, if it has one."""
    return current_token.session_id if current_token else None


def _add_security_headers(response: Response) -> Response:
    return with_security_headers(response, cached=request.endpoint in _OPEN)
