"""The commands: ``flask xgen-sessions``.

Exit codes: 0 for success, 1 for a failure with one line on stderr, 2 for wrong usage.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy.exc import SQLAlchemyError

from .. import lifecycle
from ..clock import to_datetime, unusual_offset_of
from ..errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DenylistUnavailable,
    UnsupportedDatabase,
    XgenSessionsError,
)
from ..feed.redis_stream import RedisUnavailable
from ..feed.relay import Relay
from ..roster import records
from ..roster.address_ranges import is_address_like
from ..roster.as_json import represent_page, represent_session_page
from ..roster.listing import COLUMNS, DEFAULT, MAX_TEXT, Column, Listing, parse_listing
from ..roster.roster import ActiveSession, ActiveUser, Page, SessionPage
from ..settings import load_keys
from ..state import get_state
from ..store.tables import MAX_REASON
from ..text import cause_of, clean_text
from ..tokens.claims import MAX_USER_ID_LENGTH
from ..tokens.keys import to_jwks
from ..users.directory import Profile
from ..web.i18n import format_zone
from .terminal import (
    counted,
    decode_argument,
    escape_unencodable,
    print_json,
    print_table,
    shown,
)

_MOST_CANDIDATES = 20
"""Users of one name that a message lists."""

commands = AppGroup(
    "xgen-sessions",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="List signed-in users, and sign them out.",
)


@contextmanager
def cli_errors(*expected: type[Exception]) -> Iterator[None]:
    """Turn errors of the plugin and of the database into one line on stderr and exit code 1.

    For commands of a host, too; a context manager and a decorator.

    The output escapes the characters that the terminal's encoding lacks.

    :param expected: Further errors with a message for people.
    """
    escape_unencodable()
    try:
        yield
    except (SQLAlchemyError, DenylistUnavailable) as error:
        if isinstance(error.__cause__, UnsupportedDatabase):
            raise click.ClickException(shown(str(error.__cause__))) from error
        raise _database_failure("The database cannot be used.", error) from error
    except (XgenSessionsError, ConfigurationError) as error:
        if isinstance(error, DatabaseUnavailable):
            raise _database_failure(str(error), error) from error
        raise click.ClickException(shown(str(error))) from error
    except expected as error:
        raise click.ClickException(shown(str(error))) from error


def to_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return an argument as text, in whatever locale it was typed: a callback of click."""
    try:
        return value and decode_argument(value)
    except UnicodeError:
        raise click.BadParameter("It is not valid UTF-8.") from None


def _reason(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    text = to_text(context, parameter, value)
    if text is not None and len(text) > MAX_REASON:
        raise click.BadParameter(f"A reason has at most {MAX_REASON} characters.")
    return text


def _search(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    text = to_text(context, parameter, value)
    if text is not None and len(text) > MAX_TEXT:
        raise click.BadParameter(f"A text to search for has at most {MAX_TEXT} characters.")
    return text


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
page_option = click.option(
    "--page", type=click.IntRange(1, 999_999_999), default=1, help="Counted from 1."
)
search_option = click.option(
    "--search",
    "text",
    default="",
    callback=_search,
    help="Part of a username, name or department, or the beginning of an address.",
)
id_option = click.option("--id", "by_id", is_flag=True, help="USER is a user id, not a username.")
reason_option = click.option("--reason", callback=_reason, help="The reason, for the audit record.")


@commands.command("list")
@page_option
@search_option
@click.option(
    "--address",
    default="",
    callback=to_text,
    help="Of an active session: an address, its beginning, or a network as 203.0.113.0/24.",
)
@click.option("--superusers", is_flag=True, help="Only SuperUsers.")
@click.option(
    "--older-than",
    default="",
    callback=to_text,
    help="Only users with a session that signed in longer ago: 90s, 30m, 12h or 7d.",
)
@click.option(
    "--min-sessions",
    default="",
    callback=to_text,
    help="Only users with at least so many sessions.",
)
@click.option(
    "--since",
    default="",
    callback=to_text,
    help="Only users whose last login is not before this date, or time with its offset.",
)
@click.option("--sort", type=click.Choice(COLUMNS), default=DEFAULT, show_default=True)
@click.option(
    "--order", type=click.Choice(["asc", "desc"]), help="The column's default if left out."
)
@json_option
@cli_errors()
def list_users(
    page: int, text: str, sort: Column, order: str | None, as_json: bool, **filters: Any
) -> None:
    """List the signed-in users, newest last login first.

    The filters are those of the JSON API; a user is listed if all of them hold.
    """
    _require_database()
    state = get_state()
    session = state.db.session()
    offered = state.roster.columns(session)
    needs_names = bool(text) and not is_address_like(text)
    if sort not in offered or (needs_names and "username" not in offered):
        raise click.ClickException(
            "--search and this --sort need users in the same database as the sessions, with a "
            "primary key of one column, and with usernames that it holds as text or numbers."
        )
    filters["superuser"] = "true" if filters.pop("superusers") else ""
    query = {"q": text, "sort": sort, **filters} | ({"order": order} if order else {})
    listing, faults = parse_listing(query, offered, zone=state.settings.timezone)
    if faults:
        raise click.UsageError(faults[0])
    summary = state.roster.summary(session)
    found = state.roster.nearest_page(session, page, listing)
    if as_json:
        print_json(**represent_page(summary, found))
        return
    headers = ["User", "Name", "Department", "", "Active Sessions", "Last Login", "Last IP"]
    print_table(headers, list(map(_user_row, found.users)))
    click.echo(
        f"{counted(summary.active_users, 'active user')}, "
        f"{counted(summary.active_sessions, 'active session')}, "
        f"{counted(summary.superusers, 'SuperUser')}. "
        f"{_number_found(listing, found)}Page {found.number} of {found.pages}. "
        f"Times are {format_zone(state.settings)}."
    )


@commands.command("show")
@click.argument("user", callback=to_text)
@id_option
@page_option
@json_option
@cli_errors()
def show(user: str, by_id: bool, page: int, as_json: bool) -> None:
    """Show the active sessions of USER, newest first."""
    state = get_state()
    profile = find_user(user, by_id=by_id)
    found = state.roster.nearest_session_page(state.db.session(), profile.user_id, page)
    if as_json:
        print_json(user_id=profile.user_id, **represent_session_page(found, None))
        return
    headers = ["Browser", "Device", "Signed in", "IP", "Expires", "Session ID"]
    print_table(headers, list(map(_session_row, found.sessions)))
    click.echo(
        f"{counted(found.total, 'active session')} of {shown(profile.username)}. "
        f"{_page_of(found)}Times are {format_zone(state.settings)}."
    )


@commands.command("prune")
@json_option
@cli_errors()
def prune(as_json: bool) -> None:
    """Delete the records of sessions that ended or expired longer ago than the retention."""
    deleted = lifecycle.prune()
    if as_json:
        print_json(deleted=deleted)
    else:
        click.echo(f"{counted(deleted, 'row')} deleted.")


@commands.command("upgrade")
@json_option
@cli_errors()
def upgrade(as_json: bool) -> None:
    """Create the tables, or bring them to this release."""
    _require_database()
    try:
        revisions = lifecycle.upgrade()
    except SQLAlchemyError as error:
        raise click.ClickException(f"The tables cannot be upgraded. ({cause_of(error)})") from error
    if as_json:
        print_json(revisions=revisions)
    elif revisions:
        click.echo(f"The tables are now at version {revisions[-1]}.")
    else:
        click.echo("The tables are up to date.")


@commands.command("jwks")
@cli_errors()
def jwks() -> None:
    """Print the public keys as a JWK Set, for services that verify tokens."""
    settings = get_state().settings
    if settings.algorithm == "HS256":
        raise click.ClickException(
            "HS256 has no public key. Give its secret to the service in private, or sign with "
            "RS256, ES256 or EdDSA (XGEN_SESSIONS_ALGORITHM)."
        )
    print_json(**to_jwks(load_keys(settings)))


@commands.command("relay")
@cli_errors()
def relay() -> None:
    """Publish revocations to Redis until stopped.

    Every server of the application does so, too, from its first request on.
    """
    publisher_thread = _relay()
    with suppress(RedisUnavailable):  # the relay goes on when it answers
        publisher_thread.inspect()
    click.echo("Publishing revocations to Redis. Ctrl+C stops it.")
    publisher_thread.run()


@commands.command("remove-feed")
@click.argument("deployment", callback=to_text)
@json_option
@cli_errors(RedisUnavailable)
def remove_feed(deployment: str, as_json: bool) -> None:
    """Remove the feed of DEPLOYMENT from Redis, if that deployment no longer exists.

    DEPLOYMENT is its id, as the log and doctor print it. A deployment that runs publishes its feed
    again.
    """
    if not _relay().remove(deployment):
        raise click.ClickException(f"Redis has no feed of the deployment {shown(deployment)}.")
    if as_json:
        print_json(removed=deployment)
    else:
        click.echo(f"The feed of {shown(deployment)} was removed from Redis.")


def _relay() -> Relay:
    publisher_thread = get_state().relay
    if publisher_thread is None:
        raise click.ClickException("There is no Redis; set XGEN_SESSIONS_REDIS_URL.")
    return publisher_thread


@commands.command("doctor")
@click.option(
    "--open",
    "opened",
    metavar="ENDPOINT",
    multiple=True,
    help="An endpoint that is meant to be open, or has its own check; may be repeated.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@json_option
@cli_errors()
def doctor(opened: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Find faults in the set-up, and prove that revoking works."""
    from . import doctor as examination  # loaded for this command only

    unknown = examination.unknown_endpoints(current_app, opened)
    if unknown:
        raise click.UsageError(f"There is no endpoint {shown(unknown[0])}; see flask routes.")
    findings = examination.examine(current_app, get_state(), opened=opened, program=_program())
    if as_json:
        print_json(**examination.represent(findings))
    else:
        click.echo(examination.describe(findings))
    failures = [examination.count(findings, level) for level in ("problem", "warning")]
    if failures[0] or (strict and failures[1]):
        raise click.exceptions.Exit(1)


def find_user(name: str, *, by_id: bool) -> Profile:
    """Return the user with the username *name*, or with the id *name*, deleted ones included.

    :raises click.ClickException: There is no such user, or there are several.
    """
    _require_database()
    state = get_state()
    found = [] if by_id else state.users.named(name)
    named = [state.users.profile(state.users.id_of(user), user) for user in found]
    owner = state.users.get(name)
    is_id = owner is not None or records.ever_signed_in(state.db.session(), name)
    if not named and not is_id:
        raise click.ClickException(f"There is no user {shown(name)}.")
    if is_id and all(profile.user_id != name for profile in named):
        named.append(state.users.profile(name, owner))
    if len(named) > 1:
        raise click.ClickException(
            f"{shown(name)} is the name or the id of {len(named)} users. Choose one with --id and "
            f"the id: {'; '.join(map(_description, named[:_MOST_CANDIDATES]))}"
            + ("; …" if len(named) > _MOST_CANDIDATES else "")
        )
    return named[0]


def _description(profile: Profile) -> str:
    """Return an id with what distinguishes the user from others of the same name."""
    parts = (profile.username, profile.name, profile.department)
    known = ", ".join(shown(part) for part in parts if part)
    return f"{shown(profile.user_id)} ({known}{', SUPER' if profile.superuser else ''})"


def operator() -> str:
    """Return the user of the operating system, as the actor for audit records."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        name = "unknown"
    return clean_text(f"cli:{name}", MAX_USER_ID_LENGTH) or "cli"


def _require_database() -> None:
    """Check that a database server answers: a driver waits for a silent one without a limit.

    :raises DenylistUnavailable: It does not answer in time.
    """
    state = get_state()
    if state.db.engine.dialect.name != "sqlite":  # upgrade creates the file
        state.denylist.require_reachable()


def _database_failure(message: str, error: Exception) -> click.ClickException:
    try:
        from ..store import migrate

        get_state().denylist.require_reachable()
        upgrade_due = migrate.pending(get_state().db.engine)
    except (SQLAlchemyError, XgenSessionsError, ConfigurationError, RuntimeError):
        # ConfigurationError: a newer release's tables, or Alembic is not installed.
        # RuntimeError: no application yet.
        upgrade_due = False
    if upgrade_due:
        return click.ClickException(
            "The tables are missing or from another release; run "
            f"{_program()} xgen-sessions upgrade, or your own migrations."
        )
    return click.ClickException(f"{message} ({cause_of(error)})")


def _program() -> str:
    """Return the program's name: flask, or the program with the commands."""
    root = click.get_current_context().find_root()
    return "flask" if isinstance(root.command, AppGroup) else root.info_name or "flask"


def _user_row(user: ActiveUser) -> list[str]:
    profile = user.profile
    return [
        shown(profile.username),
        shown(profile.name),
        shown(profile.department),
        "SUPER" if profile.superuser else "",
        str(user.active_sessions),
        "-" if user.last_login_us is None else _time(user.last_login_us),
        shown(user.last_ip),
    ]


def _number_found(listing: Listing, page: Page) -> str:
    if not listing.is_filtered:
        return ""
    more = "or more " if page.is_capped else ""
    verb = "matches" if page.total == 1 and not more else "match"
    return f"{counted(page.total, 'user')} {more}{verb}. "


def _page_of(page: SessionPage) -> str:
    return f"Page {page.number} of {page.pages}. " if page.pages > 1 else ""


def _session_row(session: ActiveSession) -> list[str]:
    return [
        shown(session.device.browser),
        shown(session.device.device),
        _time(session.signed_in_us),
        shown(session.ip),
        _time(session.expires_us),
        session.session_id,
    ]


def _time(at_us: int) -> str:
    zone = get_state().settings.timezone
    return f"{to_datetime(at_us, zone):%Y-%m-%d %H:%M:%S}{unusual_offset_of(at_us, zone)}"
