"""A client's rights and their limits: export, correction, deletion with certificate, retention, legal hold; SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.config import SecuritySettings, Settings
from attunement.errors import ConfigError, DataError
from attunement.security import rights
from attunement.security.accounts import Accounts
from attunement.security.acting import Act
from attunement.security.age_files import new_identity, read_bytes
from attunement.security.backup import Opener, create_backup, restore_sqlite
from attunement.security.client_records import ClientRecords, records
from attunement.security.holds import Holds
from attunement.security.keys import ShreddedError
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import Role
from attunement.security.retention import Retention, scheduled
from attunement.security.rights import correct_client, delete_client, export_client, verify_certificate
from attunement.security.vault import Vault

ACT = Act("os:test", "r-1")
START = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


class SetClock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["sqlite", "postgres"])
def vault(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> Iterator[Vault]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("server").new("rights")
    FileMasterKey.create(tmp_path / "home" / "master.key")
    security = SecuritySettings(store=url, retention={"records": 30, "audit": 2192}, key_cache_seconds=0.0)
    with Vault.open(Settings(home=tmp_path / "home", security=security), clock=clock) as made:
        yield made


def entries(vault: Vault, clock: SetClock) -> list[str]:
    """Two clients, one of them with an account and a clinician; an entry 40 days ago and one now for each."""
    notes, accounts = ClientRecords(vault, clock), Accounts(vault.audit, vault.settings.access, clock)
    clock.now = START - timedelta(days=40)
    old = [notes.add(client, "intake", f"{client} slept badly-zq", ACT) for client in ("c-1", "c-2")]
    clock.now = START
    for client in ("c-1", "c-2"):
        notes.add(client, "session", f"{client} walks again", ACT)
    accounts.create("ann@home.example", [Role.CLIENT], ACT, client="c-1")
    accounts.create("dr-bo", [Role.CLINICIAN], ACT)
    accounts.assign("dr-bo", "c-1", ACT)
    return old


def recorded(vault: Vault, client: str | None = None) -> list[str]:
    return [r.action for r in vault.audit.records(client=client)]


def test_export_holds_everything_with_hashes(vault: Vault, clock: SetClock, tmp_path: Path) -> None:
    old = entries(vault, clock)
    correct_client(vault, "c-1", "records", old[0], {"text": "slept well <b>after all</b>"}, ACT)
    out = tmp_path / "c-1.zip"
    assert export_client(vault, "c-1", out, ACT) == {"accounts": 2, "records": 2, "transcripts": 0}
    assert out.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(out) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert {n: hashlib.sha256(archive.read(n)).hexdigest() for n in manifest["sha256"]} == manifest["sha256"]
        assert set(archive.namelist()) == {"manifest.json", *manifest["sha256"]}
        rows, log = json.loads(archive.read("records.json")), json.loads(archive.read("access_log.json"))
        page = archive.read("index.html").decode()
        assert b"c-2" not in b"".join(archive.read(n) for n in archive.namelist())
    assert rows[0]["text"] == "slept well <b>after all</b>" and rows[0]["version"] == 2
    assert [(b["text"], b["replaced_by"]) for b in rows[0]["before"]] == [("c-1 slept badly-zq", "os:test")]
    assert "&lt;b&gt;after all" in page and "badly-zq" in page and "<b>" not in page
    assert [r["action"] for r in log][-1] == "client:correct" and recorded(vault, "c-1")[-1] == "client:export"
    recipient = new_identity(tmp_path / "age.key")
    export_client(vault, "c-1", tmp_path / "closed.zip", ACT, [recipient])
    assert b"records.json" not in (tmp_path / "closed.zip").read_bytes()
    assert read_bytes(tmp_path / "closed.zip", tmp_path / "age.key").startswith(b"PK")
    with pytest.raises(DataError, match="nothing is held"):
        export_client(vault, "c-9", tmp_path / "none.zip", ACT)
    assert not (tmp_path / "none.zip").exists() and not recorded(vault, "c-9")


def test_corrections_stay_with_their_client(vault: Vault, clock: SetClock) -> None:
    old = entries(vault, clock)
    for client, kind, row, changes in [
        ("c-2", "records", old[0], {"text": "x"}),
        ("c-1", "records", old[0], {"author": "x"}),
        ("c-1", "records", old[0], {}),
        ("c-1", "accounts", "a1", {"name": "x"}),
        ("c-1", "nothing", "a1", {"name": "x"}),
    ]:
        with pytest.raises(DataError):
            correct_client(vault, client, kind, row, changes, ACT)
    assert "client:correct" not in recorded(vault)


def test_deletion_leaves_nothing_that_opens_and_says_so(vault: Vault, clock: SetClock, tmp_path: Path) -> None:
    entries(vault, clock)
    certificate = delete_client(vault, "c-1", ACT)
    assert certificate["rows_deleted"] == {"accounts": 2, "records": 2, "transcripts": 0}
    assert [k["key"] for k in certificate["keys_destroyed"]] == ["c-1/1"] and certificate["requested_by"] == "os:test"
    assert "audit log" in certificate["remains"][0]["what"]
    key = certificate["public_key"]
    assert vault.audit.checkpoints is not None and key == vault.audit.checkpoints.public_key()
    assert verify_certificate(json.loads(json.dumps(certificate)), key)
    assert not verify_certificate({**certificate, "client": "c-2"}, key)
    assert not verify_certificate({**certificate, "rows_deleted": {"records": 0}}, key)
    assert not verify_certificate(certificate, "ab" * 32)
    with vault.store.begin() as connection:
        left = "".join(
            str(connection.execute(sa.select(t)).all()) for t in vault.store.tables.sorted_tables if t.name != "audit_records"
        )
    assert "ann@home" not in left and "dr-bo" in left
    assert len(ClientRecords(vault).of("c-2", ACT)) == 2
    with pytest.raises(ShreddedError):
        ClientRecords(vault).add("c-1", "again", "x", ACT)
    if vault.store.is_sqlite:  # names of accounts are not encrypted: they leave the pages, too
        assert not any(b"ann@home" in p.read_bytes() for p in vault.settings.home.iterdir())
    before = recorded(vault)
    assert delete_client(vault, "c-1", ACT) == certificate and recorded(vault) == before  # again: the same, and nothing new
    with pytest.raises(DataError, match="nothing was ever held"):
        delete_client(vault, "c-9", ACT)
    assert vault.audit.verify().whole


def test_a_deletion_that_is_stopped_goes_on(vault: Vault, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    entries(vault, clock)

    def killed(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(vault.ring), "shred", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_client(vault, "c-1", ACT)
    with pytest.raises(DataError, match="were deleted"):  # nobody writes behind its back
        ClientRecords(vault).add("c-1", "again", "x", ACT)
    with monkeypatch.context() as patch:
        patch.setattr(rights, "_signed", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_client(vault, "c-1", ACT)
    certificate = delete_client(vault, "c-1", ACT)
    assert certificate["rows_deleted"] == {"accounts": 2, "records": 2, "transcripts": 0}
    assert recorded(vault, "c-1").count("client:delete") == 1 and vault.audit.verify().whole


def test_a_hold_beats_retention_and_deletion(vault: Vault, clock: SetClock) -> None:
    entries(vault, clock)
    holds, retention = Holds(vault.audit, clock), Retention(vault)
    holds.set("c-1", "case-17", ACT)
    assert retention.overdue_days() == {"records": 10.0}
    dry = retention.run(ACT, dry_run=True)
    assert [(d.kind, d.rows, d.clients, d.held) for d in dry] == [("records", 1, 1, 1)]
    assert len(ClientRecords(vault).of("c-2", ACT)) == 2 and retention.last_run() == ""
    assert retention.run(ACT) == dry
    assert [len(ClientRecords(vault).of(c, ACT)) for c in ("c-1", "c-2")] == [2, 1]
    assert [d.rows for d in retention.run(ACT)] == [0]
    for attempt in (lambda: delete_client(vault, "c-1", ACT), lambda: vault.shred("c-1", actor="os:test")):
        with pytest.raises(DataError, match="legal hold since 2026-11-27 \\(case-17\\)"):
            attempt()
    assert len(ClientRecords(vault).of("c-1", ACT)) == 2
    with pytest.raises(DataError, match="release that first"):
        holds.set("c-1", "case-18", ACT)
    holds.release("c-1", "case-17-closed", ACT)
    assert holds.all() == [] and [d.rows for d in retention.run(ACT)] == [1]
    done = [(r.action, r.client, r.target) for r in vault.audit.records() if r.action.startswith("retention:")]
    assert ("retention:hold", "c-1", "case-17") in done and ("retention:release", "c-1", "case-17-closed") in done
    assert [d for d in done if d[0] == "retention:delete"] == [
        ("retention:delete", "c-2", "records"),
        ("retention:delete", "c-1", "records"),
    ]
    delete_client(vault, "c-1", ACT)
    with pytest.raises(DataError, match="were deleted"):
        holds.set("c-1", "case-19", ACT)


def test_deleting_and_its_record_stand_or_fall_together(vault: Vault, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    entries(vault, clock)

    def full(*_: object) -> int:
        raise DataError("the disk is full")

    for work in (lambda: Retention(vault).run(ACT), lambda: delete_client(vault, "c-1", ACT)):
        with monkeypatch.context() as patch:
            patch.setattr(type(vault.audit), "append", full)
            with pytest.raises(DataError, match="full"):
                work()
    assert [len(ClientRecords(vault).of(c, ACT)) for c in ("c-1", "c-2")] == [2, 2]


@pytest.mark.parametrize("vault", ["sqlite"], indirect=True)
def test_a_restored_backup_is_swept_of_deleted_clients(vault: Vault, clock: SetClock, tmp_path: Path) -> None:
    entries(vault, clock)
    create_backup(vault.store, vault.ring, tmp_path / "old.backup", Opener())
    delete_client(vault, "c-1", ACT)
    (tmp_path / "new").mkdir(mode=0o700)
    restore_sqlite(tmp_path / "old.backup", vault.ring, Opener(), tmp_path / "new")
    with Vault.open(
        Settings(
            home=tmp_path / "new",
            security=SecuritySettings(
                master_key=vault.settings.home / "master.key", key_store=f"sqlite:///{vault.settings.home / 'keys.db'}"
            ),
        ),
        clock=clock,
    ) as restored:
        with restored.store.begin() as connection:
            assert connection.execute(sa.select(sa.func.count()).where(records.c.client == "c-1")).scalar() == 2
        Retention(restored).run(ACT)
        with restored.store.begin() as connection:
            assert connection.execute(sa.select(records.c.client).distinct()).scalars().all() == ["c-2"]
        assert "retention:sweep" in recorded(restored, "c-1")


@pytest.mark.parametrize("vault", ["sqlite"], indirect=True)
def test_a_service_runs_it_by_itself(vault: Vault, clock: SetClock) -> None:
    entries(vault, clock)
    done = threading.Event()
    with scheduled(vault.settings):
        for _ in range(100):
            if "retention:run" in recorded(vault):
                break
            done.wait(0.05)
    assert len(ClientRecords(vault).of("c-2", ACT)) == 1
    last = Retention(vault).last_run()
    with scheduled(vault.settings):
        done.wait(0.3)
    assert Retention(vault).last_run() == last  # not due again


def test_policies_are_checked(vault: Vault) -> None:
    with pytest.raises(ConfigError, match="the kinds are audit, accounts, records"):
        Retention(Vault(**{**vars(vault), "settings": Settings(security=SecuritySettings(retention={"recods": 1}))}))
    for wrong in ({"audit": 365}, {"records": 0}):
        with pytest.raises(ValueError, match=r"retention|kept"):
            SecuritySettings(retention=wrong)
