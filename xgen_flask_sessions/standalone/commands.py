"""The commands: ``python -m xgen_flask_sessions``.

Exit codes: 0 for success, 1 for a failure with one line on stderr, 2 for wrong usage.
"""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup, ScriptInfo

from xgen_flask_sessions import SignIns, XgenSessions, cli_errors
from xgen_flask_sessions.standalone import accounts, seeding, user_list
from xgen_flask_sessions.standalone.application import create_app
from xgen_flask_sessions.standalone.extensions import sessions as plugin
from xgen_flask_sessions.standalone.logs import log_to_stderr
from xgen_flask_sessions.standalone.models import User
from xgen_flask_sessions.standalone.preparation import prepare
from xgen_flask_sessions.standalone.rules import AccountError, Profile
from xgen_flask_sessions.standalone.terminal import (
    json_option,
    operator,
    page_option,
    print_json,
    print_table,
    printable,
    search_option,
    utf8_text,
)
from xgen_flask_sessions.standalone.user_list import UserListing


def _load_app(instance: str | None = None) -> Flask:
    with cli_errors(AccountError):
        return create_app(instance, prepared=False)


def run() -> None:
    """Run the command that was called."""
    info = ScriptInfo(create_app=_load_app, set_debug_flag=False)
    is_module = Path(sys.argv[0]).name == "__main__.py"
    name = "python -m xgen_flask_sessions" if is_module else None
    cli.main(obj=info, prog_name=name)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xgen-flask-sessions", message="%(package)s %(version)s")
def cli() -> None:
    """Run the XGEN Admin Center, and look after its users and sessions.

    XGEN_INSTANCE_PATH is where its database and its secret are (default: ./instance).
    """


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--instance", metavar="PATH", help="The instance directory, instead of XGEN_INSTANCE_PATH."
)
@cli_errors(AccountError)
def serve(host: str, port: int, instance: str | None) -> None:
    """Serve the Admin Center until it is told to stop."""
    from xgen_flask_sessions.standalone.server import create_server

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # waitress finishes its requests then
    app = _load_app(instance)
    log_to_stderr()
    try:
        server = create_server(app, host=host, port=port)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{host} port {port} cannot be listened on: {error}") from error
    url = _url_of(server, host)
    prepare(app, url=f"{url}/login")
    _say_how_it_is_served(app, url)
    with app.app_context():
        plugin.start_relay()
    try:
        server.run()
    finally:
        server.close()
    click.echo("Stopped.")


def _url_of(server: Any, host: str) -> str:
    listening = getattr(server, "effective_listen", None)
    port = listening[0][1] if listening else server.effective_port
    address = f"[{host}]" if ":" in host else host
    return f"http://{address}:{port}"


def _say_how_it_is_served(app: Flask, url: str) -> None:
    click.echo(f"XGEN Admin Center: {url}/  (Ctrl+C stops it)")
    click.echo(f"Instance: {app.instance_path}")
    if not app.config["XGEN_SESSIONS_COOKIE_SECURE"]:
        click.echo(
            "The cookie is sent over plain HTTP as well; behind HTTPS, set "
            "XGEN_SESSIONS_COOKIE_SECURE=true."
        )


_password_option = click.option(
    "--password",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    callback=utf8_text,
    help="Asked for if left out: other users of this machine may see it here.",
)


@cli.group(cls=AppGroup)
def users() -> None:
    """See, create and change users."""


@users.command("create")
@click.argument("username", callback=utf8_text)
@_password_option
@click.option("--name", default="", callback=utf8_text, help="The display name.")
@click.option("--department", default="", callback=utf8_text)
@click.option("--roles", default="", callback=utf8_text, help="Separated by commas.")
@click.option("--superuser", is_flag=True)
@json_option
@cli_errors(AccountError)
def create_user(
    username: str,
    password: str,
    name: str,
    department: str,
    roles: str,
    superuser: bool,
    as_json: bool,
) -> None:
    """Create the user USERNAME."""
    _prepare()
    user = accounts.create(
        username, password, Profile.parse(name, department, roles), superuser=superuser
    )
    if as_json:
        print_json(**_represent(user))
    else:
        click.echo(f"{'SuperUser' if superuser else 'User'} {printable(user.username)} created.")


@users.command("list")
@search_option
@click.option("--status", type=click.Choice(list(user_list.STATUSES)), help="Only these users.")
@click.option("--superusers", is_flag=True, help="Only SuperUsers.")
@click.option("--role", default="", callback=utf8_text, help="Only users with this role.")
@page_option
@json_option
@cli_errors(AccountError)
def list_users(
    text: str, status: str | None, superusers: bool, role: str, page: int, as_json: bool
) -> None:
    """List the users."""
    _prepare()
    active = None if status is None else user_list.STATUSES[status]
    listing = UserListing(text=text, active=active, superuser=superusers, role=role)
    found = user_list.find_page(listing, page)
    if as_json:
        users = [_represent(row.user) | _represent_sign_ins(row.sign_ins) for row in found.rows]
        print_json(users=users, total=found.total, page=found.number, pages=found.pages)
        return
    headers = ["User", "", "Name", "Department", "Roles", "Status", "Sessions"]
    print_table(
        headers, [[*_row(row.user), str(row.sign_ins.active_sessions)] for row in found.rows]
    )
    noun = "user" if found.total == 1 else "users"
    click.echo(f"{found.total} {noun}. Page {found.number} of {found.pages}.")


@users.command("set-password")
@click.argument("username", callback=utf8_text)
@_password_option
@click.option("--keep-sessions", is_flag=True, help="Leave the user's sessions as they are.")
@json_option
@cli_errors(AccountError)
def set_password(username: str, password: str, keep_sessions: bool, as_json: bool) -> None:
    """Give USERNAME another password, and end all sessions of that user."""
    _prepare()
    user = accounts.find_by_username(username)
    if user is None:
        raise click.ClickException(f"There is no user {printable(username)}.")
    accounts.reset_password(user.id, password, actor=operator(), end_sessions=not keep_sessions)
    if as_json:
        print_json(user_id=user.get_id(), username=user.username, sessions_kept=keep_sessions)
        return
    ended = "" if keep_sessions else " All sessions of this user have ended."
    click.echo(f"The password of {printable(user.username)} has been changed.{ended}")


@cli.command("seed")
@click.option(
    "--users", "number", type=click.IntRange(1, 1_000_000), default=100, show_default=True
)
@click.option("--sessions", type=click.IntRange(0, 10_000_000), default=200, show_default=True)
@click.option("--seed", "randomness", type=int, help="A number; the same one gives the same names.")
@json_option
@click.pass_context
@cli_errors(AccountError)
def seed_database(
    context: click.Context, number: int, sessions: int, randomness: int | None, as_json: bool
) -> None:
    """Add made-up users with active sessions; they cannot sign in."""
    context.with_resource(context.ensure_object(ScriptInfo).load_app().app_context())
    _prepare()
    with click.progressbar(length=number, label="Seeding", file=sys.stderr) as bar:
        for done in seeding.seed(number, sessions, randomness=randomness):
            bar.update(done)
    if as_json:
        print_json(users=number, sessions=sessions)
    else:
        click.echo(f"{number} users and {sessions} sessions added.")


cli.add_command(XgenSessions.commands)


def _prepare() -> None:
    from flask import current_app

    prepare(current_app._get_current_object())  # type: ignore[attr-defined]


def _represent(user: User) -> dict[str, Any]:
    return {
        "user_id": user.get_id(),
        "username": user.username,
        "name": user.name,
        "department": user.department,
        "superuser": user.is_superuser,
        "roles": [role.name for role in user.roles],
        "active": user.is_active,
    }


def _represent_sign_ins(sign_ins: SignIns) -> dict[str, Any]:
    last = None
    if sign_ins.last_login_us is not None:
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=sign_ins.last_login_us)
        last = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"active_sessions": sign_ins.active_sessions, "last_login": last}


def _row(user: User) -> list[str]:
    return [
        printable(user.username),
        "SUPER" if user.is_superuser else "",
        printable(user.name),
        printable(user.department),
        printable(", ".join(role.name for role in user.roles)),
        "Active" if user.is_active else "Inactive",
    ]
