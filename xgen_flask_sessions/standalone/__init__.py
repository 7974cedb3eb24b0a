"""A complete Admin Center, ready to run, and an example of a host.

Knows its own users, pages and commands. Must not know more of the plugin than its public interface.

``application``
    ``create_app()`` puts the parts together.
``instance``, ``config``, ``models``, ``language``, ``logs``
    The instance directory, the configuration, the users, the languages and the log.
``sign_in``, ``workspace``, ``admin_center``, ``user_admin``, ``error_pages``
    The pages.
``accounts``, ``rules``, ``passwords``, ``seeding``, ``preparation``
    The rules and actions behind them.
``commands``, ``terminal``, ``server``
    ``python -m xgen_flask_sessions``.
"""

from xgen_flask_sessions.standalone.application import create_app
from xgen_flask_sessions.standalone.preparation import prepare

__all__ = ["create_app", "prepare"]
