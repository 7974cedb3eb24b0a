"""Alembic's environment for the plugin's three tables; run by ``xgen_flask_sessions.migrate``."""

from alembic import context

from xgen_flask_sessions.migrate import OPTIONS

context.configure(connection=context.config.attributes["connection"], **OPTIONS)
with context.begin_transaction():
    context.run_migrations()
