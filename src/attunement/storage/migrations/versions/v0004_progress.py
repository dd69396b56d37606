"""The journal of clients' progress: sessions, entries, what they were before they were corrected. Adds tables alone.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "progress_sessions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("zone", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("logged_at", sa.String(27), nullable=False),
        sa.Column("signed_by", sa.String(64), nullable=False),
        sa.Column("signed_at", sa.String(27), nullable=False),
        sa.Column("state", sa.LargeBinary()),
        sa.Column("words", sa.LargeBinary()),
        sa.Column("vector", sa.LargeBinary()),
        if_not_exists=True,
    )
    op.create_table(
        "progress_entries",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("zone", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("logged_at", sa.String(27), nullable=False),
        sa.Column("content", sa.LargeBinary()),
        if_not_exists=True,
    )
    op.create_table(
        "progress_former",
        sa.Column("row", sa.String(40), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("replaced_at", sa.String(27), nullable=False),
        sa.Column("replaced_by", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary()),
        if_not_exists=True,
    )
    op.create_index("progress_sessions_client", "progress_sessions", ["client", "at"], if_not_exists=True)
    op.create_index("progress_entries_client", "progress_entries", ["client", "at"], if_not_exists=True)
    op.create_index("ix_progress_former_client", "progress_former", ["client"], if_not_exists=True)


def downgrade() -> None:
    raise NotImplementedError("what was logged of people is not thrown away: restore a backup of before")
