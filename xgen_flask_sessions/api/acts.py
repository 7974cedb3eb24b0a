"""The acts of administrators in the JSON API; :mod:`..web.acts` has their rules."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from ..errors import NotFound
from ..roster.as_json import (
    represent_bulk,
    represent_ends,
    represent_force_logout,
    represent_leaver,
)
from ..web import acts
from ..web.marks import checks_caller
from ..web.problems import answer
from .administrators import require_administrator
from .bodies import read_old, read_reason, read_reason_of_deletion, read_several


def add_acts(blueprint: Blueprint, user: str) -> None:
    """Add the routes.

    :param user: The rule of one user.
    """
    blueprint.add_url_rule(
        "/force-logout", view_func=force_logout_several, methods=["POST"], merge_slashes=False
    )
    for name, view in (
        ("force-logout", force_logout),
        ("end-sessions", end_sessions),
        ("leaver", leaver),
    ):
        rule = f"{user}/{name}"
        blueprint.add_url_rule(rule, view_func=view, methods=["POST"], merge_slashes=False)
    rule = f"{user}/sessions/<session_id>"
    blueprint.add_url_rule(rule, view_func=end_session, methods=["DELETE"], merge_slashes=False)


@checks_caller  # as an administrator
def force_logout(user_id: str) -> Response:
    """``POST /sessions/users/<user_id>/force-logout``: end all sessions of a user."""
    caller = require_administrator()
    reason = read_reason()
    return jsonify(represent_force_logout(acts.force_out(caller, user_id, reason)))


@checks_caller  # as an administrator
def end_session(user_id: str, session_id: str) -> Response:
    """``DELETE /sessions/users/<user_id>/sessions/<session_id>``: end one session of a user."""
    caller = require_administrator()
    reason = read_reason_of_deletion()
    if acts.end_one(caller, user_id, session_id, reason) is None:
        raise NotFound("This session has ended already.")
    return Response(status=204)


@checks_caller  # as an administrator
def end_sessions(user_id: str) -> Response:
    """``POST /sessions/users/<user_id>/end-sessions``: end old sessions, or all but the newest.

    An act that stopped is answered with the error that stopped it, and how far it came.
    """
    caller = require_administrator()
    old = read_old()
    ended = acts.end_older(
        caller,
        user_id,
        older_than_us=old.older_than_us,
        keep_newest=old.older_than_us is None,
        reason=old.reason,
    )
    account = represent_ends(user_id, ended)
    return jsonify(account) if ended.error is None else answer(ended.error, account=account)


@checks_caller  # as an administrator
def leaver(user_id: str) -> Response:
    """``POST /sessions/users/<user_id>/leaver``: force logout, inactive, and roles."""
    caller = require_administrator()
    done = acts.process_leaver(caller, user_id, read_reason())
    return jsonify(represent_leaver(done.revocation, done.deactivated, done.roles))


@checks_caller  # as an administrator
def force_logout_several() -> Response:
    """``POST /sessions/force-logout``: end all sessions of several users, or of everyone.

    An act that stopped is answered with the error that stopped it, and how far it came.
    """
    caller = require_administrator()
    several = read_several()
    if several.user_ids is None:
        return jsonify(represent_force_logout(acts.force_out_everyone(caller, several.reason)))
    result = acts.force_out_several(caller, several.user_ids, several.reason)
    account = represent_bulk(result)
    return jsonify(account) if result.error is None else answer(result.error, account=account)
