"""`attune keys`, `attune audit`, `attune backup` as an administrator uses them: from nothing to a restored machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import UserError
from attunement.storage.sql import Store

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATTUNE_SECURITY__ESCROW", str(tmp_path / "keys.escrow"))
    return tmp_path / "home"


def attune(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def refused(*arguments: object) -> str:
    result = RUNNER.invoke(app, [*map(str, arguments)])
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    return str(result.exception)


def test_the_life_of_a_store(home: Path, tmp_path: Path) -> None:
    assert "attune keys init" in refused("audit", "verify")
    assert not (home / "keys.db").exists()  # nothing is made without a master key
    assert "keep a copy offline" in attune("keys", "init")
    assert "already" in refused("keys", "init")
    recipient = attune("keys", "identity", tmp_path / "age.key").strip()
    assert recipient.startswith("age1")
    attune("keys", "shred", "c-9", "--yes")
    before = json.loads(attune("keys", "status", "--json"))
    assert before == {"master_key": before["master_key"], "live": 1, "shredded": 1, "to_re_wrap": 0}  # the signing key is one
    assert "1 data keys wrapped" in attune("keys", "rotate")
    assert json.loads(attune("keys", "status", "--json"))["master_key"] != before["master_key"]
    backup = tmp_path / "a.backup"
    assert "written to" in attune("backup", "create", backup, "--encrypt-to", recipient)
    identity = ["--set", f"security.age_identity={tmp_path / 'age.key'}"]
    assert "age identity" in refused("backup", "verify", backup)
    failed = [json.loads(line) for line in attune("audit", "export", "--action", "backup:verify").splitlines()]
    assert [row["outcome"] for row in failed] == ["failed"]
    assert attune("backup", "verify", backup, *identity).startswith("whole: sqlite as of")
    assert "restored and thrown away in" in attune("backup", "rehearse", backup, *identity)
    assert not list(home.glob(".rehearsal-*"))
    told = attune("audit", "checkpoint")
    assert "record 7, hash" in told and "public key" in told  # taking the log out is one

    shutil.move(home / "master.key", tmp_path / "master.key")
    shutil.copy(home / "audit-checkpoints.jsonl", tmp_path / "points")
    shutil.rmtree(home)  # the machine is lost
    home.mkdir(mode=0o700)
    shutil.move(tmp_path / "master.key", home / "master.key")
    shutil.move(tmp_path / "points", home / "audit-checkpoints.jsonl")  # it lay elsewhere, and knows of a record that is lost
    restored = attune("backup", "restore", backup, "--escrow", tmp_path / "keys.escrow", "--json", *identity)
    assert json.loads(restored)["sealed"] is True
    assert len(list(home.glob("audit-checkpoints.jsonl.until-*"))) == 1
    rows = [json.loads(line) for line in attune("audit", "export").splitlines()]
    assert [row["action"] for row in rows] == ["keys:shred", "keys:rotate", "backup:restore", "audit:read"]
    assert json.loads(attune("keys", "status", "--json"))["shredded"] == 1
    assert attune("audit", "verify").startswith("4 records, whole")


def test_a_changed_log_is_named_and_exits_with_3(home: Path, tmp_path: Path) -> None:
    attune("keys", "init")
    for client in ("c-1", "c-2", "c-3"):
        attune("keys", "shred", client, "--yes")
    assert "3 records, whole" in attune("audit", "verify")
    attune("audit", "export", "--client", "c-2", "--out", tmp_path / "out.jsonl")
    assert [json.loads(line)["client"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        "c-2",
        "c-2",
    ]  # and that it was taken out
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert attune("audit", "export", "--until", "2020-01-01") == ""
    with Store.at_home(home).begin() as connection:
        connection.execute(sa.text("drop trigger audit_no_update"))
        connection.execute(sa.text("update audit_records set client = 'c-8' where number = 2"))
    assert "NOT whole: edited at record 2" in attune("audit", "verify", code=3)
    assert json.loads(attune("audit", "verify", "--json", code=3))["first_bad"] == 2


def test_a_passphrase_comes_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attune("keys", "init")
    create = ["backup", "create", tmp_path / "a.backup", "--passphrase-variable", "OUR_PASSPHRASE"]
    assert "is to hold the passphrase, and is empty" in refused(*create)
    monkeypatch.setenv("OUR_PASSPHRASE", "correct horse battery")
    attune(*create)
    assert "whole: sqlite" in attune("backup", "verify", tmp_path / "a.backup", "--passphrase-variable", "OUR_PASSPHRASE")
    assert "opens by a passphrase" in refused("backup", "verify", tmp_path / "a.backup")
    monkeypatch.setenv("OUR_PASSPHRASE", "wrong")
    assert "does not open" in refused("backup", "verify", tmp_path / "a.backup", "--passphrase-variable", "OUR_PASSPHRASE")
