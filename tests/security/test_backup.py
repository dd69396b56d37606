"""Backups: destroyed and restored on another machine, on both databases; nothing is restored from what is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import session_logs
import sqlalchemy as sa

from attunement.config import SecuritySettings, Settings
from attunement.errors import ConfigError, DataError, IntegrityError
from attunement.security.age_files import new_identity
from attunement.security.backup import Opener, create_backup, restore_postgres, restore_sqlite, verify_backup
from attunement.security.escrow import read_escrow
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault, open_ring


def open_at(home: Path, url: str = "") -> Vault:
    return Vault.open(Settings(home=home, security=SecuritySettings(store=url, escrow=home.parent / "keys.escrow")))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    FileMasterKey.create(tmp_path / "home" / "master.key")
    made = open_at(tmp_path / "home")
    for number in range(1, 11):
        session_logs.write(made, number, f"c-{1 + number % 2}")
    yield made
    made.close()


@pytest.mark.parametrize("how", ["master", "recipient"])
def test_a_destroyed_store_comes_back(vault: Vault, tmp_path: Path, how: str) -> None:
    identity = tmp_path / "age.key"
    recipient = new_identity(identity)
    opener = Opener() if how == "master" else Opener([recipient])
    path = tmp_path / "a.backup"
    made = create_backup(vault.store, vault.ring, path, opener)
    vault.write_escrow()
    expected = session_logs.read(vault, "c-1")
    vault.close()
    shutil.copy(tmp_path / "home" / "master.key", tmp_path / "offline.key")
    shutil.rmtree(tmp_path / "home")

    home = tmp_path / "new"
    home.mkdir()
    shutil.move(tmp_path / "offline.key", home / "master.key")
    ring = open_ring(Settings(home=home))
    opener = Opener(identity=identity) if how == "recipient" else opener
    assert verify_backup(path, ring, opener) == made
    ring.take_in(read_escrow(ring, tmp_path / "keys.escrow"))
    restore_sqlite(path, ring, opener, home)
    again = open_at(home)
    assert session_logs.read(again, "c-1") == expected
    assert again.audit.verify().records == 10
    session_logs.write(again, 11, "c-1")
    assert (home / "attunement.db").stat().st_mode & 0o077 == 0
    with pytest.raises(DataError, match="there is a store at"):
        restore_sqlite(path, ring, opener, home)
    if how == "recipient":
        with pytest.raises(ConfigError, match="opens by an age identity"):
            verify_backup(path, ring, Opener())


def test_a_destroyed_postgres_comes_back(server: object, tmp_path: Path) -> None:
    FileMasterKey.create(tmp_path / "home" / "master.key")
    old = open_at(tmp_path / "home", server.new("old_store"))  # type: ignore[attr-defined]
    counted = sa.Table("test_counted", sa.MetaData(), sa.Column("n", sa.Integer, primary_key=True))
    with old.store.begin() as connection:
        counted.create(connection)
    for number in range(1, 11):
        session_logs.write(old, number, f"c-{1 + number % 2}")
    path, expected = tmp_path / "a.backup", session_logs.read(old, "c-1")
    made = create_backup(old.store, old.ring, path, Opener())
    assert made.left_out == ["test_counted"] and verify_backup(path, old.ring, Opener()) == made
    with pytest.raises(DataError, match="holds rows in"):
        restore_postgres(path, old.ring, Opener(), old.store)
    old.close()
    new = open_at(tmp_path / "home", server.new("new_store"))  # type: ignore[attr-defined]
    damaged = tmp_path / "damaged.backup"
    damaged.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(IntegrityError):
        restore_postgres(damaged, new.ring, Opener(), new.store)
    assert session_logs.read(new, "c-1") == []  # one transaction: nothing of it is there
    restore_postgres(path, new.ring, Opener(), new.store)
    assert session_logs.read(new, "c-1") == expected and new.audit.verify().records == 10
    with new.store.begin() as connection:  # the database's own numbers go on after the last
        connection.execute(session_logs.logs.insert().values(client="c-9", at="x"))
        assert connection.execute(sa.select(sa.func.max(session_logs.logs.c.id))).scalar_one() == 11
    new.close()


def test_a_backup_is_one_moment_while_others_write(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attunement.security import backup

    real = backup._write_sqlite

    def meanwhile(*arguments: object) -> None:
        session_logs.write(vault, 99, "c-1")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_write_sqlite", meanwhile)
    create_backup(vault.store, vault.ring, tmp_path / "a.backup", Opener())
    assert len(session_logs.read(vault, "c-1")) == 6
    (tmp_path / "new").mkdir()
    restore_sqlite(tmp_path / "a.backup", vault.ring, Opener(), tmp_path / "new")
    shutil.copy(tmp_path / "home" / "master.key", tmp_path / "new" / "master.key")
    shutil.copy(tmp_path / "home" / "keys.db", tmp_path / "new" / "keys.db")
    assert audited(tmp_path / "new") == 10


def audited(home: Path) -> int:
    return open_at(home).audit.verify().records


def test_what_is_damaged_or_foreign_is_not_restored(vault: Vault, tmp_path: Path) -> None:
    path, target = tmp_path / "a.backup", tmp_path / "new"
    create_backup(vault.store, vault.ring, path, Opener())
    whole = path.read_bytes()
    for name, content in {
        "cut": whole[:-1], "half": whole[: len(whole) // 2], "bit": whole[:-500] + bytes([whole[-500] ^ 1]) + whole[-499:],
        "long": whole + b"more", "head": whole.replace(b'"made_at":"2', b'"made_at":"3', 1), "other": b"not a backup\n", "empty": b"",
    }.items():  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(DataError) as told:
            restore_sqlite(path, vault.ring, Opener(), target)
        assert "\n" not in str(told.value), name
        assert not (target / "attunement.db").exists(), name
    path.write_bytes(whole)
    with pytest.raises(DataError, match="is not written over another"):
        create_backup(vault.store, vault.ring, path, Opener())
    with pytest.raises(DataError, match="is a backup of sqlite"):
        restore_postgres(path, vault.ring, Opener(), vault.store)


def test_a_backup_that_another_master_sealed_needs_trust(vault: Vault, tmp_path: Path) -> None:
    """Who knows the recipient can write a backup, but not seal it."""
    recipient = new_identity(tmp_path / "age.key")
    FileMasterKey.create(tmp_path / "other" / "master.key")
    other = open_at(tmp_path / "other")
    create_backup(other.store, other.ring, tmp_path / "a.backup", Opener([recipient]))
    opener = Opener(identity=tmp_path / "age.key")
    assert verify_backup(tmp_path / "a.backup", vault.ring, opener).sealed is False
    with pytest.raises(DataError, match="--trust-unsealed"):
        restore_sqlite(tmp_path / "a.backup", vault.ring, opener, tmp_path / "new")
    assert not (tmp_path / "new" / "attunement.db").exists()
    restore_sqlite(tmp_path / "a.backup", vault.ring, opener, tmp_path / "new", trust_unsealed=True)
    assert (tmp_path / "new" / "attunement.db").exists()
