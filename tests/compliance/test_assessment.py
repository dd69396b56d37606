"""`attune compliance assess`: honest about a fresh machine, content with a kept one, and it finds what went wrong since."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.compliance import assessment, dependencies
from attunement.compliance.assessment import CHECKS, assess, overdue, write_report
from attunement.compliance.scene import Outcome, opened
from attunement.config import Settings, load_settings
from attunement.security.acting import Act
from attunement.security.entry import Access
from attunement.security.incidents import Incidents
from attunement.security.permissions import GRANTS, Role
from attunement.security.vault import Vault
from attunement.storage.files import write_json, write_text
from attunement.storage.sql import Store

RUNNER = CliRunner()
ACT = Act("os:test")
CHEAP = ["access.argon2_memory_kib=8", "access.argon2_passes=1", "access.argon2_lanes=1"]


def attune(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {row["id"]: row["outcome"] for row in report["findings"]}


def test_a_fresh_machine_is_told_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "new" / "home"
    monkeypatch.setenv("ATTUNE_HOME", str(home))
    assert "no compliance assessment yet" in RUNNER.invoke(app, ["compliance", "status", "--strict"]).output
    report = json.loads(attune("compliance", "assess", "--json", "--out", tmp_path / "reports"))
    found = outcomes(report)
    assert found["keys.master"] == found["audit.chain"] == "fail" and found["software.vulnerabilities"] == "not_run"
    assert found["access.authentication"] == "attention" and found["transport.tls"] == "not_applicable"
    assert report["recorded"] is False and report["counts"]["pass"] < 8
    assert sum(report["counts"].values()) == len(CHECKS)
    assert [path.name for path in home.iterdir()] == ["compliance"]  # looking made no store and no key
    pages = [*home.glob("compliance/*"), *(tmp_path / "reports").iterdir()]
    assert len(pages) == 4 and all(path.stat().st_mode & 0o777 == 0o600 for path in pages)
    page = next(path for path in pages if path.suffix == ".html").read_text()
    assert "Not on record" in page and not re.search(r"(?:src|href)=|<script|https?://", page)
    assert all(row["id"] in page for row in report["findings"])
    assert "3 fail" in attune("compliance", "assess", "--strict", code=4)
    assert attune("compliance", "status").startswith(report["at"][:10])


class Kept:
    """An installation that somebody takes care of, at a time that can be set."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp, self.now = tmp_path, datetime.now(UTC)
        self.settings = self.with_()

    def with_(self, *sets: str) -> Settings:
        ours = [
            f"home={self.tmp / 'home'}",
            f"security.escrow={self.tmp / 'keys.escrow'}",
            f"security.audit_checkpoints={self.tmp / 'points.jsonl'}",
        ]
        return load_settings(None, [*ours, *sets]).settings

    def report(self, *sets: str, days: float = 0, **more: Any) -> dict[str, dict[str, Any]]:
        report = assess(self.with_(*sets), clock=lambda: self.now + timedelta(days=days), **more)
        return {row["id"]: row for row in report["findings"]}


def dataset(folder: Path) -> Path:
    write_json(folder / "manifest.json", {"dataset_sha256": "ab" * 32})
    write_text(folder / "train.jsonl", '{"text": "hello"}\n')
    return folder


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    made = Kept(tmp_path)
    for name, value in (("HOME", "home"), ("SECURITY__ESCROW", "keys.escrow"), ("SECURITY__AUDIT_CHECKPOINTS", "points.jsonl")):
        monkeypatch.setenv(f"ATTUNE_{name}", str(tmp_path / value))
    attune("keys", "init")
    cheap = load_settings(None, CHEAP).settings
    with Vault.open(cheap) as vault:
        access = Access(vault.audit, vault.cipher, cheap)
        for name, role in (
            ("ada.b@clinic", Role.ADMINISTRATOR),
            ("bo.c@clinic", Role.ADMINISTRATOR),
            ("cy.d@clinic", Role.COMPLIANCE_OFFICER),
        ):
            account, _ = access.accounts.create(name, [role], ACT)
            access.factors.confirm(account.id, pyotp.TOTP(access.factors.enrol(account, ACT).secret).now(), ACT)
    attune("backup", "create", tmp_path / "a.backup")
    attune("backup", "rehearse", tmp_path / "a.backup")
    attune("audit", "checkpoint")
    yield made


def test_a_kept_house_passes_and_what_is_let_slip_is_found(kept: Kept) -> None:
    first = kept.report("access.second_factor=everyone")
    wrong = {i: (row["outcome"], row["evidence"]) for i, row in first.items() if row["outcome"] not in ("pass", "not_applicable")}
    others = {"assessment.last", "keys.offline_copy", "software.vulnerabilities", "retention.lag"} | (
        {"settings.secrets"} if os.geteuid() == 0 else set()
    )
    assert not set(wrong) - others, wrong
    assert " s of 72 h" in first["backup.restored"]["evidence"]
    with Vault.open(kept.settings) as vault:
        assert vault.audit.newest("compliance:assess") is not None
        Incidents(vault, lambda: kept.now).open("loss", "a notebook", ACT, discovered=(kept.now - timedelta(days=30)).date())
    write_report(assess(kept.settings, clock=lambda: kept.now), assessment.folder_of(kept.settings))
    assert overdue(kept.settings, kept.now + timedelta(days=89)) == "" and "91 days old" in overdue(
        kept.settings, kept.now + timedelta(days=91)
    )

    later = kept.report(days=100)
    failing = {i for i, row in later.items() if row["outcome"] == "fail"}
    assert failing == {"access.unused", "backup.made", "incidents.clocks", "assessment.last"}
    assert later["backup.restored"]["outcome"] == later["access.second_factor"]["outcome"] == "attention"
    assert {kept.report(days=800)[i]["outcome"] for i in ("keys.data", "keys.master")} == {"attention"}


def test_damage_and_open_doors_are_found(kept: Kept) -> None:
    (kept.tmp / "home" / "keys.db").chmod(0o644)
    with Store.at_home(kept.tmp / "home").begin() as connection:
        connection.execute(sa.text("drop trigger audit_no_update"))
        connection.execute(sa.text("update audit_records set actor = 'nobody' where number = 2"))
    with Vault.open(kept.settings) as vault:
        vault.ring.key_for("c-1")
        Access(vault.audit, vault.cipher, kept.settings).keys.create("wide", list(GRANTS[Role.SERVICE]), ACT, days=10)
    (kept.tmp / "data").mkdir()
    remote = "security.key_store=postgresql+psycopg://keys.example.org/k"
    found = kept.report("serving.host=0.0.0.0", "serving.authentication=none", "providers.base_url=http://models.example.org/v1",
                        "access.argon2_memory_kib=8", folders=[dataset(kept.tmp / "data" / "one")])  # fmt: skip
    assert found["audit.chain"]["evidence"] == "edited at record 2" and found["audit.chain"]["outcome"] == "fail"
    for check in ("files.home", "transport.tls", "access.authentication", "transport.outside", "access.passwords"):
        assert found[check]["outcome"] == "fail", found[check]
    for check in (
        "transport.address",
        "access.api_keys",
        "files.data_sets",
        "keys.escrow",
    ):  # a new client's key is not in the escrow yet
        assert found[check]["outcome"] == "attention", found[check]
    assert [row["sha256"] for row in found["inventory.assets"]["rows"] if row["kind"] == "data set"] == ["ab" * 32]
    with opened(kept.with_(remote), kept.now) as scene:  # the address is judged without being asked
        database = next(check for check in CHECKS if check.id == "transport.database")
        assert database.run(scene).outcome == Outcome.FAIL
    shared = [f"stores.redis={scheme}://cache.example.org/0" for scheme in ("redis", "rediss")]
    for address, outcome in zip(shared, (Outcome.FAIL, Outcome.PASS), strict=True):
        with opened(kept.with_(address, "stores.allow_plain=true"), kept.now) as scene:
            assert database.run(scene).outcome == outcome
    with Vault.open(kept.settings) as vault:
        vault.ring.shred("c-1")
    (kept.tmp / "keys.escrow").write_bytes(b"{}")
    assert kept.report()["keys.escrow"]["outcome"] == "fail"


def certificate(folder: Path, ends: datetime, curve: ec.EllipticCurve) -> list[str]:
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(ends - timedelta(days=400)).not_valid_after(ends).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *pem))
    (folder / "key.pem").chmod(0o600)
    return [f"serving.tls_certificate={folder / 'cert.pem'}", f"serving.tls_key={folder / 'key.pem'}", "serving.host=0.0.0.0"]


@pytest.mark.parametrize(("days", "outcome"), [(200, "pass"), (10, "attention"), (-1, "fail")])
def test_certificates_end(tmp_path: Path, days: int, outcome: str) -> None:
    now = datetime.now(UTC)
    sets = certificate(tmp_path, now + timedelta(days=days, hours=1), ec.SECP256R1())
    found = outcomes(assess(load_settings(None, [f"home={tmp_path / 'none'}", *sets]).settings, clock=lambda: now))
    assert found["transport.tls"] == outcome and found["transport.address"] == "pass"


def test_what_pip_audit_answers(tmp_path: Path) -> None:
    """Its answers as version 2.10 gives them; with an index that knows nothing it says "no known vulnerabilities"."""
    bad = {
        "name": "jinja2",
        "version": "3.1.2",
        "vulns": [{"id": "PYSEC-2024-1", "fix_versions": ["3.1.3"], "aliases": [], "description": ""}],
    }
    good, lost = (
        {"name": "rich", "version": "14.0", "vulns": []},
        {"name": "torch", "skip_reason": "Dependency not found on PyPI"},
    )
    with opened(load_settings(None, [f"home={tmp_path}"]).settings, datetime.now(UTC)) as scene:
        assert dependencies.judged([bad, good], scene).outcome == Outcome.FAIL
        assert dependencies.judged([good, lost], scene).outcome == Outcome.ATTENTION
        assert dependencies.judged([good], scene).outcome == Outcome.PASS
        assert dependencies.judged([lost], scene).outcome == Outcome.NOT_RUN


def test_what_has_no_end_is_no_pass(tmp_path: Path) -> None:
    """Ends of Python's support are data: a version that is not in them is to be looked up."""
    assert all(ends > date(2026, 1, 1) for ends in dependencies.PYTHON_ENDS.values())
    report = assess(load_settings(None, [f"home={tmp_path}"]).settings, clock=lambda: datetime(2041, 1, 1, tzinfo=UTC))
    assert outcomes(report)["software.python"] in ("fail", "attention")
