"""The clinical review queue, referrals to crisis services, feedback. Adds tables alone.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clinical_reviews",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("reasons", sa.String(400), nullable=False),
        sa.Column("model", sa.String(120), nullable=False),
        sa.Column("content", sa.LargeBinary()),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("decided_at", sa.String(27), nullable=False),
        sa.Column("decided_by", sa.String(64), nullable=False),
        sa.Column("note", sa.LargeBinary()),
        sa.Column("taken_by", sa.String(64), nullable=False),
        sa.Column("taken_at", sa.String(27), nullable=False),
        sa.Column("sent_at", sa.String(27), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "crisis_referrals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(8), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("correction", sa.LargeBinary()),
        sa.Column("comment", sa.LargeBinary()),
        if_not_exists=True,
    )
    for table, column in (
        ("clinical_reviews", "at"), ("clinical_reviews", "client"), ("clinical_reviews", "request"), ("crisis_referrals", "year"),
        ("feedback", "at"), ("feedback", "client"), ("feedback", "request"),
    ):  # fmt: skip
        op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)
    op.create_index("clinical_reviews_open", "clinical_reviews", ["decision", "rank", "at"], if_not_exists=True)


def downgrade() -> None:
    raise NotImplementedError("what people decided is not thrown away: restore a backup of before")
