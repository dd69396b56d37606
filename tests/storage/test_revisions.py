"""Revisions: the migrated schema is the one of the code, stores of before go on, and a newer or older one is told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.cli.tables import know_all
from attunement.errors import DataError
from attunement.security.audit import AuditLog, Entry
from attunement.storage import revisions
from attunement.storage.sql import FILE, Store, metadata

know_all()
VERSIONS = Path(revisions.__file__).with_name("migrations")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / FILE}"
    return str(request.getfixturevalue("server").new("revisions"))


def differences(store: Store) -> list[object]:
    """Between a store and the code's tables; other tests' tables (`test_...`) may stand among these, too."""

    def ours(_: object, name: str | None, kind: str, *__: object) -> bool:
        return not (kind == "table" and (name or "").startswith("test_"))

    with store.snapshot() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours})
        return list(compare_metadata(context, metadata))


def test_the_migrated_schema_is_that_of_the_code(url: str) -> None:
    empty = Store(url, sa.MetaData())
    assert revisions.upgrade(empty) == list(revisions.REVISIONS)
    assert differences(empty) == []
    empty.close()
    store = Store(url)
    log = AuditLog(store)
    with log.begin() as connection:
        log.append(connection, Entry("a-1", "store:upgrade"))
    assert log.verify().whole  # its guards were made, too
    with pytest.raises(sa.exc.IntegrityError), store.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit_records")
    assert revisions.upgrade(store) == []
    store.close()


def test_a_store_that_is_made_anew_is_the_same(url: str) -> None:
    store = Store(url)
    assert differences(store) == []
    with store.snapshot() as connection:
        assert revisions.of(connection) == revisions.HEAD
    store.close()


def as_of_before(url: str) -> None:
    """A store of the version before there were revisions, with a row."""
    old = Store(url, sa.MetaData())
    revisions.upgrade(old, revisions.BASELINE)
    with old.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
        connection.exec_driver_sql("INSERT INTO legal_holds VALUES ('c-1', 'case-1', '2026-01-01T00:00:00.000000Z', 'a-1')")
    old.close()


def test_a_store_of_before_goes_on_and_is_upgraded(url: str) -> None:
    as_of_before(url)
    with pytest.raises(DataError, match="needs the revision 0005 first: make a backup"):
        Store(url)
    store = Store(url, behind=True)
    with store.snapshot() as connection:
        assert revisions.of(connection) == revisions.BASELINE
    assert revisions.upgrade(store) == list(revisions.REVISIONS)[1:]
    assert differences(store) == []
    with store.snapshot() as connection:
        assert connection.exec_driver_sql("SELECT client FROM legal_holds").scalars().all() == ["c-1"]
        assert revisions.of(connection) == revisions.HEAD
    store.close()


def test_one_that_only_lacks_tables_goes_on_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of_before(url)
    monkeypatch.setitem(revisions.REVISIONS, "0005", True)
    store = Store(url)
    assert differences(store) == []
    store.close()


def test_transcripts_and_erasures_of_before_there_were_documents_are_kept(url: str) -> None:
    old = Store(url, sa.MetaData())
    revisions.upgrade(old, "0004")
    with old.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO transcripts (id, client, session, request, created, model, place) VALUES ('t-1', 'c-1', 's-1', 'r-1', '2026', 'm', 'sql')"
        )
        connection.exec_driver_sql("INSERT INTO transcript_erasures VALUES ('c-2', '9999', '2026')")
    assert revisions.upgrade(old) == ["0005"]
    with old.snapshot() as connection:
        assert connection.exec_driver_sql("SELECT kind, id FROM transcripts").all() == [("transcript", "t-1")]
        assert connection.exec_driver_sql("SELECT kind, client, before FROM transcript_erasures").all() == [
            ("transcript", "c-2", "9999")
        ]
    old.close()


def test_one_that_is_newer_or_must_be_changed_first_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of_before(url)
    with monkeypatch.context() as patch:
        patch.setitem(revisions.REVISIONS, "0002", False)
        with pytest.raises(DataError, match="attune store upgrade"):
            Store(url)
        behind = Store(url, behind=True)
        with behind.snapshot() as connection:
            assert not sa.inspect(connection).has_table("transcripts")  # left as it is
        revisions.upgrade(behind)
        behind.close()
        Store(url).close()
    store = Store(url)
    with store.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0099'")
    store.close()
    with pytest.raises(DataError, match="newer attunement"):
        Store(url)


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of_before(url)
    store = Store(url, behind=True)
    monkeypatch.setattr("alembic.op.create_index", _fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        revisions.upgrade(store)
    with store.snapshot() as connection:
        assert revisions.of(connection) == revisions.BASELINE
        assert not sa.inspect(connection).has_table("transcripts")
    store.close()


def _fails(*_: object, **__: object) -> None:
    raise RuntimeError("in the middle")


def test_every_script_is_known_where_stores_are_opened() -> None:
    scripts = list(ScriptDirectory(str(VERSIONS)).walk_revisions())
    assert [script.revision for script in reversed(scripts)] == list(revisions.REVISIONS)


@pytest.fixture
def attune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    return run


def test_the_commands(attune: Callable[..., str], tmp_path: Path) -> None:
    attune("keys", "init")
    as_of_before(f"sqlite:///{tmp_path / 'home' / FILE}")
    attune("backup", "create", str(tmp_path / "before.backup"))  # of a store that must be changed first
    attune("backup", "rehearse", str(tmp_path / "before.backup"))
    assert json.loads(attune("store", "status", "--json"))["pending"] == list(revisions.REVISIONS)[1:]
    assert "applied: 0002" in attune("store", "upgrade") and "nothing to do" in attune("store", "upgrade")
    told = json.loads(attune("store", "status", "--json"))
    attune("backup", "rehearse", str(tmp_path / "before.backup"))
    assert told == {
        "revision": revisions.HEAD,
        "pending": [],
        "stores": {"sql": "up", "mongodb": "embedded", "redis": "embedded"},
        "waiting": {"spool": 0, "outbox": 0, "erasures": 0},
    }
    assert attune("store", "drain") == "0 moved on; waiting: spool 0, outbox 0, erasures 0\n"
    assert "waiting: spool 0" in attune("store", "status")
    assert '"action": "store:upgrade", "target": "0005"' in attune("audit", "export")
