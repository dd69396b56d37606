"""Which revision a store has. Opening one adds the tables that it lacks; what changes tables that are there is a revision of its
own, and waits for `attune store upgrade`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from attunement.errors import DataError

if TYPE_CHECKING:
    from attunement.storage.sql import Store

BASELINE = "0001"
REVISIONS = {"0001": True, "0002": True, "0003": True, "0004": True, "0005": False}
"""Revision to whether it only adds tables: a store that lacks such a one can be used, for opening it adds them."""
HEAD = list(REVISIONS)[-1]
TABLE = "alembic_version"
_version = sa.Table(TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('attunement.revisions'))")


def of(connection: sa.Connection) -> str:
    """The revision that a store is stamped with; "" for none."""
    if not sa.inspect(connection).has_table(TABLE):
        return ""
    return connection.execute(sa.select(_version.c.version_num)).scalar() or ""


def stamp(connection: sa.Connection, revision: str) -> None:
    """Says of a store without a revision which one it has."""
    _version.create(connection, checkfirst=True)
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(_version).values(version_num=revision).on_conflict_do_nothing())


def pending(revision: str) -> list[str]:
    """The revisions that come after one, oldest first. Raises `DataError` for one that is not known: a newer attunement's."""
    if revision and revision not in REVISIONS:
        raise DataError(f"the store was written by a newer attunement (revision {revision}): upgrade this one")
    return [each for each in REVISIONS if each > (revision or "")]


def refuse_behind(revision: str) -> None:
    """Raises `DataError` where tables must be changed before the store can be used."""
    if changing := [each for each in pending(revision) if not REVISIONS[each]]:
        raise DataError(f"the store needs the revision {changing[0]} first: make a backup, then  attune store upgrade")


def upgrade(store: Store, to: str = "head") -> Sequence[str]:
    """Brings a store to a revision in one transaction; what was applied. Another that does the same waits, and finds nothing."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with store.begin(patient=True) as connection:
        if not store.is_sqlite:
            connection.execute(_LOCK)
        waiting = pending(of(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        left = pending(of(connection))
    return [each for each in waiting if each not in left]
