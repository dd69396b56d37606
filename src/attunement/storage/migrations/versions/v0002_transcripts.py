"""Transcripts, and what is to be deleted of them in MongoDB. Adds tables alone.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "transcripts",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("created", sa.String(27), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("turns", sa.LargeBinary()),
        sa.Column("reply", sa.LargeBinary()),
        sa.Column("safety", sa.LargeBinary()),
        sa.Column("place", sa.String(8), nullable=False),
        if_not_exists=True,
    )
    for name, columns in (("client", ["client", "created"]), ("session", ["session", "number"]), ("place", ["place", "number"])):
        op.create_index(f"transcripts_{name}", "transcripts", columns, if_not_exists=True)
    op.create_table(
        "transcript_erasures",
        sa.Column("client", sa.String(64), primary_key=True),
        sa.Column("before", sa.String(27), nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    raise NotImplementedError("transcripts are not thrown away: restore a backup of before")
