"""Alembic's environment for the plugin's tables; run by the command ``upgrade``."""

from alembic import context

from xgen_flask_sessions.store.migrate import options

connection = context.config.attributes["connection"]
context.configure(connection=connection, **options(connection))
with context.begin_transaction():
    context.run_migrations()
