"""Documents of clients beside transcripts: what kind a row is, what a document is and holds; erasures by kind. Changes tables.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("transcripts", sa.Column("kind", sa.String(10), nullable=False, server_default="transcript"))
    for name in ("about", "content"):
        op.add_column("transcripts", sa.Column(name, sa.LargeBinary()))
    op.rename_table("transcript_erasures", "transcript_erasures_before")  # SQLite changes no primary key
    op.create_table(
        "transcript_erasures",
        sa.Column("kind", sa.String(10), primary_key=True, server_default="transcript"),
        sa.Column("client", sa.String(64), primary_key=True),
        sa.Column("before", sa.String(27), nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
    )
    op.execute(
        'INSERT INTO transcript_erasures (client, "before", "at") SELECT client, "before", "at" FROM transcript_erasures_before'
    )
    op.drop_table("transcript_erasures_before")


def downgrade() -> None:
    raise NotImplementedError("documents are not thrown away: restore a backup of before")
