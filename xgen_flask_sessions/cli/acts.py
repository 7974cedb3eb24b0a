"""The commands that end sessions."""

from __future__ import annotations

from collections.abc import Sequence

import click
from sqlalchemy.orm import Session

from .. import bulk, lifecycle
from ..roster.as_json import (
    represent_bulk,
    represent_ends,
    represent_force_logout,
    represent_leaver,
)
from ..roster.spans import parse_span
from ..state import get_state
from ..store.revocations import Revocation
from ..users.directory import Profile
from ..web import leaver as leavers
from .commands import (
    cli_errors,
    find_user,
    id_option,
    json_option,
    operator,
    reason_option,
    to_text,
)
from .commands import commands as commands
from .terminal import counted, decode_argument, print_json, shown


def _span(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    span_us = None if value is None else parse_span(value)
    if value is not None and span_us is None:
        raise click.BadParameter("It is seconds, or a number with a unit, as in 12h or 7d.")
    return span_us


def _texts(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(decode_argument, values))
    except UnicodeError:
        raise click.BadParameter("It is not valid UTF-8.") from None


@commands.command("force-logout")
@click.argument("users", nargs=-1, metavar="[USER]...", callback=_texts)
@click.option("--everyone", is_flag=True, help="Every session of every user.")
@id_option
@reason_option
@json_option
@cli_errors()
def force_logout(
    users: tuple[str, ...], everyone: bool, by_id: bool, reason: str | None, as_json: bool
) -> None:
    """End every session of each USER, now. The accounts stay as they are.

    If one USER is unknown, no session ends. A failure of the database is told with how far it came.
    """
    if everyone:
        if users or by_id:
            raise click.UsageError("Give either USER or --everyone, not both.")
        revocation = lifecycle.force_logout_everyone(actor=operator(), reason=reason)
        _show_ended(revocation, "everyone", as_json=as_json)
        return
    if not users:
        raise click.UsageError("Give USER, or --everyone.")
    profiles = [find_user(user, by_id=by_id) for user in users]
    if len(profiles) == 1:
        (profile,) = profiles
        revocation = lifecycle.force_logout(profile.user_id, actor=operator(), reason=reason)
        _show_ended(revocation, profile.username, as_json=as_json)
        return
    _force_logout_several(profiles, reason, as_json=as_json)


def _force_logout_several(
    profiles: Sequence[Profile], reason: str | None, *, as_json: bool
) -> None:
    names = {profile.user_id: profile.username for profile in profiles}
    why = lifecycle.cause(get_state(), operator(), reason)
    bulk.finish_reads()
    result = bulk.force_logout_several(list(names), why)
    if as_json:
        print_json(**represent_bulk(result))
    else:
        for revocation in result.done:
            _print_ended(revocation, names[str(revocation.user_id)])
    if result.error is not None:
        unsure = len(result.failed_unknown)
        left = len(result.failed) + len(result.not_reached)
        raise click.ClickException(
            f"{len(result.done)} of {counted(len(names), 'user')} forced out, {left} not"
            + (f", and of {unsure} it is not known" if unsure else "")
            + f". {shown(str(result.error))}"
        )


@commands.command("end")
@click.argument("session_id", callback=to_text)
@reason_option
@json_option
@cli_errors()
def end(session_id: str, reason: str | None, as_json: bool) -> None:
    """End the session SESSION_ID, now."""
    state = get_state()
    revocation = lifecycle.end_session(session_id, actor=operator(), reason=reason)
    if revocation is None:
        raise click.ClickException("There is no active session by this id.")
    user_id = revocation.user_id or ""
    if as_json:
        print_json(user_id=user_id, session_id=session_id, sessions_ended=revocation.sessions_ended)
    else:
        _print_ended(revocation, state.users.profile(user_id, state.users.get(user_id)).username)


@commands.command("end-older")
@click.argument("user", callback=to_text)
@click.option(
    "--older-than",
    "older_than_us",
    metavar="AGE",
    callback=_span,
    help="End the sessions that began longer ago, such as 12h or 7d.",
)
@click.option("--keep-newest", is_flag=True, help="End all sessions but the newest.")
@id_option
@reason_option
@json_option
@cli_errors()
def end_older(
    user: str,
    older_than_us: int | None,
    keep_newest: bool,
    by_id: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """End old sessions of USER, or all but the newest one, now.

    Many sessions end in several transactions. A failure is told with how far it came.
    """
    if (older_than_us is None) is not keep_newest:
        raise click.UsageError("Give either --older-than or --keep-newest.")
    profile = find_user(user, by_id=by_id)
    why = lifecycle.cause(get_state(), operator(), reason)
    bulk.finish_reads()
    ended = bulk.end_sessions(profile.user_id, why, older_than_us=older_than_us)
    if as_json:
        print_json(**represent_ends(profile.user_id, ended))
    else:
        click.echo(f"{counted(len(ended.done), 'session')} of {shown(profile.username)} ended.")
    if ended.error is not None:
        raise click.ClickException(f"It stopped before the end. {shown(str(ended.error))}")


@commands.command("leaver")
@click.argument("user", callback=to_text)
@id_option
@reason_option
@json_option
@cli_errors()
def leaver(user: str, by_id: bool, reason: str | None, as_json: bool) -> None:
    """End every session of USER, make the account inactive and revoke its roles, now.

    All of it is done, or nothing. The application says which roles, by revoke_roles=.
    """
    state = get_state()
    profile = find_user(user, by_id=by_id)
    why = lifecycle.cause(state, operator(), reason)
    bulk.finish_reads()

    def authorize(session: Session) -> object | None:
        return state.authority.check_leaver(session, operator(), profile.user_id)

    done = leavers.process(profile.user_id, why, authorize=authorize)
    if as_json:
        print_json(**represent_leaver(done.revocation, done.deactivated, done.roles))
        return
    _print_ended(done.revocation, profile.username)
    click.echo(
        "The account is inactive now." if done.deactivated else "The account was not changed."
    )
    click.echo(f"Roles revoked: {', '.join(map(shown, done.roles)) or 'none'}.")


def _show_ended(revocation: Revocation, whose: str, *, as_json: bool) -> None:
    if as_json:
        print_json(**represent_force_logout(revocation))
    else:
        _print_ended(revocation, whose)


def _print_ended(revocation: Revocation, whose: str) -> None:
    click.echo(f"{counted(revocation.sessions_ended, 'session')} of {shown(whose)} ended.")
