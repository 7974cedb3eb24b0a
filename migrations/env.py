"""Alembic's environment for the plugin's three tables; run by ``xgen_flask_sessions.migrate``."""

from alembic import context

from xgen_flask_sessions.migrate import options

connection = context.config.attributes["connection"]
context.configure(connection=connection, **options(connection))
with context.begin_transaction():
    context.run_migrations()
