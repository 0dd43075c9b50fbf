"""Alembic's entry point. labd hands in its own open connection, inside one transaction."""

from alembic import context

from labd.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
