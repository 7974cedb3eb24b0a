"""The directive ``commands-reference``: commands with their arguments and options."""

from __future__ import annotations

from collections.abc import Iterator

import click
from generated import MarkdownDirective, application, table
from internals import admin_center_commands
from sphinx.application import Sphinx

PLUGIN = "flask xgen-sessions"
ADMIN_CENTER = "python -m xgen_flask_sessions"


def plugin_commands() -> click.Command:
    """Return the group of the plugin's commands, as an application has it."""
    return application().cli.commands["xgen-sessions"]


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands of a group and of the groups in it, with their full names."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for child, member in command.commands.items():
        yield from leaves(f"{name} {child}", member)


def documented(which: str) -> dict[str, click.Command]:
    """Return the commands of the plugin, or those that only the Admin Center has."""
    if which == "plugin":
        return dict(leaves(PLUGIN, plugin_commands()))
    own = leaves(ADMIN_CENTER, admin_center_commands)
    return {name: each for name, each in own if " xgen-sessions " not in name}


class CommandsReference(MarkdownDirective):
    """A section for each command of the group that the argument names."""

    required_arguments = 1

    def markdown(self) -> str:
        """Return usage, help and options of each command."""
        commands = documented(self.arguments[0])
        return "\n".join(_section(name, each) for name, each in commands.items())


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    pieces = command.collect_usage_pieces(context)
    options = [each for each in command.params if isinstance(each, click.Option)]
    rows = [_row(context, each) for each in options]
    return "\n".join(
        [
            f"### `{name.rpartition(' ')[2] if name.startswith(PLUGIN) else name}`\n",
            f"```text\n{name} {' '.join(pieces)}\n```\n",
            f"{command.help}\n",
            table(["Option", "Meaning"], rows) if rows else "",
        ]
    )


def _row(context: click.Context, option: click.Option) -> list[str]:
    names, text = option.get_help_record(context) or ("", "")
    if isinstance(option.type, click.Choice):  # too long for one line
        names = names.partition(" ")[0]
        text = f"{', '.join(f'`{choice}`' for choice in option.type.choices)}. {text}"
    return [f"`{names}`", text]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("commands-reference", CommandsReference)
    return {"parallel_read_safe": True}
