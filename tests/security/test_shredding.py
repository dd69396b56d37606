"""Crypto-shredding on real files: what a thief of every file and of the master key finds, before and after."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import session_logs
import sqlalchemy as sa

from attunement.config import SecuritySettings, Settings
from attunement.errors import ConfigError, IntegrityError
from attunement.security.audit import Entry
from attunement.security.backup import Opener, create_backup, restore_sqlite
from attunement.security.escrow import read_escrow
from attunement.security.keys import ShreddedError, about_key
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault

WRAPPED_BYTES = 12 + 32 + 16


@pytest.fixture(params=["sqlite", "postgres"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("server").new("shredding")
    FileMasterKey.create(tmp_path / "home" / "master.key")
    security = SecuritySettings(store=url, escrow=tmp_path / "far" / "keys.escrow", key_cache_seconds=0.0)
    made = Vault.open(Settings(home=tmp_path / "home", security=security))
    for number, client in enumerate(["c-1", "c-2"] * 20, 1):
        session_logs.write(made, number, client)
    yield made
    made.close()


def files(vault: Vault, request: pytest.FixtureRequest) -> list[Path]:
    """Every file of the home, the escrow, the backups and, of PostgreSQL, of the server, its log included."""
    folders = [vault.settings.home.parent]
    if not vault.store.is_sqlite:
        with vault.store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")
        folders.append(request.getfixturevalue("server").data)
    return [p for folder in folders for p in folder.rglob("*") if p.is_file()]


def holding(paths: list[Path], *needles: bytes) -> list[Path]:
    """Those of `paths` with one of `needles`; a file that the server has taken away meanwhile holds nothing."""
    found = []
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if any(needle in content for needle in needles):
            found.append(path)
    return found


def thief_opens(path: Path, master: FileMasterKey, client: str) -> bool:
    """Whether some 60 bytes of the file, wherever they lie, unwrap as the client's key."""
    content, cipher, about = path.read_bytes(), master._ciphers[master.key_id], about_key(client, 1)
    for start in range(len(content) - WRAPPED_BYTES + 1):
        part = content[start : start + WRAPPED_BYTES]
        if part.count(0) < 20:
            try:
                cipher.decrypt(part[:12], part[12:], about)
                return True
            except Exception:
                continue
    return False


def test_what_a_thief_finds(vault: Vault, request: pytest.FixtureRequest) -> None:
    master, home = vault.ring.master, vault.settings.home
    assert isinstance(master, FileMasterKey)
    backup = home.parent / "old.backup"
    create_backup(vault.store, vault.ring, backup, Opener())
    vault.write_escrow()
    words = [b"Ann slept", b"flood", b"hopeless-zq", b"bakery", b"calmer-zq"]
    all_files = files(vault, request)
    assert holding(all_files, b"session_log:create")  # the search finds what is there in the clear
    assert not holding(all_files, *words)
    wrapped = {row["subject"]: bytes(row["wrapped"]) for row in vault.ring.rows()}
    key_files = [p for p in home.iterdir() if p.name.startswith("keys.db")]
    assert any(thief_opens(p, master, "c-1") for p in key_files)  # before, it opens: this is what is destroyed

    assert vault.shred("c-1", actor="u-admin") is True

    forms = [wrapped["c-1"], base64.b64encode(wrapped["c-1"]), wrapped["c-1"].hex().encode()]
    all_files = files(vault, request)
    assert not holding(all_files, *forms)
    assert holding(all_files, wrapped["c-2"])
    key_files = [p for p in home.iterdir() if p.name.startswith("keys.db")]
    assert not any(thief_opens(p, master, "c-1") for p in key_files)
    assert any(thief_opens(p, master, "c-2") for p in key_files)
    with pytest.raises(ShreddedError):
        session_logs.read(vault, "c-1")
    assert session_logs.read(vault, "c-2")[0] == session_logs.TOLD["c-2"]
    assert [r.client for r in vault.audit.records(action="keys:shred")] == ["c-1"]


@pytest.mark.parametrize("vault", ["sqlite"], indirect=True)  # the keys lie in the same place, whatever the data lie in
def test_old_copies_do_not_bring_a_client_back(vault: Vault, tmp_path: Path) -> None:
    """A backup and a copy of the escrow from before the shredding, on a new machine."""
    backup, copy, home = tmp_path / "old.backup", tmp_path / "copy.escrow", vault.settings.home
    create_backup(vault.store, vault.ring, backup, Opener())
    vault.write_escrow()
    shutil.copy(tmp_path / "far" / "keys.escrow", copy)
    vault.shred("c-1", actor="u-admin")

    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    shutil.copy(home / "master.key", new / "master.key")
    later = tmp_path / "later.backup"  # its ledger knows
    create_backup(vault.store, vault.ring, later, Opener())
    there = Vault.open(Settings(home=tmp_path / "keys-only", security=SecuritySettings(master_key=new / "master.key")))
    assert there.ring.take_in(read_escrow(there.ring, copy)) >= 2  # the old escrow alone would bring the key back
    restore_sqlite(later, there.ring, Opener(), new)
    restored = Vault.open(Settings(home=new, security=SecuritySettings(key_store=str(there.ring.store._engine.url))))
    with pytest.raises(ShreddedError):
        session_logs.read(restored, "c-1")
    assert len(session_logs.read(restored, "c-2")) == 20
    assert restored.audit.verify().records == 41

    vault.rotate(actor="u-admin")  # after it the old escrow opens for nobody, for the key that closed it is gone
    with pytest.raises(ConfigError, match="is not here"):
        read_escrow(vault.ring, copy)
    assert not holding([p for p in home.rglob("*") if p.is_file()], (new / "master.key").read_bytes().strip())
    assert len(session_logs.read(vault, "c-2")) == 20


def test_a_ciphertext_moved_in_the_database_does_not_open(vault: Vault) -> None:
    logs = session_logs.logs
    with vault.store.begin() as connection:
        stolen = connection.execute(sa.select(logs.c.summary).where(logs.c.id == 1)).scalar_one()
        connection.execute(logs.update().where(logs.c.id == 3).values(summary=stolen))
        vault.audit.append(connection, Entry("u-ann", "session_log:update", "c-1"))
    with pytest.raises(IntegrityError, match="moved there from elsewhere"):
        session_logs.read(vault, "c-1")
