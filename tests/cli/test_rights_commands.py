"""`attune clients`, `attune retention`, and what commands put on record, as a house uses them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.config import Settings, load_settings
from attunement.errors import UserError
from attunement.security.entry import local_operator
from attunement.security.recording import has_vault, note, noted
from attunement.security.vault import Vault

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def attune(*arguments: object, given: str | None = None, code: int = 0) -> str:
    result = RUNNER.invoke(app, [*map(str, arguments)], input=given)
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def refused(*arguments: object, given: str | None = None) -> str:
    result = RUNNER.invoke(app, [*map(str, arguments)], input=given)
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    return str(result.exception)


def recorded() -> list[tuple[str, str, str, str]]:
    with Vault.open(load_settings().settings) as vault:
        assert {r.actor for r in vault.audit.records()} <= {local_operator().id}
        return [(r.action, r.client, r.target, r.outcome) for r in vault.audit.records()]


def test_the_life_of_a_record(tmp_path: Path) -> None:
    attune("keys", "init")
    row = attune("clients", "note", "c-1", "--title", "intake", given="slept badly").strip()
    out, certificate = tmp_path / "c-1.zip", tmp_path / "gone.json"
    assert "no JSON object" in refused("clients", "correct", "c-1", row, given="slept well")
    attune("clients", "correct", "c-1", row, given='{"text": "slept well"}')
    assert json.loads(attune("clients", "export", "c-1", "--out", out, "--json"))["rows"] == {
        "accounts": 0,
        "documents": 0,
        "feedback": 0,
        "records": 1,
        "reviews": 0,
        "sessions": 0,
        "progress": 0,
        "transcripts": 0,
    }
    with zipfile.ZipFile(out) as archive:
        assert json.loads(archive.read("records.json"))[0]["before"][0]["text"] == "slept badly"
    assert "must be an id" in refused("clients", "export", "Ann Smith", "--out", tmp_path / "x.zip")
    attune("retention", "hold", "c-1", "--reason-code", "case-17")
    assert "case-17" in attune("retention", "holds")
    delete = ["clients", "delete", "c-1", "--certificate", certificate, "--yes"]
    assert "legal hold" in refused(*delete) and "legal hold" in refused("keys", "shred", "c-1", "--yes")
    attune("retention", "release", "c-1", "--reason-code", "case-closed")
    assert "1 keys destroyed" in attune(*delete)
    assert "as it was signed" in attune("clients", "verify-certificate", certificate)
    made = json.loads(certificate.read_text())
    assert "as it was signed" in attune("clients", "verify-certificate", certificate, "--public-key", made["public_key"])
    certificate.write_text(json.dumps({**made, "rows_deleted": {"records": 0}}))
    assert "NOT as it was" in attune("clients", "verify-certificate", certificate, code=3)
    assert [r[:2] for r in recorded()] == [
        ("client:write", "c-1"), ("client:correct", "c-1"), ("client:export", "c-1"), ("retention:hold", "c-1"),
        ("retention:release", "c-1"), ("client:delete", "c-1"), ("keys:shred", "c-1"), ("client:certify", "c-1"),
    ]  # fmt: skip


def test_documents_of_a_record(tmp_path: Path) -> None:
    attune("keys", "init")
    letter, scan, out = tmp_path / "letter.txt", tmp_path / "scan.bin", tmp_path / "again.txt"
    letter.write_text("Dear colleague, she slept badly.", encoding="utf-8")
    scan.write_bytes(b"%PDF-1.7 intake")
    document = attune("clients", "documents", "add", "c-1", letter, "--title", "Referral").strip()
    assert attune("clients", "documents", "add", "c-1", letter, "--title", "Referral").strip() == document
    attune("clients", "documents", "add", "c-1", scan, "--title", "Scan", "--type", "application/pdf")
    told = attune("clients", "documents", "list", "c-1")
    assert f"{document}  " in told and "text/plain  32 bytes  Referral" in told and len(told.splitlines()) == 2
    assert [each["title"] for each in json.loads(attune("clients", "documents", "list", "c-1", "--json"))] == ["Referral", "Scan"]
    assert attune("clients", "documents", "list", "c-2") == "c-2 has no documents\n"
    assert "32 bytes (text/plain) written to" in attune("clients", "documents", "get", "c-1", document, "--out", out)
    assert out.read_bytes() == letter.read_bytes() and out.stat().st_mode & 0o077 == 0
    add, get = ["clients", "documents", "add", "c-1"], ["clients", "documents", "get", "c-1", document, "--out"]
    assert "exists already" in refused(*get, out)
    assert "no such document" in refused("clients", "documents", "get", "c-2", document, "--out", tmp_path / "x")
    assert "media types text/plain" in refused(*add, scan, "--title", "Scan")
    assert "cannot be read" in refused(*add, tmp_path / "none.txt", "--title", "x")
    assert "longer than 20 bytes" in refused(*add, letter, "--title", "x", "--set", "stores.document_bytes=20")
    with zipfile.ZipFile(_exported(tmp_path)) as archive:
        assert archive.read(f"documents/{document}.txt") == letter.read_bytes()
    assert [r[:2] for r in recorded() if r[2] == document] == [("client:write", "c-1"), ("client:read", "c-1")]
    assert [r[1] for r in recorded() if r[:3:2] == ("client:read", "documents")] == ["c-1", "c-1", "c-2"]


def _exported(tmp_path: Path) -> Path:
    attune("clients", "export", "c-1", "--out", tmp_path / "c-1.zip")
    return tmp_path / "c-1.zip"


def test_retention_by_settings(tmp_path: Path) -> None:
    attune("keys", "init")
    attune("clients", "note", "c-1", "--title", "intake", given="slept badly")
    assert "no kind of a client's data has a policy" in attune("retention", "run")
    keep = ["--set", "security.retention={records=30, audit=3000}"]
    assert "0 records of 0 clients would be deleted, older than 30 days" in attune("retention", "run", "--dry-run", *keep)
    told = attune("retention", "policies", *keep)
    assert "accounts: kept until deleted" in told and "records: 30 days" in told and "audit: 3,000 days at least" in told
    assert "kinds are audit, accounts, documents, feedback, progress, records, reviews, sessions" in refused(
        "retention", "run", "--set", "security.retention={notes=3}"
    )


def test_training_and_export_are_on_record_where_there_is_a_vault(home: Path, tmp_path: Path, tiny_run: Path) -> None:
    export = ["export", "--run", tiny_run, "--format", "adapter", "--out"]
    assert not has_vault(Settings(home=home))
    attune(*export, tmp_path / "plain")
    with noted(Settings(home=home), "training:run", "training:start", "training:end", "x"):
        pass
    assert not home.exists()  # a house without a vault is not bothered
    attune("keys", "init")
    attune(*export, tmp_path / "my export")
    attune("train", "resume", tiny_run)
    settings = load_settings().settings
    with pytest.raises(KeyboardInterrupt), noted(settings, "training:run", "training:start", "training:end", "a/b"):
        raise KeyboardInterrupt
    note(settings, "review:read", "review:read", "0f")
    assert recorded() == [
        ("model:export", "", "my_export", "done"),
        ("training:resume", "", "tiny", "done"),
        ("training:end", "", "tiny", "done"),
        ("training:start", "", "a_b", "done"),
        ("training:end", "", "a_b", "failed"),
        ("review:read", "", "0f", "done"),
    ]
