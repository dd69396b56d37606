"""Where Alembic starts: it gets an open connection from `revisions.upgrade`, and never an address."""

from __future__ import annotations

from alembic import context

from attunement.storage.sql import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
